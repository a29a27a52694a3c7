"""ResNet-v1 as SimpleDet builds it (mxnext backbone/resnet_v1.py), the MSRA variant: stride on the first 1x1.

Options of it are v1b and Detectron2's and torchvision's networks: stride on the 3x3, another epsilon, grouped 3x3
(ResNeXt), a dilated stage 4 (DC5), deformable units, branches of dilations in stage 3.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016; Xie et al., Aggregated Residual Transformations for
Deep Neural Networks, CVPR 2017.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import tensorflow as tf

from tfdet.backbones.residual import STEM_CHANNELS, Depth, LastUnits, Residuals, Stage, StrideOn
from tfdet.config import configurable
from tfdet.config.ranges import Channels, NonNegativeFloat, PositiveInt, Range, Width
from tfdet.errors import ParameterError
from tfdet.layers import (
    BN_EPSILON,
    ConfiguredLayer,
    Norm,
    Program,
    SymmetricConv2D,
    convolve_and_normalize,
    draw_by_outputs,
    make_norm,
    recomputed,
)
from tfdet.layers.group_norm import GROUP


def check_recompute(stages: tuple[int, ...], num_stages: int, name: str) -> None:
    """`ParameterError` where one of the stages to recompute is not there."""
    if max(stages, default=0) > num_stages:
        raise ParameterError(f"Expected stages from 1 to {num_stages} in {name}.recompute. Received: {tuple(stages)}")


class ResNetV1Stage(ConfiguredLayer):
    """All residual units of one stage.

    Args:
        residuals: what the units of the network are like.
        stage: 1 to 4; sets the number of units and the channels.
        strides: stride of the first unit.
        dilation: of every unit's 3x3.
        split_from: the unit, from 1 on, in which branches begin.
        recompute: in training keep each unit's input alone and compute the rest again for the gradient.

    Call: [B, H, W, Cin] -> [B, ceil(H / strides), ceil(W / strides), Cout], after ReLU. With `dilations` of k branches
    the output has k B images, image-major.
    """

    def __init__(
        self,
        residuals: Residuals,
        stage: int,
        strides: int,
        dilation: int = 1,
        split_from: int = 1,
        recompute: bool = False,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.residuals, self.stage, self.strides, self.dilation = residuals, stage, strides, dilation
        self.split_from, self.recompute = split_from, recompute
        self.units = residuals.make_units(stage, strides, dilation)

    def call(self, inputs: tf.Tensor, training: bool = False, dilations: Sequence[int] | None = None) -> tf.Tensor:
        x = inputs
        for number, unit in enumerate(self.units, 1):
            options = {"training": training}
            if dilations and number >= self.split_from:
                options |= {"dilations": dilations, "split": number == self.split_from}
            x = recomputed(unit, x, **options) if self.recompute and training else unit(x, **options)
        return x


@configurable
class ResNetV1(ConfiguredLayer):
    """ResNet-v1 backbone.

    Args:
        depth: 18, 50, 101 or 152.
        num_stages: 3 for C4 detectors (their RCNN head owns stage 4), 4 for FPN.
        norm: "frozen" (zoo), "local", "sync" or "group".
        width: channel multiplier, 1.0 in the zoo.
        stem_channels: of the first convolution; None: 64 times width.
        stride_on: the convolution of a stage's first unit that has the stride: "1x1" (MSRA, Detectron2's R-50) or "3x3"
            (v1b, torchvision, ResNeXt).
        epsilon: of every BN; torchvision's published COCO_V1 detectors were trained with 0.
        branches: dilations of stage 3, one a branch, while training; () for no branches.
        test_branches: the same while testing: `branches`, or the one of a TridentNet-Fast.
        recompute: stages, 1 to 4, whose activations are computed again for the gradient and not kept; () for none.
        initializer: N(0, sqrt(2 / n)) of the kernels with n of the inputs ("simpledet") or outputs (the others).
        branches_from: the unit of stage 3 in which branches begin: 1 in Detectron2's TridentNet, 2 in SimpleDet's.
        dilate_c5: stage 4 at stride 1 and dilation 2 (DC5), rather than at stride 2.
        groups, width_per_group: of the 3x3 convolutions in stage 1, whose channels are their product; both 3x3 channels
            and those of a group double with every stage. 32 and 8: ResNeXt 32x8d.
        deformable: by stage, from the first on, how many of its last units have a deformable 3x3; -1: all. Detectron2's
            "dconv_c3-c5" is (0, -1, -1, -1).
        modulated: deformable convolutions of version 2, which weight their samples.
        offset_groups: input channels of a deformable convolution that move together; SimpleDet has 4.
        frozen_norms: how many of the stem, stage 1, stage 2 and so on have a BN that keeps to its stored statistics in
            training, whatever `norm` is; 2 with Detectron2's FREEZE_AT = 2. Their weights stay trainable, see
            `Trainer.frozen`. A group normalisation has no statistics to keep.

    Call: float [B, H, W, 3], mean-subtracted RGB -> list [c2, c3, c4(, c5)] of [B, H/s, W/s, C], strides 4, 8, 16 and
    32 or 16, C = 256, 512, 1024, 2048 (times width), all after ReLU. With k branches c4 has k images for one,
    image-major.
    """

    def __init__(
        self,
        depth: Depth = 50,
        num_stages: Annotated[int, Range(least=1, most=4)] = 3,
        norm: Norm = "frozen",
        width: Width = 1.0,
        stem_channels: Channels | None = None,
        stride_on: StrideOn = "1x1",
        epsilon: NonNegativeFloat = BN_EPSILON,
        branches: tuple[PositiveInt, ...] = (),
        test_branches: tuple[PositiveInt, ...] = (),
        recompute: tuple[Stage, ...] = (),
        initializer: Program = "simpledet",
        branches_from: Literal[1, 2] = 1,
        dilate_c5: bool = False,
        groups: PositiveInt = 1,
        width_per_group: PositiveInt = STEM_CHANNELS,
        deformable: LastUnits = (),
        modulated: bool = False,
        offset_groups: PositiveInt = 1,
        frozen_norms: Annotated[int, Range(least=0, most=5)] = 0,
        name: str = "backbone",
    ):
        super().__init__(name=name)
        _check_branches(depth, num_stages, stride_on, branches, test_branches, branches_from, deformable)
        check_recompute(recompute, num_stages, "ResNetV1")
        self.depth, self.num_stages, self.norm, self.width = depth, num_stages, norm, width
        self.stem_channels, self.stride_on, self.epsilon = stem_channels, stride_on, epsilon
        self.branches, self.test_branches = tuple(branches), tuple(test_branches)
        self.recompute, self.initializer = tuple(recompute), initializer
        self.branches_from, self.dilate_c5 = branches_from, dilate_c5
        self.groups, self.width_per_group = groups, width_per_group
        self.deformable, self.modulated, self.offset_groups = tuple(deformable), modulated, offset_groups
        self.frozen_norms = frozen_norms
        norms = ["frozen" if number < frozen_norms and norm != GROUP else norm for number in range(num_stages + 1)]
        self.strides = [4, 8, 16, 16 if dilate_c5 else 32][:num_stages]
        self.conv0 = SymmetricConv2D(stem_channels or round(STEM_CHANNELS * width), 7, 2, name="conv0")
        self.bn0 = make_norm(norms[0], name="bn0", bn_epsilon=epsilon)
        residuals = Residuals(
            depth,
            norm,
            width,
            stride_on,
            epsilon,
            groups,
            width_per_group,
            self.deformable,
            modulated,
            offset_groups,
            initializer,
        )
        self.stages = [
            ResNetV1Stage(
                dataclasses.replace(residuals, norm=norms[number]),
                number,
                1 if number == 1 or (number == 4 and dilate_c5) else 2,
                dilation=2 if number == 4 and dilate_c5 else 1,
                split_from=branches_from,
                recompute=number in recompute,
                name=f"stage{number}",
            )
            for number in range(1, num_stages + 1)
        ]
        draw_by_outputs(self, initializer)

    def stem(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Convolution, BN, ReLU and max pooling: [B, H, W, 3] -> [B, H/4, W/4, 64 * width]."""
        x = tf.nn.relu(convolve_and_normalize(self.conv0, self.bn0, inputs, training))
        # Pad 1 on both sides with zeros, which equals -inf here: the input is not negative.
        return tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")

    def dilations(self, training: bool) -> tuple[int, ...]:
        """The branches of this phase, one dilation each; () where there are none."""
        return self.branches if training else self.test_branches

    def call(self, inputs: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        x = self.stem(inputs, training=training)
        features = []
        for number, stage in enumerate(self.stages, 1):
            dilations = self.dilations(training) if number == 3 else ()
            x = stage(x, training=training, dilations=dilations or None)
            features.append(x)
        return features


def _check_branches(depth, num_stages, stride_on, branches, test_branches, branches_from, deformable) -> None:
    if bool(branches) != bool(test_branches):
        raise ParameterError(
            "Expected ResNetV1.branches and test_branches both empty or both not. "
            f"Received: branches={tuple(branches)}, test_branches={tuple(test_branches)}"
        )
    strided = branches_from == 1 and stride_on != "1x1"
    if branches and (num_stages != 3 or depth == 18 or strided or any(deformable[2:])):
        raise ParameterError(
            "Expected with ResNetV1.branches three stages of bottleneck units with the stride on the 1x1, or branches "
            "from the second unit on, none of them deformable. "
            f"Received: depth={depth}, num_stages={num_stages}, stride_on={stride_on!r}, "
            f"branches_from={branches_from}, deformable={tuple(deformable)}"
        )
