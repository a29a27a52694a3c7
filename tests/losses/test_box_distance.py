"""IoU losses beside those of torchvision and fvcore, and where they stand in for smooth L1."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.losses.bbox import bbox_losses
from tfdet.losses.box_distance import box_distance, iou_loss
from tfdet.losses.focal import retina_losses
from tfdet.losses.rpn import rpn_losses
from tfdet.structures import RoiSamples


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_sums_and_gradients_of_torchvision(golden, kind):
    """30 pairs, beside each other, overlapping and one within the other."""
    stored = golden("box_iou_losses")
    boxes = tf.constant(stored["ba"])
    with tf.GradientTape() as tape:
        tape.watch(boxes)
        total = tf.reduce_sum(iou_loss(boxes, stored["bb"], kind))
    np.testing.assert_allclose(total, stored[kind], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(total, boxes), stored[f"{kind}_g"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "box, expected",
    [
        ((0, 0, 4, 4), 0),
        ((0, 0, 4, 2), 0.5),  # within: the box around both is the larger one
        ((8, 0, 12, 4), 1 + 16 / 48),  # beside: no IoU, a third of what is around both is neither
        ((0, 0, 0, 0), 1),
    ],
)
def test_giou_of_a_square_of_4_pixels(box, expected):
    np.testing.assert_allclose(iou_loss([box], [(0.0, 0, 4, 4)]), [expected], atol=1e-6)


ANCHORS = np.float32([[0, 0, 9, 9], [5, 5, 24, 14], [30, 30, 39, 69]])


def decoded(anchors, offsets, extra):
    """Continuous boxes in NumPy; `extra` 1 where corners are inclusive."""
    offsets = np.float64(offsets)
    size = anchors[..., 2:] - anchors[..., :2] + extra
    centre = anchors[..., :2] + size / 2 + offsets[..., :2] * size
    half = size * np.exp(np.minimum(offsets[..., 2:], np.log(62.5))) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


@pytest.mark.parametrize("convention, extra", [("continuous", 0), ("legacy_plus_one", 1)])
def test_every_detector_measures_the_boxes_that_offsets_make(convention, extra):
    rng = np.random.default_rng(0)
    deltas, targets = rng.normal(scale=0.5, size=(2, 2, 3, 4)).astype("f")
    labels = np.array([[1, 0, -1], [-1, 1, 1]], np.int32)
    deltas[0, 1], deltas[0, 2] = np.inf, np.nan  # of background and of what is ignored
    foreground = labels == 1
    targets[~foreground] = 0.0

    def expected(std):
        with np.errstate(all="ignore"):
            pair = [decoded(ANCHORS, values * np.float32(std), extra)[foreground] for values in (deltas, targets)]
        return float(tf.reduce_sum(iou_loss(*pair, "giou")))

    options = {"box_loss": "giou", "convention": convention}
    _, rpn = rpn_losses(np.zeros([2, 3, 1], "f"), deltas, labels, targets, 8, anchors=ANCHORS, **options)
    np.testing.assert_allclose(rpn, expected([1.0] * 4) / 16, rtol=1e-5)

    _, retina = retina_losses(
        [np.zeros([2, 3, 5], "f")], [deltas], tf.constant(labels - 1), targets, anchors=ANCHORS, **options
    )
    np.testing.assert_allclose(retina, expected([1.0] * 4) / 4, rtol=1e-5)

    rois = np.tile(ANCHORS, [2, 1, 1])
    samples = RoiSamples(*map(tf.constant, (rois, labels - 1, targets, labels - 1)))
    std = (0.1, 0.1, 0.2, 0.2)
    weighted = {"box_weight": 10.0, "box_std": std, **options}
    tensor = tf.constant(deltas)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        _, box = bbox_losses(np.zeros([2, 3, 6], "f"), tensor, samples, True, **weighted)
    np.testing.assert_allclose(box, 10.0 * expected(std) / np.sum(labels >= 0), rtol=1e-5)
    gradient = tape.gradient(box, tensor).numpy()
    assert np.all(np.isfinite(gradient)) and not np.any(gradient[~foreground])
    assert np.all(np.any(gradient[foreground] != 0, axis=-1))


def test_boxes_grow_62_times_at_most():
    deltas = np.float32([[[0, 0, 50, 50]]])
    distance = box_distance(deltas, np.zeros([1, 1, 4], "f"), np.array([[True]]), "giou", anchors=ANCHORS[:1])
    np.testing.assert_allclose(distance, [[[1 - 1 / 62.5**2]]], rtol=1e-5)
