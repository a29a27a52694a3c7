"""The least that a training step can take: its convolutions and matrix products alone.

Everything else, normalisation, proposals, targets, RoIs, losses and the update, is what a detector adds to them. The
products are those of a step that was taken, with the shapes, types and attributes that they had there; what is frozen
has no gradient and so no product of the backward pass.
"""

from __future__ import annotations

import collections
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

_KINDS = {
    "Conv2D": ("input", "filter"),
    "Conv2DBackpropInput": ("input_sizes", "filter", "out_backprop"),
    "Conv2DBackpropFilter": ("input", "filter_sizes", "out_backprop"),
    "DepthwiseConv2dNative": ("input", "filter"),
    "DepthwiseConv2dNativeBackpropInput": ("input_sizes", "filter", "out_backprop"),
    "DepthwiseConv2dNativeBackpropFilter": ("input", "filter_sizes", "out_backprop"),
    "MatMul": ("a", "b"),
    "BatchMatMulV2": ("x", "y"),
    "Einsum": ("inputs",),
}
"""Ops that are counted, with the names of their inputs in `tf.raw_ops`."""

_ATTRIBUTES = (
    "strides", "padding", "explicit_paddings", "dilations", "data_format", "transpose_a", "transpose_b", "adj_x",
    "adj_y", "equation",
)  # fmt: skip


class Product(NamedTuple):
    """A convolution or matrix product of a step.

    Attributes:
        kind: type of the op.
        inputs: shape and type of each input, or the values of an input that is a shape.
        attributes: name and value.
    """

    kind: str
    inputs: tuple[tuple[Any, ...], ...]
    attributes: tuple[tuple[str, Any], ...]


class StepLimit(NamedTuple):
    """What `measure_limit` finds; medians, in seconds of CPU of all threads, and of wall-clock time.

    Attributes:
        products: in a step.
        step_cpu, step_wall: a step as training takes it, the update included.
        limit_cpu, limit_wall: its products alone.
        by_kind: CPU seconds of the products of each kind of op.
    """

    products: int
    step_cpu: float
    step_wall: float
    limit_cpu: float
    limit_wall: float
    by_kind: dict[str, float]


def products_of(step: Callable[[], object]) -> collections.Counter[Product]:
    """The products that a function computes once it is compiled, counted. It runs once.

    Args:
        step: computes tensors, such as the gradients of a tape. What its results do not need does not count.
    """
    found: list[tf.Operation] = []

    def traced():
        found[:] = [op for op in _needed(tf.nest.flatten(step())) if op.type in _KINDS]
        # Some sizes are known at run time alone, such as the rows of a mask head.
        return [[given if given.dtype == tf.int32 else tf.shape(given) for given in op.inputs] for op in found]

    sizes = tf.function(traced, autograph=False)()
    products = zip(found, sizes, strict=True)
    return collections.Counter(_product(op, [size.numpy().tolist() for size in given]) for op, given in products)


def _needed(results: list[tf.Tensor | None]) -> list[tf.Operation]:
    """The operations that tensors of a graph are computed by, in the graph's order."""
    left, seen = [result.op for result in results if result is not None], set()
    while left:
        op = left.pop()
        if op not in seen:
            seen.add(op)
            left += [*op.control_inputs, *(given.op for given in op.inputs)]
    return [op for op in tf.compat.v1.get_default_graph().get_operations() if op in seen]


def _product(op: tf.Operation, sizes: list[list[int]]) -> Product:
    kinds = ("sizes" if given.dtype == tf.int32 else given.dtype.name for given in op.inputs)
    known = set(op.node_def.attr)
    attributes = ((name, _plain(op.get_attr(name))) for name in _ATTRIBUTES if name in known)
    return Product(op.type, tuple((kind, *size) for kind, size in zip(kinds, sizes, strict=True)), tuple(attributes))


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return value.decode() if isinstance(value, bytes) else value


def compute(products: collections.Counter[Product]) -> Callable[[], tf.Tensor]:
    """A compiled function that computes products one after the other, on random values."""
    values = {
        given: tf.random.stateless_normal(given[1:], [0, 0], dtype=given[0])
        for product in products
        for given in product.inputs
        if given[0] != "sizes"
    }

    def run():
        last = tf.constant(0.0)
        for product, count in products.items():
            for _ in range(count):
                # In a chain: each waits for the one before, so that equal ones are not computed once, and is part of
                # the sum, so that none is cut from the graph as unused.
                with tf.control_dependencies([last]):
                    result = _result(product, values)
                last += tf.cast(result[(0,) * result.shape.rank], tf.float32)
        return last

    return tf.function(run, autograph=False)


def _result(product: Product, values: dict[tuple[Any, ...], tf.Tensor]) -> tf.Tensor:
    inputs = [tf.constant(given[1:]) if given[0] == "sizes" else values[given] for given in product.inputs]
    names = _KINDS[product.kind]
    arguments: dict[str, Any] = {"inputs": inputs} if names == ("inputs",) else dict(zip(names, inputs, strict=True))
    attributes = {name: list(value) if isinstance(value, tuple) else value for name, value in product.attributes}
    return getattr(tf.raw_ops, product.kind)(**arguments, **attributes)


def measure_limit(
    gradients: Callable[[], object],
    step: Callable[[], object],
    repeats: int,
    progress: Callable[[str], None] = lambda _: None,
) -> StepLimit:
    """Takes a step and its products alone, in turn.

    Args:
        gradients: computes the gradients of the step, as `products_of` has it.
        step: takes the step and returns tensors.
        repeats: of each side, after one that traces.
        progress: is told what is being measured.
    """
    progress("the products of a step")
    products = products_of(gradients)
    sides = {"step": step, "limit": compute(products)}
    kinds = {kind: compute(_of_kind(products, kind)) for kind in dict.fromkeys(product.kind for product in products)}
    measured: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for number in range(repeats + 1):
        progress(f"step and limit, {number} of {repeats}" if number else "tracing")
        for name, run in (sides | kinds).items():
            figures = _timed(run)
            if number:
                measured[name].append(figures)
    cpu, wall = ({name: statistics.median(f[i] for f in figures) for name, figures in measured.items()} for i in (0, 1))
    count = sum(products.values())
    by_kind = {kind: cpu[kind] for kind in kinds}
    return StepLimit(count, cpu["step"], wall["step"], cpu["limit"], wall["limit"], by_kind)


def _of_kind(products: collections.Counter[Product], kind: str) -> collections.Counter[Product]:
    return collections.Counter({product: count for product, count in products.items() if product.kind == kind})


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of CPU time of this process and of wall-clock time."""
    cpu, wall = time.process_time(), time.perf_counter()
    for value in tf.nest.flatten(run()):
        if value is not None:
            tf.reduce_any(tf.shape(value) > 0).numpy()  # waits
    return time.process_time() - cpu, time.perf_counter() - wall
