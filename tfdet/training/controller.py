"""orbit's Controller without its own lines on the console."""

from __future__ import annotations

import contextlib
import functools
import logging as python_logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence

import orbit
import tensorflow as tf
from absl import logging


class QuietController(orbit.Controller):
    """orbit's Controller, which prints a line for every inner loop and has no switch for it; here observers report.

    It prints by Python's `print`, between the calls of the trainer and of the actions. So `sys.stdout` leads nowhere
    while `train` runs, and what the trainer and the actions print goes where it would without; they may change
    `sys.stdout`, as a live display on a terminal does. orbit's warning of a loop that a signal cut short is left out of
    absl's log; all else stays in it.

    Args:
        trainer: the inner loop.
        train_actions: called with its output.
        **options: of orbit's Controller.
    """

    def __init__(self, *, trainer: orbit.AbstractTrainer, train_actions: Sequence[Callable[[object], None]], **options):
        self._program_stdout = sys.stdout
        actions = [self._with_stdout(action) for action in train_actions]
        super().__init__(trainer=_WithStdout(trainer, self._with_stdout), train_actions=actions, **options)

    def train(self, steps: int, checkpoint_at_completion: bool = True) -> None:
        self._program_stdout = sys.stdout
        logger = logging.get_absl_logger()
        logger.addFilter(_is_not_of_orbit)
        try:
            with open(os.devnull, "w") as sys.stdout:
                super().train(steps, checkpoint_at_completion)
        finally:
            sys.stdout = self._program_stdout
            logger.removeFilter(_is_not_of_orbit)

    def _with_stdout(self, call: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(call)
        def with_stdout(*args):
            with self._stdout():
                return call(*args)

        return with_stdout

    @contextlib.contextmanager
    def _stdout(self) -> Iterator[None]:
        nowhere, sys.stdout = sys.stdout, self._program_stdout
        try:
            yield
        finally:
            self._program_stdout, sys.stdout = sys.stdout, nowhere


class _WithStdout(orbit.AbstractTrainer):
    """A trainer that prints where the program does."""

    def __init__(self, trainer: orbit.AbstractTrainer, wrap: Callable[[Callable], Callable]):
        super().__init__(name="with_stdout")
        self._train = wrap(trainer.train)

    def train(self, num_steps: tf.Tensor) -> object:
        return self._train(num_steps)


def _is_not_of_orbit(record: python_logging.LogRecord) -> bool:
    return record.levelno >= python_logging.ERROR or record.pathname != orbit.controller.__file__
