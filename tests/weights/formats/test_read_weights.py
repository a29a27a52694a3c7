"""Readers on files of every format: what is in them, and what happens to cut, changed, foreign and hostile ones."""

import io
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.weights import files
from tfdet.errors import UserError
from tfdet.weights import read_weights, write_params


def arrays():
    rng = np.random.default_rng(0)
    return {
        "stem.conv.weight": rng.normal(size=(4, 3, 3, 3)).astype("<f4"),
        "stem.norm.bias": rng.normal(size=(5,)).astype("<f8"),
        "steps": np.arange(6, dtype="<i8").reshape(2, 3),
        "half": rng.normal(size=(2, 2)).astype("<f2"),
    }


def write_h5(path, values):
    with h5py.File(path, "w") as file:
        for name, array in values.items():
            file[name] = array


def write_npz(path, values):
    np.savez(path, **values)


def write_npz_compressed(path, values):
    np.savez_compressed(path, **values)


def write_zipped_params(path, values):
    """As SimpleDet publishes its detectors."""
    write_params(path.with_suffix(".params"), values)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path.with_suffix(".params"), "faster_r50v1_fpn_1x/checkpoint.params")
        archive.writestr("faster_r50v1_fpn_1x/log.txt", "Epoch[0]")
    path.with_suffix(".params").unlink()


WRITERS = {
    "x.params": write_params,
    "published.zip": write_zipped_params,
    "x.pkl": files.write_pkl,
    "x.pth": files.write_torch,
    "old.pth": files.write_torch_legacy,
    "x.safetensors": files.write_safetensors,
    "x.npz": write_npz,
    "small.npz": write_npz_compressed,
    "x.weights.h5": write_h5,
}


# HDF5's library works in a process of its own, too slow for hundreds of tries: tests/weights/test_keras_h5.py has some.
IN_PROCESS = [name for name in WRITERS if name != "x.weights.h5"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of one file a format."""
    folder = tmp_path_factory.mktemp("written")
    for name, write in WRITERS.items():
        write(folder / name, arrays())
    return {name: (folder / name).read_bytes() for name in WRITERS}


def read(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return read_weights(path)


@pytest.mark.parametrize("suffix", ["as written", "none"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_known_by_its_content(tmp_path, written, name, suffix):
    found = read(tmp_path, name if suffix == "as written" else "weights", written[name])
    assert sorted(found) == sorted(arrays())
    for key, array in arrays().items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array)


@pytest.mark.parametrize("name", IN_PROCESS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(min_value=0, max_value=0.999))
def test_a_truncated_file_is_one_line_that_names_it(tmp_path, written, name, share):
    content = written[name]
    with pytest.raises(UserError, match=name) as caught:
        read(tmp_path, name, content[: int(share * len(content))])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", IN_PROCESS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(min_value=0, max_value=0.9999), bit=st.integers(0, 7))
def test_a_changed_bit_is_never_more_than_a_user_error(tmp_path, written, name, position, bit):
    content = bytearray(written[name])
    content[int(position * len(content))] ^= 1 << bit
    try:
        assert isinstance(read(tmp_path, name, bytes(content)), dict)
    except UserError as error:
        assert name in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80", b"weights", b"\x93NUMPY\x01\x00", b"<html>" + b" " * 300])
@pytest.mark.parametrize("name", ["x.params", "x.pkl", "x.pth", "x.safetensors", "x.npz", "x.h5", "x"])
def test_foreign_content_is_refused(tmp_path, name, content):
    with pytest.raises(UserError, match=name):
        read(tmp_path, name, content)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.pth: no such file"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match="a folder without a TensorFlow checkpoint"):
        read_weights(tmp_path)


class Bomb:
    """Unpickled with pickle.load, this makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("pickle_ran",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("place", ["value", "name", "nested"])
def test_a_pickle_that_calls_code_is_refused_by_name(tmp_path, monkeypatch, protocol, place):
    monkeypatch.chdir(tmp_path)
    value = {"value": {"a": Bomb()}, "name": {Bomb(): 1}, "nested": {"model": [np.zeros(2), (Bomb(),)]}}[place]
    content = pickle.dumps(value, protocol)
    with pytest.raises(UserError, match=r"its pickle calls (posix|nt)\.mkdir"):
        read(tmp_path, "x.pkl", content)
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("archive/data.pkl", content)
    with pytest.raises(UserError, match=r"its pickle calls (posix|nt)\.mkdir"):
        read_weights(tmp_path / "x.pth")
    assert not (tmp_path / "pickle_ran").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'mkdir pickle_ran'\ntR.",
        b"(S'mkdir pickle_ran'\nios\nsystem\n.",
        b"(cos\nsystem\nS'mkdir pickle_ran'\no.",
        b"\x80\x02cos\nsystem\n)\x81}b.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"\x80\x02c__builtin__\ngetattr\ncnumpy\nndarray\nX\x05\x00\x00\x00dumps\x86R.",
        b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00x\x85R.",
        b"\x80\x02\x82\x01.",
    ],
    ids=["REDUCE", "INST", "OBJ", "NEWOBJ", "STACK_GLOBAL", "getattr", "numpy.load", "EXT1"],
)
def test_every_opcode_that_calls_is_refused(tmp_path, monkeypatch, code):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="refused: its pickle calls"):
        read(tmp_path, "x.pkl", code)
    assert not (tmp_path / "pickle_ran").exists()


def test_a_pickle_that_multiplies_its_text_is_refused(tmp_path):
    """One text of 2 MB, encoded 2,000 times by a few bytes each."""
    text = b"X" + struct.pack("<I", 2_000_000) + b"a" * 2_000_000 + b"q\x00"
    code = b"\x80\x02" + b"c_codecs\nencode\nq\x01" + text + b"00]" + b"h\x01h\x00\x85Ra" * 2000 + b"."
    tracemalloc.start()
    with pytest.raises(UserError, match="more data than the file holds"):
        read(tmp_path, "x.pkl", code)
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()


@pytest.mark.parametrize("depth", [10_000, 50_000])
def test_deep_nesting_ends_no_process(tmp_path, depth):
    for code in (b"\x85", b"]a"):
        opening = b"\x80\x02N" + b"\x85" * depth if code == b"\x85" else b"\x80\x02" + b"]" * depth + b"a" * (depth - 1)
        with pytest.raises(UserError, match="x.pkl"):
            read(tmp_path, "x.pkl", opening + b".")
        with pytest.raises(UserError, match="x.pkl"):  # as the key of a table
            read(tmp_path, "x.pkl", b"\x80\x02}" + opening[2:] + b"Ns.")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_every_protocol(tmp_path, protocol):
    files.write_pkl(tmp_path / "x.pkl", arrays(), protocol)
    found = read_weights(tmp_path / "x.pkl")
    assert all(np.array_equal(found[name], array) for name, array in arrays().items())


def test_pickles_hold_scalars_fortran_order_and_big_endian_arrays(tmp_path):
    values = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(4, dtype=">f4"),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.float32(1.5),
        "not an array": [1, {2}, None, True, "text", b"bytes", 2.5, (1 << 70)],
    }
    files.write_pkl(tmp_path / "x.pkl", values)
    found = read_weights(tmp_path / "x.pkl")
    assert found.pop("scalar") == 1.5
    assert sorted(found) == ["big", "empty", "fortran"]
    assert all(np.array_equal(found[name], values[name]) for name in found)


def test_caffe2s_pickles_of_python_2(tmp_path):
    values = {"conv1_w": arrays()["stem.conv.weight"], "res2_0_branch2a_bn_s": np.arange(3, dtype="<f4")}
    found = read(tmp_path, "x.pkl", files.python2_pickle(values))
    assert list(found) == list(values)
    assert all(np.array_equal(found[name], array) for name, array in values.items())
    found["conv1_w"].sum()


@pytest.mark.parametrize("write", [files.write_torch, files.write_torch_legacy])
def test_torchs_views_share_a_storage(tmp_path, write):
    base = np.arange(24, dtype="<f4").reshape(4, 6)
    values = {"whole": base, "part": base[1:3, 2:5], "transposed": base.T, "bf16": np.array([0x3F80, 0xC000], "<u2")}
    write(tmp_path / "x.pth", values)
    found = read_weights(tmp_path / "x.pth")
    for name in ("whole", "part", "transposed"):
        np.testing.assert_array_equal(found[name], values[name])
    np.testing.assert_array_equal(found["bf16"], np.array([1.0, -2.0], np.float32))


def test_checkpoints_of_torch_programs_hold_the_model_inside(tmp_path):
    def wrap(tensors):
        model = {f"module.{name}": tensor for name, tensor in tensors.items()}
        return {"model": model, "optimizer": {"state": {0: {"momentum": [1.0]}}}, "iteration": 7}

    files.write_torch(tmp_path / "x.pth", arrays(), wrap)
    assert sorted(read_weights(tmp_path / "x.pth")) == sorted(arrays())


def test_a_pickled_module_is_refused(tmp_path):
    with pytest.raises(UserError, match="its pickle calls torchvision.models.resnet.ResNet"):
        read(tmp_path, "x.pkl", b"\x80\x02ctorchvision.models.resnet\nResNet\n)\x81.")


@pytest.mark.parametrize(
    "shape,strides,offset", [((1 << 40,), (1,), 0), ((2, 2), (3, 1), 0), ((1 << 40,), (0,), 0), ((4,), (1,), 1)]
)
def test_a_torch_tensor_stays_in_its_storage(tmp_path, shape, strides, offset):
    def wrap(tensors):
        tensors["w"].parts = (tensors["w"].parts[0], offset, shape, strides)
        return tensors

    files.write_torch(tmp_path / "x.pth", {"w": np.arange(4, dtype="<f4")}, wrap)
    with pytest.raises(UserError, match="in a storage of 4|tensors that share their numbers"):
        read_weights(tmp_path / "x.pth")


def test_safetensors_bfloat16_and_hostile_headers(tmp_path):
    path = tmp_path / "x.safetensors"
    files.write_safetensors(path, {"w": np.array([[0x3F80, 0xC000]], "<u2")}, {"w": "BF16"})
    np.testing.assert_array_equal(read_weights(path)["w"], np.array([[1.0, -2.0]], np.float32))

    def with_header(text):
        return struct.pack("<Q", len(text)) + text + b"\0" * 8

    entry = b'{"w": {"dtype": "F32", "shape": [%s], "data_offsets": [%s]}}'
    for text in (
        b"{" + b"[" * 5000,
        b'{"w": 5}',
        b'{"w": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
        entry % (b"1099511627776, 1099511627776", b"0, 8"),
        entry % (b"2", b"0, 800"),
        entry % (b"2", b"-8, 0"),
        entry % (b"true, 2", b"0, 8"),
        b'{"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},'
        b' "b": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}',
    ):
        with pytest.raises(UserError, match="x.safetensors"):
            read(tmp_path, "x.safetensors", with_header(text))
    with pytest.raises(UserError, match="has the type F8_E4M3"):
        read(tmp_path, "x.safetensors", with_header((entry % (b"8", b"0, 8")).replace(b"F32", b"F8_E4M3")))


def test_npz_with_objects_or_a_bomb_is_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", w=np.array([{}], object))
    with pytest.raises(UserError, match="holds Python objects"):
        read_weights(tmp_path / "objects.npz")
    np.savez_compressed(tmp_path / "bomb.npz", w=np.zeros(30_000_000, np.float32))
    with pytest.raises(UserError, match="claims to hold"):
        read_weights(tmp_path / "bomb.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (1 << 40,), "fortran_order": False, "descr": "<f4"})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("w.npy", header.getvalue())
    with pytest.raises(UserError, match="0 bytes for w.npy"):
        read_weights(tmp_path / "huge.npz")


def test_an_archive_of_several_checkpoints_or_a_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("checkpoint-0005.params", b"")
        archive.writestr("checkpoint-0006.params", b"")
    with pytest.raises(UserError, match="an archive with 2 .params files; unpack it"):
        read_weights(tmp_path / "two.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("checkpoint.params", bytes(120_000_000))
    with pytest.raises(UserError, match="claims to hold"):
        read_weights(tmp_path / "bomb.zip")


def test_h5_outside_links_and_huge_shapes_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(3)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["w"] = np.ones(2)
        file["linked"] = h5py.ExternalLink("other.h5", "secret")
    assert list(read_weights(tmp_path / "x.h5")) == ["w"]
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("w", (3,), "f4", external=[("/etc/hostname", 0, 12)])
    with pytest.raises(UserError, match="lies in another file"):
        read_weights(tmp_path / "external.h5")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 20,))
    with pytest.raises(UserError, match="claims to hold"):
        read_weights(tmp_path / "huge.h5")


def test_keras_files_by_layer_names(tmp_path):
    import keras

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1_conv")(inputs)
    x = keras.layers.BatchNormalization(name="conv1_bn")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="predictions")(x))
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.path)).uniform(size=weight.shape))
    model.save_weights(tmp_path / "x.weights.h5")
    found = read_weights(tmp_path / "x.weights.h5")
    expected = {weight.path: weight.numpy() for weight in model.weights}
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    model.save(tmp_path / "whole.keras")
    with pytest.raises(UserError, match="save_weights"):
        read_weights(tmp_path / "whole.keras")


def test_tensorflow_checkpoints(tmp_path):
    import tensorflow as tf

    values = {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.int64(7)}
    variables = {name: tf.Variable(value) for name, value in values.items()}
    saved = tf.train.Checkpoint(detector={"backbone/conv0/kernel": variables["kernel"]}, step=variables["steps"])
    tf.train.Checkpoint(step=variables["steps"]).write(str(tmp_path / "ckpt-9"))
    prefix = saved.write(str(tmp_path / "ckpt-10"))
    index = tmp_path / "ckpt-10.index"
    for path in (prefix, tmp_path, index, tmp_path / "ckpt-10.data-00000-of-00001"):
        found = read_weights(path)
        np.testing.assert_array_equal(found["detector/backbone.Sconv0.Skernel"], values["kernel"])
    content = index.read_bytes()
    data = tmp_path / "ckpt-10.data-00000-of-00001"
    whole = data.read_bytes()
    for cut in (0, 20):  # behind the tensors lies the graph of objects, which is not read
        data.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="not a complete TensorFlow checkpoint"):
            read_weights(prefix)
    data.write_bytes(whole)
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        index.write_bytes(content[:cut])
        with pytest.raises(UserError, match="ckpt-10"):
            read_weights(prefix)
    data.unlink()
    index.write_bytes(content)
    with pytest.raises(UserError, match="ckpt-10"):
        read_weights(prefix)


def test_readers_of_files_need_no_tensorflow():
    for name in ("file_bytes", "mxnet_params", "npz", "pickle_machine", "pickled_arrays", "safetensors", "torch_files"):
        module = sys.modules[f"tfdet.weights.formats.{name}"]
        assert not {"tf", "keras", "tensorflow", "torch"} & set(vars(module))
