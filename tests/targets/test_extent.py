"""Anchors in the padding: those of Detectron2's and torchvision's smaller canvas are the ones that take part."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.heads.proposals import AnchorGenerator
from tfdet.targets.extent import centred_within
from tfdet.targets.retina import IGNORED, RetinaTargetAssigner
from tfdet.targets.rpn import rpn_targets

INFO = tf.constant([[100.0, 90.0, 1.0], [60.0, 97.0, 1.0]])  # a batch of 100 x 97, on a canvas of 128 x 128 there
BOXES = tf.constant([[[10.0, 10, 50, 60], [60, 70, 89, 99]], [[0, 30, 97, 60], [-1, -1, -1, -1]]])
CLASSES = tf.constant([[1, 2], [3, -1]])
STRIDES = (8, 16, 32, 64)


def anchors_on(side):
    """Anchors of a square canvas, and on which cells of which map they are: [N, 3], level, y, x."""
    generator = AnchorGenerator(STRIDES, (4,), style="detectron2")
    sizes = [-(-side // stride) for stride in STRIDES]
    cells = [
        np.stack(np.meshgrid([level], np.arange(n), np.arange(n), range(3), indexing="ij"), axis=-1).reshape(-1, 4)
        for level, n in enumerate(sizes)
    ]
    return tf.concat(generator.grid([tf.zeros([2, n, n, 1]) for n in sizes]), axis=0), np.concatenate(cells)


def label(kind, anchors, extent):
    if kind == "retina":
        assigner = RetinaTargetAssigner(low_quality_class="best", extent=extent)
        assigner.convention, assigner.size_divisor = "continuous", 32
        return [t.numpy() for t in assigner(anchors, BOXES, CLASSES, INFO)]
    everything = {"batch_per_image": 10**6, "fg_fraction": 1.0, "allowed_border": float("inf")}
    options = {"convention": "continuous", "extent": extent, "size_divisor": 32}
    return [t.numpy() for t in rpn_targets(anchors, INFO, BOXES, CLASSES, [1, 2], **everything, **options)]


@pytest.mark.parametrize("kind, ignored", [("rpn", -1), ("retina", IGNORED)])
def test_a_larger_canvas_changes_no_target(kind, ignored):
    """On 256 x 256 the targets are those of 128 x 128, and nothing is learnt beyond; otherwise they differ."""
    large, cells = anchors_on(256)
    small, own_cells = anchors_on(128)
    place = {tuple(cell): number for number, cell in enumerate(cells)}
    common = [place[tuple(cell)] for cell in own_cells]
    expected = label(kind, small, "canvas")
    for ours, theirs in zip(label(kind, large, "batch"), expected, strict=True):
        np.testing.assert_array_equal(ours[:, common], theirs)
    labels = label(kind, large, "batch")[0]
    assert (np.delete(labels, common, axis=1) == ignored).all() and (labels[:, common] != ignored).any()
    on_the_canvas = label(kind, large, "canvas")[0]
    assert (np.delete(on_the_canvas, common, axis=1) != ignored).any()


def test_the_image_itself():
    anchors, _ = anchors_on(256)
    centres = (anchors[:, :2] + anchors[:, 2:]).numpy() / 2
    inside = centred_within(anchors, INFO, "image", 32).numpy()
    for own, (height, width, _) in zip(inside, INFO.numpy(), strict=True):
        np.testing.assert_array_equal(own, (centres[:, 0] < width - 0.5) & (centres[:, 1] < height - 0.5))
    assert centred_within(anchors, INFO, "canvas", 32) is None
    labels = label("rpn", anchors, "image")[0]
    assert (labels[~inside] == -1).all()
