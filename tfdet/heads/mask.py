"""The mask head (SimpleDet models/maskrcnn/builder.py: MaskFasterRcnn4ConvHead).

He et al., Mask R-CNN, ICCV 2017.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import Channels, NonNegativeFloat, NumClasses, NumConvs
from tfdet.layers import (
    BN_EPSILON,
    ConfiguredLayer,
    Norm,
    Program,
    SymmetricConv2D,
    convolve_and_normalize,
    draw_each,
    make_norms,
    takes_batch_statistics,
    torch_bias,
)

_PLANE_INIT_STD = 0.001  # Detectron2 modeling/roi_heads/mask_head.py: use normal distribution initialization


class _PlaneConv2D(SymmetricConv2D):
    """A 1x1 convolution; with `planes`, int32 [N], of one output channel for each image: [N, H, W]."""

    def call(self, inputs: tf.Tensor, planes: tf.Tensor | None = None) -> tf.Tensor:
        if planes is None:
            return super().call(inputs)
        chosen = tf.one_hot(planes, self.filters)  # a product, not a gather: its gradient is dense
        weights = tf.matmul(chosen, self.kernel[0, 0], transpose_b=True)
        bias = tf.linalg.matvec(chosen, tf.convert_to_tensor(self.bias))
        return tf.einsum("nhwc,nc->nhw", inputs, weights) + bias[:, None, None]


@configurable
class MaskHead(ConfiguredLayer):
    """3x3 convolutions with ReLU, a 2x2 deconvolution of stride 2 with ReLU, a 1x1 convolution to one plane a class.

    Args:
        num_classes: C, without background.
        channels: of the convolutions and of the deconvolution.
        num_convs: 3x3 convolutions; 4 in the zoo, 0 on the features of stage 4 (Mask R-CNN C4).
        norm: None: the convolutions have biases, as in the zoo. A mode of `BatchNorm` or "group" normalises them
            instead (torchvision's v2 detectors, Detectron2's new baselines).
        epsilon: of a `BatchNorm`.
        background_plane: whether the planes begin with one for the background, which nothing learns or reads:
            SimpleDet's checkpoints have it (81 planes), Detectron2's do not.
        initializer: N(0, sqrt(2 / fan_out)) of every kernel and biases of 0 ("simpledet"); of the planes' convolution
            N(0, .001), so that every pixel begins undecided ("detectron2"); biases of the deconvolution and of the
            planes' convolution from U(+-1 / sqrt(fan_in)) ("torchvision").
        class_agnostic: one plane for all classes rather than one a class (Detectron2's CLS_AGNOSTIC_MASK): C is 1.

    Call: RoI features [N, P, P, Cin] -> logits, float32: of all planes [N, 2P, 2P, C or 1 + C], or with `classes`,
    int32 [N], of the plane of each RoI's class, 0..num_classes - 1, alone [N, 2P, 2P]. The two agree but for rounding;
    the second does not make 80 planes in vain.
    """

    def __init__(
        self,
        num_classes: NumClasses,
        channels: Channels = 256,
        num_convs: NumConvs = 4,
        norm: Norm | None = None,
        background_plane: bool = True,
        initializer: Program = "simpledet",
        epsilon: NonNegativeFloat = BN_EPSILON,
        class_agnostic: bool = False,
        name: str = "mask_head",
    ):
        super().__init__(name=name)
        self.num_classes, self.channels, self.num_convs = num_classes, channels, num_convs
        self.norm, self.background_plane, self.initializer = norm, background_plane, initializer
        self.epsilon, self.takes_batch_statistics = epsilon, takes_batch_statistics(norm)
        self.class_agnostic = class_agnostic
        # N(0, sqrt(2 / fan_out)).
        init = keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
        conv = {"kernel_initializer": init, "use_bias": norm is None}
        # Numbered from 0 as in the first release: its rule of frozen parameters takes conv0 by this name.
        self.convs = [SymmetricConv2D(channels, 3, name=f"conv{i}", **conv) for i in range(num_convs)]
        self.norms = make_norms(norm, [f"{{}}{i}" for i in range(num_convs)], epsilon)
        self.up = keras.layers.Conv2DTranspose(channels, 2, strides=2, kernel_initializer=init, name="up")
        # Float32 whatever the policy, as all of the zoo's output layers are.
        self.logit = _PlaneConv2D(
            (1 if class_agnostic else num_classes) + int(background_plane),
            1,
            use_bias=True,
            kernel_initializer=init,
            dtype="float32",
            name="logit",
        )
        if initializer == "detectron2":
            self.logit.kernel_initializer = keras.initializers.RandomNormal(stddev=_PLANE_INIT_STD)
        elif initializer == "torchvision":
            self.up.bias_initializer = torch_bias(4 * channels)  # torch counts a deconvolution's outputs as inputs
            self.logit.bias_initializer = torch_bias(channels)
        draw_each(self)

    def call(self, roi_features: tf.Tensor, classes: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        x = roi_features
        for i, conv in enumerate(self.convs):
            x = conv(x) if self.norms is None else convolve_and_normalize(conv, self.norms[i], x, training)
            x = tf.nn.relu(x)
        x = tf.cast(tf.nn.relu(self.up(x)), tf.float32)
        if classes is None:
            return self.logit(x)
        own = tf.zeros_like(classes) if self.class_agnostic else classes
        return self.logit(x, planes=own + int(self.background_plane))
