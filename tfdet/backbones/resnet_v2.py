"""ResNet-v2 as SimpleDet builds it (mxnext backbone/resnet_v2.py): BN and ReLU before each convolution.

keras.applications' ResNet50V2 and ResNet101V2, which stride elsewhere, are a variant of it.

He et al., Identity Mappings in Deep Residual Networks, ECCV 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from tfdet.backbones.residual import Stage, stage_channels
from tfdet.backbones.resnet_v1 import check_recompute
from tfdet.config import configurable
from tfdet.config.ranges import PositiveInt, Width
from tfdet.errors import ParameterError
from tfdet.layers import (
    BatchNorm,
    CompositeLayer,
    ConfiguredLayer,
    DilatedConv2D,
    Norm,
    SymmetricConv2D,
    convolve_and_normalize,
    make_final_norm,
    make_norm,
    recomputed,
)

UNITS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Residual units of the four stages, by depth. 26 is not part of SimpleDet's zoo, for small runs."""

DepthV2 = Literal[26, 50, 101, 152]
Variant = Literal["mxnet", "keras"]
"""Networks by who defined them: MXNet, whose SimpleDet's is, and keras.applications (resnet_v2.py)."""

_STEM_CHANNELS = 64


class PreActivationUnit(CompositeLayer):
    """BN, ReLU, 1x1 -> BN, ReLU, 3x3 (stride and dilation here) -> BN, ReLU, 1x1; shortcut added, nothing after it.

    Args:
        inner, outer: channels of the first two and of the last convolution.
        strides: stride of the 3x3 and of the shortcut.
        project: whether the shortcut is a 1x1 convolution, without BN, of the first ReLU rather than the input.
        norm: of `make_norm`.
        dilation: of the 3x3; needs stride 1 when above 1.
        use_bias: whether the convolutions that are summed, the last and the projection, have biases.

    Call: `dilations` replaces `dilation` by one a branch. All branches share every weight. With k of them the output
    has k images for one, image-major (image 0 in all branches, then image 1), and so has the input unless `split`.

    Shapes: [B, H, W, Cin] -> [B, ceil(H / strides), ceil(W / strides), outer]; with `split` [k B, ...].
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        strides: int,
        project: bool,
        norm: str,
        dilation: int = 1,
        use_bias: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.strides = strides
        self.bn1 = make_norm(norm, name="bn1")
        self.conv1 = SymmetricConv2D(inner, 1, name="conv1")
        self.bn2 = make_norm(norm, name="bn2")
        self.conv2 = DilatedConv2D(inner, 3, strides, dilation_rate=dilation, name="conv2")
        self.bn3 = make_norm(norm, name="bn3")
        self.conv3 = SymmetricConv2D(outer, 1, use_bias=use_bias, name="conv3")
        self.sc = SymmetricConv2D(outer, 1, strides, use_bias=use_bias, name="sc") if project else None

    def call(
        self, inputs: tf.Tensor, training: bool = False, dilations: Sequence[int] | None = None, split: bool = False
    ) -> tf.Tensor:
        first = tf.nn.relu(self.bn1(inputs, training=training))
        x = tf.nn.relu(convolve_and_normalize(self.conv1, self.bn2, first, training))
        # Until here the branches of a split unit are the same: they are computed once.
        x = convolve_and_normalize(self.conv2, self.bn3, x, training, dilations=dilations, split=split)
        x = self.conv3(tf.nn.relu(x))
        shortcut = self.sc(first) if self.sc else inputs
        if self.sc is None and self.strides > 1:  # keras.applications: a max pooling of single pixels
            shortcut = inputs[:, :: self.strides, :: self.strides]
        if split and dilations is not None and len(dilations) > 1:
            shortcut = tf.repeat(shortcut, len(dilations), axis=0)
        return x + shortcut


class ResNetV2Stage(CompositeLayer):
    """All residual units of one stage.

    Args:
        depth: 26, 50, 101 or 152.
        stage: 1 to 4; sets the number of units and the channels.
        strides: stride of the first unit, with "keras" of the last.
        norm: "frozen", "local", "sync" or "group" (`make_norm`).
        width: multiplies the channels.
        dilation: of every unit's 3x3.
        recompute: in training keep each unit's input alone and compute the rest again for the gradient.
        variant: of `Variant`.

    Call: `dilations` splits the stage from its second unit on into branches that share their weights (TridentNet).

    Shapes: [B, H, W, Cin] -> [B, ceil(H / strides), ceil(W / strides), Cout], the plain sum of the last unit; with k
    `dilations` [k B, ...], image-major. With "keras" a pair: what goes into the last unit, [B, H, W, Cout], and that.
    """

    def __init__(
        self,
        depth: int,
        stage: int,
        strides: int,
        norm: str,
        width: float = 1.0,
        dilation: int = 1,
        recompute: bool = False,
        variant: str = "mxnet",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.recompute, self.variant = recompute, variant
        inner, outer = stage_channels(depth, stage, width)
        count, use_bias = UNITS[depth][stage - 1], variant == "keras"
        striding = count - 1 if variant == "keras" else 0
        self.units = [
            PreActivationUnit(
                inner, outer, strides if i == striding else 1, i == 0, norm, dilation, use_bias, name=f"unit{i + 1}"
            )
            for i in range(count)
        ]

    def call(
        self, inputs: tf.Tensor, training: bool = False, dilations: Sequence[int] | None = None
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        x = before = inputs
        for i, unit in enumerate(self.units):
            before = x
            options = {"training": training}
            if i > 0:
                options |= {"dilations": dilations, "split": i == 1}
            x = recomputed(unit, x, **options) if self.recompute and training else unit(x, **options)
        return (before, x) if self.variant == "keras" else x


@configurable
class ResNetV2(ConfiguredLayer):
    """ResNet-v2 backbone: C4, the dilated C4 and C5 of Cascade R-CNN, or a TridentNet.

    Args:
        depth: 26, 50, 101 or 152.
        num_stages: 3 for C4 detectors (their RCNN head owns stage 4), 4 for a fourth stage here.
        norm: "frozen" (zoo), "local", "sync" or "group". BN of the image uses stored statistics always, and so has the
            one after stage 4 but with "group".
        width: channel multiplier, 1.0 in the zoo.
        recompute: stages, 1 to 4, whose activations are computed again for the gradient and not kept; () for none.
        dilate_c5: stage 4 at stride 1 and dilation 2, as the Cascade rows have it, rather than at stride 2.
        branches: dilations of stage 3 from its second unit on, one a branch, while training; () for no branches.
        test_branches: the same while testing: `branches`, or the one of a TridentNet-Fast.
        variant: "mxnet" (SimpleDet's), or "keras": keras.applications' network. There stages 1 to 3 stride in their
            last unit, whose shortcut has no weights, the convolutions that are summed and the first have biases, and no
            BN is behind the first. It needs num_stages = 4, no dilate_c5 and no branches, and so serves necks such as
            FPN: C4 heads, which own a stage 4 of SimpleDet's, cannot use it. Its c2 to c4 are what goes into the
            striding units: the deepest maps of their strides.

    Call: float [B, H, W, 3], RGB from 0 to 255, black where padded -> list [c2, c3, c4(, c5)] of [B, H/s, W/s, C],
    strides 4, 8, 16 and 16 or 32, C = 256, 512, 1024, 2048 (times width). c2 to c4 are plain sums, without BN and ReLU;
    c5 is after both. With k branches c4 has k images for one, image-major.

    Raises:
        ValueError: an option that is none, or options that exclude each other.

    Sources: mxnext backbone/resnet_v2.py; SimpleDet models/tridentnet/resnet_v2.py; keras.applications resnet_v2.py.
    """

    def __init__(
        self,
        depth: DepthV2 = 50,
        num_stages: Literal[3, 4] = 3,
        norm: Norm = "frozen",
        width: Width = 1.0,
        dilate_c5: bool = False,
        branches: tuple[PositiveInt, ...] = (),
        test_branches: tuple[PositiveInt, ...] = (),
        recompute: tuple[Stage, ...] = (),
        variant: Variant = "mxnet",
        name: str = "backbone",
    ):
        super().__init__(name=name)
        if variant == "keras" and (num_stages != 4 or dilate_c5 or branches or test_branches):
            raise ParameterError(
                "Expected with ResNetV2.variant = 'keras' num_stages = 4, no dilate_c5 and no branches. "
                f"Received: num_stages={num_stages}, dilate_c5={dilate_c5}, branches={tuple(branches)}, "
                f"test_branches={tuple(test_branches)}"
            )
        if bool(branches) != bool(test_branches):
            raise ParameterError(
                "Expected ResNetV2.branches and test_branches both empty or both not. "
                f"Received: branches={tuple(branches)}, test_branches={tuple(test_branches)}"
            )
        if branches and num_stages != 3:
            raise ParameterError("Expected ResNetV2.num_stages = 3 with branches: stage 4 is the head's")
        check_recompute(recompute, num_stages, "ResNetV2")
        self.recompute, self.variant = tuple(recompute), variant
        self.depth, self.num_stages, self.norm, self.width = depth, num_stages, norm, width
        self.dilate_c5, self.branches, self.test_branches = dilate_c5, tuple(branches), tuple(test_branches)
        self.strides = [4, 8, 16, 16 if dilate_c5 else 32][:num_stages]
        # Gamma of the image's BN is 1, whatever a checkpoint stores (mxnext simple.py: fix_gamma).
        self.bn_data = BatchNorm("frozen", fixed_gamma=True, name="bn_data")
        is_keras = variant == "keras"
        self.conv0 = SymmetricConv2D(round(_STEM_CHANNELS * width), 7, 2, use_bias=is_keras, name="conv0")
        self.bn0 = None if is_keras else make_norm(norm, name="bn0")
        # To the stage's last unit in "keras", to its first otherwise.
        steps = (2, 2, 2, 1) if is_keras else (1, 2, 2, 1 if dilate_c5 else 2)
        self.stages = [
            ResNetV2Stage(
                depth,
                s,
                steps[s - 1],
                norm,
                width,
                2 if s == 4 and dilate_c5 else 1,
                s in recompute,
                variant,
                name=f"stage{s}",
            )
            for s in range(1, num_stages + 1)
        ]
        self.bn1 = make_final_norm(norm, name="bn1") if num_stages == 4 else None

    def stem(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """BN, convolution, BN, ReLU and max pooling: [B, H, W, 3] -> [B, H/4, W/4, 64 * width].

        In "keras" the max pooling, padded with zeros there too, is right behind the convolution.
        """
        x = self.bn_data(inputs, training=training)
        if self.bn0 is None:
            x = self.conv0(x)
        else:
            x = tf.nn.relu(convolve_and_normalize(self.conv0, self.bn0, x, training))
        # Pad 1 on both sides with zeros, which equals -inf behind a ReLU: the input is not negative.
        return tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")

    def dilations(self, training: bool) -> tuple[int, ...]:
        """The branches of this phase, one dilation each; () where there are none."""
        return self.branches if training else self.test_branches

    def call(self, inputs: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        x = self.stem(inputs, training=training)
        features = []
        for number, stage in enumerate(self.stages, 1):
            dilations = self.dilations(training) if number == 3 else ()
            if self.variant == "keras":
                feature, x = stage(x, training=training)
            else:
                feature = x = stage(x, training=training, dilations=dilations or None)
            features.append(feature)
        if self.bn1 is not None:
            features[-1] = tf.nn.relu(self.bn1(x, training=training))
        return features
