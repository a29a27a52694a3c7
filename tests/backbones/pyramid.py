"""A small class with the interface of KerasHub's `FeaturePyramidBackbone`."""

import keras


class Block(keras.layers.Layer):
    """A layer made of layers, as the blocks of KerasHub's EfficientNet are."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = keras.layers.Conv2D(filters, 3, strides=2, padding="same", name="conv")
        self.bn = keras.layers.BatchNormalization(epsilon=1e-3, name="bn")
        self.dropout = keras.layers.Dropout(0.5, name="dropout")

    def call(self, inputs):
        return self.dropout(keras.ops.relu(self.bn(self.conv(inputs))))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


class SmallPyramid(keras.Model):
    """Maps of strides 2 to `2 ** levels`, whose levels begin at P2, as those of CSPDarkNet do."""

    def __init__(self, width=4, levels=5):
        inputs = x = keras.Input((None, None, 3))
        maps = {}
        for level in range(levels):
            x = Block(width * 2**level, name=f"block{level}")(x)
            maps[f"P{level + 2}"] = x
        super().__init__(inputs, x)
        self.pyramid_outputs = maps
