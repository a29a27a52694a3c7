"""k micro-batches on R replicas train as k * R replicas do."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fakes import FakeDetector, FakeInput, make_batch, per_replica

from tfdet.errors import UserError
from tfdet.layers import BatchNorm
from tfdet.structures import Batch
from tfdet.training.accumulate import AccumulatingStep
from tfdet.training.average import WeightAverage
from tfdet.training.loop import train
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.precision import LossScale, set_policy
from tfdet.training.schedule import Schedule
from tfdet.training.step import StepState, TrainStep
from tfdet.training.trainer import Trainer
from tfdet.training.variables import moving_statistics

VIRTUAL, IMAGES, SEED = 8, 2, 3


class OwnNorm(FakeDetector):
    """Normalises by tfdet's own layer, on each replica's batch."""

    norm = "local"

    def build(self, input_shape):
        self.bn = BatchNorm(self.norm, name="bn")
        super().build(input_shape)


class Setting:
    """A detector and a compiled step on so many devices, for a recipe of 8 replicas."""

    def __init__(self, strategy, mode=None, poison=None, rule="mxnet"):
        self.strategy, self.devices = strategy, strategy.num_replicas_in_sync
        keras.utils.set_random_seed(1)
        with strategy.scope():
            self.detector = OwnNorm(poison=poison, normalization="local")
            trained, statistics = self.detector.trainable_variables, moving_statistics(self.detector)
            self.optimizer = MomentumSGD(trained, LossScale(mode), weight_decay=0.01, clip_norm=0.5, rule=rule)
            self.state = StepState()
            self.average = WeightAverage(strategy, [*trained, *statistics], 0.5)
        rate = Schedule(base_lr=1.0, warmup_steps=2, decay_steps=()).for_batch(16)
        parts = (strategy, self.detector, self.optimizer, rate, self.state, SEED, self.average)
        k = VIRTUAL // self.devices
        self.step = TrainStep(*parts) if k == 1 else AccumulatingStep(*parts, accumulate=k)
        self._compiled = None

    def run(self, index):
        """Step on the batches of all 8 virtual replicas; replica v has element 8 * index + v."""
        for part in range(self.step.parts):
            first = VIRTUAL * index + part * self.devices
            batch = per_replica(self.strategy, [make_batch(first + r, IMAGES) for r in range(self.devices)])
            if self._compiled is None:
                self._compiled = self.step.compile(Batch(*map(tf.type_spec_from_value, batch)))
            metrics = self._compiled(batch)
            assert (metrics is None) == (part + 1 < self.step.parts)
        return {name: float(value) for name, value in metrics.items()}

    def values(self):
        tensors = {variable.path.split("/", 1)[1]: variable.value for variable in self.detector.variables}
        tensors |= {f"momentum {i}": value for i, value in enumerate(self.optimizer.momenta.values())}
        tensors |= {f"average {i}": value for i, value in enumerate(self.average.values.values())}
        return {name: [copy.numpy() for copy in self.copies(value)] for name, value in tensors.items()}

    def copies(self, variable):
        return self.strategy.experimental_local_results(variable)


def test_one_and_two_devices_train_as_eight(mirrored):
    settings = {devices: Setting(mirrored(devices)) for devices in (8, 2, 1)}
    start = settings[8].values()
    metrics = {devices: [setting.run(index) for index in range(3)] for devices, setting in settings.items()}
    expected = settings[8].values()
    assert all(not np.array_equal(expected[name], start[name]) for name in expected)
    for devices in (2, 1):
        for name, copies in settings[devices].values().items():
            for copy in copies:
                np.testing.assert_allclose(copy, expected[name][0], atol=1e-5, err_msg=f"{name} on {devices}")
        for ours, theirs in zip(metrics[devices], metrics[8], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)
        assert settings[devices].step.traces == 1 and settings[devices].state.global_step.numpy() == 3


@pytest.mark.parametrize("devices, rule", [(1, "mxnet"), (2, "torch")])
def test_an_infinity_in_one_micro_batch_skips_the_step(mirrored, devices, rule):
    set_policy("mixed_float16")
    inside = VIRTUAL + 2  # element of a micro-batch in the middle of step 1
    setting = Setting(mirrored(devices), "dynamic", poison=make_batch(inside, IMAGES).image_ids[0], rule=rule)
    assert setting.run(0)["finite"]
    before = setting.values()
    metrics = setting.run(1)
    assert not metrics["finite"] and metrics["loss_scale"] == 2**15
    assert float(setting.optimizer.loss_scale.scale.numpy()) == 2**14
    for name, copies in setting.values().items():
        np.testing.assert_array_equal(copies, before[name], err_msg=name)
        assert np.isfinite(copies).all()
    assert (setting.state.global_step.numpy(), setting.state.skipped_steps.numpy()) == (2, 1)
    assert setting.run(2)["finite"]  # nothing of the infinity is left in the sums
    assert any(not np.array_equal(copies, before[name]) for name, copies in setting.values().items())


def losses_and_tensors(folder, steps, read, **options):
    trainer = Trainer(steps=steps, log_every=1, checkpoint_every=3, **options)
    strategy = trainer.prepare()
    with strategy.scope():
        detector = OwnNorm(normalization="local")
    schedule = Schedule(base_lr=0.5, warmup_steps=4, decay_steps=(2,))
    train(detector, FakeInput(), strategy, folder, trainer, schedule)
    return read(folder)


def read_checkpoint(folder):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(folder / "checkpoints")))
    names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    return {name: reader.get_tensor(name) for name in names}


@pytest.mark.parametrize("rule", ["mxnet", "torch"])
def test_a_run_reads_the_data_of_so_many_replicas_and_resumes_bit_for_bit(tmp_path, rule):
    """Past a decay of the rate, which moves the momenta of the two rules apart."""
    options = {"replicas": 1, "accumulate": 2, "ema_decay": 0.9, "update_rule": rule}
    whole = losses_and_tensors(tmp_path / "whole", 6, read_checkpoint, **options)
    losses_and_tensors(tmp_path / "parts", 4, read_checkpoint, **options)
    parts = losses_and_tensors(tmp_path / "parts", 6, read_checkpoint, **options)
    two = losses_and_tensors(tmp_path / "two", 6, read_checkpoint, replicas=2, ema_decay=0.9, update_rule=rule)
    assert whole.keys() == parts.keys() == two.keys()
    assert int(next(value for name, value in whole.items() if "total_batch" in name)) == 4
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)
        np.testing.assert_allclose(value, two[name], atol=1e-5, err_msg=name)


def test_synchronised_normalisation_is_refused():
    class Synchronised(OwnNorm):
        norm = "sync"

    strategy = tf.distribute.get_strategy()
    for detector in (Synchronised(normalization="sync"), FakeDetector(normalization="sync")):
        optimizer = MomentumSGD(detector.trainable_variables, LossScale(None))
        with pytest.raises(UserError, match="Trainer.accumulate = 4 with synchronised normalisation .*bn"):
            AccumulatingStep(strategy, detector, optimizer, lambda n: n, StepState(), 0, accumulate=4)
