"""The real detectors on 2 and 8 replicas: what one device computes that averages the gradients of the parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import random_batch, small_detector
from tfdet.structures import Batch
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.precision import LossScale
from tfdet.training.step import StepState, TrainStep

SEED, IMAGES, STEPS, RATE, DECAY, CLIP = 3, 8, 2, 0.05, 0.01, 0.2


def parts(step, replicas):
    whole = random_batch([2, 0, 5, 1, 3, 4, 0, 6], 6, seed=step, size=(64, 96))
    size = IMAGES // replicas
    return [Batch(*[field[r * size : (r + 1) * size] for field in whole]) for r in range(replicas)]


def per_replica(strategy, pieces):
    def field(i):
        return strategy.experimental_distribute_values_from_function(
            lambda context: pieces[context.replica_id_in_sync_group][i]
        )

    return Batch(*[field(i) for i in range(len(Batch._fields))])


def on_replicas(strategy, trunk):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        detector = small_detector(trunk, norm="frozen")
        optimizer = MomentumSGD(detector.trainable_variables, LossScale(None), weight_decay=DECAY, clip=CLIP)
        state = StepState()
    step = TrainStep(strategy, detector, optimizer, lambda n: tf.constant(RATE), state, SEED)
    run = tf.function(step._all_replicas, autograph=False, reduce_retracing=True)
    for index in range(STEPS):
        metrics = run(per_replica(strategy, parts(index, strategy.num_replicas_in_sync)))
    return detector, float(metrics["total"])


def on_one_device(trunk, replicas):
    keras.utils.set_random_seed(1)
    detector = small_detector(trunk, norm="frozen")
    variables = detector.trainable_variables
    momenta = [np.zeros(v.shape, np.float32) for v in variables]
    for index in range(STEPS):
        gradients, totals = [], []
        for replica, batch in enumerate(parts(index, replicas)):
            seed = tf.constant([SEED, 0])
            for position in (index, replica):
                seed = tf.random.experimental.stateless_fold_in(seed, position)
            with tf.GradientTape() as tape:
                total = tf.add_n(list(detector.losses(batch, seed).values()))
            gradients.append([g.numpy() for g in tape.gradient(total, [v.value for v in variables])])
            totals.append(float(total))
        for k, variable in enumerate(variables):
            gradient = np.clip(np.mean([part[k] for part in gradients], axis=0), -CLIP, CLIP)
            if variable.path.endswith(("kernel", "gamma")):
                gradient = gradient + DECAY * variable.numpy()
            momenta[k] = 0.9 * momenta[k] - RATE * gradient
            variable.assign(variable.numpy() + momenta[k])
    return detector, float(np.mean(totals))


@pytest.mark.parametrize(
    "replicas,trunk",
    [
        (2, "fpn"),
        # What differs from "fpn" is layers and losses, and none of those looks at another replica.
        pytest.param(2, "c4", marks=pytest.mark.slow),
        pytest.param(2, "retina", marks=pytest.mark.slow),
        # Tracing the step once a replica takes minutes.
        pytest.param(8, "c4", marks=pytest.mark.slow),
        pytest.param(8, "fpn", marks=pytest.mark.slow),
    ],
)
def test_replicas_train_as_one_device_with_the_mean_of_their_gradients(mirrored, replicas, trunk):
    strategy = mirrored(replicas)
    ours, loss = on_replicas(strategy, trunk)
    reference, expected = on_one_device(trunk, strategy.num_replicas_in_sync)
    assert loss == pytest.approx(expected, rel=1e-5)
    for a, b in zip(ours.weights, reference.weights, strict=True):
        # A step moves a weight by up to RATE * CLIP = .01; a graph rounds otherwise than its ops one by one.
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=3e-5, err_msg=a.path)
