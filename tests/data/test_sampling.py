"""Several data sets in one epoch, rare classes more often, a few shards at a time: by (seed, step) alone."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.data.conftest import write_set
from tfdet.data import sampling
from tfdet.data.epochs import EpochOrder
from tfdet.data.index import RecordIndex
from tfdet.data.inputs import TrainInput
from tfdet.data.manifest import Manifest
from tfdet.data.mixing import open_data
from tfdet.errors import UserError

SIDES = {"short_side": 24, "long_side": 36}
CAT, DOG = (2.0, 2.0, 9.0, 9.0, 3), (1.0, 1.0, 12.0, 9.0, 7)


def an_index(landscape: int, portrait: int, shards: int = 1) -> RecordIndex:
    count = landscape + portrait
    height = np.where(np.arange(count) < landscape, 30, 40).astype(np.int32)
    return RecordIndex(
        shard=(np.arange(count) * shards // count).astype(np.int32),
        offset=np.arange(count) * 100,
        length=np.full(count, 84),
        image_id=np.arange(count),
        height=height,
        width=70 - height,
        num_boxes=np.ones(count, np.int32),
    )


def rows_of(order: EpochOrder, epoch: int, seed: int = 3, batch: int = 1) -> np.ndarray:
    return order.batches(tf.constant(epoch, tf.int64), seed, batch)[0].numpy()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Sets of 12 and 4 images; in the first, one of the images has a dog."""
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "many", [(30, 40)] * 12, [[CAT]] * 11 + [[CAT, DOG]])
    write_set(root / "few", [(30, 40)] * 4, [[DOG]] * 4)
    return root


def test_a_factor_is_how_often_an_epoch_has_an_image_on_average():
    factors = np.array([0.25] * 8 + [1.0] * 8 + [2.5] * 8 + [3.0] * 3)
    order = EpochOrder(an_index(24, 3), flip=False, mixed=False, factors=factors)
    assert order.images == (30, 9) and order.steps(1) == 39
    epochs = [np.bincount(rows_of(order, epoch)[:, 0], minlength=27) for epoch in range(200)]
    for counts in epochs:
        assert (counts >= np.floor(factors)).all() and (counts <= np.ceil(factors)).all()
        assert counts.sum() == 39
    mean = np.mean(epochs, axis=0)
    assert np.abs(mean - factors).max() < 0.12 and mean[8:16].tolist() == [1] * 8 and mean[24:].tolist() == [3] * 3
    np.testing.assert_array_equal(rows_of(order, 7), rows_of(order, 7))
    assert not np.array_equal(rows_of(order, 7), rows_of(order, 7, seed=4))


def test_mirrored_copies_come_as_often_as_the_image():
    order = EpochOrder(an_index(6, 0), flip=True, mixed=True, factors=np.array([0.5, 0.5, 1, 1, 2, 3.0]))
    entries = collections.Counter(rows_of(order, 0)[:, 0].tolist())
    assert sum(entries.values()) == 16 and all(entries[2 * row] == entries[2 * row + 1] for row in range(6))


@pytest.mark.parametrize("mixed", [False, True])
def test_a_few_shards_at_a_time(mixed):
    """12 shards, 3 at a time: at any time images of two turns at most, and an epoch has them all."""
    index = an_index(60, 60, shards=12)
    order = EpochOrder(index, flip=True, mixed=mixed, shards_at_once=3)
    whole, turns = rows_of(order, 0, batch=4), []
    assert sorted(whole.ravel().tolist()) == list(range(240))
    for part in (whole,) if mixed else (whole[:30], whole[30:]):
        shards = index.shard[part.ravel() // 2]
        turns.append(list(dict.fromkeys(shards.tolist())))
        for first in range(0, len(shards) - 20, 10):
            assert len(set(shards[first : first + 20].tolist())) <= 6
    assert sorted(turns[0]) == (list(range(12)) if mixed else list(range(6)))
    assert not np.array_equal(rows_of(order, 1, batch=4), whole)


def test_repeat_factors_are_those_of_lvis(folders, tmp_path, monkeypatch):
    """The dog is in 1 of 12 images: sqrt(0.5 / (1 / 12)); the cat in all of them."""
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path))
    manifest = Manifest.load(folders / "many")
    index = manifest.load_index()
    expected = [1.0] * 11 + [6**0.5]
    np.testing.assert_allclose(sampling.repeat_factors(manifest, index, 0.5), expected)
    monkeypatch.setattr(sampling, "_read", None)  # what was read once is kept
    np.testing.assert_allclose(sampling.repeat_factors(manifest, index, 0.5), expected)
    (kept,) = (tmp_path / "data").iterdir()
    kept.write_bytes(kept.read_bytes()[:-40])
    monkeypatch.undo()
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path))
    np.testing.assert_allclose(sampling.repeat_factors(manifest, index, 0.5), expected)


def test_sets_are_mixed_by_weight_and_go_on_at_any_step(folders, tmp_path, monkeypatch):
    """A weight of 3 to 1 for the set of 4 images; ids are alike in both sets, so they are numbered anew."""
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path))
    both = (folders / "many", str(folders / "few"))
    plain = TrainInput(both, images_per_replica=2, flip=False, **SIDES)
    assert plain.steps_per_epoch(1) == 8 and plain.manifest.num_boxes == 17
    seen = [batch for batch in itertools.islice(plain.dataset(1, seed=5).as_numpy_iterator(), 8)]
    assert sorted(int(number) for batch in seen for number in batch.image_ids) == list(range(16))
    for batch in seen:  # the records are those of the sets
        for number, classes in zip(batch.image_ids, batch.classes):
            assert [kind for kind in classes.tolist() if kind >= 0] == (
                [1] if number >= 12 else [0, 1] if number == 11 else [0]
            )
    weights = {"data_weights": (1.0, 3.0), "images_per_replica": 2, **SIDES}
    weighted = TrainInput(both, flip=False, **weights)
    few = [int((rows_of(weighted._order, epoch, batch=2) >= 12).sum()) for epoch in range(5)]
    assert weighted.steps_per_epoch(1) == 8 and few == [12] * 5
    weighted = TrainInput(both, repeat_threshold=0.5, shards_at_once=1, order="mixed", **weights)
    whole = list(itertools.islice(weighted.dataset(2, seed=5).as_numpy_iterator(), 12))
    for worker in range(2):
        context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=worker, num_replicas_in_sync=2)
        own = itertools.islice(weighted.dataset(2, seed=5, input_context=context).as_numpy_iterator(), 6)
        for one, other in zip(own, whole[worker::2], strict=True):
            np.testing.assert_array_equal(one.images, other.images)
    steps = weighted.steps_per_epoch(1)
    run = list(itertools.islice(weighted.dataset(1, seed=5).as_numpy_iterator(), 2 * steps))
    rest = list(itertools.islice(weighted.dataset(1, start_step=5, seed=5).as_numpy_iterator(), 2 * steps - 5))
    for one, other in zip(run[5:], rest, strict=True):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)


def test_classes_go_by_name(folders, make_set, tmp_path, monkeypatch):
    """A set whose ids are others, in another order: its dog is the dog of the first set."""
    monkeypatch.setattr("tests.data.conftest.CATEGORIES", tuple(_categories((9, "dog"), (3, "cat"))))
    make_set(tmp_path / "other", [(30, 40)] * 2, [[(1.0, 1.0, 9.0, 9.0, 9)], [(1.0, 1.0, 9.0, 9.0, 3)]])
    train = TrainInput((folders / "few", tmp_path / "other"), images_per_replica=6, flip=False, **SIDES)
    assert train.manifest.classes == ["cat", "dog"] and train.manifest.boxes_per_class == [1, 5]
    (batch,) = itertools.islice(train.dataset(1).as_numpy_iterator(), 1)
    found = dict(zip(batch.image_ids.tolist(), batch.classes[:, 0].tolist()))
    assert found == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 0}
    one = TrainInput((folders / "few", tmp_path / "other"), classes=("cat",), images_per_replica=1, **SIDES)
    (batch,) = itertools.islice(one.dataset(1).as_numpy_iterator(), 1)
    assert one.manifest.left_out == () and batch.classes.tolist() == [[0]]
    monkeypatch.setattr("tests.data.conftest.CATEGORIES", tuple(_categories((3, "cat"), (7, "dog"), (8, "cow"))))
    make_set(tmp_path / "third", [(30, 40)] * 2, [[CAT], [CAT]])
    with pytest.raises(UserError, match="third has 'cow', .*few has not. Name those to train on with --classes"):
        open_data((folders / "few", tmp_path / "third"), None, "TrainInput.data_dir")


def _categories(*pairs):
    from tfdet.data.annotations import Category

    return [Category(*pair) for pair in pairs]


def test_what_cannot_be_mixed(folders):
    few, many = folders / "few", folders / "many"
    with pytest.raises(UserError, match=r"data_weights has 2 weights for 1 data set"):
        TrainInput(few, data_weights=(1.0, 2.0), **SIDES)
    with pytest.raises(UserError, match="names a data set twice"):
        TrainInput((few, few), **SIDES)
    with pytest.raises(UserError, match="must name one data set"):
        TrainInput((), **SIDES)
    with pytest.raises(UserError, match=r"many \+ .*few has no masks"):
        TrainInput((many, few), masks=True, **SIDES)
