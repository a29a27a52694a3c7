"""Small files that mean much: each is one line, soon, in little memory. Measured in a process without TensorFlow."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import types
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.weights import files

ROOT = Path(__file__).resolve().parents[3]
SECONDS, MEGABYTES = 15, 300  # of processor time, for each; memory above that of the imports

PROGRAM = """
import json, resource, sys, time, types
shell = types.ModuleType("tfdet.weights")  # without its __init__, which brings Keras
shell.__path__ = [sys.argv[1] + "/tfdet/weights"]
sys.modules["tfdet.weights"] = shell
from tfdet.errors import UserError
from tfdet.weights.formats import read_weights

def memory(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) // 1024

found = {}
for path in sys.argv[2:]:
    open("/proc/self/clear_refs", "w").write("5")
    before, begin = memory("VmRSS"), time.process_time()
    try:
        said = f"read {len(read_weights(path))}"
    except UserError as error:
        said = str(error)
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024  # of HDF5's own process
    found[path.rpartition("/")[2]] = said, time.process_time() - begin, memory("VmHWM") - before, child
assert "tensorflow" not in sys.modules
print(json.dumps(found))
"""


def lying_npz(path):
    """100 MB of zeros, packed to 100 kB, that call themselves 1,000 bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", bytes(100_000_000))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 100_000_000), struct.pack("<I", 1000)))


def lzma_npz(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("w.npy", bytes(10_000_000))


def honest_npz(path):
    np.savez_compressed(path, w=np.zeros(25_000_000, np.float32))


def many_entries(path):
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(40_000):
            archive.writestr(f"layer{number}.npy", b"")


def long_directory(path):
    """An end that points to a directory of 40 MB, over which `zipfile` would make 800,000 objects."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"w"
    directory = entry * 800_000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)
    path.write_bytes(directory + end)


def shared_storage(path):
    """20,000 tensors that are all the same 4 MB: 80 GB."""
    base = np.zeros((1000, 1000), np.float32)
    files.write_torch(path, {f"w{i}": base[:] for i in range(20_000)})


def shared_views(path):
    """As above, each a view of its own of one row with the strides of many."""

    def wrap(tensors):
        storage = next(iter(tensors.values())).parts[0]
        for number in range(1, 20_000):
            tensors[f"w{number}"] = type(tensors["w0"])(storage, number % 7, (900_000,), (1,))
        return tensors

    files.write_torch(path, {"w0": np.zeros(1_000_000, np.float32)}, wrap)


def impossible_shape(path):
    def wrap(tensors):
        tensors["w"].parts = (tensors["w"].parts[0], 0, (0, 1 << 40, 1 << 40), (1, 1, 1))
        return tensors

    files.write_torch(path, {"w": np.zeros(4, np.float32)}, wrap)


def shared_array(path):
    array = np.zeros(1_000_000, np.float32)
    files.write_pkl(path, {f"w{i}": array for i in range(20_000)})


def million_arrays(path):
    """One array by one name after another, each made anew."""
    one = pickle.dumps(np.zeros(1, np.float32), 2)
    make = one[one.index(b"c") : -1]
    path.write_bytes(b"\x80\x02}" + b"".join(b"(K" + bytes([n % 256]) + make + b"u" for n in range(120_000)) + b".")


def shared_tables(path):
    """Tables in tables, each a thousand times: a walk over them has no end."""
    table = {"a": 1.0}
    for _ in range(4):
        table = {f"k{i}": table for i in range(1000)}
    files.write_torch(path, {"w": np.zeros(4, np.float32)}, lambda tensors: {"model": tensors, "x": table} | table)


def shared_pairs(path):
    pairs = (
        b"]" + b"(" + b"".join(b"X\x02\x00\x00\x00%02dK\x01\x86" % (i % 100) for i in range(20_000)) + b"e" + b"q\x00"
    )
    call = b"ccollections\nOrderedDict\nq\x01h\x00\x85R0"
    path.write_bytes(b"\x80\x02" + pairs + call + b"h\x01h\x00\x85R0" * 100_000 + b"N.")


def one_pair(path):
    """A list that is one pair 400,000 times, made a table of one entry 9,000 times."""
    pairs = b"X\x01\x00\x00\x00aK\x01\x86q\x010]q\x02(" + b"h\x01" * 400_000 + b"e0"
    path.write_bytes(b"\x80\x02" + pairs + b"ccollections\nOrderedDict\nq\x030" + b"h\x03h\x02\x85R0" * 9_000 + b"N.")


def swapped_copies(path):
    """One text of 4 MB, made a big-endian array a thousand times: each is a copy in this machine's order."""
    data = b"B" + struct.pack("<I", 4_000_000) + bytes(4_000_000) + b"q\x020"
    kind = b"cnumpy\ndtype\nX\x02\x00\x00\x00u4\x85R(K\x03X\x01\x00\x00\x00>tbq\x030"
    shape = b"J" + struct.pack("<i", 1_000_000) + b"\x85q\x040"
    call = b"h\x01(h\x02h\x03h\x04X\x01\x00\x00\x00CtR"
    made = b"cnumpy.core.numeric\n_frombuffer\nq\x010" + data + kind + shape + b"](" + call * 1000 + b"e."
    path.write_bytes(b"\x80\x04" + made)


DOUBLED = b"]q\x00" + b"".join(b"0](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
"""A list of two lists of two lists, ...: each is one object, and its text would have no end."""


def doubled_name(path):
    path.write_bytes(b"\x80\x04" + DOUBLED + b"X\x01\x00\x00\x00a\x93.")


def long_names(path):
    text = b"X" + struct.pack("<I", 4_000_000) + b"a." * 2_000_000 + b"q\x01"
    path.write_bytes(b"\x80\x04" + text + b"0](" + b"h\x01h\x01\x93" * 1_000 + b"e.")


def doubled_type(path):
    path.write_bytes(b"\x80\x04" + DOUBLED + b"0cnumpy\ndtype\n" + b"h\x3c\x85R.")


def doubled_array(path):
    made = b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\nX\x02\x00\x00\x00u1\x85Rh\x3c\x85tR."
    path.write_bytes(b"\x80\x04" + DOUBLED + b"0" + made)


def empty_containers(path):
    path.write_bytes(b"\x80\x04]" + b"(" + b"\x8f" * 4_000_000 + b"e.")


def safetensors(header, body):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def overlapping_safetensors(path):
    entry = {"dtype": "F32", "shape": [1000]}
    header = {f"w{i}": {**entry, "data_offsets": [4 * i, 4 * i + 4000]} for i in range(3)}
    path.write_bytes(safetensors(header, bytes(8000)))


def long_safetensors(path):
    header = {f"w{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(150_000)}
    path.write_bytes(safetensors(header, b""))


def some_safetensors(path):
    header = {f"w{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(40_000)}
    path.write_bytes(safetensors(header, b""))


def impossible_safetensors(path):
    shape = [0, 1 << 62, 1 << 62]
    path.write_bytes(safetensors({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}, b""))


def million_params(path):
    array = struct.pack("<I", 0)
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1_000_000) + array * 1_000_000 + struct.pack("<Q", 0))


def impossible_params(path):
    array = struct.pack("<IiI3qiii", 0xF993FAC9, 0, 3, 0, 1 << 62, 1 << 62, 1, 0, 0)
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<Q", 0))


def lying_zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/checkpoint.params", bytes(100_000_000))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 100_000_000), struct.pack("<I", 1000)))


def packed_h5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=np.zeros(25_000_000, np.float32), chunks=(1 << 20,), compression="gzip")


def lying_h5(path):
    """A chunk of 4 kB whose packed bytes become 512 MB."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(512)) + packer.flush()
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("w", (1024,), "f4", chunks=(1024,), compression="gzip")
        dataset.id.write_direct_chunk((0,), packed)


BOMBS = {
    "lying.npz": (lying_npz, "not a complete NumPy .npz file"),
    "lzma.npz": (lzma_npz, "is packed by method 14, which is not read"),
    "honest.npz": (honest_npz, "it claims to hold 100000"),
    "entries.npz": (many_entries, "40000 tensors, more than the 32768 that are read"),
    "directory.npz": (long_directory, "a directory of 37600000 bytes, for more than 32768 entries"),
    "storage.pth": (shared_storage, "tensors that share their numbers"),
    "views.pth": (shared_views, "tensors that share their numbers"),
    "shape.pth": (impossible_shape, "a tensor of shape (0, 1099511627776, 1099511627776)"),
    "array.pkl": (shared_array, "tensors that share their numbers"),
    "arrays.pkl": (million_arrays, "its pickle has more than 2000000 steps"),
    "tables.pth": (shared_tables, "read 1"),
    "pairs.pkl": (shared_pairs, "more data than the file holds"),
    "one_pair.pkl": (one_pair, "more data than the file holds"),
    "swapped.pkl": (swapped_copies, "more data than the file holds"),
    "name.pkl": (doubled_name, "the name of a global"),
    "names.pkl": (long_names, "the name of a global"),
    "dtype.pkl": (doubled_type, "an array of list, not of numbers"),
    "frombuffer.pkl": (doubled_array, "the shape of an array"),
    "containers.pkl": (empty_containers, "its pickle has more than 2000000 steps"),
    "overlapping.safetensors": (overlapping_safetensors, "'w0' and 'w1' share bytes 4 to 4000"),
    "long.safetensors": (long_safetensors, "a header of"),
    "some.safetensors": (some_safetensors, "40000 tensors, more than the 32768 that are read"),
    "shape.safetensors": (impossible_safetensors, "0 bytes for 'w' of shape [0, 4611686018427387904"),
    "million.params": (million_params, "1000000 tensors, more than"),
    "shape.params": (impossible_params, "a shape of (0, 4611686018427387904"),
    "lying.zip": (lying_zip, "not a complete zip file"),
    "packed.h5": (packed_h5, "it claims to hold 100000000 bytes"),
    "lying.h5": (lying_h5, "not a complete HDF5 file"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What reading each says, the seconds it takes, and the megabytes, here and in HDF5's process."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (write, _) in BOMBS.items():
        write(folder / name)
    assert all((folder / name).stat().st_size < 80e6 for name in BOMBS)
    command = [sys.executable, "-c", PROGRAM, str(ROOT), *(str(folder / name) for name in BOMBS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env={"PYTHONPATH": str(ROOT)}, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_line_soon_and_in_little_memory(outcomes, name):
    said, seconds, megabytes, child = outcomes[name]
    assert BOMBS[name][1] in said and "\n" not in said
    assert seconds < SECONDS and megabytes < MEGABYTES and child < 2 * MEGABYTES


def test_what_networks_share_is_read(tmp_path):
    """Heads that share their weights, and a module that holds the same tensors under two names."""
    base = np.arange(24, dtype="<f4").reshape(4, 6)
    files.write_torch(tmp_path / "x.pth", {f"w{i}": base[:] for i in range(30)})
    files.write_pkl(tmp_path / "x.pkl", {f"w{i}": base for i in range(30)})
    from tfdet.weights import read_weights

    for name in ("x.pth", "x.pkl"):
        found = read_weights(tmp_path / name)
        assert len(found) == 30 and all(np.array_equal(array, base) for array in found.values())


def test_a_tensor_that_repeats_its_numbers_is_read(tmp_path):
    """What `expand` leaves: one number in the storage, many in the tensor."""
    from tfdet.weights import read_weights

    def wrap(tensors):
        storage = tensors["w"].parts[0]
        tensors["wide"] = type(tensors["w"])(storage, 1, (3, 5), (1, 0))
        return tensors

    files.write_torch(tmp_path / "x.pth", {"w": np.arange(4, dtype="<f4")}, wrap)
    np.testing.assert_array_equal(read_weights(tmp_path / "x.pth")["wide"], [[n] * 5 for n in (1, 2, 3)])


NAMESPACE = type("Namespace", (), {"__module__": "argparse", "__qualname__": "Namespace"})


@pytest.fixture
def arguments():
    """An object as argparse's Namespace is pickled, of a class with attributes."""
    import argparse
    import collections
    import datetime
    import pathlib

    beside = {
        "args": argparse.Namespace(lr=0.02, path=pathlib.PurePosixPath("/data"), device=None),
        "time": datetime.datetime(2024, 1, 1), "names": {"a", "b"}, "by pair": {(1, 2): 3},
        "history": collections.defaultdict(list, {"loss": [1.0]}), "order": collections.Counter("abc"),
        "plain": types.SimpleNamespace(a=1), "type": complex(1, 2), "array": np.arange(3), "none": slice(1, 2),
        "class": type(None),
    }  # fmt: skip
    return beside


@pytest.mark.parametrize("write", [files.write_torch])
def test_what_stands_beside_a_model_is_not_made(tmp_path, arguments, write):
    from tfdet.weights import read_weights

    write(tmp_path / "x.pth", {"w": np.arange(4, dtype="<f4")}, lambda tensors: {"model": tensors, **arguments})
    assert list(read_weights(tmp_path / "x.pth")) == ["w"]


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
def test_names_of_wrappers_are_taken_off(tmp_path, wrapper):
    from tfdet.weights import read_weights

    values = {f"{wrapper}a.weight": np.zeros((2, 2), "f4"), f"{wrapper}b.bias": np.zeros(2, "f4")}
    files.write_torch(tmp_path / "x.pth", {**values, "n_averaged": np.array(7)})
    assert sorted(read_weights(tmp_path / "x.pth")) == ["a.weight", "b.bias", "n_averaged"]
    files.write_pkl(tmp_path / "x.pkl", {**values, "other.weight": np.zeros((2, 2), "f4")})
    assert sorted(read_weights(tmp_path / "x.pkl")) == sorted([*values, "other.weight"])
