"""Published data sets against a local server: fetched, unpacked, converted, once; gone on with after any end."""

from __future__ import annotations

import sys
import threading
import types
from pathlib import Path

import pytest

from tests.data.published import offered
from tests.fetch.server import serving
from tfdet.commands import main
from tfdet.data.manifest import Manifest
from tfdet.data.published import fetch as steps
from tfdet.data.published import plan as planning
from tfdet.data.published import unpack as unpacking
from tfdet.data.published.plan import confirm, plan_fetch
from tfdet.data.published.table import DATA_SETS, data_set_called
from tfdet.errors import EXIT_OK, EXIT_USER_ERROR, UserError

COCO2017 = DATA_SETS["coco2017"]


@pytest.fixture(autouse=True)
def clean_tensorflow():
    """Nothing to clean."""


@pytest.fixture(scope="module")
def archives():
    """All that is published, small."""
    return offered.coco2017() | offered.coco2014() | offered.voc() | offered.bccd()


@pytest.fixture
def web(monkeypatch, tmp_path, archives):
    """A mirror with all of it; the current folder is empty."""
    for name in ("TFDET_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with serving() as web:
        web.files = dict(archives)
        monkeypatch.setenv("TFDET_MIRROR", web.address(""))
        yield web


def files(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def fetched(name: str = "coco2017", **options) -> list[Path]:
    return steps.fetch(plan_fetch(data_set_called(name), **options), num_workers=0)


def stopped_at(monkeypatch, step: str, call: int = 1):
    """The process ends at the so manieth call of a step, as if it was killed: nothing is put away."""
    calls, whole = [0], getattr(steps, step)

    def end(*arguments, **options):
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(steps, step, end)
    with pytest.raises(KeyboardInterrupt):
        fetched()
    monkeypatch.setattr(steps, step, whole)


@pytest.mark.parametrize(
    "name, counts",
    [
        ("coco2017", {"coco_train": (6, 6, 6), "coco_val": (3, 3, 3)}),
        ("coco2014_minival", {"coco_trainval35k": (7, 7, 7), "coco_minival": (2, 2, 2)}),
        ("voc2007", {"voc2007_trainval": (2, 2, 0), "voc2007_test": (1, 1, 0)}),
        ("voc2012", {"voc2012_train": (2, 2, 0), "voc2012_val": (1, 1, 0)}),
        ("bccd", {"bccd_train": (3, 3, 0), "bccd_val": (1, 1, 0), "bccd_test": (1, 1, 0)}),
    ],
)
def test_a_name_is_enough(web, capsys, name, counts):
    assert main(["data", "fetch", name, "--num_workers=0"]) == EXIT_OK
    assert files("data") == set(counts)
    manifests = {part: Manifest.load(f"data/{part}") for part in counts}
    assert {part: (one.num_images, one.num_boxes, one.num_masks) for part, one in manifests.items()} == counts
    assert len({tuple(one.classes) for one in manifests.values()}) == 1
    assert "is made" in capsys.readouterr().out
    web.asked.clear()
    assert main(["data", "fetch", name]) == EXIT_OK
    assert web.asked == [] and "was there already" in capsys.readouterr().out


def test_the_list_says_what_is_here(web, capsys):
    fetched("bccd", output="elsewhere")
    assert main(["data", "list", "--output=elsewhere"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "coco2017" in printed and "20.4 GB" in printed and "yes" in printed and "MIT" in printed


def test_an_unknown_name_names_the_nearest(web, capsys):
    assert main(["data", "fetch", "coco2071"]) == EXIT_USER_ERROR
    assert "Did you mean 'coco2017'" in capsys.readouterr().err


def test_a_part_alone_takes_its_own_archives(web):
    (val,) = [part for part in COCO2017.parts if part.name == "coco_val"]
    fetched(parts=[val])
    assert files("data") == {"coco_val"}
    assert {path.rpartition("/")[2] for _, path, _ in web.asked} == {"val2017.zip", "annotations_trainval2017.zip"}
    fetched()
    assert files("data") == {"coco_train", "coco_val"}


def large(monkeypatch):
    monkeypatch.setattr(planning, "FREELY", 10)


def test_much_is_agreed_first(web, monkeypatch, capsys):
    large(monkeypatch)
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["data", "fetch", "coco2017", "--output=sets"]) == EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert "`tfdet data fetch coco2017 --output=sets --yes` makes it" in error and error.count("\n") == 1
    assert not Path("sets").exists() and not [asked for asked in web.asked if asked[0] == "GET"]
    assert main(["data", "fetch", "coco2017", "--output=sets", "--yes", "--num_workers=0"]) == EXIT_OK


class Terminal:
    """Someone who types."""

    def isatty(self):
        return True


@pytest.mark.parametrize("answer, agrees", [("y", True), ("Yes", True), ("", False), ("n", False), (None, False)])
def test_a_person_sees_the_sizes_and_is_asked(web, monkeypatch, capsys, answer, agrees):
    def typed():
        if answer is None:
            raise EOFError
        return answer

    large(monkeypatch)
    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    plan = plan_fetch(COCO2017)
    if agrees:
        confirm([plan])
    else:
        with pytest.raises(UserError, match="nothing was fetched; `tfdet data fetch coco2017 --yes`"):
            confirm([plan])
    shown = capsys.readouterr().err
    assert "train2017.zip 0.0 MB" in shown and "data/coco_val" in shown and "[y/N]" in shown


@pytest.mark.parametrize("step, call", [("download", 2), ("_unpack", 2), ("_convert", 2), ("_move", 1)])
def test_the_same_command_goes_on_from_where_it_ended(web, monkeypatch, step, call):
    stopped_at(monkeypatch, step, call)
    assert files("data") == {".coco2017"}
    got = web.gets()
    fetched()
    assert files("data") == {"coco_train", "coco_val"}
    assert len(web.gets()) == 3 and len(got) == (1 if step == "download" else 3)  # each archive once


def test_what_is_needed_no_more_goes_before_the_sets_come(web, monkeypatch):
    stopped_at(monkeypatch, "whole", 2)
    assert files("data") == {".coco2017", "coco_train"} and files("data/.coco2017") == {"sets"}
    fetched()
    assert files("data") == {"coco_train", "coco_val"} and len(web.gets()) == 3


def test_an_unpacking_that_was_cut_is_gone_on_with(web, monkeypatch):
    stopped_at(monkeypatch, "_unpack", 1)
    partial = Path("data/.coco2017/unpacked/.train2017.partial/train2017")
    partial.mkdir(parents=True)
    (partial / f"{1:012d}.jpg").write_bytes(offered.jpeg(1))
    (partial / f"{2:012d}.jpg").write_bytes(
        offered.jpeg(2)[:-9] + bytes(9)
    )  # all its bytes, others than in the archive
    written, write = [], unpacking._write
    monkeypatch.setattr(
        unpacking, "_write", lambda source, path: written.append((path.parent.name, path.name)) or write(source, path)
    )
    fetched()
    assert sorted(name for folder, name in written if folder == "train2017") == [f"{k:012d}.jpg" for k in range(2, 7)]
    assert Manifest.load("data/coco_train").num_images == 6


def test_several_at_once_do_it_once(web):
    plans = [plan_fetch(data_set_called("bccd")) for _ in range(4)]
    web.asked.clear()
    results = []
    threads = [threading.Thread(target=lambda plan=plan: results.append(steps.fetch(plan, None, 0))) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(len(one) == 3 for one in results)
    assert len(web.gets()) == 1 and files("data") == {"bccd_train", "bccd_val", "bccd_test"}


@pytest.mark.parametrize("content", [b"PK\x03\x04 and no more", b"<html>log in</html>", b"", "cut"])
def test_a_damaged_archive_is_removed_and_fetched_anew(web, archives, content):
    path = f"{offered.COCO}/zips/val2017.zip"
    web.files[path] = archives[path][:-30] if content == "cut" else content
    with pytest.raises(UserError, match="val2017.zip .*it was removed, and the same command fetches it anew"):
        fetched()
    web.files = archives
    fetched()
    assert Manifest.load("data/coco_val").num_images == 3


def test_archives_of_ones_own_stay_and_need_no_network(web, archives, monkeypatch):
    monkeypatch.setenv("TFDET_OFFLINE", "1")
    with pytest.raises(
        UserError, match=r"TFDET_OFFLINE forbids .*train2017.zip, val2017.zip are not here: put .* into data/.coco2017"
    ):
        plan_fetch(COCO2017)
    Path("mine").mkdir()
    for path, content in offered.coco2017().items():
        (Path("mine") / Path(path).name).write_bytes(content)
    fetched(archives="mine")
    assert {name for name in files("mine") if name[0] != "."} == {
        "train2017.zip", "val2017.zip", "annotations_trainval2017.zip"
    }  # fmt: skip
    assert web.asked == [] and files("data") == {"coco_train", "coco_val"}


def test_the_disk_is_looked_at_first(web, monkeypatch):
    plan = plan_fetch(COCO2017)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="data: coco2017 takes about .* while it is made, and the disk has 0.0 MB"):
        steps.fetch(plan)
    assert web.gets() == []


@pytest.mark.parametrize("place", ["file", "folder"])
def test_what_is_no_data_set_stays(web, place):
    Path("data").mkdir()
    if place == "file":
        Path("data/coco_val").write_text("mine")
    else:
        (Path("data/coco_val") / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="data/coco_val exists and is not a data set"):
        fetched()
    assert files("data") == {"coco_val"} and web.asked == []


def test_an_archive_without_the_files_is_named(web, archives):
    web.files[f"{offered.COCO}/zips/val2017.zip"] = offered.zipped({"readme.txt": b"moved"})
    with pytest.raises(UserError, match=r"val2017.zip holds none of \*val2017/\*"):
        fetched()


def test_a_folder_that_cannot_be_written_is_one_line(web):
    Path("data").write_text("a file")
    with pytest.raises(UserError, match="cannot write data: File exists"):
        fetched()
