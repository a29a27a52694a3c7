"""Anchors, box coding and mask targets of Detectron2 and torchvision, against their outputs."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.heads.proposals import AnchorGenerator
from tfdet.ops.box_coding import MAX_LOG_RATIO, decode, encode
from tfdet.ops.roi_align import assign_levels
from tools.golden.bitmap_targets import bitmap_targets

RETINA_SCALES = (4.0, 4.0 * 2 ** (1 / 3), 4.0 * 2 ** (2 / 3))
GENERATORS = {
    "fpn": {"strides": (4, 8, 16, 32, 64), "scales": (8,)},
    "retina": {"strides": (8, 16, 32, 64, 128), "scales": RETINA_SCALES},
    "c4": {"strides": (16,), "scales": (2, 4, 8, 16, 32)},
}


@pytest.mark.parametrize("name", GENERATORS)
def test_anchors_of_detectron2(golden, name):
    stored = golden("d2_anchors")
    generator = AnchorGenerator(**GENERATORS[name], style="detectron2")
    levels = range(len(generator.strides))
    grids = generator.grid([tf.zeros([1, *stored[f"{name}_{i}_hw"], 1]) for i in levels])
    for i in levels:
        np.testing.assert_allclose(generator.cells[i], stored[f"{name}_cell_{i}"], rtol=1e-6)
        np.testing.assert_allclose(grids[i], stored[f"{name}_{i}"], rtol=1e-6)


def test_anchors_of_torchvision_and_their_steps_on_odd_maps(golden):
    stored = golden("tv_anchors")
    generator = AnchorGenerator(strides=(4, 8, 16, 32, 64), scales=(8,), style="torchvision")
    for i, cell in enumerate(generator.cells):
        np.testing.assert_array_equal(cell, stored[f"cell_{i}"])
    sizes = [(16, 20), (8, 10), (4, 5), (2, 3), (1, 2)]  # of an image of 64 x 80: 32 does not divide its width
    grids = generator.grid([tf.zeros([1, *size, 1]) for size in sizes])
    np.testing.assert_array_equal(np.concatenate(grids)[: len(stored["all"])], stored["all"][: sum(map(len, grids))])
    assert grids[3][3, 0] - grids[3][0, 0] == 80 // 3


@pytest.mark.parametrize("weight", [1, 10, 20, 30])
def test_box_coding_of_detectron2(golden, weight):
    stored = golden("d2_box2box")
    std = {1: (1.0,) * 4}.get(weight, (1 / weight, 1 / weight, 2 / weight, 2 / weight))
    offsets = encode(stored["src"], stored["dst"], std=std, convention="continuous")
    np.testing.assert_allclose(offsets, stored[f"deltas_w{weight}"], rtol=2e-5, atol=2e-5)
    deltas = stored[f"rand_deltas_w{weight}"].reshape(-1, 2, 4)
    boxes = decode(stored["src"][:, None], deltas, std=std, convention="continuous", max_log_ratio=MAX_LOG_RATIO)
    np.testing.assert_allclose(np.reshape(boxes, [-1, 8]), stored[f"applied_w{weight}"], rtol=1e-4, atol=2e-3)


def test_levels_of_both_programs_have_no_extra_pixel():
    sides = np.array([1.0, 111.9, 112.0, 223.9, 224.0, 447.9, 448.0, 5000.0])
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=-1).astype(np.float32)
    for rule in ("detectron2", "torchvision"):
        levels = assign_levels(boxes, (4, 8, 16, 32), rule=rule)
        np.testing.assert_array_equal(levels, [0, 0, 1, 1, 2, 2, 3, 3])
    assert assign_levels(boxes, (4, 8, 16, 32))[1] == 1  # with + 1


def test_targets_out_of_bitmaps_are_shares_of_the_own_object():
    bitmaps = np.zeros([1, 8, 8, 2], np.uint8)
    bitmaps[0, :, 4:, 0] = 1
    bitmaps[0, 4:, :, 1] = 1
    boxes = tf.constant([[[0.0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 8]]])
    targets = bitmap_targets(boxes, tf.constant([[0, 1, -1]]), bitmaps, size=4).numpy()[0]
    np.testing.assert_array_equal(targets[0], targets[1].T)
    np.testing.assert_allclose(targets[0, 0], [0, 0.25, 1, 1])  # two samples a side: at columns 2.5 and 3.5
    assert not targets[2].any()
