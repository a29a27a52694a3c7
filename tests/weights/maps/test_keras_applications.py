"""keras.applications' ResNet V2 as the backbone of a detector with FPN, by the output of the real network."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.legacy.saving import legacy_h5_format

from tests.detectors.small import small_detector, small_v2_detector
from tfdet.backbones import ResNetV2
from tfdet.errors import UserError
from tfdet.heads import MlpBboxHead, RoiExtractor
from tfdet.heads.proposals import AnchorGenerator
from tfdet.necks import FPN
from tfdet.weights import load, read_weights, sources, verify, write_params
from tfdet.weights.convert import to_simpledet
from tfdet.weights.maps import keras_applications
from tfdet.weights.maps.rules import source_of, target_of
from tfdet.weights.sources import program_of

SIZE = (69, 90)  # rows and columns that a stride does not divide


def fpn_detector(depth=26, width=1 / 16):
    return small_v2_detector(
        "fpn",
        backbone=ResNetV2(depth, num_stages=4, width=width, variant="keras"),
        neck=FPN(8),
        bbox_head=lambda num_classes: MlpBboxHead(num_classes, 16),
        anchors=AnchorGenerator(strides=(4, 8, 16, 32, 64), scales=(4,)),
        roi_extractor=RoiExtractor(strides=(4, 8, 16, 32)),
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Both files of a ResNet50V2 with random BN and biases, and its four maps of an image."""
    theirs = keras.applications.ResNet50V2(include_top=False, weights=None, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    for variable in theirs.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.ndim == 1:
            variable.assign(rng.normal(0, 0.3, variable.shape))
    folder = tmp_path_factory.mktemp("keras_v2")
    theirs.save_weights(folder / "resnet50v2.weights.h5")
    with h5py.File(folder / "resnet50v2.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
    image = rng.uniform(0, 255, [1, *SIZE, 3]).astype(np.float32)
    names = ["conv2_block2_out", "conv3_block3_out", "conv4_block5_out", "post_relu"]
    maps = keras.Model(theirs.input, [theirs.get_layer(name).output for name in names])(
        keras.applications.resnet_v2.preprocess_input(image.copy())
    )
    return folder, image, [np.asarray(m) for m in maps]


@pytest.fixture(scope="module")
def full_size():
    return fpn_detector(50, width=1.0)


@pytest.mark.parametrize("name", ["resnet50v2.weights.h5", "resnet50v2.h5"])
def test_kerass_resnet_v2_gives_kerass_maps(stored, full_size, name):
    folder, image, expected = stored
    for variable in full_size.backbone.weights:
        variable.assign(tf.zeros_like(variable))
    report = load(full_size, folder / name)
    assert "keras.applications ResNet V2" in report.source and not report.unused and not report.mismatched
    assert not [path for path in report.missing if path.startswith("backbone/")] and not report.notes
    found = full_size.backbone(tf.constant(image))
    assert [m.shape[1:3] for m in found] == [(18, 23), (9, 12), (5, 6), (3, 3)]
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_pixels_are_normalised_as_keras_does(stored, full_size):
    load(full_size, stored[0] / "resnet50v2.h5")
    pixels = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1).repeat(3, axis=3)
    expected = keras.applications.resnet_v2.preprocess_input(pixels.copy())
    np.testing.assert_allclose(full_size.backbone.bn_data(pixels), expected, rtol=0, atol=2e-7)


@pytest.mark.slow
def test_verification_runs_kerass_network(stored, full_size, tmp_path):
    path = stored[0] / "resnet50v2.weights.h5"
    pixels = np.random.default_rng(1).integers(0, 255, [50, 60, 3], np.uint8)
    tf.io.write_file(str(tmp_path / "x.png"), tf.io.encode_png(pixels))
    load(full_size, path)
    compared = verify.compare(full_size, sources.KERAS_V2, path, tmp_path / "x.png")
    assert len(compared) == 4 and all(difference < allowed for difference, allowed in compared.values())
    bias = full_size.backbone.stages[2].units[2].conv3.bias
    bias.assign(bias + 1.0)
    compared = verify.compare(full_size, sources.KERAS_V2, path, tmp_path / "x.png")
    assert compared["conv4_block5_out"][0] > verify.TOLERANCE > compared["conv3_block3_out"][0]


@pytest.fixture(scope="module")
def small():
    return fpn_detector()


@pytest.fixture(scope="module")
def simpledets():
    return small_v2_detector("cascade")


def test_the_table_reads_the_same_from_both_sides(small):
    rules = keras_applications.v2_map(small).rules
    paths = [variable.path for variable in small.backbone.weights]
    sources = [source_of(path, rules)[0] for path in paths]
    assert len(set(sources)) == len(paths)
    assert [target_of(source, rules) for source in sources] == paths


def test_the_classifier_is_ignored_and_deeper_and_other_networks_are_refused(tmp_path, small):
    arrays = {source_of(v.path, keras_applications.v2_map(small).rules)[0]: v.numpy() for v in small.backbone.weights}
    arrays = {name: array for name, array in arrays.items() if not name.startswith("bn_data")}
    np.savez(tmp_path / "x.npz", **arrays, **{"predictions/kernel": np.ones([2, 2], np.float32)})
    assert not load(small, tmp_path / "x.npz").unused
    np.savez(tmp_path / "deeper.npz", **arrays, **{"conv4_block7_1_bn/beta": np.ones(2, np.float32)})
    with pytest.raises(UserError, match="deeper backbone: there is no backbone/stage3/unit7/bn2/beta here"):
        load(small, tmp_path / "deeper.npz")
    del arrays["conv4_block2_3_conv/bias"]
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(UserError, match="another backbone: backbone/stage3/unit2/conv3/bias"):
        load(small, tmp_path / "other.npz")


def test_a_detector_of_another_backbone_learns_what_to_set(tmp_path, simpledets):
    arrays = {"conv2_block1_preact_bn/gamma": np.ones(2), "conv2_block1_1_conv/kernel": np.ones([1, 1, 2, 2])}
    assert program_of(arrays) == "keras.applications ResNet V2"
    np.savez(tmp_path / "x.npz", **arrays)
    said = "ResNetV2.variant = 'keras', as gin_configs/examples/faster_r50v2_fpn_keras.gin does"
    with pytest.raises(UserError, match=rf"ResNet V2: set RetinaDetector.backbone = @ResNetV2\(\) and {said}"):
        load(small_detector("retina"), tmp_path / "x.npz")
    with pytest.raises(UserError, match=f"ResNet V2: set {said}"):
        load(simpledets, tmp_path / "x.npz")


def test_simpledets_network_and_this_one_are_kept_apart(tmp_path, small, simpledets):
    write_params(tmp_path / "x.params", to_simpledet(simpledets))
    assert "arg:bn_data_beta" in read_weights(tmp_path / "x.params")
    with pytest.raises(UserError, match="of SimpleDet's ResNet-v2: set ResNetV2.variant = 'mxnet'"):
        load(small, tmp_path / "x.params")
    with pytest.raises(UserError, match="keras.applications' in its last: not convertible"):
        to_simpledet(small)
    tf.io.write_file(str(tmp_path / "x.png"), tf.io.encode_png(np.zeros([4, 4, 3], np.uint8)))
    with pytest.raises(UserError, match="full-size ResNet"):
        verify.compare(small, sources.KERAS_V2, "x.h5", tmp_path / "x.png")
