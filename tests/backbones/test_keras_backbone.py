"""Networks of keras.applications as backbones, against Keras' own on the same pixels."""

import functools
import typing

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.backbones import KerasBackbone
from tfdet.backbones.functional import PARTS, STRIDES, Source
from tfdet.backbones.keras_applications import outputs_of
from tfdet.backbones.keras_models import MODELS, KerasModelName
from tfdet.detectors import RetinaDetector
from tfdet.layers import BatchNorm, DropPath, GroupNorm, drop_seed
from tfdet.necks import FPN, ReduceNeck

SMALL = ["MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny", "ResNet50"]
"""One of each way to read pixels, and of each way to pad."""

OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in SMALL]


@functools.cache
def shaken(name, **options):
    """A backbone whose normalisation is not that of a new one."""
    backbone, rng = KerasBackbone(name, **options), np.random.default_rng(0)
    for weight in backbone.weights:
        if weight.path.endswith(("moving_variance", "gamma")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("moving_mean", "beta", "bias")):
            weight.assign(rng.normal(0, 0.1, weight.shape))
        elif weight.path.endswith("scale"):
            weight.assign(rng.uniform(0.1, 0.3, weight.shape))
    return backbone


@functools.cache
def small():
    return shaken("MobileNetV3Small", norm="local")


def pixels(height=64, width=96):
    return np.random.default_rng(1).integers(0, 256, (1, height, width, 3)).astype("f")


def normalised(backbone, image):
    return tf.constant((image - np.array(backbone.pixel_mean)) / np.array(backbone.pixel_std), tf.float32)


def kerass(name, backbone, height, width):
    """Keras' network for images of this size, with its preprocessing, and its maps; with the backbone's weights."""
    model = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(height, width, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            # EfficientNet's is in the file of its weights: their variance is a deviation, as a comment in Keras says,
            # and another layer divides by its root once more.
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign(np.square([0.229, 0.224, 0.225]))
            layer.finalize_state()
    model, start, outputs = outputs_of(model)
    cuts = tuple(outputs[cut] for cut in MODELS[name].cuts)
    for path, weight in backbone.variables_of(Source(model, start, cuts, (), ())).items():
        weight.assign(next(own for own in backbone.weights if own.path == path).numpy())
    return keras.Model(model.input, list(cuts[1:]))


def preprocess_of(name):
    module = keras.applications
    if name.startswith("ResNet"):
        return (module.resnet_v2 if name.endswith("V2") else module.resnet).preprocess_input
    for start, part in {
        "EfficientNetV2": module.efficientnet_v2, "EfficientNetB": module.efficientnet, "ConvNeXt": module.convnext,
        "MobileNetV3": module.mobilenet_v3, "MobileNetV2": module.mobilenet_v2, "DenseNet": module.densenet,
    }.items():  # fmt: skip
        if name.startswith(start):
            return part.preprocess_input
    raise AssertionError(name)


def test_the_table_has_every_name():
    assert list(MODELS) == list(typing.get_args(KerasModelName))
    assert all(hasattr(keras.applications, name) for name in MODELS)
    with pytest.raises(ValueError, match="KerasBackbone.model = 'EfficientNetV2XL': expected one of"):
        KerasBackbone("EfficientNetV2XL")


@pytest.mark.parametrize("name", SMALL + OTHERS)
def test_maps_are_those_of_keras_on_the_same_pixels(name):
    backbone = shaken(name)
    assert backbone.channels == list(MODELS[name].channels) and backbone.strides == list(STRIDES)
    image = pixels()
    found = backbone(normalised(backbone, image))
    assert [tuple(x.shape) for x in found] == [
        (1, -(-64 // s), -(-96 // s), c) for s, c in zip(STRIDES, backbone.channels)
    ]
    network = kerass(name, backbone, 64, 96)
    # Deep networks with random weights multiply the rounding of their pixels: how much, Keras' own network tells.
    moved = image + np.random.default_rng(3).normal(0.0, 2e-5, image.shape)
    references, others = (network(preprocess_of(name)(each)) for each in (image.copy(), moved))
    for ours, theirs, other in zip(found, references, others, strict=True):
        noise = float(tf.reduce_max(tf.abs(theirs - other)))
        np.testing.assert_allclose(ours, theirs, atol=max(2e-5 * float(tf.reduce_max(tf.abs(theirs))), 5 * noise))
    # All parameters but those of the preprocessing, which are Keras' numbers, and those behind the last map.
    counted = [
        w for layer in network.layers if not isinstance(layer, keras.layers.Normalization) for w in layer.weights
    ]
    assert sum(np.prod(w.shape) for w in backbone.weights) == sum(np.prod(w.shape) for w in counted)


def test_paths_stand_in_the_parts_that_rows_freeze():
    paths = [weight.path for weight in small().weights]
    assert len(set(paths)) == len(paths)
    assert {path.split("/")[1] for path in paths} == set(PARTS)
    assert "backbone/conv0/conv/kernel" in paths
    assert "backbone/stage2/expanded_conv_1_depthwise_bn/moving_mean" in paths
    again = KerasBackbone("MobileNetV3Small")
    assert [weight.path for weight in again.weights] == paths  # whatever was built before


@pytest.mark.parametrize("side", [(65, 70), (33, 96)])
def test_maps_of_odd_images_are_those_of_the_padded_one(side):
    backbone, image = small(), tf.random.normal([1, *side, 3], seed=1)
    found = backbone(image)
    assert [tuple(x.shape[1:3]) for x in found] == [(-(-side[0] // s), -(-side[1] // s)) for s in STRIDES]
    padded = backbone(tf.pad(image, [[0, 0], [0, -side[0] % 32], [0, -side[1] % 32], [0, 0]]))
    for x, whole in zip(found, padded, strict=True):
        np.testing.assert_allclose(x, whole[:, : x.shape[1], : x.shape[2]], atol=1e-5)
    traced = tf.function(backbone, input_signature=[tf.TensorSpec([None, None, None, 3])], autograph=False)
    for x, y in zip(found, traced(image), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)


def test_the_phase_reaches_every_normalisation():
    backbone, image = small(), tf.random.normal([2, 64, 64, 3], seed=1)
    norms = [layer for layer in backbone._flatten_layers() if isinstance(layer, BatchNorm)]
    assert len(norms) > 20 and all(norm.epsilon == pytest.approx(1e-3) for norm in norms)
    before = {norm.name: norm.moving_mean.numpy() for norm in norms}
    testing = backbone(image)
    assert all(np.array_equal(before[norm.name], norm.moving_mean.numpy()) for norm in norms)
    training = backbone(image, training=True)
    assert all(not np.array_equal(before[norm.name], norm.moving_mean.numpy()) for norm in norms)
    assert not np.allclose(testing[3], training[3])
    for norm in norms:
        norm.mode = "frozen"
    frozen = backbone(image, training=True)
    for norm in norms:
        norm.mode = "local"
    np.testing.assert_allclose(frozen[3], backbone(image)[3], atol=1e-5)


def test_groups_take_the_place_of_batches():
    kinds = {type(layer) for layer in KerasBackbone("MobileNetV3Small", norm="group")._flatten_layers()}
    assert GroupNorm in kinds and BatchNorm not in kinds and keras.layers.BatchNormalization not in kinds


def test_stochastic_depth_is_a_function_of_the_seed_and_may_be_computed_again():
    plain = KerasBackbone("EfficientNetV2B0", drop_path=0.5)
    by_name = {layer.name: layer.rate for layer in plain._flatten_layers() if isinstance(layer, DropPath)}
    rates = [by_name[name] for name in sorted(by_name)]  # block2b_drop to block6h_drop
    assert rates == sorted(rates) and rates[-1] == 0.5 and len(rates) == 15
    image = tf.random.normal([2, 32, 32, 3], seed=1)

    def run(backbone, seed):
        weights = [weight.value for weight in backbone.trainable_variables]
        with tf.GradientTape() as tape:
            with drop_seed(tf.constant(seed)):
                features = backbone(image, training=True)
            total = tf.add_n([tf.reduce_mean(x**2) for x in features])
        return features, tape.gradient(total, weights)

    first, gradients = run(plain, [0, 1])
    assert np.array_equal(first[3], run(plain, [0, 1])[0][3])
    assert not np.allclose(first[3], run(plain, [0, 2])[0][3])
    assert np.array_equal(plain(image)[3], plain(image, training=True)[3])  # no seed, nothing dropped
    plain.recompute = (1, 2, 3, 4)
    again, others = run(plain, [0, 1])
    np.testing.assert_allclose(first[3], again[3], atol=1e-5)
    for one, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * (1 + float(tf.reduce_max(tf.abs(one)))))


def test_a_network_without_stochastic_depth_refuses_it():
    with pytest.raises(ValueError, match="Expected KerasBackbone.drop_path = 0: ResNet50 has no stochastic depth"):
        KerasBackbone("ResNet50", drop_path=0.1)


@pytest.mark.parametrize("neck", [None, ReduceNeck(8)])
def test_necks_that_are_no_pyramid_are_refused(neck):
    with pytest.raises(ValueError, match="Expected a pyramid, such as FPN or RetinaNeck, as the neck of KerasBackbone"):
        RetinaDetector(3, small(), neck, head=None, anchors=None, targets=None, postprocess=None)


def test_the_detector_normalises_as_the_network_was_trained():
    assert small().pixel_mean == (127.5, 127.5, 127.5) == small().pixel_std
    own = KerasBackbone("MobileNetV3Small", pixel_mean=(1.0, 2.0, 3.0), pixel_std=(4.0, 5.0, 6.0))
    assert own.pixel_mean == (1.0, 2.0, 3.0) and own.pixel_std == (4.0, 5.0, 6.0)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_half_precision_keeps_statistics_in_single_and_gradients_finite(half):
    keras.mixed_precision.set_global_policy(f"mixed_{half}")
    backbone = KerasBackbone("MobileNetV3Small", norm="local")
    images = tf.constant(np.random.default_rng(0).normal(size=(2, 64, 64, 3)), tf.float32)
    backbone(images)
    with tf.GradientTape() as tape:
        features = backbone(images, training=True)
        scaled = 128.0 * tf.add_n([tf.reduce_mean(tf.square(tf.cast(x, tf.float32))) for x in features])
    gradients = tape.gradient(scaled, [variable.value for variable in backbone.trainable_variables])
    assert {x.dtype.name for x in features} == {half}
    assert {weight.dtype for weight in backbone.weights} == {"float32"}
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_a_pyramid_is_made_of_its_maps():
    assert [tuple(x.shape) for x in FPN(8)(small()(tf.zeros([1, 70, 65, 3])))][0] == (1, 18, 17, 8)
