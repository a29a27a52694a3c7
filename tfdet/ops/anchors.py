"""Anchor boxes: the few shapes of one cell, and their grid over a feature map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdet.errors import UserError


def _round_half_up(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5)


def cell_anchors(stride: int, scales: Sequence[float], ratios: Sequence[float], rounding: str = "numpy") -> np.ndarray:
    """The anchors of the cell at the top left of a feature map.

    The base box is `stride` pixels wide and high. Each ratio (height / width) keeps its area, with sides rounded to
    whole pixels, and each scale multiplies the rounded sides. Order: ratio-major, scale-minor.

    Args:
        stride: pixels between two cells, at least 1.
        scales: multiples of the base box.
        ratios: height / width, each above 0.
        rounding: `"numpy"` rounds halves to even, as SimpleDet's targets do; `"half_up"` rounds them up and first
            drops the fraction of area / ratio, as its first Proposal operator does. They differ at strides 32 and
            128 only (45x22 against 45x23).

    Returns:
        np.float32 [A, 4], A = len(ratios) * len(scales), inclusive corners, centred at (stride - 1) / 2.

    Raises:
        UserError: when an argument is out of range.

    Source: SimpleDet core/detection_input.py, AnchorTarget2D.base_anchor; operator_cxx/contrib/proposal-inl.h.
    """
    scales, ratios = np.asarray(scales, np.float64).ravel(), np.asarray(ratios, np.float64).ravel()
    if stride < 1 or not scales.size or not ratios.size or (scales <= 0).any() or (ratios <= 0).any():
        raise UserError(
            "anchors: expected stride >= 1 and at least one positive scale and ratio. "
            f"Received: stride={stride}, scales={scales.tolist()}, ratios={ratios.tolist()}"
        )
    if rounding == "numpy":
        widths = np.round(np.sqrt(stride * stride / ratios))
        heights = np.round(widths * ratios)
    elif rounding == "half_up":
        widths = _round_half_up(np.sqrt(np.floor(stride * stride / ratios)))
        heights = _round_half_up(widths * ratios)
    else:
        raise UserError(f'anchors: rounding must be "numpy" or "half_up". Received: {rounding!r}')
    half_w = 0.5 * (np.outer(widths, scales).ravel() - 1)
    half_h = 0.5 * (np.outer(heights, scales).ravel() - 1)
    centre = 0.5 * (stride - 1)
    return np.stack([centre - half_w, centre - half_h, centre + half_w, centre + half_h], axis=1).astype(np.float32)


def centred_anchors(sizes: Sequence[float], ratios: Sequence[float], style: str) -> np.ndarray:
    """The anchors of one cell in continuous coordinates, centred at 0: a size is the root of an anchor's area.

    Args:
        sizes: pixels, each above 0.
        ratios: height / width, each above 0.
        style: `"detectron2"`: size-major, ratio-minor, as computed; `"torchvision"`: ratio-major, size-minor,
            in float32, rounded to whole pixels, halves to even.

    Returns:
        np.float32 [A, 4], A = len(ratios) * len(sizes).

    Raises:
        UserError: when an argument is out of range.

    Source: Detectron2 modeling/anchor_generator.py, generate_cell_anchors; torchvision
    models/detection/anchor_utils.py, generate_anchors.
    """
    precision = np.float32 if style == "torchvision" else np.float64
    sizes, ratios = np.asarray(sizes, precision).ravel(), np.asarray(ratios, precision).ravel()
    if not sizes.size or not ratios.size or (sizes <= 0).any() or (ratios <= 0).any():
        raise UserError(
            "anchors: expected at least one positive size and ratio. "
            f"Received: sizes={sizes.tolist()}, ratios={ratios.tolist()}"
        )
    if style == "detectron2":
        widths = np.sqrt(sizes[:, None] ** 2 / ratios)
        heights = ratios * widths
    elif style == "torchvision":
        widths = (1 / np.sqrt(ratios))[:, None] * sizes
        heights = np.sqrt(ratios)[:, None] * sizes
    else:
        raise UserError(f'anchors: style must be "detectron2" or "torchvision". Received: {style!r}')
    half = np.stack([widths.ravel(), heights.ravel()], axis=1) / 2
    corners = np.concatenate([-half, half], axis=1)
    return (np.round(corners) if style == "torchvision" else corners).astype(np.float32)


def grid_anchors(cell, stride, height, width) -> tf.Tensor:
    """Repeats the anchors of one cell over a feature map.

    Args:
        cell: float32 [A, 4] of `cell_anchors`.
        stride: pixels between two cells; or two of them, int [2]: between rows, between columns.
        height: rows of the feature map; a Python int or an int tensor.
        width: columns of the feature map; a Python int or an int tensor.

    Returns:
        float32 [height * width * A, 4] in the order row, column, anchor: index ((y * width) + x) * A + a.

    Source: SimpleDet core/detection_input.py, AnchorTarget2D.h_all_anchor.
    """
    cell = tf.convert_to_tensor(cell, tf.float32)
    step_y, step_x = tf.unstack(tf.broadcast_to(tf.cast(stride, tf.float32), [2]))
    x = tf.cast(tf.range(width), tf.float32) * step_x
    y = tf.cast(tf.range(height), tf.float32) * step_y
    x, y = tf.meshgrid(x, y)
    shifts = tf.stack([x, y, x, y], axis=-1)
    return tf.reshape(shifts[:, :, None, :] + cell, [-1, 4])
