"""The residual units of ResNet-v1 and its relatives, and what describes them: ResNeXt, dilated and deformable units."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import keras
import tensorflow as tf

from tfdet.config.ranges import NonNegativeFloat, PositiveInt, Range, Width
from tfdet.errors import ParameterError
from tfdet.layers import (
    BN_EPSILON,
    ConfiguredLayer,
    DeformConv2D,
    DilatedConv2D,
    Norm,
    Program,
    SymmetricConv2D,
    convolve_and_normalize,
    make_norm,
)

UNITS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Residual units of the four stages, by depth."""

Depth = Literal[18, 50, 101, 152]
Stage = Literal[1, 2, 3, 4]
StrideOn = Literal["1x1", "3x3"]
LastUnits = tuple[Annotated[int, Range(least=-1, most=max(map(max, UNITS.values())))], ...]
"""Of the stages from the first on, how many of their last units; -1: all. What is missing is 0."""

STEM_CHANNELS = 64


def stage_channels(depth: int, stage: int, width: float = 1.0) -> tuple[int, int]:
    """(inner, output) channels of a stage, 1 to 4; `width` multiplies both."""
    inner = round(STEM_CHANNELS * 2 ** (stage - 1) * width)
    return inner, inner if depth == 18 else 4 * inner


@dataclasses.dataclass(frozen=True)
class UnitSpec:
    """One residual unit.

    Args:
        inner, outer: channels of the first convolutions and of the last.
        strides: stride of the unit and of the projection.
        project: whether the shortcut is a 1x1 convolution with BN rather than the input.
        norm, epsilon: of `make_norm`.
        stride_on: the convolution that has the stride, "1x1" (the first) or "3x3".
        groups, dilation: of the 3x3.
        offset_groups: of a deformable 3x3: input channels that move together; 0: the 3x3 is an ordinary one.
        modulated: the samples of the deformable 3x3 are weighted too (version 2).
        program: whose deformable 3x3: SimpleDet's offsets have no bias and are drawn, the others' begin at zero.
    """

    inner: int
    outer: int
    strides: int = 1
    project: bool = False
    norm: Norm = "frozen"
    epsilon: float = BN_EPSILON
    stride_on: StrideOn = "1x1"
    groups: int = 1
    dilation: int = 1
    offset_groups: int = 0
    modulated: bool = False
    program: Program = "simpledet"


@dataclasses.dataclass(frozen=True)
class Residuals:
    """The residual units of a whole network.

    Args:
        depth: 18 (`BasicUnit`), 50, 101 or 152 (`BottleneckUnit`).
        norm: "frozen", "local", "sync" or "group" (`make_norm`).
        width: multiplies all channels.
        stride_on, epsilon, modulated: as of `UnitSpec`.
        groups, width_per_group: of the 3x3 in stage 1: inner channels are their product, doubled with every stage. 1
            and 64 for a ResNet, 32 and 8 for ResNeXt 32x8d.
        deformable: units with a deformable 3x3.
        offset_groups: of these.
        program: as of `UnitSpec`.

    Raises:
        ParameterError: channels that cannot be grouped, or a basic unit with what it has not.
    """

    depth: Depth = 50
    norm: Norm = "frozen"
    width: Width = 1.0
    stride_on: StrideOn = "1x1"
    epsilon: NonNegativeFloat = BN_EPSILON
    groups: PositiveInt = 1
    width_per_group: PositiveInt = STEM_CHANNELS
    deformable: LastUnits = ()
    modulated: bool = False
    offset_groups: PositiveInt = 1
    program: Program = "simpledet"

    def __post_init__(self):
        if self.depth == 18 and ((self.groups, self.width_per_group) != (1, STEM_CHANNELS) or any(self.deformable)):
            raise ParameterError(
                "Expected groups = 1, width_per_group = 64 and deformable = () at depth 18, whose units have no "
                f"bottleneck. Received: groups={self.groups}, width_per_group={self.width_per_group}, "
                f"deformable={self.deformable}"
            )
        if len(self.deformable) > 4:
            raise ParameterError(f"Expected deformable of up to 4 stages. Received: {self.deformable}")
        inner, moved = self._inner(1), self.offset_groups if any(self.deformable) else 1
        if inner % self.groups or inner % moved:
            raise ParameterError(
                f"{inner} channels of stage 1 cannot be parted in groups={self.groups} and "
                f"offset_groups={self.offset_groups}: width={self.width} times groups times width_per_group="
                f"{self.width_per_group} must be a multiple of both"
            )

    def _inner(self, stage: int) -> int:
        return round(self.groups * self.width_per_group * 2 ** (stage - 1) * self.width)

    def units_of(self, stage: int, strides: int, dilation: int = 1) -> list[UnitSpec]:
        """The units of a stage, 1 to 4, whose first one has `strides`; `dilation` is that of every 3x3."""
        count = UNITS[self.depth][stage - 1]
        last = (*self.deformable, 0, 0, 0, 0)[stage - 1]
        first_deformable = 0 if last < 0 else count - last
        if first_deformable < 0:
            raise ParameterError(
                f"Expected in deformable at most {count} units of stage {stage} at depth {self.depth}. "
                f"Received: deformable={self.deformable}"
            )
        if self.depth == 18 and dilation > 1:
            raise ParameterError("Expected units with a bottleneck where a stage is dilated. Received: depth=18")
        return [
            UnitSpec(
                self._inner(stage),
                stage_channels(self.depth, stage, self.width)[1],
                strides if number == 0 else 1,
                # Every stage of SimpleDet's nets starts with a projection, stage 1 too: it has 256 channels, not 64.
                number == 0,
                self.norm,
                self.epsilon,
                self.stride_on,
                self.groups,
                dilation,
                self.offset_groups if number >= first_deformable else 0,
                self.modulated,
                self.program,
            )
            for number in range(count)
        ]

    def make_units(self, stage: int, strides: int, dilation: int = 1) -> list[keras.layers.Layer]:
        """The layers of `units_of`, called unit1, unit2 and so on."""
        kind = BasicUnit if self.depth == 18 else BottleneckUnit
        specs = self.units_of(stage, strides, dilation)
        return [kind(spec, name=f"unit{number}") for number, spec in enumerate(specs, 1)]


class BottleneckUnit(ConfiguredLayer):
    """1x1 -> 3x3 -> 1x1, each with BN; shortcut added; ReLU after the sum.

    Args:
        spec: what it is like.

    Call: [B, H, W, Cin] -> [B, H', W', outer]. With `dilations` of k branches, for which the unit has no stride on its
    3x3, the input is [k B, H, W, Cin], image-major, or with `split` [B, H, W, Cin], the same for all; see
    `DilatedConv2D`. A unit with a deformable 3x3 has no branches.
    """

    def __init__(self, spec: UnitSpec, name: str | None = None):
        super().__init__(name=name)
        self.spec = spec
        # A strided 1x1 convolution is a plain one on every s-th pixel.
        self.subsampling, second = (spec.strides, 1) if spec.stride_on == "1x1" else (1, spec.strides)
        self.conv1 = SymmetricConv2D(spec.inner, 1, name="conv1")
        self.bn1 = make_norm(spec.norm, name="bn1", bn_epsilon=spec.epsilon)
        self.conv2 = _three_by_three(spec, second)
        self.bn2 = make_norm(spec.norm, name="bn2", bn_epsilon=spec.epsilon)
        self.conv3 = SymmetricConv2D(spec.outer, 1, name="conv3")
        self.bn3 = make_norm(spec.norm, name="bn3", bn_epsilon=spec.epsilon)
        self.sc = SymmetricConv2D(spec.outer, 1, second, name="sc") if spec.project else None
        self.sc_bn = make_norm(spec.norm, name="sc_bn", bn_epsilon=spec.epsilon) if spec.project else None

    def call(
        self,
        inputs: tf.Tensor,
        training: bool = False,
        dilations: Sequence[int] | None = None,
        split: bool = False,
    ) -> tf.Tensor:
        if self.subsampling > 1:  # once for both of its readers
            inputs = inputs[:, :: self.subsampling, :: self.subsampling]
        branches = {"dilations": dilations, "split": split} if dilations else {}
        x = tf.nn.relu(convolve_and_normalize(self.conv1, self.bn1, inputs, training))
        x = convolve_and_normalize(self.conv2, self.bn2, x, training, **branches)
        x = convolve_and_normalize(self.conv3, self.bn3, tf.nn.relu(x), training)
        shortcut = convolve_and_normalize(self.sc, self.sc_bn, inputs, training) if self.sc else inputs
        if dilations and split and len(dilations) > 1:
            shortcut = tf.repeat(shortcut, len(dilations), axis=0)
        return tf.nn.relu(x + shortcut)


def _three_by_three(spec: UnitSpec, strides: int) -> keras.layers.Layer:
    if not spec.offset_groups:
        return DilatedConv2D(spec.inner, 3, strides, dilation_rate=spec.dilation, groups=spec.groups, name="conv2")
    of_simpledet = spec.program == "simpledet"
    conv = DeformConv2D(
        spec.inner,
        3,
        strides,
        spec.dilation,
        groups=spec.groups,
        offset_groups=spec.offset_groups,
        modulated=spec.modulated,
        offset_bias=not of_simpledet,
        name="conv2",
    )
    if of_simpledet:  # models/dcn/builder.py names no initialiser: the offsets are drawn as every kernel is
        conv.offset.kernel_initializer = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
    return conv


class BasicUnit(ConfiguredLayer):
    """3x3 (stride here) -> 3x3 of ResNet-18; not part of SimpleDet's zoo, for small runs.

    Args:
        spec: what it is like, as far as channels, stride, projection and norm go; `epsilon` is not read.

    Call: [B, H, W, Cin] -> [B, H', W', outer].
    """

    def __init__(self, spec: UnitSpec, name: str | None = None):
        super().__init__(name=name)
        self.spec = spec
        self.conv1 = SymmetricConv2D(spec.inner, 3, spec.strides, name="conv1")
        self.bn1 = make_norm(spec.norm, name="bn1")
        self.conv2 = SymmetricConv2D(spec.outer, 3, name="conv2")
        self.bn2 = make_norm(spec.norm, name="bn2")
        self.sc = SymmetricConv2D(spec.outer, 1, spec.strides, name="sc") if spec.project else None
        self.sc_bn = make_norm(spec.norm, name="sc_bn") if spec.project else None

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.nn.relu(convolve_and_normalize(self.conv1, self.bn1, inputs, training))
        x = convolve_and_normalize(self.conv2, self.bn2, x, training)
        shortcut = convolve_and_normalize(self.sc, self.sc_bn, inputs, training) if self.sc else inputs
        return tf.nn.relu(x + shortcut)
