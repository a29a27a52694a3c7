"""Runs an image through keras.applications' ResNet and through a detector's backbone that has its weights."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfdet.errors import UserError

_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
SIDES = (224, 224)
"""Height and width that the picture is resized to."""


def compare(detector: keras.Model, path: str | Path, pixels: np.ndarray) -> dict[str, float]:
    """The largest difference of each stage's map, over the map's absolute maximum.

    Args:
        detector: with the weights of `path`, on a full-size ResNet-v1, or ResNet-v2 of variant "keras".
        path: weights of keras.applications' ResNet of the same depth, `.h5` or `.weights.h5`.
        pixels: uint8 [H, W, 3] of size `SIDES`, RGB.

    Raises:
        UserError: the detector has another network.
    """
    backbone = detector.backbone
    if getattr(backbone, "depth", None) not in _UNITS or getattr(backbone, "width", 1.0) != 1.0:
        raise UserError(f"--verify needs a full-size ResNet of depth {' or '.join(map(str, _UNITS))}")
    variant = getattr(backbone, "variant", None)
    if variant == "mxnet":
        raise UserError("--verify needs a network that keras.applications has: set ResNetV2.variant = 'keras'")
    pixels = tf.cast(pixels[None], tf.float32)
    units = _UNITS[backbone.depth][: backbone.num_stages]
    if variant == "keras":
        theirs, applied = _network(f"ResNet{backbone.depth}V2", path), keras.applications.resnet_v2
        # Maps of strides 4 to 16 are what goes into the striding last units.
        layers = [*(f"conv{s + 2}_block{n - 1}_out" for s, n in enumerate(units[:3])), "post_relu"]
        found = backbone(pixels)
    else:
        theirs, applied = _network(f"ResNet{backbone.depth}", path), keras.applications.resnet
        layers = [f"conv{s + 2}_block{n}_out" for s, n in enumerate(units)]
        found = backbone(pixels - tf.constant([123.68, 116.779, 103.939]))  # R, G, B, as preprocess_input has them
    expected = keras.Model(theirs.input, [theirs.get_layer(name).output for name in layers])(
        applied.preprocess_input(pixels.numpy())
    )
    return {
        name: float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
        for name, a, b in zip(layers, found, expected, strict=True)
    }


def _network(name: str, path: str | Path) -> keras.Model:
    """keras.applications' network with the file's weights, with or without its classifier."""
    make = getattr(keras.applications, name)
    for top in (False, True):
        network = make(include_top=top, weights=None, **({} if top else {"input_shape": (*SIDES, 3)}))
        try:
            network.load_weights(path)
            return network
        except (ValueError, OSError, KeyError):
            continue
    raise UserError(f"{path}: keras.applications.{name} does not load it")
