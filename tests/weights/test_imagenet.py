"""ImageNet weights of Keras' networks, from stand-ins for the files that Keras downloads."""

import keras
import numpy as np
import pytest

from tests.detectors.small import small_heads
from tfdet import weights
from tfdet.backbones import KerasBackbone
from tfdet.backbones.keras_models import MODELS
from tfdet.errors import UserError
from tfdet.weights.load import load_arrays
from tfdet.weights.maps import own

NAME = "MobileNetV3Small"


@pytest.fixture(scope="module")
def detector():
    return small_heads(KerasBackbone(NAME))


@pytest.fixture(scope="module")
def stored(detector, tmp_path_factory):
    """Files of Keras' network with weights that are drawn, and the values by the backbone's paths."""
    folder, rng = tmp_path_factory.mktemp("keras") / "models", np.random.default_rng(0)
    folder.mkdir()
    source = detector.backbone.source()
    for weight in source.model.weights:
        weight.assign(rng.uniform(0.1, 1.0, weight.shape))
    source.model.save(folder / MODELS[NAME].file)
    source.model.save_weights(folder / "kept.weights.h5")
    return folder, {path: value.numpy() for path, value in detector.backbone.variables_of(source).items()}


def clear(detector):
    for weight in detector.backbone.weights:
        weight.assign(np.zeros(weight.shape))


def assert_loaded(report, detector, values):
    assert set(values) == {weight.path for weight in detector.backbone.weights} == set(report.matched)
    assert all(np.array_equal(weight.numpy(), values[weight.path]) for weight in detector.backbone.weights)
    assert all(not path.startswith("backbone") for path in report.missing)


def test_kerass_own_download_is_found_where_keras_keeps_it(detector, stored, monkeypatch):
    folder, values = stored
    monkeypatch.setenv("KERAS_HOME", str(folder.parent))
    asked = []

    def get_file(fname, origin, cache_subdir, file_hash):
        asked.append((fname, cache_subdir))
        return str(folder / fname)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)  # whose hash is that of the published file
    clear(detector)
    report = weights.load(detector, "imagenet")
    assert asked == [(MODELS[NAME].file, "models")]
    assert report.source == str(folder / MODELS[NAME].file)
    assert_loaded(report, detector, values)


@pytest.mark.parametrize("file", [MODELS[NAME].file, "kept.weights.h5"])
def test_a_file_by_its_path(detector, stored, file):
    folder, values = stored
    clear(detector)
    report = weights.load(detector, folder / file)
    assert report.source.endswith("(Keras)") and not report.notes
    assert_loaded(report, detector, values)


def test_older_spellings_of_names_are_known(detector, stored, tmp_path):
    """Keras 2 wrote `expanded_conv/depthwise/BatchNorm` and called a depthwise kernel so."""
    _, values = stored
    spelled = {}
    for path, value in values.items():
        layer, part = path.split("/")[2:]
        layer = layer.replace("expanded_conv_depthwise_bn", "expanded_conv/depthwise/BatchNorm").replace(
            "conv_bn", "Conv_BN"
        )
        part = "depthwise_kernel" if layer.endswith("depthwise") else part
        spelled[f"{layer}/{part}:0"] = value  # fmt: skip
    np.savez(tmp_path / "old.npz", **spelled)
    clear(detector)
    assert_loaded(weights.load(detector, tmp_path / "old.npz"), detector, values)


def test_another_network_is_refused(detector, stored, tmp_path):
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, use_bias=False, name="conv")])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(UserError, match="the file has another backbone: backbone/conv0/conv_bn/gamma is not in it"):
        weights.load(detector, tmp_path / "other.weights.h5")


def test_without_a_network_one_line_says_which_file_goes_where(detector, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("TFDET_OFFLINE", "1")
    with pytest.raises(UserError, match=f"{tmp_path}/models/{MODELS[NAME].file}: no such file, and TFDET_OFFLINE"):
        weights.load(detector, "imagenet")
    monkeypatch.delenv("TFDET_OFFLINE")

    def get_file(fname, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -2] Name or service not known")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    with pytest.raises(UserError) as error:
        weights.load(detector, "imagenet")
    assert "Name or service not known" in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).endswith(f"mobilenet_v3/{MODELS[NAME].file} into {tmp_path}/models")


def test_a_backbone_without_weights_of_its_own_says_so():
    from tests.detectors.small import small_detector

    with pytest.raises(UserError, match="ResNetV1 knows no weights by the name 'imagenet'"):
        weights.load(small_detector("fpn"), "imagenet")


def test_tfdets_own_files_hold_such_a_backbone(detector, stored):
    _, values = stored
    clear(detector)
    arrays = {**values, "tfdet/epsilon": np.float32([1e-5])}
    assert own.MARK.fullmatch("backbone/conv0/conv/kernel")
    report, _ = load_arrays(detector, arrays, "x.safetensors")
    assert "(tfdet)" in report.source
    assert_loaded(report, detector, values)
    # ResNets of Keras keep Keras' names within tfdet's paths.
    from tfdet.weights.sources import program_of

    assert (
        program_of({"backbone/conv0/conv1_conv/kernel": 0, "backbone/stage1/conv2_block1_1_conv/kernel": 0}) == "tfdet"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODELS))
def test_the_table_names_the_file_that_keras_asks_for(name, monkeypatch):
    def get_file(fname, origin, cache_subdir, **_):
        raise Exception(f"URL fetch failure on {origin}: {fname} {cache_subdir} -- stopped")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    for module in ("densenet", "efficientnet", "mobilenet_v2"):
        assert getattr(keras.src.applications, module).file_utils.get_file is get_file
    with pytest.raises(Exception, match=f"{MODELS[name].file} models -- stopped"):
        getattr(keras.applications, name)(include_top=False, weights="imagenet", input_shape=(None, None, 3))
