"""Rules that the name maps of PyTorch programs share: PyTorch's names of a layer's tensors, and its layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from tfdet.layers.group_norm import GROUP
from tfdet.weights.maps import layouts
from tfdet.weights.maps.rules import Rule

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""RGB, .485, .456 and .406 of 255: what both programs subtract."""

Step = Callable[[np.ndarray], np.ndarray]

FROM_TORCH_EPSILON = layouts.variance_from_epsilon(1e-5)
"""Of variances in ImageNet files: PyTorch's BN adds 1e-5, ours MXNet's number."""


def conv(source: str, target: str, step: Step = layouts.oihw_to_hwio) -> list[Rule]:
    """A convolution with a bias."""
    return [Rule(f"{source}.weight", f"{target}/kernel", step), Rule(f"{source}.bias", f"{target}/bias", layouts.same)]


def dense(source: str, target: str, step: Step = layouts.dense) -> list[Rule]:
    """A fully connected layer."""
    return conv(source, target, step)


def norm(source: str, target: str, variance: Step = layouts.same) -> list[Rule]:
    """A batch normalisation, or a group normalisation, which has no moving statistics; `variance` as in `conv_norm`."""
    return [
        Rule(f"{source}.weight", f"{target}/gamma", layouts.same),
        Rule(f"{source}.bias", f"{target}/beta", layouts.same),
        Rule(f"{source}.running_mean", f"{target}/moving_mean", layouts.same),
        Rule(f"{source}.running_var", f"{target}/moving_variance", variance),
    ]


def head_norms(names: Mapping[str, str]) -> Callable[[keras.layers.Layer, keras.Model], list[Rule]]:
    """The entry of what normalises behind the convolutions of a neck or a head, which is called by its kind.

    Args:
        names: by the path within the part, with "bn" where a group normalisation has "gn", the file's name.
    """

    def rules(part: keras.layers.Layer, detector: keras.Model) -> list[Rule]:
        kind = "gn" if part.norm == GROUP else "bn"
        return [
            rule for own, source in names.items() for rule in norm(source, f"{part.name}/{own.replace('bn', kind)}")
        ]

    return rules


def conv_norm(
    source: str,
    source_norm: str,
    target: str,
    target_norm: str,
    step: Step = layouts.oihw_to_hwio,
    variance: Step = layouts.same,
) -> list[Rule]:
    """A convolution without a bias, and the BN behind it.

    Args:
        source, source_norm: the file's names of the two.
        target, target_norm: the paths of the two.
        step: of the kernel.
        variance: of the BN's variance, where the two programs add another epsilon.
    """
    return [Rule(f"{source}.weight", f"{target}/kernel", step), *norm(source_norm, target_norm, variance)]


def units(
    source: str, target: str, names: Sequence[tuple[str, str, str, str]], variance: Step = layouts.same
) -> list[Rule]:
    """The bottleneck units of a stage, which PyTorch's programs count from 0.

    Args:
        source, target: the file's name and the path of the stage.
        names: of each convolution of a unit `source`, `source_norm`, `target` and `target_norm`, as in `conv_norm`.
        variance: as in `conv_norm`.
    """
    source, target = f"{source}.{{unit-1}}", f"{target}/unit{{unit}}"
    return [
        rule
        for kernel, norm, own_kernel, own_norm in names
        for rule in conv_norm(
            f"{source}.{kernel}",
            f"{source}.{norm}",
            f"{target}/{own_kernel}",
            f"{target}/{own_norm}",
            variance=variance,
        )
    ]
