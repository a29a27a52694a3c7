"""orbit's Controller, quiet: its own lines go nowhere, everything else comes through."""

import io
import logging
import sys

import orbit
import pytest
import tensorflow as tf
from absl import logging as absl_logging

from tfdet.training.controller import QuietController


class Counter(orbit.AbstractTrainer):
    """Moves the step on, the first time by less than asked for where steps are left out, and prints."""

    def __init__(self, left_out=0):
        super().__init__(name="counter")
        self.step, self._left_out = tf.Variable(0, dtype=tf.int64), left_out

    def train(self, num_steps):
        print("training")
        self.step.assign_add(tf.cast(num_steps, tf.int64) - self._left_out)
        self._left_out = 0
        return {}


def controller(actions, **options):
    trainer = Counter(**options)
    return QuietController(trainer=trainer, global_step=trainer.step, train_actions=actions, steps_per_loop=2)


def test_only_orbits_lines_are_missing(capfd):
    plain = Counter()
    orbit.Controller(trainer=plain, global_step=plain.step, steps_per_loop=2).train(4, checkpoint_at_completion=False)
    assert len(capfd.readouterr().out.splitlines()) == 2 + 3  # the trainer's, and orbit's before and after
    controller([lambda output: print("action")]).train(4, checkpoint_at_completion=False)
    print("after")
    assert capfd.readouterr().out.splitlines() == ["training", "action"] * 2 + ["after"]


def test_an_action_may_exchange_stdout_and_an_error_leaves_it():
    display, before = io.StringIO(), sys.stdout

    def show(output):
        sys.stdout = display
        print("shown")

    def fail(output):
        print("failing")
        raise RuntimeError

    try:
        with pytest.raises(RuntimeError):
            controller([show, fail]).train(4, checkpoint_at_completion=False)
        assert sys.stdout is display and display.getvalue() == "shown\nfailing\n"
    finally:
        sys.stdout = before


def test_of_absls_log_orbits_warning_alone_is_left_out():
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = absl_logging.get_absl_logger()
    logger.addHandler(handler)
    try:
        run = controller([lambda output: absl_logging.warning("of an action")], left_out=1)
        run.train(2, checkpoint_at_completion=False)
        assert records == ["of an action"] * 2  # orbit asked for 2 steps, then for the one that was left out
    finally:
        logger.removeHandler(handler)
