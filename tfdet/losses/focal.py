"""The focal loss of dense detectors, and RetinaNet's two losses.

Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdet.losses.box_distance import BoxDistance, box_distance
from tfdet.ops.boxes import LEGACY

RETINA_SIGMA = (1 / 0.11) ** 0.5
"""Sigma of RetinaNet's smooth L1: the pieces meet at 0.11 (SimpleDet models/retinanet/builder.py)."""


def focal_loss(logits, labels, alpha: float = 0.25, gamma: float = 2.0, image_weights=None) -> tf.Tensor:
    """Sigmoid focal loss, summed over all anchors and classes.

    With p the sigmoid of a logit, an anchor's own class costs `-alpha (1 - p)^gamma ln p`, every other class
    `-(1 - alpha) p^gamma ln(1 - p)`. Labels stay sparse: no one-hot of the logits' size is built, and the gradient is
    written in closed form, which keeps nothing but the logits for the way back.

    Args:
        logits: [B, N, C], any float dtype.
        labels: int32 [B, N], class 0..C-1; -1 is background (every class is another's), less is ignored.
        alpha: weight of the own class, in (0, 1).
        gamma: not negative; how far well-classified anchors are played down.
        image_weights: float32 [B], factor of each image's losses; None: all 1. It gets no gradient.

    Returns:
        float32 scalar. Its gradient is that of SimpleDet's operator, before the normaliser.

    Source: SimpleDet operator_cxx/contrib/focal_loss-inl.h.
    """
    labels = tf.convert_to_tensor(labels)
    if image_weights is not None:
        image_weights = tf.stop_gradient(image_weights)

    @tf.custom_gradient
    def summed(z):
        counted = (labels >= -1)[..., None]

        def weighted(values):
            if image_weights is None:
                return values
            return values * tf.reshape(image_weights, [-1] + [1] * (values.shape.rank - 1))

        # Of every anchor the logit of its own class; of one without a class that of the first, which does not count.
        # A list of those that have one would be shorter, but its length depends on the image: a GPU would have to tell
        # it to the host in the middle of a step.
        has_own, own = labels >= 0, tf.maximum(labels, 0)
        own_logits = tf.gather(z, own, axis=2, batch_dims=2)
        others = weighted(tf.where(counted, _other_loss(z, alpha, gamma), 0.0))
        difference = _own_loss(own_logits, alpha, gamma) - _other_loss(own_logits, alpha, gamma)
        loss = tf.reduce_sum(others) + tf.reduce_sum(weighted(tf.where(has_own, difference, 0.0)))

        def gradient(upstream):
            to_logits = weighted(tf.where(counted, upstream * _other_gradient(z, alpha, gamma), 0.0))
            to_own = weighted(upstream * _own_gradient(own_logits, alpha, gamma))
            to_own = tf.where(has_own, to_own, tf.gather(to_logits, own, axis=2, batch_dims=2))
            return tf.tensor_scatter_nd_update(to_logits, _places(own), to_own)

        return loss, gradient

    return summed(tf.cast(logits, tf.float32))


def _places(chosen: tf.Tensor) -> tf.Tensor:
    """The places [B, N, 3] in a tensor [B, N, C] of one element of each row: image, row and `chosen`, int32 [B, N]."""
    images, rows = tf.meshgrid(*(tf.range(size) for size in tf.unstack(tf.shape(chosen))), indexing="ij")
    return tf.stack([images, rows, chosen], axis=-1)


def retina_losses(
    cls_logits: Sequence[tf.Tensor],
    deltas: Sequence[tf.Tensor],
    labels,
    box_targets,
    alpha: float = 0.25,
    gamma: float = 2.0,
    sigma: float | None = RETINA_SIGMA,
    divisor: tf.Tensor | str | None = None,
    box_loss: BoxDistance = "smooth_l1",
    anchors=None,
    convention: str = LEGACY,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Focal loss of all anchors that are not ignored, the distance of the foreground ones' boxes.

    Both divide by one more than the number of foreground anchors in all images of the replica; or by `divisor`.

    Args:
        cls_logits: of each level [B, n, C], any float dtype.
        deltas: of each level [B, n, 4], predicted offsets, any float dtype.
        labels: int32 [B, N], N the sum of the n; as in `focal_loss`.
        box_targets: float32 [B, N, 4].
        alpha, gamma: of `focal_loss`.
        sigma: of `smooth_l1`; None for plain L1.
        divisor: float32 [], of both losses; or `"image"`: every image's losses divide by its own foreground anchors,
            at least 1, and the mean over the images is taken (torchvision).
        box_loss: see `box_distance`.
        anchors: float32 [N, 4] in pixels; needed unless `box_loss` is "smooth_l1".
        convention: of the anchors.

    Returns:
        Two float32 scalars: classification, box.

    Source: SimpleDet models/retinanet/builder.py, RetinaNetHead.get_loss; operator_cxx/contrib/bbox_norm-inl.h;
    torchvision models/detection/retinanet.py, compute_loss.
    """
    foreground = tf.cast(labels >= 0, tf.float32)
    weights = None
    if isinstance(divisor, str):
        images = tf.cast(tf.shape(labels)[0], tf.float32)
        weights = 1.0 / (tf.maximum(tf.reduce_sum(foreground, axis=1), 1.0) * tf.maximum(images, 1.0))
    if divisor is None:
        normaliser = tf.reduce_sum(foreground) + 1.0
    else:
        normaliser = 1.0 if isinstance(divisor, str) else tf.stop_gradient(divisor)
    # Level by level: the logits of a pyramid side by side would be one more copy of the largest tensor of the step.
    by_level = tf.split(labels, [tf.shape(level)[1] for level in cls_logits], axis=1)
    cls_loss = tf.add_n(
        [focal_loss(level, own, alpha, gamma, weights) for level, own in zip(cls_logits, by_level, strict=True)]
    )
    predicted = tf.concat(list(deltas), axis=1)
    distance = box_distance(predicted, box_targets, labels >= 0, box_loss, sigma, anchors, convention=convention)
    if weights is not None:
        distance *= weights[:, None, None]
    return cls_loss / normaliser, tf.reduce_sum(distance) / normaliser


# -ln(1 - p) is softplus(z), -ln p is softplus(z) - z: exact where p rounds to 0 or 1.


def _own_loss(z, alpha, gamma):
    return alpha * _power(tf.sigmoid(-z), gamma) * (tf.nn.softplus(z) - z)


def _own_gradient(z, alpha, gamma):
    rest = tf.sigmoid(-z)
    return -alpha * _power(rest, gamma) * (gamma * tf.sigmoid(z) * (tf.nn.softplus(z) - z) + rest)


def _other_loss(z, alpha, gamma):
    return (1.0 - alpha) * _power(tf.sigmoid(z), gamma) * tf.nn.softplus(z)


def _other_gradient(z, alpha, gamma):
    p = tf.sigmoid(z)
    return (1.0 - alpha) * _power(p, gamma) * (gamma * (1.0 - p) * tf.nn.softplus(z) + p)


def _power(p, gamma):
    return tf.square(p) if gamma == 2 else p**gamma
