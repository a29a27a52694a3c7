import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.canvas import Canvas
from tfdet.data.example import fit_example
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.ops import native
from tfdet.structures import Example

SIDES = {"short_side": 24, "long_side": 36}


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second):
        for name, x, y in zip(a._fields, a, b):
            np.testing.assert_array_equal(x, y, err_msg=name)


def test_an_epoch_holds_every_image_and_its_mirror_once(mixed_set):
    """9 landscape and 5 portrait images with a box: 18 and 10 copies, in batches of one nothing is dropped."""
    train = TrainInput(mixed_set, images_per_replica=1, **SIDES)
    assert train.steps_per_epoch(1) == 28
    batches = take(train.dataset(1, seed=1), 56)
    for epoch in (batches[:28], batches[28:]):
        counts = collections.Counter(int(batch.image_ids[0]) for batch in epoch)
        assert counts == {number: 2 for number in range(10, 24)}
        by_image = collections.defaultdict(list)
        for batch in epoch:
            by_image[int(batch.image_ids[0])].append(batch)
        for one, other in by_image.values():
            assert not np.array_equal(one.images, other.images)
            height, width = one.image_info[0, :2].astype(int)
            mirrored = one.images[0, :height, :width][:, ::-1].astype(int)
            # mirroring before and after the resize agree up to the rounding of a width that is not whole
            assert np.abs(mirrored - other.images[0, :height, :width]).max() <= 12
            x1, y1, x2, y2 = one.boxes[0, 0]
            np.testing.assert_allclose(other.boxes[0, 0], [width - 1 - x2, y1, width - 1 - x1, y2], atol=1e-4)
    first, second = ([int(batch.image_ids[0]) for batch in half] for half in (batches[:28], batches[28:]))
    assert first != second


def test_landscape_comes_first_and_remainders_are_dropped(mixed_set):
    train = TrainInput(mixed_set, images_per_replica=4, **SIDES)
    assert train.steps_per_epoch(1) == 18 // 4 + 10 // 4
    shapes = [batch.images.shape for batch in take(train.dataset(1), 12)]
    epoch = [(4, 24, 36, 3)] * 4 + [(4, 36, 24, 3)] * 2
    assert shapes == epoch * 2


@pytest.mark.parametrize("order", ["landscape_first", "mixed"])
def test_an_orientation_that_fills_no_batch_is_repeated_to_fill_one(mixed_set, order):
    """5 portrait images and their mirrors make no batch of 12; 9 landscape ones make one and drop 6."""
    one, two = (TrainInput(mixed_set, images_per_replica=n, order=order, **SIDES) for n in (12, 6))
    assert one.steps_per_epoch(1) == two.steps_per_epoch(2) == 2
    batches = take(one.dataset(1, seed=3), 16)
    portrait = [batch for batch in batches if batch.images.shape == (12, 36, 24, 3)]
    assert len(portrait) == 8 and (order == "mixed" or portrait[0] is batches[1])
    for batch in portrait:
        counts = collections.Counter(zip(batch.image_ids.tolist(), batch.boxes[:, 0, 0].tolist()))
        assert len(counts) == 10 and max(counts.values()) == 2, "each image and its mirror, two of them twice"
    assert len({tuple(batch.image_ids.tolist()) for batch in portrait}) > 1, "in another order each epoch"
    seen = {int(number) for batch in batches for number in batch.image_ids}
    assert seen == set(range(10, 24)), "nor is an image of the other orientation left out for good"
    assert_same(take(one.dataset(1, start_step=7, seed=3), 9), batches[7:])
    parts = take(two.dataset(2, seed=3), 8)
    for step, pair in enumerate(zip(parts[::2], parts[1::2])):
        np.testing.assert_array_equal(batches[step].image_ids, np.concatenate([part.image_ids for part in pair]))
    (line,) = one.warnings(1)
    assert line.startswith("5 portrait images (10 with their mirrored copies) make no batch of 12")
    assert one.warnings(1) == two.warnings(2) and two.warnings(1) == []


def test_mixed_order_mixes_canvases_and_keeps_the_batches_whole(mixed_set):
    train = TrainInput(mixed_set, images_per_replica=1, order="mixed", **SIDES)
    portrait = [batch.images.shape[1] == 36 for batch in take(train.dataset(1, seed=4), 28)]
    assert sum(portrait) == 10
    assert portrait != sorted(portrait)


def test_replicas_share_a_global_batch_of_one_canvas(mixed_set):
    """Replica r of a step gets images r*n .. r*n + n - 1 of the global batch that one replica would get."""
    one = TrainInput(mixed_set, images_per_replica=4, **SIDES)
    two = TrainInput(mixed_set, images_per_replica=2, **SIDES)
    assert one.steps_per_epoch(1) == two.steps_per_epoch(2)
    whole = take(one.dataset(1, seed=5), 8)
    parts = take(two.dataset(2, seed=5), 16)
    for step, batch in enumerate(whole):
        pair = parts[2 * step : 2 * step + 2]
        np.testing.assert_array_equal(batch.image_ids, np.concatenate([part.image_ids for part in pair]))
        np.testing.assert_array_equal(batch.images, np.concatenate([part.images for part in pair]))
        assert pair[0].images.shape == pair[1].images.shape


@pytest.mark.parametrize("replicas, order", [(1, "landscape_first"), (2, "landscape_first"), (2, "mixed")])
def test_resumes_exactly(mixed_set, replicas, order):
    """Also across the ends of epochs: an epoch has 14 or 6 steps here."""
    train = TrainInput(mixed_set, images_per_replica=2, order=order, **SIDES)
    steps = train.steps_per_epoch(replicas)
    everything = take(train.dataset(replicas, seed=7), (2 * steps + 3) * replicas)
    for start in (5, steps - 1, 2 * steps + 1):
        rest = everything[start * replicas :]
        assert_same(take(train.dataset(replicas, start_step=start, seed=7), len(rest)), rest)
    other = take(train.dataset(replicas, seed=8), len(everything))
    assert any(not np.array_equal(a.image_ids, b.image_ids) for a, b in zip(everything, other))


def test_order_does_not_depend_on_the_global_seed(mixed_set):
    train = TrainInput(mixed_set, **SIDES)
    orders = []
    for seed in (1, 2):
        tf.random.set_seed(seed)
        orders.append([batch.image_ids.tolist() for batch in take(train.dataset(1), 9)])
    assert orders[0] == orders[1]


def test_workers_share_out_the_global_batch(mixed_set):
    train = TrainInput(mixed_set, images_per_replica=1, **SIDES)
    whole = take(train.dataset(4, seed=2), 4 * 5)
    for worker in range(2):
        context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=worker, num_replicas_in_sync=4)
        own = take(train.dataset(4, seed=2, input_context=context), 2 * 5)
        expected = [whole[4 * step + 2 * worker + replica] for step in range(5) for replica in range(2)]
        assert_same(own, expected)


def test_boxes_are_scaled_clipped_and_padded_without_a_cap(tmp_path, make_set):
    many = [(float(n % 20), float(n // 20), 6.0, 7.0, 3 if n % 2 else 7) for n in range(300)]
    make_set(tmp_path / "set", [(40, 60), (40, 60)], [[(30.0, 20.0, 30.0, 20.0, 7)], many])
    train = TrainInput(tmp_path / "set", short_side=20, long_side=30, flip=False)
    (batch,) = take(train.dataset(1), 1)
    assert batch.boxes.shape == (2, 300, 4) and batch.images.dtype == np.uint8
    few, full = (int(np.flatnonzero(batch.image_ids == number)[0]) for number in (10, 11))
    # x2 = 30 + 30 - 1 = 59 in the image, times one half
    np.testing.assert_allclose(batch.boxes[few, 0], [15, 10, 29.5, 19.5])
    assert (batch.boxes[few, 1:] == -1).all() and (batch.classes[few, 1:] == -1).all()
    assert batch.classes[few, 0] == 1
    assert batch.classes[full].tolist() == [0 if n % 2 else 1 for n in range(300)]
    np.testing.assert_allclose(batch.image_info[0], [20, 30, 0.5])


def test_the_later_revision_clips_to_the_image(tmp_path, make_set):
    """A shrunken image: (W - 1) * scale lies beyond w' - 1."""
    make_set(tmp_path / "set", [(40, 50)], [[(0.0, 0.0, 50.0, 40.0, 3)]], num_shards=1)
    # 12.5 columns round to 12, rows are 10.
    expected = {"first_release": [0, 0, 49 * 0.25, 39 * 0.25], "later_revision": [0, 0, 11, 9]}
    for profile, box in expected.items():
        train = TrainInput(
            tmp_path / "set", short_side=10, long_side=16, images_per_replica=1, flip=False, profile=profile
        )
        (batch,) = take(train.dataset(1), 1)
        np.testing.assert_allclose(batch.boxes[0, 0], box, atol=1e-5)


def test_canvas_is_zero_outside_the_image(tmp_path, make_set):
    make_set(tmp_path / "set", [(40, 50), (50, 40)], num_shards=1)
    for batch in take(TrainInput(tmp_path / "set", images_per_replica=1, **SIDES).dataset(1), 4):
        height, width = batch.image_info[0, :2].astype(int)
        assert sorted((height, width)) == [24, 30]
        outside = batch.images[0].copy()
        assert outside[:height, :width].any()
        outside[:height, :width] = 0
        assert not outside.any()


def test_nearly_square_images_fit_their_canvas(tmp_path, make_set):
    """100x101 is landscape but becomes 24x24, the size of a portrait image, in a landscape batch."""
    make_set(tmp_path / "set", [(100, 101), (60, 90)], num_shards=1)
    (batch,) = take(TrainInput(tmp_path / "set", flip=False, **SIDES).dataset(1), 1)
    assert batch.images.shape == (2, 24, 36, 3)


def test_an_image_larger_than_its_canvas_is_named(implementation):
    """Of a record that lies about its size."""
    nothing = tf.zeros([0, 4]), tf.zeros([0], tf.int32), tf.zeros([0, 4]), tf.zeros([0, 2], tf.int32)
    example = Example(tf.zeros([30, 40, 3], tf.uint8), tf.constant(17, tf.int64), *nothing)
    assert fit_example(example, Resize(24, 36), None, canvas=Canvas(24, 36)).images.shape == (24, 36, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image id 17 decodes to a size .*: \[24 32\]"):
        fit_example(example, Resize(24, 36), None, canvas=Canvas(36, 24))


def test_the_custom_op_makes_the_same_batches(mixed_set):
    if native.state().library is None:
        pytest.skip(f"custom ops: {native.state().reason}")
    found = []
    for name in ("python", "native"):
        with native.implementation(name):
            training = TrainInput(mixed_set, (17, 24), 36, order="mixed").dataset(2, seed=3)
            evaluation = EvalInput(mixed_set, 24, 60, images_per_batch=5).dataset()
            found.append([*take(training, 12), *take(evaluation, 9)])
    assert_same(*found)


def test_evaluation_reads_every_image_in_order(mixed_set):
    evaluation = EvalInput(mixed_set, short_side=24, long_side=60)
    batches = take(evaluation.dataset(), 99)
    assert [int(batch.image_ids[0]) for batch in batches] == list(range(10, 26))
    for batch in batches:
        assert batch.images.shape[1:3] == tuple(batch.image_info[0, :2].astype(int))
    assert batches[-1].boxes.tolist() == [[[-1, -1, -1, -1]]] and batches[-1].classes.tolist() == [[-1]]


def test_evaluation_batches_are_padded_to_their_largest_image(mixed_set):
    batches = take(EvalInput(mixed_set, short_side=24, long_side=60, images_per_batch=5).dataset(), 99)
    assert [len(batch.image_ids) for batch in batches] == [5, 5, 5, 1]
    assert batches[0].images.shape == (5, 24, 32, 3)
    assert batches[1].images.shape == (5, 32, 32, 3)


def test_counts_of_the_manifest_are_those_of_the_pipeline(tmp_path, make_set):
    random = np.random.default_rng(0)
    boxes = [
        [(*np.round(random.uniform((-3, -3, 0.2, 0.2), (58, 38, 9, 9)), 2), 3) for _ in range(3)] for _ in range(30)
    ]
    manifest = make_set(tmp_path / "set", [(40, 60)] * 30, boxes)
    batches = take(EvalInput(tmp_path / "set", **SIDES).dataset(), 99)
    assert sum(int((batch.classes >= 0).sum()) for batch in batches) == manifest.num_boxes


def test_too_few_images_for_a_global_batch(mixed_set):
    train = TrainInput(mixed_set, images_per_replica=4, **SIDES)
    with pytest.raises(UserError, match="18 landscape and 10 portrait .* global batch of 32"):
        train.steps_per_epoch(8)
    with pytest.raises(UserError, match="global batch of 32"):
        train.dataset(8)


def test_no_box_at_all(tmp_path, make_set):
    make_set(tmp_path / "set", [(40, 60)], [[]], num_shards=1)
    with pytest.raises(UserError, match="no image with a box"):
        TrainInput(tmp_path / "set")
    assert len(take(EvalInput(tmp_path / "set", **SIDES).dataset(), 9)) == 1


@pytest.mark.parametrize(
    "arguments",
    [{"short_side": 0}, {"short_side": 9, "long_side": 8}, {"images_per_replica": 0}, {"order": "x"}, {"profile": "x"}],
)
def test_arguments_are_checked(mixed_set, arguments):
    with pytest.raises(UserError, match=f"TrainInput.{next(iter(arguments))}"):
        TrainInput(mixed_set, **arguments)


class TestSeveralShortSides:
    MANY = {"short_side": (16, 20, 24), "long_side": 36}

    def test_every_image_has_its_own_on_two_canvases(self, mixed_set):
        train = TrainInput(mixed_set, images_per_replica=2, **self.MANY)
        plain = {side: TrainInput(mixed_set, images_per_replica=2, short_side=side, long_side=36) for side in (16, 20)}
        batches = take(train.dataset(1, seed=3), 40)
        assert {batch.images.shape for batch in batches} == {(2, 24, 36, 3), (2, 36, 24, 3)}
        sides = np.array([batch.image_info[:, :2].min(axis=1) for batch in batches])
        counts = collections.Counter(sides.ravel().tolist())
        assert set(counts) == {16, 20, 24} and min(counts.values()) > 15
        assert any(a != b for a, b in sides)  # not one for a batch
        for side, other in plain.items():  # pixels and boxes are those of a run at this side alone
            for batch, whole in zip(batches, take(other.dataset(1, seed=3), 40)):
                np.testing.assert_array_equal(batch.image_ids, whole.image_ids)
                for image in np.flatnonzero(batch.image_info[:, :2].min(axis=1) == side):
                    height, width = batch.image_info[image, :2].astype(int)
                    np.testing.assert_array_equal(batch.image_info[image], whole.image_info[image])
                    np.testing.assert_array_equal(
                        batch.images[image, :height, :width], whole.images[image, :height, :width]
                    )
                    assert not batch.images[image, height:].any() and not batch.images[image, :, width:].any()
                    np.testing.assert_array_equal(batch.boxes[image], whole.boxes[image])

    def test_resumes_exactly_and_is_a_function_of_the_seed(self, mixed_set):
        train = TrainInput(mixed_set, images_per_replica=2, **self.MANY)
        steps = train.steps_per_epoch(2)
        everything = take(train.dataset(2, seed=7), (2 * steps + 3) * 2)
        for start in (5, steps, 2 * steps + 1):
            rest = everything[start * 2 :]
            assert_same(take(train.dataset(2, start_step=start, seed=7), len(rest)), rest)
        first, second = (
            [batch.image_info[:, 2].tolist() for batch in everything[2 * steps * epoch :][: 2 * steps]]
            for epoch in (0, 1)
        )
        assert first != second

    def test_replicas_and_workers_share_out_the_draws(self, mixed_set):
        whole = take(TrainInput(mixed_set, images_per_replica=4, **self.MANY).dataset(1, seed=5), 6)
        train = TrainInput(mixed_set, images_per_replica=2, **self.MANY)
        parts = take(train.dataset(2, seed=5), 12)
        for step, batch in enumerate(whole):
            pair = parts[2 * step : 2 * step + 2]
            np.testing.assert_array_equal(batch.image_info, np.concatenate([part.image_info for part in pair]))
        context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=1, num_replicas_in_sync=2)
        assert_same(take(train.dataset(2, seed=5, input_context=context), 6), parts[1::2])

    @pytest.mark.parametrize("sides", [(), (24, 0), (24, 40)])
    def test_sides_are_checked(self, mixed_set, sides):
        with pytest.raises(UserError, match="TrainInput.short_side"):
            TrainInput(mixed_set, short_side=sides, long_side=36)


def test_evaluation_at_other_sides(mixed_set):
    evaluation = EvalInput(mixed_set, short_side=24, long_side=60)
    assert_same(
        take(evaluation.dataset(Resize(16, 30)), 99),
        take(EvalInput(mixed_set, short_side=16, long_side=30).dataset(), 99),
    )


@pytest.mark.parametrize("rule, pixels", [("detectron2", np.uint8), ("torchvision", np.float32)])
def test_batches_are_as_the_resize_leaves_the_images(mixed_set, rule, pixels):
    training = TrainInput(mixed_set, 25, 50, images_per_replica=2, profile="continuous", resize=rule)
    evaluation = EvalInput(mixed_set, 25, 50, images_per_batch=3, resize=rule)
    for batch in (*take(training.dataset(), 1), *take(evaluation.dataset(), 1)):
        assert batch.images.dtype == pixels and batch.image_info.shape[1] == 4
        sizes = np.asarray(batch.image_info[:, :2])
        ratios = sizes / np.where(sizes[:, :1] < sizes[:, 1:], [30, 40], [40, 30])
        np.testing.assert_allclose(batch.image_info[:, 2:], ratios, rtol=1e-6)
