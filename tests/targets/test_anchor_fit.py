"""How anchors fit objects: against anchors laid out and compared one by one, and found again by the search."""

import numpy as np
import pytest

from tfdet.ops.anchors import centred_anchors
from tfdet.targets import anchor_fit
from tfdet.targets.anchor_fit import Anchors, Objects

ANCHORS = Anchors((8, 16), (2.0, 3.0), (0.5, 1.0))


def one_by_one(objects, anchors, side=128):
    """The best IoU of each object with every anchor of every cell of an image."""
    boxes = []
    for stride in anchors.strides:
        cell = centred_anchors([scale * stride for scale in anchors.scales], anchors.ratios, "detectron2")
        middles = np.arange(side // stride) * stride + stride / 2
        x, y = np.meshgrid(middles, middles)
        shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
        boxes.append((cell + shifts).reshape(-1, 4))
    boxes = np.concatenate(boxes)
    best = []
    for (w, h), (cx, cy) in zip(objects.sizes, objects.centres, strict=True):
        low = np.maximum(boxes[:, :2], [cx - w / 2, cy - h / 2])
        high = np.minimum(boxes[:, 2:], [cx + w / 2, cy + h / 2])
        overlap = np.prod(np.maximum(high - low, 0), axis=1)
        union = w * h + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - overlap
        best.append((overlap / union).max())
    return np.array(best)


def drawn(count, seed=0):
    rng = np.random.default_rng(seed)
    return Objects(rng.uniform(4, 80, [count, 2]), rng.uniform(40, 88, [count, 2]))


def test_the_best_iou_is_that_of_all_anchors_one_by_one():
    objects = drawn(50)
    # Of a cell's own anchors and of its neighbours': the nearest cell is never worse, for the shapes are the same.
    assert anchor_fit.best_ious(objects, ANCHORS) == pytest.approx(one_by_one(objects, ANCHORS), abs=1e-5)


def test_recall_counts_what_has_an_anchor():
    stride, size = 8, 16.0
    exact = Objects(np.full([1, 2], size), np.full([1, 2], stride / 2))
    far = Objects(np.array([[size, 100 * size]]), np.full([1, 2], stride / 2))
    both = Objects(*(np.concatenate(pair) for pair in zip(exact, far, strict=True)))
    anchors = Anchors((stride,), (2.0,), (1.0,))
    assert anchor_fit.measure(exact, anchors) == (1.0, 1.0, 1.0)
    assert anchor_fit.measure(both, anchors) == pytest.approx((0.505, 0.5, 0.5))
    assert anchor_fit.measure(Objects(np.zeros([0, 2]), np.zeros([0, 2])), anchors) == (0.0, 0.0, 0.0)


def test_the_search_finds_the_shapes_that_objects_were_made_of():
    rng = np.random.default_rng(1)
    areas, ratios = rng.choice([40.0, 160.0], 400), rng.choice([0.3, 1.7], 400)
    sizes = np.stack([areas / np.sqrt(ratios), areas * np.sqrt(ratios)], axis=1) * rng.uniform(0.97, 1.03, [400, 2])
    objects = Objects(sizes, rng.uniform(0, 300, [400, 2]))
    found = anchor_fit.fit(objects, (8,), 2, 2)
    assert found.scales == pytest.approx((5.0, 20.0), rel=0.06)
    assert found.ratios == pytest.approx((0.3, 1.7), rel=0.08)
    assert anchor_fit.measure(objects, found).recall > 0.99
    assert found == anchor_fit.fit(objects, (8,), 2, 2)


def test_anchors_of_a_pyramid_stay_within_what_its_cells_see():
    large = Objects(np.full([20, 2], 300.0), np.full([20, 2], 160.0))
    assert anchor_fit.fit(large, (4, 8), 1, 1).scales == (12.0,)
    assert anchor_fit.fit(large, (8,), 1, 1).scales == pytest.approx((37.5,), rel=0.05)


def test_boxes_are_scaled_as_the_resize_does():
    boxes, images = np.array([[100.0, 50.0, 200.0, 100.0]]), np.array([[480, 640]])
    objects = anchor_fit.objects_of(boxes, images, (240, 480), 320)
    assert objects.sizes == pytest.approx(np.array([[100.0, 50.0], [100.0, 50.0]]))  # the long side holds both at half
    assert objects.centres[0] == pytest.approx([100.0, 50.0])
