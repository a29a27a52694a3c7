"""What each op of a compiled function takes, by TensorFlow's profiler."""

from __future__ import annotations

import collections
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

OpTimes = dict[tuple[str, str], float]
"""By name and type of an op, the seconds from its start to its end; of one that runs several times their sum."""

_OP = re.compile(r"([^:]+):(\w+)")
_PRODUCT = re.compile("Conv2D|DepthwiseConv|MatMul|Einsum")
_CONTAINERS = ("PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While", "StatelessWhile")
_OUTER = re.compile(
    r"^(gradient_tape|detector|replica|cond|then|else|while|body|PartitionedCall|StatefulPartitionedCall)$"
)


def profiled(run: Callable[[], object]) -> OpTimes:
    """Runs a compiled function and returns what its ops took, those of `tf.data` left out.

    Ops that run beside each other overlap: their sum is what one thread takes only where TensorFlow has one thread.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    took: OpTimes = collections.defaultdict(float)
    with tempfile.TemporaryDirectory(prefix="tfdet_profile_") as folder:
        tf.profiler.experimental.start(folder)
        try:
            run()
        finally:
            tf.profiler.experimental.stop()
        for path in Path(folder).rglob("*.xplane.pb"):
            space = xplane_pb2.XSpace.FromString(path.read_bytes())
            for plane in space.planes:
                for line in plane.lines:
                    for event in line.events:
                        match = _OP.fullmatch(plane.event_metadata[event.metadata_id].name)
                        if match and match[2] not in _CONTAINERS and not match[1].startswith("EagerLocalExecute"):
                            took[match[1], match[2]] += event.duration_ps / 1e12
    return dict(took)


def is_product(kind: str) -> bool:
    """Whether a type of op is a convolution or matrix product, its fused forms and gradients included."""
    return _PRODUCT.search(kind) is not None


def part_of(name: str) -> str:
    """The part of a detector or of a step that an op belongs to: the outermost layer or scope in its name.

    Keras and TensorFlow number what is called again, and optimisers put names of their own in front.

    Returns:
        Such as "backbone", "proposals", "update"; "other" for an op without any scope.
    """
    for word in name.split("/")[:-1]:
        plain = re.sub(r"_\d+$", "", word)
        if plain and not _OUTER.match(plain) and not plain.endswith(("Optimizer", "Folding")):
            return plain
    return "other"
