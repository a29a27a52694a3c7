"""The inner loop that orbit's Controller calls: a few steps between two looks at the figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import orbit
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.training.step import TrainStep
from tfdet.training.stopping import Stopped, StopSignals

_FIRST_REPORT_SECONDS = 30.0  # after the step that is traced


class InputError(UserError):
    """The training input failed. What was trained until then is good and worth saving."""


class InnerLoop(orbit.AbstractTrainer):
    """Runs steps one after the other in Python, so that waiting for data is measured and a signal ends it.

    The metrics stay on the device until the end of a call: the host waits once a call, not once a step.

    One call ends before its last step: that of the first steps after the one that is traced, where they are slow. A
    person learns within the first minute how long the run takes.

    Args:
        step: the training step.
        iterator: endless distributed iterator of per-replica batches.
        first_step: done before the first call.
        stop: asked before every step.
        looks_in: reports early where steps are slow; of several workers none may, for it goes by the clock.
        warn: told when the step is traced again.
        on_first_step: called once the first step is done.
        explain: turns an error of the input into one that names the record.
    """

    def __init__(
        self,
        step: TrainStep,
        iterator: Iterator,
        first_step: int,
        stop: StopSignals,
        warn: Callable[[str], None],
        on_first_step: Callable[[], None],
        explain: Callable[[Exception], UserError],
        looks_in: bool = True,
    ):
        super().__init__(name="inner_loop")
        self._step = step
        self._run_step = step.compile(iterator.element_spec)
        self._iterator = iterator
        self._begun = first_step
        self._stop = stop
        self._looks_in = looks_in
        self._warn = warn
        self._on_first_step = on_first_step
        self._explain = explain
        self._first = True
        self._report_by: float | None = None  # time at which a first report is overdue
        self._traces_reported = 1
        self.metrics: dict[str, np.ndarray] = {}  # of the last call: one element a step
        self.seconds = 0.0  # the last call took
        self.wait_seconds = 0.0  # of them waiting for data

    @property
    def graph(self) -> tf.Graph:
        """The graph of the training step."""
        return self._run_step.get_concrete_function().graph

    def train(self, num_steps: tf.Tensor) -> None:
        """Runs `num_steps` steps, or fewer where a signal came; `metrics` and the times hold their figures.

        Raises:
            Stopped: not a single one may begin.
            UserError: the input ended or failed, or the device's memory is full.
        """
        outputs, waited, start = [], 0.0, time.perf_counter()
        traced = self._first
        for _ in range(int(num_steps)):
            if not self._stop.may_begin(self._begun + 1):
                break
            self._begun += 1
            for _ in range(self._step.parts):
                before = time.perf_counter()
                batch = self._next_batch()
                waited += time.perf_counter() - before
                output = self._do_step(batch)
            outputs.append(output)
            if self._first:
                self._first = False
                outputs[-1]["finite"].numpy()  # wait for the device
                self._on_first_step()
            if self._report_by is not None and time.perf_counter() > self._report_by:
                break
        if not outputs:
            raise Stopped(self._stop.requested)
        self._report_by = time.perf_counter() + _FIRST_REPORT_SECONDS if traced and self._looks_in else None
        self.metrics = {name: np.stack([output[name].numpy() for output in outputs]) for name in outputs[0]}
        self.seconds = time.perf_counter() - start
        self.wait_seconds = waited
        if self._step.traces > self._traces_reported:
            self._traces_reported = self._step.traces
            self._warn(f"the training step was traced {self._step.traces} times: a shape or dtype changes")

    def _next_batch(self):
        try:
            return next(self._iterator)
        except StopIteration:
            raise InputError(
                "The training input ended, but it must repeat for ever: it holds no usable image"
            ) from None
        except tf.errors.OpError as error:
            raise InputError(str(self._explain(error))) from error

    def _do_step(self, batch) -> dict[str, tf.Tensor] | None:
        try:
            return self._run_step(batch)
        except tf.errors.ResourceExhaustedError as error:
            raise UserError(
                f"Out of memory in the training step ({_first_line(error)}): lower "
                "TrainInput.images_per_replica (and raise Trainer.accumulate) or the image size, or use "
                "Trainer.precision = 'mixed_float16' on a GPU"
            ) from error


def _first_line(error: tf.errors.OpError) -> str:
    return str(error.message).strip().splitlines()[0].removesuffix(".")
