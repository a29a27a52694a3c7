"""RoI features: a fixed grid of bins out of feature maps of one or several strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops import native
from tfdet.ops.boxes import to_float32
from tfdet.ops.roi_align_portable import portable_roi_align
from tfdet.ops.roi_sampling import MAX_SAMPLING_RATIO

RoiAlignMode = Literal["max", "average"]
LevelRule = Literal["thresholds", "log2", "detectron2", "torchvision"]

_NATIVE_TYPES = (tf.float32, tf.float16, tf.bfloat16)
_MAX_BINS = 1024  # a side


def roi_align(
    features: Sequence[tf.Tensor],
    boxes,
    levels,
    strides: Sequence[float],
    output_size: int | tuple[int, int],
    mode: RoiAlignMode = "max",
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> tf.Tensor:
    """Samples a grid of bins per RoI with bilinear interpolation, each RoI on its level.

    `mode="max"` is SimpleDet's ROIAlign_v2: bins are clamped to the map, have no half-pixel shift, and take the
    largest of 2 x 2 samples at the thirds of the bin; an empty bin gives 0. `mode="average"` is the RoIAlign of
    Detectron: the mean of `sampling_ratio`^2 samples, those outside the map worth nothing.

    The gradient reaches the features alone: in `"max"` the four pixels around the winning sample of every output
    (the first winner when samples tie). Interpolation and the sums of the gradient are in float32, and rounded to the
    features' dtype at the end.

    The custom op (tfdet/ops/native.py) and TensorFlow's own ops give the same bits in `"max"`; in `"average"`, and in
    gradients, sums have other orders and differ by rounding. On a CPU the custom op gives the same bits for any number
    of threads. Its gradient on a GPU adds in no fixed order, so that the last bits differ from run to run; where
    deterministic ops are asked for, it refuses.

    Args:
        features: one [B, H_l, W_l, C] a level, of one float dtype; same B and C.
        boxes: float32 [B, R, 4] in pixels of the network input. In `"max"` zero boxes give zeros. A box whose width or
            height in feature pixels is infinite or NaN gives zeros, as does any box on a map without pixels.
        levels: int32 [B, R], the index into `features` of every RoI. One that does not exist is an InvalidArgumentError
            on a CPU and gives zeros on a GPU.
        strides: network pixels per feature pixel, one a level.
        output_size: bins a side, P, or along y and along x, (Py, Px); 1 to 1024.
        mode: `"max"` (default) or `"average"`.
        sampling_ratio: samples a side of a bin; `"average"` only. 0: as many as the bin has feature pixels, rounded up,
            at most 128, for each RoI and side (not within `jit_compile`, whose shapes are fixed).
        aligned: half-pixel shift (Detectron2's ROIAlignV2); `"average"` only.

    Returns:
        [B, R, Py, Px, C] in the features' dtype.

    Raises:
        UserError: `mode` is unknown, the numbers of features and strides differ, dtypes differ or are no floats,
            or a stride, size or ratio is out of range.

    Source: SimpleDet operator_cxx/contrib/roi_align_v2-inl.h, ROIAlignForwardKernel_v2; Mask R-CNN, He et al. 2017;
        Detectron2 layers/roi_align.py.
    """
    features = [tf.convert_to_tensor(f) for f in features]
    if len(features) != len(strides) or not features:
        raise UserError(
            f"roi_align: expected one stride a feature map. Received: {len(features)} features, strides={strides}"
        )
    dtype = features[0].dtype
    if not dtype.is_floating or any(f.dtype != dtype for f in features):
        raise UserError(
            f"roi_align: expected features of one float dtype. Received: {[f.dtype.name for f in features]}"
        )
    if not all(0.0 < s < float("inf") for s in strides):
        raise UserError(f"roi_align: strides must be positive. Received: {tuple(strides)}")
    if mode not in ("max", "average"):
        raise UserError(f'roi_align: mode must be "max" or "average". Received: {mode!r}')
    size = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(size) != 2 or not all(1 <= bins <= _MAX_BINS for bins in size):
        raise UserError(f"roi_align: output_size must be 1 to {_MAX_BINS} bins a side. Received: {output_size}")
    if not 0 <= sampling_ratio <= MAX_SAMPLING_RATIO:
        raise UserError(
            f"roi_align: sampling_ratio must be 0 (adaptive) to {MAX_SAMPLING_RATIO}. Received: {sampling_ratio}"
        )
    boxes = tf.stop_gradient(to_float32(boxes))
    levels = tf.cast(levels, tf.int32)
    scales = [1.0 / s for s in strides]
    implementation = _native_roi_align if native.in_use() else portable_roi_align
    return implementation(features, boxes, levels, scales, size, mode, sampling_ratio, aligned)


def _native_roi_align(features, boxes, levels, scales, size, mode, sampling_ratio, aligned) -> tf.Tensor:
    dtype = features[0].dtype
    pooled, _ = native.library().tfdet_roi_align(
        features=features if dtype in _NATIVE_TYPES else [tf.cast(f, tf.float32) for f in features],
        boxes=boxes,
        levels=levels,
        scales=scales,
        bins_y=size[0],
        bins_x=size[1],
        mode=mode,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    return tf.cast(pooled, dtype)


@tf.RegisterGradient("TfdetRoiAlign")
def _native_gradient(op, upstream, _):
    *features, boxes, levels = op.inputs
    names = ("scales", "bins_y", "bins_x", "mode", "sampling_ratio", "aligned")
    attributes = {name: op.get_attr(name) for name in names}
    gradients = native.library().tfdet_roi_align_grad(
        upstream=upstream,
        winner=op.outputs[1],
        boxes=boxes,
        levels=levels,
        shapes=[tf.shape(f) for f in features],
        **attributes,
    )
    for gradient, feature in zip(gradients, features, strict=True):
        gradient.set_shape(feature.shape)
    return [*gradients, None, None]


def assign_levels(
    boxes,
    strides: Sequence[int],
    canonical_size: float = 224,
    canonical_level: int = 4,
    rule: LevelRule = "thresholds",
) -> tf.Tensor:
    """Chooses the pyramid level of every RoI by the square root of its area.

    A RoI of `canonical_size` goes to the level of stride 2^canonical_level, one half as large to the next finer one.

    Args:
        boxes: float32 [..., 4] in pixels of the network input.
        strides: strides of the levels, finest first, each twice the one before, e.g. (4, 8, 16, 32).
        canonical_size: pixels.
        canonical_level: log2 of a stride.
        rule: `"thresholds"` compares with canonical_size * 2^k; `"log2"` takes
            floor(canonical_level + log2(size / canonical_size + 1e-6)). They differ by 1e-6 at the borders. Both take
            widths and heights with + 1; the next two without. `"detectron2"` adds 1e-8 where `"log2"` adds 1e-6;
            `"torchvision"` takes floor(canonical_level + log2(size / canonical_size) + 1e-6).

    Returns:
        int32 [...], indices into `strides`.

    Raises:
        UserError: when `rule` is unknown or the strides do not double.

    Source: SimpleDet models/FPN/assign_layer_fpn.py (thresholds); mxnext tvm/fpn_roi_assign.py (log2); Detectron2
    modeling/poolers.py, assign_boxes_to_levels; torchvision ops/poolers.py, LevelMapper.
    """
    finest = int(strides[0]).bit_length() - 1
    if [2 ** (finest + i) for i in range(len(strides))] != [int(s) for s in strides]:
        raise UserError(f"assign_levels: strides must be powers of two that double. Received: {tuple(strides)}")
    x1, y1, x2, y2 = tf.unstack(to_float32(boxes), 4, axis=-1)
    if rule in ("detectron2", "torchvision"):
        size = tf.sqrt(tf.maximum((x2 - x1) * (y2 - y1), 0.0)) / canonical_size
        inside, outside = (1e-8, 0.0) if rule == "detectron2" else (0.0, 1e-6)
        level = tf.floor(canonical_level + tf.math.log(size + inside) / tf.math.log(2.0) + outside)
        return tf.cast(tf.clip_by_value(level - finest, 0.0, len(strides) - 1.0), tf.int32)
    size = tf.sqrt(tf.maximum((x2 - x1 + 1.0) * (y2 - y1 + 1.0), 0.0))
    if rule == "thresholds":
        borders = [canonical_size * 2.0 ** (finest + i - canonical_level) for i in range(1, len(strides))]
        # Summed as floats: TensorFlow adds int32 on the host.
        count = tf.add_n([tf.zeros_like(size)] + [tf.cast(size >= b, tf.float32) for b in borders])
        return tf.cast(count, tf.int32)
    if rule == "log2":
        level = tf.floor(canonical_level + tf.math.log(size / canonical_size + 1e-6) / tf.math.log(2.0))
        # Clip before the cast: the integer of an infinite float is undefined.
        return tf.cast(tf.clip_by_value(level - finest, 0.0, len(strides) - 1.0), tf.int32)
    raise UserError(
        f'assign_levels: rule must be "thresholds", "log2", "detectron2" or "torchvision". Received: {rule!r}'
    )
