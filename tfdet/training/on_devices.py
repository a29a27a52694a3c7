"""A detector on several devices of one process, without a distribution strategy."""

from __future__ import annotations

import collections
import contextlib
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import keras
import tensorflow as tf

_In, _Out = TypeVar("_In"), TypeVar("_Out")


def local_devices() -> list[str]:
    """Every GPU that TensorFlow sees, or its one CPU."""
    return [device.name for device in tf.config.list_logical_devices("GPU")] or ["/device:CPU:0"]


class OnDevices:
    """A function of a detector's weights on any of several devices, from as many threads, with one trace for all.

    The weights are arguments of the compiled function: a copy of them lies on each device, and none is read through a
    distribution strategy, where reading can be a collective of all replicas and each of them has a trace of its own.
    So devices with unequal parts wait for nobody.

    Args:
        detector: whose variables are the weights. Of those that several replicas hold, the first one's copies count.
        call: the function, such as `detector.detect`; what it reads of the detector's variables are the copies.
        signature: of its arguments, as of `tf.function`.
        devices: names of those to use.
    """

    def __init__(
        self, detector: Any, call: Callable[..., Any], signature: Sequence[Any], devices: Sequence[str]
    ) -> None:
        self.devices = list(devices)
        self._variables = list(detector.variables)
        self._free: queue.Queue[int] = queue.Queue()
        self._weights: list[list[tf.Tensor]] = []
        specs = [tf.TensorSpec(variable.shape, variable.dtype) for variable in self._variables]

        @tf.function(input_signature=[specs, *signature], autograph=False)
        def compiled(weights, *arguments):
            with keras.StatelessScope(state_mapping=list(zip(self._variables, weights, strict=True))):
                return call(*arguments)

        self._compiled = compiled

    def prepare(self) -> None:
        """Traces, once; computes nothing."""
        self._compiled.get_concrete_function()

    @contextlib.contextmanager
    def with_weights(self) -> Iterator[None]:
        """While entered, it can be called, with the weights that the detector has now."""
        self.prepare()  # Keras' scopes are those of a thread: no other one may be the first to trace
        values = [_first_copy(variable.value) for variable in self._variables]
        for index, device in enumerate(self.devices):
            with tf.device(device):
                self._weights.append([tf.identity(value) for value in values])
            self._free.put(index)
        try:
            yield
        finally:
            self._weights, self._free = [], queue.Queue()

    def __call__(self, *arguments: Any) -> Any:
        """Runs on a device that is free, and waits for one."""
        index = self._free.get()
        try:
            with tf.device(self.devices[index]):
                return self._compiled(self._weights[index], *arguments)
        finally:
            self._free.put(index)


def map_ahead(
    call: Callable[[_In], _Out],
    items: Iterable[_In],
    threads: int,
    waiting: Callable[[], AbstractContextManager] = contextlib.nullcontext,
) -> Iterator[_Out]:
    """`map` in threads: what `call` gives for each item, in order. At most `threads` items are under way or done.

    Args:
        call: called in one of the threads.
        items: iterated in the caller's thread.
        threads: how many.
        waiting: entered while the caller's thread waits for a result.
    """
    under_way: collections.deque[Future[_Out]] = collections.deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="tfdet-evaluate") as pool:
        try:
            for item in items:
                if len(under_way) == threads:
                    with waiting():
                        result = under_way.popleft().result()
                    under_way.append(pool.submit(call, item))
                    yield result
                else:
                    under_way.append(pool.submit(call, item))
            while under_way:
                with waiting():
                    result = under_way.popleft().result()
                yield result
        finally:
            for future in under_way:
                future.cancel()


def _first_copy(value: Any) -> tf.Tensor:
    if isinstance(value, tf.distribute.DistributedValues):
        value = value.distribute_strategy.experimental_local_results(value)[0]
    return value.read_value() if isinstance(value, tf.Variable) else tf.convert_to_tensor(value)
