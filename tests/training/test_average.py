"""The moving average of the weights: its numbers, its place in a checkpoint, and who uses it."""

import numpy as np
import pytest
import tensorflow as tf
from fakes import FakeDetector, FakeEvaluation, FakeInput

from tfdet.errors import UserError
from tfdet.training.average import WeightAverage
from tfdet.training.checkpoint import restore_detector
from tfdet.training.loop import train
from tfdet.training.observer import Observer
from tfdet.training.schedule import Schedule
from tfdet.training.trainer import Trainer

SCHEDULE = Schedule(base_lr=0.5, warmup_steps=4, decay_steps=(64,))
PARTS = ("conv/kernel", "bn/moving_mean")


class Warnings(Observer):
    def __init__(self):
        self.texts = []

    def warned(self, text):
        self.texts.append(text)


def run(folder, steps, evaluate=None, poison=None, **options):
    """Trains; returns the variables by the end of their paths, and the warnings."""
    options = {"replicas": 1, "log_every": 1, "checkpoint_every": 1, "keep_checkpoints": 20} | options
    trainer = Trainer(steps=steps, **options)
    strategy = trainer.prepare()
    with strategy.scope():
        detector = FakeDetector(normalization="local", poison=poison)
    observer = Warnings()
    evaluation = evaluate and FakeEvaluation(lambda step: evaluate(values(detector)))
    train(detector, FakeInput(), strategy, folder, trainer, SCHEDULE, evaluate=evaluation, observers=[observer])
    return values(detector), observer.texts


def values(detector):
    return {variable.path.split("/", 2)[2]: variable.numpy() for variable in detector.variables}


def restored(folder, step, raw=False):
    detector = FakeDetector()
    restore_detector(detector, folder, step, raw)
    return values(detector)


def expected_averages(folder, steps, decay, skipped=()):
    """The formula over the raw weights of every checkpoint, from the initial ones."""
    trainer = Trainer(replicas=1)
    with trainer.prepare().scope():
        average = values(FakeDetector(normalization="local"))
    good = 0
    for step in range(1, steps + 1):
        if step in skipped:
            continue
        good += 1
        d = min(decay, (1 + good) / (10 + good))
        raw = restored(folder, step, raw=True)
        average = {name: average[name] + (1 - d) * (raw[name] - average[name]) for name in average}
    return average


def test_the_formula_over_all_that_training_moves(tmp_path):
    run(tmp_path, 6, ema_decay=0.3)
    expected, found = expected_averages(tmp_path, 6, 0.3), restored(tmp_path, 6)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)
    raw = restored(tmp_path, 6, raw=True)
    assert all(not np.allclose(raw[name], found[name]) for name in PARTS)


def test_skipped_steps_do_not_count(tmp_path):
    run(tmp_path, 6, ema_decay=0.9, poison=7, precision="mixed_float16")  # image 7 is in the batch of step 4
    for name, value in restored(tmp_path, 3).items():
        np.testing.assert_array_equal(value, restored(tmp_path, 4)[name], err_msg=name)
    for name, value in expected_averages(tmp_path, 6, 0.9, skipped=(4,)).items():
        np.testing.assert_allclose(restored(tmp_path, 6)[name], value, atol=1e-6, err_msg=name)


def test_evaluation_sees_the_average_and_training_goes_on_with_the_weights(tmp_path):
    plain, _ = run(tmp_path / "plain", 6)
    seen = []
    options = {"ema_decay": 0.9, "evaluate_every": 3}
    raw, _ = run(tmp_path / "average", 6, evaluate=lambda found: seen.append(found) or {"AP": 0.1}, **options)
    for name in plain:
        np.testing.assert_array_equal(raw[name], plain[name], err_msg=name)
        for step, found in zip((3, 6), seen, strict=True):
            np.testing.assert_array_equal(found[name], restored(tmp_path / "average", step)[name], err_msg=name)
            assert name not in PARTS or not np.allclose(
                found[name], restored(tmp_path / "average", step, raw=True)[name]
            )
    seen.clear()
    run(tmp_path / "raw", 3, evaluate=lambda found: seen.append(found) or {"AP": 0.1}, ema_decay=0.9, evaluate_raw=True)
    for name in plain:
        np.testing.assert_array_equal(seen[0][name], restored(tmp_path / "plain", 3)[name], err_msg=name)


def test_a_run_that_begins_to_average_later_says_so(tmp_path):
    run(tmp_path, 2)
    _, warnings = run(tmp_path, 4, ema_decay=0.9)
    assert any("average of 8 variable(s) is not in the checkpoint of step 2" in text for text in warnings)
    found = restored(tmp_path, 4)
    assert all(np.isfinite(value).all() for value in found.values())
    _, warnings = run(tmp_path, 5, ema_decay=0.9)
    assert not any("average" in text for text in warnings)


def test_the_values_come_back_after_an_error_on_every_replica(mirrored):
    strategy = mirrored(2)
    with strategy.scope():
        detector = FakeDetector()
        average = WeightAverage(strategy, detector.variables, 0.9)
    kernel = detector.fc.kernel
    copies = strategy.experimental_local_results(kernel.value)
    copies[1].assign_add(tf.ones_like(copies[1]))
    before = [copy.numpy() for copy in copies]
    with pytest.raises(RuntimeError), average.in_place():
        np.testing.assert_array_equal(copies[1].numpy(), before[0])
        raise RuntimeError
    for copy, value in zip(copies, before, strict=True):
        np.testing.assert_array_equal(copy.numpy(), value)


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0])
def test_the_decay_is_checked(decay):
    with pytest.raises(UserError, match="Trainer.ema_decay = .*: expected a float above 0 and below 1"):
        Trainer(ema_decay=decay)
