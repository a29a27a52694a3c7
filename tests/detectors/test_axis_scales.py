"""Images whose rows and columns were resized by different ratios, as Detectron2 and torchvision round sizes."""

import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import random_batch, small_detector, small_masks
from tfdet.ops.boxes import CONTINUOUS, box_scale, clip_to_image
from tfdet.ops.proposals import generate_proposals
from tfdet.predict.augment import AugmentedDetector

SCALES = np.float32([1.6, 0.8])  # of rows and of columns: so far apart that no mistake is small


def continuous(trunk):
    detector = small_detector("c4" if trunk == "mask" else trunk, masks=small_masks() if trunk == "mask" else None)
    detector.convention = detector.postprocess.convention = CONTINUOUS
    if trunk == "retina":
        detector.postprocess.clip = "detections"
        for layer in (detector.head.cls, detector.head.box):  # else all are sure of boxes beside the image
            layer.kernel.assign(layer.kernel / 100.0)
    return detector


def infos(size=(96, 128)):
    """The same images, of which the originals had the network's size, and another one."""
    plain = np.float32([[*size, 1, 1]] * 2)
    return tf.constant(plain), tf.constant(np.concatenate([plain[:, :2], np.tile(SCALES, [2, 1])], axis=1))


@pytest.mark.parametrize("trunk, in_network_pixels", [("mask", False), ("mask", True), ("retina", False)])
def test_boxes_go_back_by_the_scale_of_each_axis_and_masks_stay(trunk, in_network_pixels):
    """Plain, and joined with the candidates of the mirror image: overlaps do not change with the axes' scales."""
    detector = continuous(trunk)
    if in_network_pixels:
        detector.postprocess.in_network_pixels = True
    images = random_batch([1, 1], 1).images
    twice = AugmentedDetector(detector, flip=True, rule="detectron2")
    for detect in (detector.detect, lambda images, info: twice([(images, info)])):
        same, scaled = (detect(images, info) for info in infos())
        assert (same.num_valid.numpy() > 0).all()
        np.testing.assert_array_equal(same.num_valid, scaled.num_valid)
        np.testing.assert_array_equal(same.classes, scaled.classes)
        real = same.classes.numpy() >= 0
        edges = [np.asarray(found.boxes)[real] + [0, 0, 1, 1] for found in (same, scaled)]
        np.testing.assert_allclose(edges[1] * SCALES[[1, 0, 1, 0]], edges[0], atol=1e-3)
        if trunk == "mask":
            np.testing.assert_allclose(same.masks, scaled.masks, atol=1e-4)


def test_one_scale_or_one_for_each_axis():
    np.testing.assert_array_equal(box_scale([[8, 9, 2]]), [[2]])
    np.testing.assert_array_equal(box_scale([[8, 9, 2, 3]]), [[3, 2, 3, 2]])
    np.testing.assert_array_equal(clip_to_image([[[-1.0, 0, 50, 50]]], [[8, 9, 2, 3]], CONTINUOUS), [[[0, 0, 9, 8]]])


def test_proposals_are_made_with_the_scale_of_rows(implementation):
    rng = np.random.default_rng(0)
    scores, deltas = rng.uniform(0, 1, (1, 6, 8, 2)).astype("f"), rng.normal(0, 0.2, (1, 6, 8, 8)).astype("f")
    cells = np.float32([[-8, -8, 23, 23], [0, 0, 15, 15]])
    found = [
        generate_proposals(scores, deltas, cells, 16, np.float32([info]), 50, 20, min_size=8)
        for info in ([90, 120, 1.5], [90, 120, 1.5, 0.7])
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
