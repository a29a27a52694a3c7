"""Indices of TensorFlow checkpoints that name impossible tensors: TensorFlow ends the process on them."""

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
    with pytest.raises(UserError, match="ckpt-1: .*gives v/.ATTRIBUTES/VARIABLE_VALUE an impossible shape or place"):
        read_weights(prefix)


@pytest.mark.parametrize("value", [b"\x12\xff\xff", b"\xff" * 20])
def test_an_entry_that_is_none_is_one_line(checkpoint, value):
    prefix, entries = checkpoint
    with open(f"{prefix}.index", "wb") as file:
        file.write(table({**entries, b"v/.ATTRIBUTES/VARIABLE_VALUE": value}))
    with pytest.raises(UserError, match="ckpt-1: not a complete TensorFlow checkpoint"):
        read_weights(prefix)
