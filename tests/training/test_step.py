"""The distributed step: the same numbers on 1, 2 and 8 replicas; an overflow that replica 0 does not see."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fakes import FakeDetector, make_batch, per_replica

from tfdet.structures import Batch
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.precision import LossScale, set_policy
from tfdet.training.schedule import Schedule
from tfdet.training.step import StepState, TrainStep

IMAGES = 16  # in the global batch
SEED = 3


class Setting:
    """A detector and a compiled step under a strategy."""

    def __init__(self, strategy, mode=None, clip=None, **detector):
        self.strategy = strategy
        self.replicas = strategy.num_replicas_in_sync
        keras.utils.set_random_seed(1)
        with strategy.scope():
            self.detector = FakeDetector(**detector)
            self.optimizer = MomentumSGD(
                self.detector.trainable_variables, LossScale(mode), weight_decay=0.01, clip=clip
            )
            self.state = StepState()
        rate = Schedule(base_lr=1.0, warmup_steps=2, decay_steps=()).for_batch(IMAGES)
        self.step = TrainStep(strategy, self.detector, self.optimizer, rate, self.state, SEED)
        self._compiled = None

    def run(self, index):
        """Step on the global batch `index`, cut into as many parts as there are replicas."""
        batch = per_replica(self.strategy, parts(index, self.replicas))
        if self._compiled is None:
            self._compiled = tf.function(self.step._all_replicas, autograph=False)
        return {name: value.numpy() for name, value in self._compiled(batch).items()}

    def copies(self):
        """Every variable and momentum on every replica."""
        variables = [variable.value for variable in self.detector.variables] + list(self.optimizer.momenta.values())
        return [[copy.numpy() for copy in self.strategy.experimental_local_results(variable)] for variable in variables]


def parts(index, replicas):
    whole = make_batch(index, IMAGES)
    size = IMAGES // replicas
    return [Batch(*[field[r * size : (r + 1) * size] for field in whole]) for r in range(replicas)]


def one_device(steps, replicas, clip):
    """The same training without a strategy: gradients of each part one after the other, then their mean."""
    keras.utils.set_random_seed(1)
    detector = FakeDetector()
    variables = detector.trainable_variables
    momenta = [np.zeros(variable.shape, np.float32) for variable in variables]
    for step in range(steps):
        gradients, totals = [], []
        for replica, batch in enumerate(parts(step, replicas)):
            seed = tf.constant([SEED, 0])
            for position in (step, replica):
                seed = tf.random.experimental.stateless_fold_in(seed, position)
            with tf.GradientTape() as tape:
                total = tf.add_n(list(detector.losses(Batch(*map(tf.constant, batch)), seed).values()))
            gradients.append([g.numpy() for g in tape.gradient(total, [v.value for v in variables])])
            totals.append(float(total))
        rate = min(1.0, (step + 1) / 2)
        for k, variable in enumerate(variables):
            gradient = np.clip(np.mean([part[k] for part in gradients], axis=0), -clip, clip)
            if variable.path.endswith(("kernel", "gamma")):
                gradient = gradient + 0.01 * variable.numpy()
            momenta[k] = 0.9 * momenta[k] - rate * gradient
            variable.assign(variable.numpy() + momenta[k])
    return [variable.numpy() for variable in variables], float(np.mean(totals))


def test_replicas_train_as_one_device_with_the_mean_of_their_gradients(strategy):
    setting = Setting(strategy, clip=0.05)
    for index in range(3):
        metrics = setting.run(index)
    weights, total = one_device(3, setting.replicas, clip=0.05)
    assert metrics["total"] == pytest.approx(total, abs=1e-5)
    assert metrics["total"] == pytest.approx(metrics["cls"] + metrics["box"], abs=1e-6)
    for variable, expected in zip(setting.detector.trainable_variables, weights, strict=True):
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(copy.numpy(), expected, atol=1e-5)
    assert setting.state.global_step.numpy() == 3
    assert setting.step.traces == 1


def test_replicas_draw_different_numbers_and_each_step_draws_again(mirrored):
    seeds = []

    class Recorder(FakeDetector):
        def losses(self, batch, seed):
            tf.numpy_function(lambda value: seeds.append(tuple(value)), [seed], [])
            return super().losses(batch, seed)

    setting = Setting(mirrored(2))
    setting.step._detector.__class__ = Recorder
    setting.run(0)
    setting.run(1)
    assert len(seeds) == len(set(seeds)) == 4


# How many replicas agree does not depend on what the layers keep.
@pytest.mark.parametrize("normalization,replicas", [("frozen", 2), ("sync", 2), ("local", 2), ("sync", 8)])
def test_infinity_on_the_last_replica_skips_the_step_everywhere(mirrored, replicas, normalization):
    set_policy("mixed_float16")
    last_image = make_batch(1, IMAGES).image_ids[-1]
    setting = Setting(mirrored(replicas), "dynamic", normalization=normalization, poison=last_image)
    setting.run(0)
    before = setting.copies()
    metrics = setting.run(1)
    assert not metrics["finite"] and metrics["loss_scale"] == 2**15
    assert float(setting.optimizer.loss_scale.scale.numpy()) == 2**14
    for old, new in zip(before, setting.copies(), strict=True):
        np.testing.assert_array_equal(old, new)
        assert np.isfinite(new).all()
    state = setting.state
    assert (state.global_step.numpy(), state.skipped_steps.numpy(), state.consecutive_skips.numpy()) == (
        2,
        1,
        1,
    )
    assert setting.run(2)["finite"]
    after = setting.copies()
    assert any(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(np.isfinite(new).all() for new in after)
    assert (state.skipped_steps.numpy(), state.consecutive_skips.numpy()) == (1, 0)
    if normalization == "sync":
        for copies in after:
            np.testing.assert_array_equal(copies[0], copies[-1])


def test_fixed_loss_scale_gives_the_gradients_of_none(mirrored):
    set_policy("float32")
    plain, scaled = Setting(mirrored(2)), Setting(mirrored(2), 128.0)
    first, second = plain.run(0), scaled.run(0)
    assert second["loss_scale"] == 128 and first["loss_scale"] == 1
    assert second["gradient_norm"] == pytest.approx(first["gradient_norm"], rel=1e-5)
    assert second["total"] == pytest.approx(first["total"], rel=1e-6)


def test_moving_statistics_move_on_good_steps(mirrored):
    setting = Setting(mirrored(2), normalization="sync")
    before = setting.detector.bn.moving_mean.numpy()
    setting.run(0)
    assert not np.array_equal(before, setting.detector.bn.moving_mean.numpy())


def test_a_batch_without_boxes_is_an_ordinary_batch(mirrored):
    setting = Setting(mirrored(2))
    empty = [batch._replace(classes=np.full_like(batch.classes, -1)) for batch in parts(0, 2)]
    metrics = setting.step._all_replicas(per_replica(setting.strategy, empty))
    assert metrics["finite"].numpy() and metrics["total"].numpy() == 0
