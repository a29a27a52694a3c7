"""Mask targets against cocoapi and SimpleDet, bit for bit."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tfdet.ops.bitmap_targets import bitmap_targets, draw_bitmaps
from tfdet.ops.iou import pairwise_iou
from tfdet.ops.mask_targets import mask_targets

SIGNATURE = [
    tf.TensorSpec([None, None, 4]),
    tf.TensorSpec([None, None], tf.int32),
    tf.TensorSpec([None, None, 4]),
    tf.TensorSpec([None, None, 2], tf.int32),
]
drawn = tf.function(mask_targets, SIGNATURE, autograph=False)
drawn_by_detectron2 = tf.function(functools.partial(mask_targets, rule="detectron2"), SIGNATURE, autograph=False)


def edges_of(*images, padding=0):
    """Polygons of each image (a list of [K, 2] for each object) as edges [B, E, 4] and owners [B, E, 2]."""
    rows = []
    for objects in images:
        edges, owners = [np.zeros([0, 4])], [np.zeros([0, 2])]
        for number, polygons in enumerate(objects):
            for part, polygon in enumerate(polygons):
                edges.append(np.concatenate([polygon, np.roll(polygon, -1, axis=0)], axis=1))
                owners.append(np.tile([number, part], [len(polygon), 1]))
        rows.append((np.concatenate(edges), np.concatenate(owners)))
    length = max(len(e) for e, _ in rows) + padding
    edges, owners = np.zeros([len(rows), length, 4], "f"), np.full([len(rows), length, 2], -1, "i4")
    for i, (e, o) in enumerate(rows):
        edges[i, : len(e)], owners[i, : len(o)] = e, o
    return edges, owners


def cocoapi(box, polygons, size=28):
    """SimpleDet's convertPoly2Mask: swapped polygons into rleFrPoly, united, decoded as if row-major."""
    x1, y1, x2, y2 = np.float32(box)
    one = np.float32(1)
    mask = np.zeros([size, size], bool)
    for polygon in polygons:
        x = (np.float32(polygon[:, 0]) - x1) * np.float32(size) / max(x2 - x1, one)
        y = (np.float32(polygon[:, 1]) - y1) * np.float32(size) / max(y2 - y1, one)
        swapped = np.stack([y, x], axis=1).astype(np.float64).reshape(-1)
        mask |= coco_mask.decode(coco_mask.frPyObjects([swapped.tolist()], size, size))[..., 0].T > 0
    return mask


def cocoapi_exactly(box, polygons, size=28):
    """Detectron2's rasterize_polygons_within_box: the sides of the box in float32, the rest in float64, no swap."""
    corner, sides = np.float32(box)[:2], np.float32(box)[2:] - np.float32(box)[:2]
    ratios = np.float32(size) / np.maximum(sides, np.float32(0.1))
    stretched = [((np.float64(p) - corner) * np.float64(ratios)).reshape(-1).tolist() for p in polygons]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(stretched, size, size))) > 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    grid=st.sampled_from([0.0, 1.0, 0.5, 0.2, 0.1]),
    spread=st.sampled_from([3.0, 30.0, 300.0]),
    size=st.sampled_from([1.0, 28.0, 27.3, 140.0, 0.4]),
)
def test_equals_cocoapi_on_any_polygons(seed, grid, spread, size):
    """Coordinates on the fine grid make the rounding matter; spread ones leave the RoI on every side."""
    rng = np.random.default_rng(seed)
    objects = []
    for _ in range(3):
        polygons = [rng.normal(0, spread, [rng.integers(3, 9), 2]) for _ in range(rng.integers(1, 4))]
        objects.append([np.float32(p if grid == 0 else np.round(p / grid) * grid) for p in polygons])
    corner = rng.normal(0, spread / 3, [4, 2]).round(int(rng.integers(0, 3)))
    boxes = np.float32(np.concatenate([corner, corner + size * rng.uniform(0.5, 1.5, [4, 2]).round(1)], axis=1))
    matched = rng.integers(0, 3, 4).astype(np.int32)
    targets = drawn(boxes[None], matched[None], *edges_of(objects, padding=2))[0].numpy()
    expected = np.stack([cocoapi(box, objects[m]) for box, m in zip(boxes, matched)])
    np.testing.assert_array_equal(targets > 0, expected)
    assert set(np.unique(targets)) <= {0.0, 1.0}
    targets = drawn_by_detectron2(boxes[None], matched[None], *edges_of(objects, padding=2))[0].numpy()
    expected = np.stack([cocoapi_exactly(box, objects[m]) for box, m in zip(boxes, matched)])
    np.testing.assert_array_equal(targets > 0, expected)


def stored_objects(z):
    """The polygons of each object, of flat lists of coordinates."""
    objects = [[] for _ in z["boxes"]]
    ends = np.cumsum(z["polygon_length"], dtype=int)
    for end, length, owner in zip(ends, z["polygon_length"], z["polygon_object"]):
        objects[owner].append(z["polygon_xy"][end - length : end].reshape(-1, 2))
    return objects


@pytest.mark.parametrize("size", [14, 28])
def test_equals_detectron2(golden, size):
    """80 of 250 real objects, 12 of several parts; by SimpleDet's rule most differ."""
    z = golden("d2_polygon_mask_targets")
    expected = np.unpackbits(z[f"targets{size}"], axis=1)[:, : size * size].reshape(-1, size, size)
    arguments = z["boxes"][None], np.arange(len(expected), dtype="i4")[None], *edges_of(stored_objects(z))
    np.testing.assert_array_equal(mask_targets(*arguments, size, rule="detectron2")[0], expected)
    swapped = mask_targets(*arguments, size)[0].numpy() != expected
    assert swapped.any(axis=(1, 2)).mean() > 0.5 and swapped.mean() < 0.01


def test_equals_torchvision(golden):
    """The stored noise of torchvision's own is 1.3e-4. Every object is in an image of its own."""
    z = golden("tv_mask_targets")
    objects, info = stored_objects(z), np.pad(z["hw"], [(0, 0), (0, 1)], constant_values=1).astype("f")
    edges, owners = edges_of(*([polygons] for polygons in objects))
    pool = tf.function(
        functools.partial(bitmap_targets, size=14), [*SIGNATURE, tf.TensorSpec([None, 3])], autograph=False
    )
    targets = pool(z["boxes"][:, None], np.zeros([len(info), 1], "i4"), edges, owners, info)
    np.testing.assert_allclose(targets[:, 0], z["targets14"], atol=1.3e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([5.0, 20.0]))
def test_bitmaps_are_cocoapis(seed, spread):
    """Several objects of several parts in images of two sizes, partly outside of them."""
    rng = np.random.default_rng(seed)
    sizes = [(int(h), int(w)) for h, w in rng.integers(8, 40, [2, 2])]
    images = [
        [
            [rng.normal(12, spread, [rng.integers(3, 7), 2]).astype("f") for _ in range(rng.integers(1, 4))]
            for _ in "abc"
        ]
        for _ in sizes
    ]
    edges, owners = edges_of(*images, padding=1)
    limits = tf.constant([[w, h] for h, w in sizes], tf.int64)
    bitmaps = draw_bitmaps(tf.constant(edges), tf.constant(owners, tf.int64), limits, tf.constant(3, tf.int64))
    for number, polygons in enumerate([polygons for objects in images for polygons in objects]):
        height, width = sizes[number // 3]
        runs = coco_mask.frPyObjects([(p + np.float32(1e-4)).reshape(-1).tolist() for p in polygons], height, width)
        expected = coco_mask.decode(coco_mask.merge(runs))
        column, row = bitmaps.corner[number].numpy()
        own = np.pad(bitmaps.pixels[number].numpy().T, [(row, height), (column, width)])[:height, :width]
        np.testing.assert_array_equal(own, expected)


def shares(bitmap, box, size):
    """torchvision's RoIAlign of one bitmap, aligned False, as many samples a bin as it has pixels, rounded up."""
    low, side = np.array(box[1::-1]), np.maximum(np.array(box[3:1:-1]) - box[1::-1], 1.0)
    counts = np.ceil(side / size).astype(int)
    axes = []
    for k, limit in enumerate(bitmap.shape):
        places = low[k] + (np.arange(size * counts[k]) + 0.5) * side[k] / (size * counts[k])
        before = np.minimum(places.astype(int), limit - 1)
        weights = np.zeros([len(places), limit])
        share = np.where(before + 1 < limit, places - before, 0.0)
        np.add.at(weights, (np.arange(len(places)), before), 1.0 - share)
        np.add.at(weights, (np.arange(len(places)), np.minimum(before + 1, limit - 1)), share)
        axes.append(weights.reshape(size, counts[k], limit).mean(axis=1))
    return axes[0] @ bitmap @ axes[1].T


def test_shares_of_a_bitmap_reach_the_border_and_one_object_has_many_rois():
    """RoIAlign repeats the last pixels of an image; a hole belongs to its part."""
    whole = np.array([[0, 0], [12, 0], [12, 8], [0, 8]], "f")
    hole = np.array([[4, 2], [8, 2], [8, 6], [4, 6]], "f")
    edges, owners = edges_of([[whole, hole], [whole + np.float32([0, 20])]])
    owners[0, :8] = 0  # of one part
    boxes = np.array([[[0, 0, 12, 8], [0, 0, 12, 8], [3.3, 1, 12, 7.5], [0, 0, 12, 8], [2, 3, 2, 3]]], "f")
    targets = bitmap_targets(boxes, [[0, -1, 0, 1, 0]], edges, owners, [[8, 12, 1]], size=4)[0].numpy()
    bitmap = np.ones([8, 12])
    bitmap[2:6, 4:8] = 0
    for row in (0, 2, 4):
        np.testing.assert_allclose(targets[row], shares(bitmap, boxes[0, row], 4), atol=1e-5)
    assert targets[0, -1].min() == targets[0, :, -1].min() == 1.0
    assert not targets[1].any() and not targets[3].any()  # its object is below the image
    empty = bitmap_targets(boxes, [[-1] * 5], np.zeros([1, 0, 4], "f"), np.zeros([1, 0, 2], "i4"), [[8, 12, 1]])
    assert empty.shape == (1, 5, 28, 28) and not np.any(empty)


def golden_objects(polygons):
    """SimpleDet's buffer of an object: class, number of polygons, their lengths, their coordinates."""
    objects = []
    for row in polygons:
        count = max(int(row[1]), 0)
        ends = 2 + count + np.cumsum(row[2 : 2 + count]).astype(int)
        starts = [2 + count, *ends[:-1]]
        objects.append([row[a:b].reshape(-1, 2) for a, b in zip(starts, ends)] or [np.zeros([0, 2], "f")])
    return objects


def test_equals_simpledet(golden):
    z = golden("proposal_mask_target")
    foreground = z["mask_target"].shape[1]
    assert foreground == int(z["image_rois"] * z["fg_fraction"])
    for image in range(2):
        boxes, labels = z["out_rois"][image, :foreground], z["label"][image, :foreground]
        iou = np.where(z["gt_boxes"][image, :, 4] > 0, pairwise_iou(boxes, z["gt_boxes"][image, :, :4]), -1)
        matched = np.where(labels > 0, iou.argmax(axis=1), -1).astype(np.int32)
        targets = drawn(boxes[None], matched[None], *edges_of(golden_objects(z["gt_polys"][image])))[0].numpy()
        used = labels > 0
        assert used.sum() > 10 and (z["mask_target"][image][~used] == -1).all()
        np.testing.assert_array_equal(targets[used], z["mask_target"][image][used])
        assert not targets[~used].any()


def test_an_object_of_several_images_is_its_own():
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], "f")
    edges, owners = edges_of([[square]], [[square + 100], [square]])
    boxes = np.array([[[0, 0, 20, 10]], [[95, 100, 105, 110]]], "f")
    targets = mask_targets(boxes, [[0], [0]], edges, owners, size=4).numpy()[:, 0]
    np.testing.assert_array_equal(targets[0], [[1, 1, 0, 0]] * 4)
    np.testing.assert_array_equal(targets[1], [[0, 0, 1, 1]] * 4)


def test_a_hole_belongs_to_its_part_and_parts_unite():
    ring = np.array([[0, 0], [12, 0], [12, 12], [0, 12]], "f")
    hole = np.array([[4, 4], [8, 4], [8, 8], [4, 8]], "f")
    box = np.array([[[0, 0, 12, 12]]], "f")
    edges, owners = edges_of([[ring, hole]])
    one_part = mask_targets(box, [[0]], edges, np.zeros_like(owners), size=3)[0, 0].numpy()
    np.testing.assert_array_equal(one_part, [[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    two_parts = mask_targets(box, [[0]], edges, owners, size=3)[0, 0].numpy()
    assert two_parts.all()


def test_portions_do_not_show():
    rng = np.random.default_rng(3)
    edges, owners = edges_of([[np.float32(rng.uniform(0, 40, [corners, 2]))] for corners in (7, 3, 60)])
    boxes = np.float32(rng.uniform(0, 20, [1, 11, 4]) + [0, 0, 20, 20])
    matched = rng.integers(-1, 3, [1, 11])
    whole = mask_targets(boxes, matched, edges, owners).numpy()
    assert 0 < whole.mean() < 1 and not whole[0][matched[0] < 0].any()
    for elements in (1, 3 * (28 * 28 + 1), 4 * (28 * 28 + 1)):
        np.testing.assert_array_equal(mask_targets(boxes, matched, edges, owners, max_elements=elements), whole)


@pytest.mark.parametrize("function", [drawn, mask_targets], ids=["graph", "eager"])
@pytest.mark.parametrize("shape", [(2, 0, 5), (2, 3, 5), (2, 3, 0), (2, 0, 0), (0, 3, 5)], ids=str)
def test_without_images_rois_or_edges(shape, function):
    images, rois, length = shape
    edges, owners = tf.zeros([images, length, 4]), tf.fill([images, length, 2], -1)
    targets = function(tf.ones([images, rois, 4]), tf.fill([images, rois], -1), edges, owners)
    assert targets.shape == (images, rois, 28, 28) and not targets.numpy().any()


def test_an_object_of_many_edges_makes_no_other_one_longer():
    """One of 20,000 edges among 99 of four: 20,396 edges an image, where 100 x 20,000 were 32 MB."""
    angles = np.linspace(0, 2 * np.pi, 20000, endpoint=False)
    disc = np.float32(np.stack([np.cos(angles), np.sin(angles)], axis=1) * 50 + 50)
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], "f")
    objects = [[square + 100 * number] for number in range(50)] + [[disc]] + [[square]] * 49
    edges, owners = edges_of(objects)
    assert edges.nbytes + owners.nbytes < 500_000
    boxes = np.float32([[[0, 0, 100, 100], [300, 300, 320, 320], [20, 0, 90, 60]]])
    targets = drawn(boxes, [[50, 3, 50]], edges, owners)[0].numpy()
    for target, box, number in zip(targets, boxes[0], [50, 3, 50]):
        np.testing.assert_array_equal(target > 0, cocoapi(box, objects[number]))
