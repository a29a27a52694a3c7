"""Which variables move without being trained, and that a step copies and assigns those alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fakes import FakeDetector, make_batch, per_replica

from tfdet.layers import BatchNorm
from tfdet.structures import Batch
from tfdet.training.average import WeightAverage
from tfdet.training.checkpoint import CheckpointStore, restore_detector
from tfdet.training.run_dir import RunDirectory
from tfdet.training.run_record import RunRecord
from tfdet.training.schedule import Schedule
from tfdet.training.trainer import Trainer
from tfdet.training.update import make_parts, make_step
from tfdet.training.variables import moving_statistics


class ManyNorms(FakeDetector):
    """Normalisation of every kind behind the convolution, and a number that the detector itself moves."""

    def build(self, input_shape):
        self.norms = [BatchNorm(mode, fixed_gamma=fixed, name=name) for mode, fixed, name in self.kinds]
        self.held = keras.layers.BatchNormalization(name="held", trainable=False)
        for norm in (*self.norms, self.held):
            norm.build((None, None, None, self.conv.filters))
        self.seen = self.add_weight(shape=(), name="seen", initializer="zeros", dtype="float32", trainable=False)
        super().build(input_shape)

    kinds = [
        ("frozen", False, "still"),
        ("frozen", True, "still_fixed"),
        ("local", True, "moving"),
        ("sync", False, "synchronised"),
    ]

    def losses(self, batch, seed):
        losses = super().losses(batch, seed)
        x = self.conv(tf.cast(batch.images, tf.float32) / 255.0)
        for norm in (*self.norms, self.held):
            x = norm(x, training=True)
        self.seen.assign(self.seen + 1.0)
        return losses | {"norms": tf.reduce_mean(tf.cast(x, tf.float32) ** 2)}


MOVING = [
    "bn/moving_mean",
    "bn/moving_variance",
    "moving/moving_mean",
    "moving/moving_variance",
    "seen",
    "synchronised/moving_mean",
    "synchronised/moving_variance",
]


def short(variable):
    """The end of a path that says which variable it is."""
    return "/".join(
        part for part in variable.path.split("/") if part not in ("fake_detector", "backbone", "many_norms")
    )


def make(strategy, trainer, **options):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        detector = ManyNorms(normalization="local", **options)
    parts = make_parts(strategy, detector, trainer)
    rate = Schedule(base_lr=0.5, warmup_steps=0, decay_steps=()).for_batch(2)
    return detector, parts, make_step(strategy, detector, parts, rate, trainer)


def test_what_a_layer_holds_still_does_not_count():
    assert sorted(map(short, moving_statistics(ManyNorms()))) == MOVING


def assigned_in(graph, variables):
    """How often each of the variables is assigned in a graph, by the end of its path."""
    handles = {id(inside): outside for outside, inside in graph.captures}
    counts = dict.fromkeys(map(short, variables), 0)
    for op in graph.get_operations():
        if op.type == "AssignVariableOp" and id(op.inputs[0]) in handles:
            for variable in variables:
                if handles[id(op.inputs[0])] is variable.value.handle:
                    counts[short(variable)] += 1
    return counts


def test_the_traced_step_assigns_moving_statistics_alone(mirrored):
    strategy = mirrored(1)
    detector, _, step = make(strategy, Trainer(replicas=1, frozen=("conv",)))
    batch = per_replica(strategy, [make_batch(0)])
    graph = step.compile(Batch(*map(tf.type_spec_from_value, batch))).get_concrete_function().graph
    counts = assigned_in(graph, detector.non_trainable_variables)
    assert sorted(name for name, count in counts.items() if count) == MOVING
    assert {counts[name] for name in MOVING} == {2}  # in the forward pass, and kept or put back after it


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_step_that_is_not_finite_puts_all_that_moved_back(mirrored, replicas):
    strategy, trainer = mirrored(replicas), Trainer(precision="mixed_float16", ema_decay=0.5)
    keras.mixed_precision.set_global_policy(trainer.precision)
    first = make_batch(1)  # of the second step
    detector, parts, step = make(strategy, trainer, poison=first.image_ids[0])

    def values():
        return {variable.path: variable.numpy() for variable in moving_statistics(detector)}

    def run(*elements):
        batch = per_replica(strategy, [make_batch(element) for element in elements][:replicas])
        return bool(tf.function(step._all_replicas, autograph=False)(batch)["finite"])

    start = values()
    assert run(0, 2)
    before = values()
    assert all(not np.array_equal(start[path], before[path]) for path in before)
    assert not run(1, 3)
    for path, value in values().items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    assert run(4, 5) and parts.state.skipped_steps.numpy() == 1


def test_a_checkpoint_with_averages_of_what_stands_still_gives_the_same_weights(tmp_path):
    """Runs used to average every statistic, those of frozen layers too."""
    strategy, trainer = tf.distribute.get_strategy(), Trainer(ema_decay=0.5)
    detector, parts, _ = make(strategy, trainer)
    everything = [variable for variable in detector.variables if variable.dtype == "float32"]
    average = WeightAverage(strategy, everything, 0.5)
    assert len(average.values) > len(parts.average.values)
    for number, variable in enumerate(moving_statistics(detector)):
        variable.assign(tf.fill(variable.shape, float(number)))  # away from the averages, which are the initial values
    files = RunDirectory(tmp_path)
    files.create()
    record = RunRecord(["class 0", "class 1", "class 2"], [1, 2, 3])
    CheckpointStore(files, detector, parts.optimizer, parts.state, record, 0, 2, average=average).save(3)

    restored = ManyNorms()
    assert restore_detector(restored, tmp_path) == 3
    for variable in restored.variables:
        if variable.dtype == "float32":
            (path,) = [path for path in average.values if path.split("/", 1)[1] == variable.path.split("/", 1)[1]]
            np.testing.assert_array_equal(variable.numpy(), average.values[path].numpy(), err_msg=path)

    warnings = []
    again, parts, _ = make(strategy, trainer)
    store = CheckpointStore(
        files, again, parts.optimizer, parts.state, record, 0, 2, warn=warnings.append, average=parts.average
    )
    assert store.restore() == 3 and warnings == []
    for path, value in parts.average.values.items():
        np.testing.assert_array_equal(value.numpy(), average.values[path].numpy(), err_msg=path)
    store.save(4)
    both = [ManyNorms(), ManyNorms()]
    for detector, step in zip(both, (3, 4)):
        restore_detector(detector, tmp_path, step)
    for old, new in zip(*(detector.variables for detector in both), strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy(), err_msg=old.path)
