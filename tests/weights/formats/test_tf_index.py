"""Indices of TensorFlow checkpoints that name impossible tensors: TensorFlow ends the process on them."""

import os
import shutil
import struct

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import tensor_bundle_pb2

from tfdet.errors import UserError
from tfdet.weights import read_weights
from tfdet.weights.formats import tf_index


def varint(value):
    out = b""
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def table(entries):
    """A table of LevelDB's form with one block; its checksums are not read before TensorFlow does."""
    out = b""

    def add(items):
        nonlocal out
        begin, block, restarts = len(out), b"", []
        for key, value in items:
            restarts.append(len(block))
            block += varint(0) + varint(len(key)) + varint(len(value)) + key + value
        block += struct.pack(f"<{len(restarts)}II", *restarts, len(restarts))
        out += block + bytes(5)
        return varint(begin) + varint(len(block))

    place = add(sorted(entries.items()))
    footer = add([]) + add([(b"\xff", place)])
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The prefix of a checkpoint, and the entries of its index."""
    prefix = tf.train.Checkpoint(v=tf.Variable([1.0, 2.0])).write(str(tmp_path_factory.mktemp("ckpt") / "ckpt-1"))
    return prefix, dict(tf_index._entries(tf_index.read_bytes(f"{prefix}.index")))


def test_what_tensorflow_writes_passes(checkpoint):
    prefix, entries = checkpoint
    tf_index.check_index(prefix)
    assert sorted(entries) == [b"", b"_CHECKPOINTABLE_OBJECT_GRAPH", b"v/.ATTRIBUTES/VARIABLE_VALUE"]


@pytest.mark.parametrize("sizes", [[-5], [1 << 40, 1 << 40], [0, 1 << 62, 1 << 62], [1] * 300])
def test_an_impossible_shape_is_one_line(checkpoint, sizes):
    prefix, entries = checkpoint
    key = b"v/.ATTRIBUTES/VARIABLE_VALUE"
    entry = tensor_bundle_pb2.BundleEntryProto.FromString(entries[key])
    entry.shape.ClearField("dim")
    for size in sizes:
        entry.shape.dim.add(size=size)
    with open(f"{prefix}.index", "wb") as file:
        file.write(table({**entries, key: entry.SerializeToString()}))
    with pytest.raises(
        UserError, match="ckpt-1: .*gives v/.ATTRIBUTES/VARIABLE_VALUE an impossible type, shape or place"
    ):
        read_weights(prefix)


@pytest.mark.parametrize("value", [b"\x12\xff\xff", b"\xff" * 20])
def test_an_entry_that_is_none_is_one_line(checkpoint, value):
    prefix, entries = checkpoint
    with open(f"{prefix}.index", "wb") as file:
        file.write(table({**entries, b"v/.ATTRIBUTES/VARIABLE_VALUE": value}))
    with pytest.raises(UserError, match="ckpt-1: not a complete TensorFlow checkpoint"):
        read_weights(prefix)


NUMBERS, GRAPH = b"v/.ATTRIBUTES/VARIABLE_VALUE", b"_CHECKPOINTABLE_OBJECT_GRAPH"


def changed(checkpoint, folder, key, **fields):
    """The prefix of a copy whose entry `key` says otherwise."""
    prefix, entries = checkpoint
    copy = shutil.copy(f"{prefix}.data-00000-of-00001", folder).partition(".data-")[0]
    entry = tensor_bundle_pb2.BundleEntryProto.FromString(entries[key])
    for size in fields.pop("sizes", ()):
        entry.shape.dim.add(size=size)
    for name, value in fields.items():
        setattr(entry, name, value)
    with open(f"{copy}.index", "wb") as file:
        file.write(table({**entries, key: entry.SerializeToString()}))
    return copy


@pytest.mark.parametrize(
    "key, fields",
    [(NUMBERS, {"dtype": number}) for number in (0, 2, 20, 29, 101, 999)]
    + [(NUMBERS, {"sizes": [1 << 40]}), (NUMBERS, {"sizes": [1 << 40], "size": 1 << 43}), (NUMBERS, {"size": 4})]
    + [(NUMBERS, {"offset": 1 << 40}), (GRAPH, {"sizes": [1 << 28]}), (GRAPH, {"size": 40})],
)
def test_a_type_or_size_that_the_data_file_has_not_is_one_line(checkpoint, tmp_path, key, fields):
    with pytest.raises(UserError, match="an impossible type, shape or place"):
        tf_index.check_index(changed(checkpoint, tmp_path, key, **fields))


def test_a_string_longer_than_its_bytes_is_one_line(checkpoint, tmp_path):
    prefix = changed(checkpoint, tmp_path, GRAPH)
    tf_index.check_index(prefix)
    with open(f"{prefix}.data-00000-of-00001", "r+b") as file:
        file.seek(tensor_bundle_pb2.BundleEntryProto.FromString(checkpoint[1][GRAPH]).offset)
        file.write(varint(1 << 40))
    with pytest.raises(UserError, match="gives _CHECKPOINTABLE_OBJECT_GRAPH an impossible type, shape or place"):
        tf_index.check_index(prefix)


@pytest.mark.parametrize("count, message", [(400, "names more than the [0-9]+ bytes"), (33_000, "more than the 32768")])
def test_names_of_the_same_bytes_are_one_line(checkpoint, tmp_path, count, message):
    prefix, entries = changed(checkpoint, tmp_path, NUMBERS), checkpoint[1]
    with open(f"{prefix}.index", "wb") as file:
        file.write(table(entries | {b"w%05d" % number: entries[NUMBERS] for number in range(count)}))
    with pytest.raises(UserError, match=message):
        tf_index.check_index(prefix)


@pytest.mark.parametrize("name", ["index", "data-00000-of-00001"])
def test_a_pipe_is_named_and_not_waited_for(checkpoint, tmp_path, name):
    prefix = changed(checkpoint, tmp_path, NUMBERS)
    os.unlink(f"{prefix}.{name}")
    os.mkfifo(f"{prefix}.{name}")
    with pytest.raises(UserError, match=f"{name}: is a pipe"):
        tf_index.check_index(prefix)


def test_a_variable_in_slices_passes(tmp_path):
    """As `tf.compat.v1.train.Saver` writes partitioned variables."""
    prefix = str(tmp_path / "ckpt-1")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["v", "v"], shape_and_slices=["4 2 0,2:-", "4 2 2,2:-"],
                      tensors=[tf.zeros((2, 2)), tf.ones((2, 2))])  # fmt: skip
    assert read_weights(prefix)["v"].sum() == 4
