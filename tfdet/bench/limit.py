"""The least that a training step can take: its convolutions and matrix products alone.

Everything else, normalisation, proposals, targets, RoIs, losses and the update, is what a detector adds to them. The
products are those of a step that was taken, with the shapes, types and attributes that they had there; what is frozen
has no gradient and so no product of the backward pass.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfdet.bench.measure import process_peak
from tfdet.bench.op_times import OpTimes, is_product, part_of, profiled

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
        part: of the step, as `part_of` has it.
    """

    kind: str
    inputs: tuple[tuple[Any, ...], ...]
    attributes: tuple[tuple[str, Any], ...]
    part: str = ""


class Took(NamedTuple):
    """Seconds of one side, each the least of all measured."""

    cpu: float  # of all threads of the process
    wall: float


class PartTimes(NamedTuple):
    """Seconds of the ops of one part of a step from their start to their end, each op's least, added up."""

    limit: float  # its products alone
    products: float  # the same products within a step, with what TensorFlow fuses into them
    others: float  # all other ops of it

    @property
    def between(self) -> float:
        """What the part takes beyond its products alone."""
        return self.products + self.others - self.limit


class StepLimit(NamedTuple):
    """What `measure_limit` finds."""

    products: int  # in a step
    step: Took  # as training takes it, the update included
    limit: Took  # its products alone
    memory_peak: int  # bytes that the process held at most when the steps were warm, before the products ran alone
    parts: dict[str, PartTimes]  # of each part of the step, what takes most beyond its products first


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
    given = tuple((kind, *size) for kind, size in zip(kinds, sizes, strict=True))
    return Product(op.type, given, tuple(attributes), part_of(op.name))


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
                with tf.control_dependencies([last]), tf.name_scope(product.part or "products"):
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
    """Takes a step and its products alone, in turn, then both again with a look at every op.

    Args:
        gradients: computes the gradients of the step, as `products_of` has it.
        step: takes the step and returns tensors.
        repeats: of each side, after those that trace and fill caches.
        progress: is told what is being measured.
    """
    progress("the first steps")
    for _ in range(_WARM_UP):
        timed(step)
    memory = process_peak()
    progress("the products of a step")
    products = products_of(gradients)
    sides = {"step": step, "limit": compute(products)}
    timed(sides["limit"])
    measured: dict[str, list[Took]] = collections.defaultdict(list)
    for number in range(repeats):
        progress(f"step and limit, {number + 1} of {repeats}")
        for name, run in sides.items():
            measured[name].append(timed(run))
    ops: dict[str, list[OpTimes]] = collections.defaultdict(list)
    for number in range(min(repeats, _PROFILED)):
        progress(f"their ops, {number + 1} of {min(repeats, _PROFILED)}")
        for name, run in sides.items():
            ops[name].append(profiled(lambda run=run: timed(run)))
    least = {name: Took(*map(min, zip(*figures, strict=True))) for name, figures in measured.items()}
    parts = by_part(_least(ops["step"]), _least(ops["limit"]))
    return StepLimit(sum(products.values()), least["step"], least["limit"], memory, parts)


_WARM_UP, _PROFILED = 2, 5


def _least(runs: list[OpTimes]) -> OpTimes:
    """Of each op the least time that one of the runs took for it."""
    return {op: min(run[op] for run in runs if op in run) for op in runs[0]}


def by_part(step: OpTimes, limit: OpTimes) -> dict[str, PartTimes]:
    """The ops of a step and of its products alone, added up by part."""
    sums: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0, 0.0])
    for (name, kind), seconds in limit.items():
        if is_product(kind):
            sums[part_of(name)][0] += seconds
    for (name, kind), seconds in step.items():
        sums[part_of(name)][1 if is_product(kind) else 2] += seconds
    whole = sum(map(sum, sums.values()))
    for part in [part for part, seconds in sums.items() if part != "other" and sum(seconds) < whole / 10_000]:
        sums["other"] = [a + b for a, b in zip(sums["other"], sums.pop(part), strict=True)]  # a scope of few ops
    parts = {part: PartTimes(*seconds) for part, seconds in sums.items()}
    return dict(sorted(parts.items(), key=lambda item: -item[1].between))


def timed(run: Callable[[], object]) -> Took:
    """Seconds that a call took whose tensors are waited for."""
    cpu, wall = time.process_time(), time.perf_counter()
    for value in tf.nest.flatten(run()):
        if value is not None:
            tf.reduce_any(tf.shape(value) > 0).numpy()  # waits
    return Took(time.process_time() - cpu, time.perf_counter() - wall)
