"""The typed records that flow through tfdet. Every package may import this module.

Conventions (docs/decisions.md gives the reasons):
- B images in a batch, G ground-truth slots, E polygon edges of an image, P proposals, R sampled RoIs, D detections,
  A anchors per cell, M x M pixels of a predicted mask.
- Boxes are `[x1, y1, x2, y2]`, float32. Unless a field says otherwise their unit is a pixel of the network input
  (the resized image); with the legacy convention of the zoo x2 and y2 are inclusive: width = x2 - x1 + 1.
- Classes are int32 in 0..C-1. A padded slot, or background, is -1.
- Masks travel as polygon edges `[x1, y1, x2, y2]` in continuous coordinates (pixel k spans k to k + 1, as COCO writes
  polygons), closing edges included, those of all objects of an image in one list: an object of many edges makes no
  other one longer. Each edge has its owner, an object and a part of it: within one part the even-odd rule holds, so an
  outer ring and its holes are one part; the mask is the union of the parts. Without masks E = 0: the fields are always
  there.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Example(NamedTuple):
    """One decoded image with its ground truth, in pixels of the stored image."""

    image: tf.Tensor  # uint8 [H, W, 3], RGB
    image_id: tf.Tensor  # int64 []
    boxes: tf.Tensor  # float32 [G, 4], inclusive corners (SimpleDet utils/generate_roidb.py: x2 = x1 + w - 1)
    classes: tf.Tensor  # int32 [G]
    edges: tf.Tensor  # float32 [E, 4], continuous pixels of the stored image (no -1 anywhere)
    edge_owners: tf.Tensor  # int32 [E, 2], the edge's object, ascending, and the part of that object, 0..


class Batch(NamedTuple):
    """What one replica receives for one step."""

    # uint8, or float32 in 0..255 where the resize does not round ("torchvision"), [B, H, W, 3], RGB, content at the top
    # left of the canvas, zeros elsewhere
    images: tf.Tensor
    # float32 [B, 3]: height and width of the resized content, scale = resized / original; or [B, 4] where rows and
    # columns have scales of their own, that of rows first (the resizes "detectron2" and "torchvision")
    image_info: tf.Tensor
    boxes: tf.Tensor  # float32 [B, G, 4], padded with -1; in the convention of the detector (`TrainInput.profile`)
    classes: tf.Tensor  # int32 [B, G], padded with -1
    image_ids: tf.Tensor  # int64 [B]
    edges: tf.Tensor  # float32 [B, E, 4], pixels of the network input, padded with 0; mirrored with the image
    edge_owners: tf.Tensor  # int32 [B, E, 2], the edge's object, ascending, and the part of it; padded with -1


class Proposals(NamedTuple):
    """Region proposals, best first. Missing ones are as in SimpleDet: zero boxes with score 0, or all -1 ("symbolic").

    With continuous boxes they are zero boxes whose score is minus infinity, and never detected.
    """

    boxes: tf.Tensor  # float32 [B, P, 4]
    scores: tf.Tensor  # float32 [B, P]


class RoiSamples(NamedTuple):
    """RoIs drawn for training the second stage: foreground first, then background."""

    boxes: tf.Tensor  # float32 [B, R, 4]
    classes: tf.Tensor  # int32 [B, R], 0..C-1, background -1, -2 where there is no RoI and nothing to learn
    box_targets: tf.Tensor  # float32 [B, R, 4], encoded and divided by std; zeros where background
    matched: tf.Tensor  # int32 [B, R], index of the ground-truth box of the best IoU, -1 where there is none


class Candidates(NamedTuple):
    """What is suppressed; those of several views of an image may be joined along N.

    Boxes with a score of every class, or a list of boxes of one class each, which has `classes`.
    """

    boxes: tf.Tensor  # float32 [B, N, 1 or C, 4], with 1 all classes share the boxes of a row; of a list [B, N, 4]
    scores: tf.Tensor  # float32 [B, N, C], without background; of a list [B, N], 0 where there is none
    classes: tf.Tensor | None = None  # of a list int32 [B, N]


class Detections(NamedTuple):
    """Final detections, best first, padded to D."""

    boxes: tf.Tensor  # float32 [B, D, 4], pixels of the original image, inclusive corners whatever the detector's own
    scores: tf.Tensor  # float32 [B, D], 0 where padded
    classes: tf.Tensor  # int32 [B, D], -1 where padded
    num_valid: tf.Tensor  # int32 [B]
    masks: tf.Tensor | None = None  # float32 [B, D, M, M], probabilities inside each box; None: no masks predicted
