"""A factor for each channel of a residual branch."""

from __future__ import annotations

import keras
import tensorflow as tf


class LayerScale(keras.layers.Layer):
    """Multiplies every channel by a trained number.

    Keras' own, in its ConvNeXt, gives the weight a name that counts through the process, by which no checkpoint knows
    it again.

    Args:
        initial: what the numbers begin with.

    Weights: `scale`, float32 [C]: among neither the "gamma" that rows freeze nor what they decay.

    Shapes: [B, H, W, C] -> the same.

    Source: Touvron et al., Going Deeper with Image Transformers, ICCV 2021.
    """

    def __init__(self, initial: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        self.scale = self.add_weight(
            shape=(input_shape[-1],), name="scale", initializer=keras.initializers.Constant(self.initial)
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * tf.convert_to_tensor(self.scale)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}
