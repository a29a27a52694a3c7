"""The size of a detector: parameters, and the multiplications of one image."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import tensorflow as tf

from tfdet.bench.op_times import part_of

_STATISTICS = ("moving_mean", "moving_variance")
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


class ModelSize(NamedTuple):
    """What a detector takes."""

    parameters: int  # numbers in all variables but `statistics`, frozen ones too
    statistics: int  # moving means and variances of batch normalisation, which the field does not count
    tensors: int
    multiply_adds: dict[str, int]  # of one image, by part: "backbone", "neck", "rpn_head", ...

    @property
    def total_multiply_adds(self) -> int:
        """Of all parts."""
        return sum(self.multiply_adds.values())


def model_size(detector, height: int, width: int) -> ModelSize:
    """Counts the parameters of a detector, and the multiply-adds of its convolutions and matrix products.

    Everything else (normalisation, RoIAlign, NMS) is left out, as usual in the field. The figures that torchvision
    publishes with its detectors as "GFLOPS" are multiply-adds too, of images of 800x800.

    Args:
        detector: built, with weights.
        height, width: of the image, in pixels; the second stage sees as many RoIs as it does in testing.

    Raises:
        ValueError: a convolution's shape depends on the image's content.
    """
    variables = detector.variables
    total = sum(math.prod(variable.shape) for variable in variables)
    statistics = sum(math.prod(variable.shape) for variable in variables if variable.path.endswith(_STATISTICS))
    return ModelSize(total - statistics, statistics, len(variables), _multiply_adds(detector, height, width))


def _multiply_adds(detector, height: int, width: int) -> dict[str, int]:
    def detect(images, image_info):
        return detector.detect_whole(images, image_info)  # in this graph, not in one for each size of image

    signature = tf.TensorSpec([1, height, width, 3], tf.uint8), tf.TensorSpec([1, 3], tf.float32)
    graph = tf.function(detect, autograph=False).get_concrete_function(*signature).graph
    counts: Counter[str] = Counter()
    for op in graph.get_operations():
        cost = _cost(op)
        if cost:
            counts[part_of(op.name)] += cost
    return dict(counts)


def _cost(op: tf.Operation) -> int:
    if op.type in _CONVOLUTIONS or op.type == "Conv2DBackpropInput":
        kernel = op.inputs[1].shape
        pixels = op.inputs[2].shape if op.type == "Conv2DBackpropInput" else op.outputs[0].shape
        batch, rows, columns = pixels[0], pixels[1], pixels[2]
        per_pixel = kernel[:3] if op.type == "DepthwiseConv2dNative" else kernel
        return _product(op, [batch, rows, columns, *per_pixel])
    if op.type == "MatMul":
        left, right = op.inputs[0].shape, op.inputs[1].shape
        return _product(op, [*left, right[0 if op.get_attr("transpose_b") else 1]])
    return 0


def _product(op: tf.Operation, sizes) -> int:
    if any(size is None for size in sizes):
        raise ValueError(f"{op.name}: the shape {list(sizes)} depends on the image's content")
    return math.prod(sizes)
