import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.weights import read_params, write_params


def arrays():
    rng = np.random.default_rng(0)
    return {
        "arg:conv0_weight": rng.normal(size=(4, 3, 3, 3)).astype("<f4"),
        "arg:half": rng.normal(size=(5,)).astype("<f2"),
        "aux:bn0_moving_mean": rng.normal(size=(4,)).astype("<f8"),
        "arg:counts": np.arange(6, dtype="<i4").reshape(2, 3),
    }


def test_round_trip(tmp_path):
    path = tmp_path / "x.params"
    write_params(path, arrays())
    read = read_params(path)
    assert list(read) == list(arrays())
    for name, array in arrays().items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert [p.name for p in tmp_path.iterdir()] == ["x.params"]


def file_of(array_bytes: bytes, name: bytes = b"w") -> bytes:
    return struct.pack("<QQQ", 0x112, 0, 1) + array_bytes + struct.pack("<QQ", 1, len(name)) + name


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<I2I", 2, 2, 3),  # before 0.11: ndim, u32 dims
        struct.pack("<II2q", 0xF993FAC8, 2, 2, 3),  # V1
        struct.pack("<IiI2q", 0xF993FAC9, 0, 2, 2, 3),  # V2
        struct.pack("<Iii2q", 0xF993FACA, 0, 2, 2, 3),  # V3
    ],
    ids=["legacy", "v1", "v2", "v3"],
)
def test_every_version_of_the_format(tmp_path, header):
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    path = tmp_path / "x.params"
    path.write_bytes(file_of(header + struct.pack("<iii", 1, 0, 0) + values.tobytes()))
    np.testing.assert_array_equal(read_params(path)["w"], values)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0, max_value=10_000))
def test_a_truncated_file_is_a_clear_error(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "x.params"
    write_params(path, arrays())
    data = path.read_bytes()
    path.write_bytes(data[: cut % len(data)])
    with pytest.raises(UserError, match="x.params"):
        read_params(path)


@settings(max_examples=100, deadline=None)
@given(position=st.integers(min_value=0, max_value=10_000), value=st.integers(min_value=0, max_value=255))
def test_a_changed_byte_never_does_more_than_a_user_error(tmp_path_factory, position, value):
    path = tmp_path_factory.mktemp("flip") / "x.params"
    write_params(path, arrays())
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    path.write_bytes(bytes(data))
    try:
        assert isinstance(read_params(path), dict)
    except UserError as error:
        assert "x.params" in str(error)


def test_a_huge_count_allocates_nothing(tmp_path):
    path = tmp_path / "x.params"
    path.write_bytes(file_of(struct.pack("<IiI2q", 0xF993FAC9, 0, 2, 1 << 40, 1 << 40) + struct.pack("<iii", 1, 0, 0)))
    with pytest.raises(UserError, match="not a complete"):
        read_params(path)


@pytest.mark.parametrize("content", [b"", b"not a params file, but long enough to have a header"])
def test_a_foreign_file(tmp_path, content):
    path = tmp_path / "x.params"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not an MXNet"):
        read_params(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="nowhere.params"):
        read_params(tmp_path / "nowhere.params")
