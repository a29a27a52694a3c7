"""Data sets at addresses: fetched ahead, checked, kept, taken away for room; cut, slow, damaged, two processes."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
import time

import fsspec
import numpy as np
import pytest
import tensorflow as tf

from tests.data.conftest import write_set
from tests.fetch.server import serving
from tfdet.data import staging
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.manifest import Manifest
from tfdet.data.records import record_table
from tfdet.errors import UserError
from tfdet.fetch import settings, transfer

SIDES = {"short_side": 24, "long_side": 36}
SHARDS = 6


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local") / "s"
    write_set(folder, [(30, 40)] * 18 + [(40, 30)] * 12, num_shards=SHARDS)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for name in ("TFDET_MIRROR", "TFDET_OFFLINE", "TFDET_CHECKSUMS", "TFDET_CACHE_LIMIT", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "_PAUSE", 0.0)
    monkeypatch.setattr(staging, "_STEP", 0.02)
    return tmp_path / "cache" / "data"


@pytest.fixture
def web(cache, local):
    with serving() as web:
        web.files = {f"/s/{path.name}": path.read_bytes() for path in local.iterdir()}
        yield web


@pytest.fixture(scope="module")
def expected(local):
    return content(TrainInput(local, **SIDES))


def content(train, steps=20) -> str:
    digest = hashlib.sha256()
    for batch in itertools.islice(train.dataset(1, start_step=3, seed=2).as_numpy_iterator(), steps):
        digest.update(batch.images.tobytes() + batch.image_ids.tobytes())
    return digest.hexdigest()


def stage(address) -> staging.Staging:
    manifest = Manifest.load(address)
    return staging.Staging(manifest.remote_shards(), manifest.shard_paths())


def shards_asked(web) -> list[str]:
    return [path for method, path, _ in web.asked if method == "GET" and path.endswith("tfrecord")]


def shard(web, number: int) -> str:
    return sorted(path for path in web.files if path.endswith("tfrecord"))[number]


def test_the_batches_are_those_of_the_local_set_and_the_next_run_reads_the_cache(web, expected, capsys, monkeypatch):
    assert content(TrainInput(web.address("/s/"), **SIDES)) == expected
    assert len(shards_asked(web)) == SHARDS
    assert f"127.0.0.1:{web.port}/s: {SHARDS} shards (0.0 MB) are fetched into" in capsys.readouterr().err
    web.asked.clear()
    assert content(TrainInput(web.address("/s"), **SIDES)) == expected
    assert [path for _, path, _ in web.asked] == ["/s/manifest.json"]
    monkeypatch.setenv("TFDET_OFFLINE", "1")
    assert content(TrainInput(web.address("/s"), **SIDES), 3) and len(web.asked) == 1
    with pytest.raises(UserError, match="/other is not in the cache, and TFDET_OFFLINE forbids"):
        Manifest.load(web.address("/other"))


def test_object_stores_are_read_by_fsspec(cache, local, expected):
    memory = fsspec.filesystem("memory")
    memory.put(str(local), "/bucket/s", recursive=True)
    try:
        assert content(TrainInput("memory://bucket/s", **SIDES)) == expected
        evaluation = EvalInput("memory://bucket/s", images_per_batch=15)
        ids = [batch.image_ids.tolist() for batch in evaluation.dataset().as_numpy_iterator()]
        assert sum(ids, []) == list(range(10, 40)) and evaluation.manifest.place == "memory://bucket/s"
        with pytest.raises(UserError, match="memory://bucket/none gives no data set: .* the store has no such file"):
            Manifest.load("memory://bucket/none")
    finally:
        memory.rm("/bucket", recursive=True)
    with pytest.raises(UserError, match="fsspec reads no such address"):
        Manifest.load("nosuch://bucket/s")


def test_a_cut_in_an_object_store_is_continued(cache, local, monkeypatch):
    """The third block fails once: what came before is not asked for again."""
    memory, read, sizes = fsspec.filesystem("memory"), fsspec.implementations.memory.MemoryFile.read, []
    memory.put(str(local), "/cut/s", recursive=True)
    name = Manifest.load(local).shards[0].file

    def cut(self, size=-1):
        block = read(self, min(size, 4000))
        sizes.append((self.path, len(block)))
        if self.path.endswith(name) and len([one for one in sizes if one[0].endswith(name)]) == 2:
            raise ConnectionError("reset by peer")
        return block

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFile, "read", cut)
    try:
        assert stage("memory://cut/s").fetch(0)
    finally:
        memory.rm("/cut", recursive=True)
    assert sum(size for path, size in sizes if path.endswith(name)) < (local / name).stat().st_size + 4001


def test_cut_and_slow_connections(web, expected, monkeypatch):
    web.cuts, web.pause, web.after = [], 0.05, 500
    train = TrainInput(web.address("/s"), **SIDES)
    web.cuts = [5000, 3000, 900]
    assert content(train) == expected
    web.cuts, web.pause = [], 2.0
    monkeypatch.setenv("TFDET_TIMEOUT", "0.1")
    for kept in (settings.cache_folder() / "data").glob("*/*.tfrecord"):
        kept.unlink()
    with pytest.raises(UserError, match=r"cannot fetch the shard tiny-.*silent for 0.1 s \(TFDET_TIMEOUT\)"):
        try:
            content(train)
        except tf.errors.OpError as error:
            raise train.explain(error) from error


class Damaged(dict):
    """Files of a server whose answers for one path are damaged so many times."""

    def __init__(self, files, path, times):
        super().__init__(files)
        self.path, self.times = path, times

    def get(self, path, default=None):
        content = super().get(path, default)
        if path == self.path and self.times > 0:
            self.times -= 1
            return content[:-9] + b"\0" + content[-8:]
        return content


def test_a_damaged_shard_is_fetched_again(web, cache):
    path = shard(web, 1)
    web.files = Damaged(web.files, path, 2)
    store = stage(web.address("/s"))
    assert store.fetch(1) and shards_asked(web) == [path] * 3
    kept = next(cache.glob("*/*-00001-*.tfrecord"))
    kept.write_bytes(b"\1" + kept.read_bytes()[1:])  # on the disk, between two runs
    assert stage(web.address("/s")).fetch(1) and shards_asked(web) == [path] * 4
    assert kept.read_bytes() == web.files[path]
    kept.unlink()
    web.files.times = 99
    with pytest.raises(UserError, match="shard tiny-00001-.* arrived damaged 3 times: .*its sha256 is"):
        stage(web.address("/s")).fetch(1)
    assert not kept.exists()


def test_published_checksums_that_are_passed_over_are_not_those_of_shards(web, cache, monkeypatch):
    monkeypatch.setenv("TFDET_CHECKSUMS", "first")
    web.files = Damaged(web.files, shard(web, 0), 99)
    with pytest.raises(UserError, match="is another one than the manifest says"):
        stage(web.address("/s")).fetch(0)


def test_a_full_cache_holds_a_few_shards_at_a_time(web, cache, local, monkeypatch):
    sizes = [one.bytes for one in Manifest.load(local).shards]
    limit = 3 * max(sizes)
    monkeypatch.setenv("TFDET_CACHE_LIMIT", f"{limit / 1000}KB")
    address = web.address("/s")
    with pytest.raises(UserError, match="an epoch mixes all, 0.0 MB of shards, and the cache .* set TrainInput.shards"):
        TrainInput(address, **SIDES).dataset(1)
    with pytest.raises(UserError, match="shards_at_once 2 needs two times as many shards here"):
        TrainInput(address, shards_at_once=2, **SIDES).dataset(1)
    most, fetch = [], staging._download

    def watched(one):
        fetch(one)
        most.append(sum(path.stat().st_size for path in cache.glob("*/*.tfrecord")))

    monkeypatch.setattr(staging, "_download", watched)
    # Of five images a shard, so that many at once would be of more shards than there is room for.
    few = {"shards_at_once": 1, "order": "mixed", "num_parallel_calls": 1, "prefetch": 0, **SIDES}
    steps = 2 * TrainInput(local, **few).steps_per_epoch(1)
    assert content(TrainInput(address, **few), steps) == content(TrainInput(local, **few), steps)
    assert max(most) <= limit and 2 * SHARDS <= len(most) < steps, "not a shard for each batch"
    assert [len(batch.image_ids) for batch in EvalInput(address, images_per_batch=30).dataset()] == [30]
    monkeypatch.setenv("TFDET_CACHE_LIMIT", "1KB")
    with pytest.raises(UserError, match="more than TFDET_CACHE_LIMIT allows in all: 0.0 MB"):
        stage(address).fetch(0)
    monkeypatch.setenv("TFDET_CACHE_LIMIT", "much")
    with pytest.raises(UserError, match="TFDET_CACHE_LIMIT=much: give a size above 0"):
        stage(address)


def test_a_shard_that_is_read_is_not_taken_away(web, cache, monkeypatch):
    store = stage(web.address("/s"))
    path, token = store.acquire(0)
    assert not staging._take_away(type(cache)(os.fsdecode(path)))
    store.release(token)
    assert staging._take_away(type(cache)(os.fsdecode(path)))
    path, token = store.acquire(0)  # it is fetched again
    assert os.path.isfile(path) and shards_asked(web) == [shard(web, 0)] * 2
    store.release(token)


def test_what_is_planned_is_fetched_ahead(web, cache):
    store = stage(web.address("/s"))
    store.begin(iter([4, 2]))
    end = time.time() + 10
    while len(list(cache.glob("*/*.tfrecord"))) < 2 and time.time() < end:
        time.sleep(0.01)
    assert sorted(shards_asked(web)) == [shard(web, 2), shard(web, 4)]


_PROCESS = """
import sys
from tfdet.data.manifest import Manifest
from tfdet.data.staging import Staging
manifest = Manifest.load(sys.argv[1])
store = Staging(manifest.remote_shards(), manifest.shard_paths())
store.begin(range(6))
for number in range(6):
    path, token = store.acquire(number)
    assert len(open(path, "rb").read()) == manifest.shards[number].bytes
    store.release(token)
assert "tensorflow" not in sys.modules
"""


def test_two_processes_fetch_each_shard_once(web, cache):
    web.pause, web.after = 0.05, 100
    running = [subprocess.Popen([sys.executable, "-c", _PROCESS, web.address("/s")]) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert sorted(shards_asked(web)) == [shard(web, number) for number in range(SHARDS)]


def test_a_set_that_is_published_anew_is_another_one(web, cache, tmp_path):
    first = Manifest.load(web.address("/s"))
    write_set(tmp_path / "new", [(30, 40)] * 4, num_shards=1)
    web.files = {f"/s/{path.name}": path.read_bytes() for path in (tmp_path / "new").iterdir()}
    second = Manifest.load(web.address("/s"))
    assert (first.num_images, second.num_images) == (30, 4) and first.folder != second.folder
    web.status = 503
    assert Manifest.load(web.address("/s")).folder == second.folder
    web.status, web.files["/s/manifest.json"] = 200, b"[1]"
    with pytest.raises(UserError, match="/s/manifest.json is no manifest of a data set"):
        Manifest.load(web.address("/s"))


@pytest.mark.parametrize("name", ["../../x.tfrecord", "/x.tfrecord", ".x.tfrecord", "index.npz", "a\\b.tfrecord"])
def test_names_of_shards_that_lead_elsewhere_are_refused(web, cache, name):
    content = json.loads(web.files["/s/manifest.json"])
    content["shards"][0]["file"] = name
    del content["digest"]
    content["index_sha256"] = ""
    web.files["/s/manifest.json"] = json.dumps(content).encode()
    with pytest.raises(UserError, match="lies outside of the data set's folder"):
        Manifest.load(web.address("/s"))


def test_local_sets_are_read_without_any_of_it(local):
    manifest = Manifest.load(local)
    assert manifest.remote_shards() is None and record_table(manifest, manifest.load_index()).staging is None
    order = TrainInput(local, **SIDES)._order
    plan = list(order.shards(0, 2, 2, slice(0, 2), endless=False))
    rows = order.batches(tf.constant(0, tf.int64), 2, 2)[0].numpy().ravel() // 2
    assert plan == list(dict.fromkeys(manifest.load_index().shard[rows].tolist()))
    np.testing.assert_array_equal(sorted(plan), range(SHARDS))
