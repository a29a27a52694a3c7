"""What layers begin with where nothing is loaded: SimpleDet's choices, or those of the program that a row is of."""

from __future__ import annotations

import math
from typing import Literal

import keras

Program = Literal["simpledet", "detectron2", "torchvision"]
"""Whose initial weights: each part says what it begins with."""


def draw_each(part: keras.layers.Layer) -> None:
    """Gives every layer within `part`, a layer of layers not yet built, a draw of its own.

    An initialiser of Keras draws the same numbers for every kernel of one shape, so layers that are handed the same one
    would begin alike.
    """
    for layer in part._flatten_layers(include_self=False):
        shared = getattr(layer, "kernel_initializer", None)
        if isinstance(shared, keras.initializers.Initializer):
            layer.kernel_initializer = type(shared).from_config(shared.get_config())


def draw_by_outputs(part: keras.layers.Layer, program: Program) -> None:
    """Lets every convolution within a backbone's `part`, not yet built, begin at N(0, sqrt(2 / fan_out)).

    So do Detectron2 (c2_msra_fill) and torchvision. SimpleDet, with which nothing is done, takes fan_in. What begins at
    zero, the offsets of a deformable convolution, stays so.
    """
    if program == "simpledet":
        return
    for layer in part._flatten_layers(include_self=False):
        if isinstance(getattr(layer, "kernel_initializer", None), keras.initializers.VarianceScaling):
            layer.kernel_initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def torch_uniform() -> keras.initializers.Initializer:
    """What torch's layers draw kernels from unless told otherwise: U(+-1 / sqrt(fan_in))."""
    return keras.initializers.VarianceScaling(1.0 / 3.0, mode="fan_in", distribution="uniform")


def torch_bias(fan_in: int) -> keras.initializers.Initializer:
    """What torch's layers draw biases from unless told otherwise: U(+-1 / sqrt(fan_in)) of the kernel's `fan_in`."""
    bound = 1.0 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-bound, bound)


class TorchDense(keras.layers.Dense):
    """A `keras.layers.Dense` that begins as torch.nn.Linear does: kernel and bias from U(+-1 / sqrt(inputs)).

    Args:
        units: number of outputs.
        **kwargs: of `keras.layers.Dense` (name, dtype, use_bias).

    Shapes: [B, N] -> [B, units].

    Source: torch/nn/modules/linear.py, Linear.reset_parameters.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(units, **({"kernel_initializer": torch_uniform()} | kwargs))

    def build(self, input_shape):
        self.bias_initializer = torch_bias(input_shape[-1])
        super().build(input_shape)
