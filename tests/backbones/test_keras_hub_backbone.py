"""KerasHub's backbones: by a class of their interface everywhere, and by KerasHub's own where it is installed."""

import importlib.util
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.backbones.pyramid import SmallPyramid
from tests.detectors.small import small_heads
from tfdet import weights
from tfdet.backbones import KerasHubBackbone, mix_transformer
from tfdet.errors import UserError
from tfdet.layers import BatchNorm

OPTIONS = {
    "ResNetBackbone": {
        "input_conv_filters": [8, 8, 16], "input_conv_kernel_sizes": [3, 3, 3],
        "stackwise_num_filters": [64, 16, 16, 16],
        "stackwise_num_blocks": [1, 1, 1, 1], "stackwise_num_strides": [1, 2, 2, 2],
        "block_type": "bottleneck_block_vd",
    },
    "CSPNetBackbone": {
        "stem_filters": 16, "stem_kernel_size": 3, "stem_strides": 1, "stackwise_depth": [1] * 5,
        "stackwise_strides": [2] * 5, "stackwise_num_filters": [16, 16, 32, 32, 64], "block_type": "dark_block",
        "stage_type": "csp", "bottle_ratio": [0.5, 1.0], "block_ratio": [1.0, 0.5],
        "expand_ratio": [2.0, 1.0], "stem_padding": "same",
        "down_growth": True,
    },
    "EfficientNetBackbone": {
        "stackwise_kernel_sizes": [3] * 6, "stackwise_num_repeats": [1, 2, 1, 1, 1, 1],
        "stackwise_input_filters": [8, 8, 16, 16, 24, 24], "stackwise_output_filters": [8, 16, 16, 24, 24, 32],
        "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
        "stackwise_squeeze_and_excite_ratios": [0, 0, 0, 0.25, 0.25, 0.25],
        "stackwise_strides": [1, 2, 2, 2, 1, 2], "stackwise_block_types": ["fused"] * 3 + ["unfused"] * 3,
        "width_coefficient": 1.0, "depth_coefficient": 1.0,
    },
    "DenseNetBackbone": {"stackwise_num_repeats": [1, 1, 1, 1], "compression_ratio": 0.5, "growth_rate": 8},
    "MiTBackbone": {
        "layerwise_depths": [1, 1, 1, 1], "image_shape": (64, 64, 3), "hidden_dims": [8, 16, 32, 64], "num_layers": 4,
        "layerwise_num_heads": [1, 2, 4, 8], "layerwise_sr_ratios": [8, 4, 2, 1], "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3, 3, 3], "layerwise_strides": [4, 2, 2, 2],
    },
}  # fmt: skip


def shake(backbone, source):
    """The same numbers in a backbone and in the network that it was made of."""
    rng, theirs = np.random.default_rng(0), backbone.variables_of(source)
    assert set(theirs) == {weight.path for weight in backbone.weights}
    for weight in backbone.weights:
        positive = weight.path.endswith(("moving_variance", "gamma"))
        value = rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.1, weight.shape)
        weight.assign(value), theirs[weight.path].assign(value)


def assert_same_maps(backbone):
    source = backbone.source()
    shake(backbone, source)
    image = tf.random.normal([1, 64, 64, 3], seed=1)
    for ours, theirs in zip(backbone(image), keras.Model(source.start, source.cuts[1:])(image), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * float(tf.reduce_max(tf.abs(theirs))))
    assert [tuple(x.shape[1:3]) for x in backbone(tf.zeros([1, 65, 97, 3]))] == [(17, 25), (9, 13), (5, 7), (3, 4)]
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in backbone._flatten_layers())


def test_a_class_of_the_interface_is_cut_at_its_strides():
    backbone = KerasHubBackbone(architecture=SmallPyramid, norm="local")
    assert_same_maps(backbone)
    assert backbone.channels == [8, 16, 32, 64]
    assert "backbone/conv0/block0/conv/kernel" in {weight.path for weight in backbone.weights}
    norms = [layer for layer in backbone._flatten_layers() if isinstance(layer, BatchNorm)]
    assert [norm.epsilon for norm in norms] == [1e-3] * 5
    backbone(tf.random.normal([1, 64, 64, 3]), training=True)  # no dropout: it would change what follows
    assert all(np.any(norm.moving_mean.numpy()) for norm in norms)


def test_it_trains_and_detects():
    detector = small_heads(KerasHubBackbone(architecture=SmallPyramid))
    assert detector.pixel_mean == pytest.approx((123.675, 116.28, 103.53))
    found = detector.detect(tf.zeros([1, 70, 65, 3], tf.uint8), tf.constant([[70.0, 65.0, 1.0]]))
    assert found.boxes.shape == (1, 10, 4)
    with pytest.raises(UserError, match="KerasHubBackbone.preset has no value"):
        weights.load(detector, "imagenet")


def test_a_preset_brings_pixels_and_weights(monkeypatch):
    """By a stand-in for the package: presets are fetched from the web."""

    def from_preset(name, load_weights=True):
        if name != "small_imagenet":
            raise ValueError(f"no preset {name}\nin the list")
        model = SmallPyramid()
        for weight in model.weights:
            weight.assign(np.full(weight.shape, 0.25 if load_weights else 0.5))
        return model

    def scale(name):
        return types.SimpleNamespace(scale=[1 / 51, 1 / 102, 1 / 255], offset=[-2.0, -1.0, 0.0])

    hub = types.ModuleType("keras_hub")
    hub.__spec__ = importlib.util.spec_from_loader("keras_hub", None)
    hub.models = types.SimpleNamespace(FeaturePyramidBackbone=types.SimpleNamespace(from_preset=from_preset))
    hub.layers = types.SimpleNamespace(ImageConverter=types.SimpleNamespace(from_preset=scale))
    monkeypatch.setitem(sys.modules, "keras_hub", hub)
    detector = small_heads(KerasHubBackbone("small_imagenet"), "retina")
    assert detector.pixel_mean == pytest.approx((102.0, 102.0, 0.0))
    assert detector.pixel_std == pytest.approx((51.0, 102.0, 255.0))
    report = weights.load(detector, "imagenet")
    assert report.source == "small_imagenet (KerasHub)"
    assert all(np.all(weight.numpy() == 0.25) for weight in detector.backbone.weights)
    hub.layers.ImageConverter = types.SimpleNamespace(from_preset=from_preset)
    with pytest.raises(UserError, match=r"KerasHubBackbone.preset = 'other' cannot be had \(no preset other\)"):
        KerasHubBackbone("other")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "Expected one of KerasHubBackbone.preset and architecture"),
        ({"preset": "a", "architecture": "b"}, "Expected one of KerasHubBackbone.preset and architecture"),
        (
            {"architecture": SmallPyramid, "options": {"levels": 4}},
            r"maps of strides \(4, 8, 16, 32\).*\(2, 4, 8, 16\)",
        ),
        ({"architecture": keras.Sequential, "options": {"layers": [keras.Input((8, 8, 3))]}}, "no pyramid_outputs"),
    ],
)
def test_what_is_no_pyramid_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        KerasHubBackbone(**arguments)


def test_where_it_is_not_installed_a_line_says_so(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "keras_hub" else find(name))
    with pytest.raises(UserError, match=r"needs KerasHub: pip install 'tfdet\[keras_hub\]'"):
        KerasHubBackbone(architecture="ResNetBackbone")


def test_attention_of_a_map_is_that_of_its_cells():
    """By the formula, for a map that is not square."""
    layer, rng = mix_transformer.ReducedAttention(4, 2, 1), np.random.default_rng(0)
    x = rng.normal(size=(1, 2, 3, 4)).astype("f")
    layer(x)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    q, k, v = (x.reshape(6, 4) @ part.kernel.numpy() + part.bias.numpy() for part in (layer.q, layer.k, layer.v))
    heads = []
    for head in (slice(0, 2), slice(2, 4)):
        scores = np.exp(q[:, head] @ k[:, head].T / np.sqrt(2))
        heads.append(scores / scores.sum(1, keepdims=True) @ v[:, head])
    expected = np.concatenate(heads, 1) @ layer.proj.kernel.numpy() + layer.proj.bias.numpy()
    np.testing.assert_allclose(layer(x), expected.reshape(x.shape), atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("keras_hub") is None, reason="KerasHub is an extra")
@pytest.mark.parametrize("architecture", OPTIONS)
def test_kerashubs_own_networks_give_their_maps(architecture):
    assert_same_maps(KerasHubBackbone(architecture=architecture, options=OPTIONS[architecture], norm="local"))
