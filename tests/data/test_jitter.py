"""Large-scale jitter beside a reference in NumPy and Pillow."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.data.inputs import TrainInput
from tfdet.data.jitter import LargeScaleJitter
from tfdet.data.visible import visible_mask_boxes
from tfdet.errors import UserError
from tfdet.structures import Example

HEIGHT, WIDTH = 48, 36


def cut_polygon(polygon, width, height):
    """Sutherland and Hodgman: what of a convex polygon float [n, 2] is inside of the window."""
    for axis, bound, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        kept = []
        for start, end in zip(polygon, np.roll(polygon, -1, axis=0)):
            depth = [sign * (point[axis] - bound) for point in (start, end)]
            if depth[0] >= 0:
                kept.append(start)
            if depth[0] * depth[1] < 0:
                kept.append(start + (end - start) * depth[0] / (depth[0] - depth[1]))
        if len(kept) < 3:
            return np.zeros((0, 2))
        polygon = np.array(kept)
    return polygon


def area(polygon):
    x, y = polygon.T if len(polygon) else np.zeros((2, 1))
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def edges_of(polygons):
    """Edges float32 [E, 4] and owners int32 [E, 2] of lists of the parts of each object."""
    rings = [(number, index, part) for number, parts in enumerate(polygons) for index, part in enumerate(parts)]
    edges = [np.concatenate([part, np.roll(part, -1, axis=0)], axis=1) for _, _, part in rings]
    owners = [np.tile([number, index], [len(part), 1]) for number, index, part in rings]
    return np.concatenate(edges).astype("f"), np.concatenate(owners).astype(np.int32)


def reference(image, triangles, draws, flip, rule, jitter):
    """Image, boxes of what is seen, boxes that are cut, areas: in the order resize, cut, pad, mirror."""
    whole = np.floor if rule == "torchvision" else np.round  # half to even
    stored, window = np.array(image.shape[:2]), np.array([HEIGHT, WIDTH])
    scale = jitter.min_scale + draws[0] * (jitter.max_scale - jitter.min_scale)
    size = np.maximum(whole(stored * min(window * scale / stored)), 1).astype(int)
    resized = np.asarray(Image.fromarray(image).resize(tuple(size[::-1]), Image.Resampling.BILINEAR))
    top, left = whole(np.maximum(size - window, 0) * draws[1]).astype(int)
    seen = resized[top : top + HEIGHT, left : left + WIDTH]
    canvas = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    canvas[:] = jitter.padding
    canvas[: seen.shape[0], : seen.shape[1]] = seen
    refit, plain, areas = [], [], []
    for triangle in triangles:
        moved = triangle * (size / stored)[::-1] - [left, top]
        box = np.clip([*moved.min(0), *moved.max(0)], 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        part = cut_polygon(moved, WIDTH, HEIGHT)
        around = np.array([*part.min(0), *part.max(0)]) if area(part) > 0 else np.zeros(4)
        if flip:
            box, around = (np.array([WIDTH - b[2], b[1], WIDTH - b[0], b[3]]) for b in (box, around))
        plain.append(box), refit.append(around), areas.append(area(part))
    return canvas[:, ::-1] if flip else canvas, np.array(refit), np.array(plain), np.array(areas)


@pytest.mark.parametrize("rule, padding", [("detectron2", (128, 128, 128)), ("torchvision", (123, 117, 104))])
def test_image_and_boxes_of_the_reference(rule, padding):
    random = np.random.default_rng(3)
    calls = {}
    for refit in (True, False):
        jitter = LargeScaleJitter(HEIGHT, WIDTH, padding=tuple(map(float, padding)), refit=refit)
        graph = tf.function(lambda *example, jitter=jitter: jitter(*example, rule), reduce_retracing=True)
        calls[refit] = jitter, graph
    cut = left_out = 0
    for number in range(24):
        image = random.integers(0, 256, (*random.integers(15, 80, 2), 3), np.uint8)
        size = np.array(image.shape[1::-1])
        triangles = (random.uniform(0, 1, (6, 3, 2)) * size).astype("f")
        corners = np.concatenate([triangles.min(1), triangles.max(1)], axis=1) - np.float32([0, 0, 1, 1])
        edges, owners = edges_of([[triangle] for triangle in triangles])
        example = Example(image, np.int64(number), corners, np.arange(6, dtype=np.int32), edges, owners)
        example = Example(*map(tf.constant, example))
        draws, flip = random.uniform(size=2), bool(number % 2)
        for refit, (jitter, graph) in calls.items():
            item = graph(example, tf.constant(draws), tf.constant(flip))
            canvas, around, plain, areas = reference(image, triangles, draws, flip, rule, jitter)
            np.testing.assert_array_equal(item.images, canvas)
            expected = around if refit else plain
            keep = np.all(expected[:, 2:] - expected[:, :2] > 1e-5, axis=1)
            assert item.classes.numpy().tolist() == np.flatnonzero(keep).tolist()
            np.testing.assert_allclose(item.boxes, expected[keep], atol=2e-3)
            np.testing.assert_array_equal(item.image_info[:2], [HEIGHT, WIDTH])
            assert len(item.edges) == 3 * keep.sum() == 3 * len(set(item.edge_owners.numpy()[:, 0]))
            if refit:  # the edges lead on, but inside of the window they are the polygon
                inside = [area(cut_polygon(own[:, :2], WIDTH, HEIGHT)) for own in item.edges.numpy().reshape(-1, 3, 4)]
                np.testing.assert_allclose(inside, areas[keep], rtol=1e-3, atol=1e-2)
                cut += np.sum(np.abs(around - plain)[keep].max(1) > 0.5)
                left_out += np.sum(~keep)
    assert cut > 10 and left_out


def square(x1, y1, x2, y2):
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], float)


@pytest.mark.parametrize(
    "parts, expected",
    [
        ([square(-5, -5, 99, 99)], (0, 0, 20, 10)),  # all of the window
        ([square(0, 0, 20, 10)], (0, 0, 20, 10)),  # exactly the window
        ([square(0, 0, 40, 30)], (0, 0, 20, 10)),  # at the border of the image, over the others
        ([square(-9, 2, 0, 8)], (0, 0, 0, 0)),  # touches it from outside
        ([square(4, 10, 8, 15)], (0, 0, 0, 0)),
        ([square(-9, 2, -4, 8)], (0, 0, 0, 0)),
        ([square(-9, 2, -4, 8), square(3, 4, 5, 6)], (3, 4, 5, 6)),  # one part is seen
        ([square(15, -4, 30, 3)], (15, 0, 20, 3)),  # over a corner
        # An L: its upper bar leaves the window, its lower one goes along it.
        ([np.array([[-9, 1], [-5, 1], [-5, 5], [8, 5], [8, 7], [-9, 7]], float)], (0, 5, 8, 7)),
        # Drawn forth and back along the border.
        ([np.array([[0, 9], [0, 1], [0, 4], [6, 4], [6, 6], [0, 6]], float)], (0, 4, 6, 6)),
    ],
)
def test_what_is_seen_of_a_mask(parts, expected):
    edges, owners = edges_of([[square(1, 1, 2, 2)], parts])
    boxes = visible_mask_boxes(tf.constant(edges), tf.constant(owners), tf.constant(2), 10, 20).numpy()
    np.testing.assert_allclose(boxes, [[1, 1, 2, 2], expected], atol=1e-5)


def test_a_window_in_a_hole_sees_nothing():
    ring = np.concatenate([edges_of([[square(-9, -9, 40, 40)]])[0], edges_of([[square(-3, -3, 30, 30)]])[0]])
    owners = tf.zeros([8, 2], tf.int32)
    assert not np.any(visible_mask_boxes(tf.constant(ring), owners, tf.constant(1), 10, 20))


def test_batches_of_one_size_the_same_when_the_run_goes_on(mixed_set):
    """Portrait images too; the draws are a function of the seed and the step, and another of each image."""
    jitter = LargeScaleJitter(24, 32)
    train = TrainInput(
        mixed_set, 24, 36, images_per_replica=2, jitter=jitter, resize="detectron2", profile="continuous"
    )
    whole = list(itertools.islice(train.dataset(1, seed=4).as_numpy_iterator(), 14))
    later = list(itertools.islice(train.dataset(1, start_step=9, seed=4).as_numpy_iterator(), 5))
    for batch, again in zip(whole[9:], later, strict=True):
        for field, same in zip(batch, again, strict=True):
            np.testing.assert_array_equal(field, same)
    assert {batch.images.shape for batch in whole} == {(2, 24, 32, 3)}
    scales = np.concatenate([batch.image_info[:, 2] for batch in whole])
    assert len(set(scales.tolist())) > 20
    other = next(train.dataset(1, seed=5).as_numpy_iterator())
    assert not np.array_equal(other.image_info, whole[0].image_info)
    boxes = np.concatenate([batch.boxes[batch.classes >= 0] for batch in whole])
    assert np.all(boxes[:, 2:] > boxes[:, :2]) and np.all(boxes >= 0) and np.all(boxes <= [32, 24, 32, 24])


def test_boxes_of_whole_pixels(mixed_set):
    """For detectors of that convention x2 and y2 are the last pixel; the rest is the same."""
    options = {"images_per_replica": 1, "jitter": LargeScaleJitter(24, 32), "resize": "detectron2"}
    pair = [TrainInput(mixed_set, 24, 36, profile=p, **options) for p in ("continuous", "first_release")]
    continuous, legacy = (next(train.dataset(1, seed=1).as_numpy_iterator()) for train in pair)
    np.testing.assert_allclose(legacy.boxes, continuous.boxes - np.float32([0, 0, 1, 1]), atol=1e-6)


def test_what_does_not_go_together_is_refused(mixed_set):
    with pytest.raises(UserError, match="LargeScaleJitter.refit takes boxes from masks, but TrainInput.masks is False"):
        TrainInput(mixed_set, jitter=LargeScaleJitter(refit=True))
    with pytest.raises(UserError, match="LargeScaleJitter.min_scale must be at most its max_scale. Received: 2.0, 0.1"):
        LargeScaleJitter(min_scale=2.0, max_scale=0.1)
