"""MiT, the encoder of SegFormer, for images of any size.

KerasHub's layers take the root of the number of cells for the sides of a map, and so serve square images alone, of the
size that they are built for. Here every layer hands a map on, and the rest is the same, with the same weights in the
same order.

Xie et al., SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers, NeurIPS 2021.
"""

from __future__ import annotations

import keras
import tensorflow as tf


class PatchEmbedding(keras.layers.Layer):
    """A strided convolution, zeros around, and layer normalisation: [B, H, W, C] -> [B, H', W', channels].

    Args:
        channels: of the output.
        patch_size: side of the kernel, odd.
        stride: of the convolution.
    """

    def __init__(self, channels: int, patch_size: int, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.patch_size, self.stride = channels, patch_size, stride
        self.padding = keras.layers.ZeroPadding2D(patch_size // 2)
        self.proj = keras.layers.Conv2D(channels, patch_size, stride, name="proj")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.norm(self.proj(self.padding(inputs)))

    def get_config(self):
        own = {"channels": self.channels, "patch_size": self.patch_size, "stride": self.stride}
        return {**super().get_config(), **own}


class ReducedAttention(keras.layers.Layer):
    """Attention of every cell to a map that is `reduction` times smaller: [B, H, W, C] -> the same.

    Args:
        channels: C.
        num_heads: of the attention.
        reduction: side and stride of the convolution that makes the smaller map.
    """

    def __init__(self, channels: int, num_heads: int, reduction: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.num_heads, self.reduction = channels, num_heads, reduction
        self.q, self.k, self.v, self.proj = (
            keras.layers.Dense(channels, name=name) for name in ("q", "k", "v", "proj")
        )
        self.sr = self.norm = None
        if reduction > 1:
            self.sr = keras.layers.Conv2D(channels, reduction, reduction, name="sr")
            self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        shape, width = tf.shape(inputs), self.channels // self.num_heads

        def heads(x: tf.Tensor) -> tf.Tensor:
            return tf.transpose(tf.reshape(x, [shape[0], -1, self.num_heads, width]), [0, 2, 1, 3])

        smaller = inputs if self.sr is None else self.norm(self.sr(inputs))
        q, k, v = heads(self.q(inputs)), heads(self.k(smaller)), heads(self.v(smaller))
        weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * width**-0.5)
        return self.proj(tf.reshape(tf.transpose(weights @ v, [0, 2, 1, 3]), shape))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"channels": self.channels, "num_heads": self.num_heads, "reduction": self.reduction}
        return {**super().get_config(), **own}


class MixBlock(keras.layers.Layer):
    """Attention and a feed-forward part with a depthwise 3x3, each behind normalisation and added: a map -> a map.

    Args: those of `ReducedAttention`, and the `epsilon` of its layer normalisation.
    """

    def __init__(self, channels: int, num_heads: int, reduction: int, epsilon: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.num_heads, self.reduction, self.epsilon = channels, num_heads, reduction, epsilon
        self.norm1 = keras.layers.LayerNormalization(epsilon=epsilon, name="norm1")
        self.attn = ReducedAttention(channels, num_heads, reduction, name="attn")
        self.norm2 = keras.layers.LayerNormalization(epsilon=epsilon, name="norm2")
        self.fc1 = keras.layers.Dense(4 * channels, name="fc1")
        self.dwconv = keras.layers.DepthwiseConv2D(3, padding="same", name="dwconv")
        self.fc2 = keras.layers.Dense(channels, name="fc2")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = inputs + self.attn(self.norm1(inputs))
        return x + self.fc2(tf.nn.gelu(self.dwconv(self.fc1(self.norm2(x))), approximate=True))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {
            "channels": self.channels,
            "num_heads": self.num_heads,
            "reduction": self.reduction,
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **own}


def convert(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """The layer for maps in place of one of KerasHub's MiT; None for any other layer."""
    kind = type(layer).__name__
    if kind == "OverlappingPatchingAndEmbedding":
        return PatchEmbedding(layer.project_dim, layer.patch_size, layer.stride, name=layer.name)
    if kind == "HierarchicalTransformerEncoder":
        attention = layer.attn
        return MixBlock(
            layer.project_dim, layer.num_heads, attention.sr_ratio, layer.norm1.epsilon, name=layer.name
        )  # fmt: skip
    if kind == "Reshape" and layer.name.startswith("output_level_"):
        return keras.layers.Identity(name=layer.name)
    return None
