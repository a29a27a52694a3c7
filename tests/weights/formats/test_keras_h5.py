import os
import random

import h5py
import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.weights.formats import keras_h5
from tfdet.weights.formats.keras_h5 import read_keras_h5


def write(path, layers=3):
    """The form of Keras 3: layers numbered by kind, their names beside."""
    rng = np.random.default_rng(0)
    expected = {}
    with h5py.File(path, "w") as file:
        for i in range(layers):
            group = file.create_group(f"layers/conv2d_{i}").create_group("vars")
            group.attrs["name"] = f"first{i}"
            expected[f"first{i}/kernel"], expected[f"first{i}/bias"] = rng.normal(size=(3, 3, 2, 4)), rng.normal(size=4)
            group["0"], group["1"] = expected[f"first{i}/kernel"], expected[f"first{i}/bias"].astype(">f4")
        group = file.create_group("layers/batch_normalization").create_group("vars")
        group.attrs["name"] = "bn"
        for i, part in enumerate(("gamma", "beta", "moving_mean", "moving_variance")):
            group[str(i)] = expected[f"bn/{part}"] = np.full(4, i, np.float32)
        file["optimizer/vars/0"] = np.zeros(3)
        file["note"] = "text"
    return expected


def test_layers_have_their_names(tmp_path):
    path = tmp_path / "x.weights.h5"
    expected = write(path)
    read = read_keras_h5(path)
    assert set(read) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(read[name], array.astype(read[name].dtype))


def test_bfloat16_is_float32(tmp_path):
    path = tmp_path / "x.weights.h5"
    values = np.float32([1.5, -2.0, 0.0])
    with h5py.File(path, "w") as file:
        file["dense/kernel"] = (values.view(np.uint32) >> 16).astype(np.uint16).view("V2")
        file["dense/kernel"].attrs["dtype"] = "bfloat16"
    np.testing.assert_array_equal(read_keras_h5(path)["dense/kernel"], values)


def test_data_in_other_files_are_refused_and_links_to_them_not_followed(tmp_path):
    other, path = tmp_path / "secret.bin", tmp_path / "x.h5"
    other.write_bytes(b"\x01" * 64)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(3)
    with h5py.File(path, "w") as file:
        file["own"] = np.zeros(2)
        file["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "secret")
    assert set(read_keras_h5(path)) == {"own"}
    with h5py.File(path, "a") as file:
        file.create_dataset("outside", shape=(16,), dtype="f4", external=[(str(other), 0, 64)])
    with pytest.raises(UserError, match="x.h5.*outside lies in another file"):
        read_keras_h5(path)


def test_a_claim_of_more_than_the_file_can_hold_allocates_nothing(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("huge", shape=(1 << 40,), dtype="f4", chunks=(1 << 20,))
    with pytest.raises(UserError, match="x.h5.*claims to hold"):
        read_keras_h5(path)


def test_truncated_and_changed_files_are_user_errors_or_arrays(tmp_path):
    path, rng = tmp_path / "x.h5", random.Random(0)
    write(path)
    data = path.read_bytes()
    for cut in [rng.randrange(8, len(data)) for _ in range(4)]:
        path.write_bytes(data[:cut])
        with pytest.raises(UserError, match="x.h5: not a complete HDF5 file"):
            read_keras_h5(path)
    for _ in range(4):
        changed = bytearray(data)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(changed))
        try:
            read_keras_h5(path)
        except UserError as error:
            assert "x.h5" in str(error)


def test_a_library_that_runs_in_circles_is_stopped(tmp_path, monkeypatch):
    """Some damaged files hold HDF5's library for ever; here a program without an end stands for it."""
    path = tmp_path / "x.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    child = tmp_path / "endless.py"
    child.write_text("import resource, sys\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass\n")
    monkeypatch.setattr(keras_h5.h5_child, "__file__", os.fspath(child))
    with pytest.raises(UserError, match="x.h5.*HDF5's library fails on it or needs more than"):
        read_keras_h5(path)
