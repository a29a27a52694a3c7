"""Recomputed activations: the numbers of the plain network, from a graph that keeps less."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.backbones import ResNetV1, ResNetV2
from tfdet.heads import C5BboxHead

WIDTH = 1 / 16


def step_of(backbone, images):
    """One forward and backward pass as a training step does it: loss, gradients and moving statistics."""
    variables = [variable.value for variable in backbone.trainable_variables]

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            outputs = backbone(images, training=True)
            loss = tf.add_n([tf.reduce_mean(tf.sin(3.0 * tf.cast(x, tf.float32))) for x in outputs])
        gradients = tape.gradient(loss, variables)
        with tf.control_dependencies(gradients):
            return loss, gradients, [tf.identity(v.value) for v in backbone.non_trainable_variables]

    loss, gradients, statistics = step()
    graph = step.get_concrete_function().graph
    return [loss, *gradients], statistics, graph


def assert_close(a, b):
    """Within 1e-6 of the largest element, or of 1: the order of additions may differ."""
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * max(1.0, float(np.abs(a).max())))


def build(make, **options):
    keras.utils.set_random_seed(4)
    backbone = make(norm="local", **options)
    backbone(np.zeros([1, 32, 32, 3], "f"))
    return backbone


def v1(**options):
    return ResNetV1(18, num_stages=4, width=WIDTH, **options)


def trident(**options):
    return ResNetV2(26, num_stages=3, width=WIDTH, branches=(1, 2), test_branches=(1, 2), **options)


@pytest.mark.parametrize("make, stages", [(v1, (1, 2, 4)), (trident, (2, 3))])
def test_loss_gradients_and_statistics_are_the_same(make, stages):
    images = np.random.default_rng(0).normal(size=[2, 32, 48, 3]).astype("f")
    plain, statistics, graph = step_of(build(make), images)
    again, own_statistics, own_graph = step_of(build(make, recompute=stages), images)
    for a, b in zip(plain, again, strict=True):
        assert_close(a, b)
    assert any(np.abs(s - s.numpy().round()).max() > 1e-3 for s in statistics)
    for a, b in zip(statistics, own_statistics, strict=True):
        assert_close(a, b)  # moved once, not twice

    def convolutions(graph):
        return sum(op.type == "Conv2D" for op in graph.get_operations())

    assert convolutions(own_graph) > convolutions(graph)


def test_the_second_pass_waits_for_the_gradient():
    """No convolution of the second pass can start before the gradient of the unit's output is there."""
    images = np.random.default_rng(0).normal(size=[1, 32, 32, 3]).astype("f")
    _, _, graph = step_of(build(v1, recompute=(2,)), images)
    _, _, plain = step_of(build(v1), images)
    first = {op.name for op in plain.get_operations() if op.type == "Conv2D"}
    extra = [op for op in graph.get_operations() if op.type == "Conv2D" and op.name not in first]
    assert len(extra) == 5  # two units of two, and one projection

    def depends_on_a_gradient(op):
        waiting, seen = [op], set()
        while waiting:
            current = waiting.pop()
            if current.type.endswith(("ReluGrad", "BackpropInput", "BackpropFilter")):
                return True
            if current.name not in seen:
                seen.add(current.name)
                waiting += [*current.control_inputs, *(tensor.op for tensor in current.inputs)]
        return False

    assert all(depends_on_a_gradient(op) for op in extra)


def test_half_precision_sums_the_gradients_in_float32():
    keras.mixed_precision.set_global_policy("mixed_float16")
    images = np.random.default_rng(0).normal(size=[1, 32, 32, 3]).astype("f")
    plain, statistics, _ = step_of(build(v1), images)
    again, own_statistics, _ = step_of(build(v1, recompute=(3, 4)), images)
    assert all(gradient.dtype == tf.float32 for gradient in again)
    for a, b in zip([*plain, *statistics], [*again, *own_statistics], strict=True):
        assert_close(a, b)


def test_replicas_with_synchronised_normalisation_train_the_same(mirrored):
    strategy = mirrored(2)
    images = np.random.default_rng(0).normal(size=[2, 32, 32, 3]).astype("f")
    ends = []
    for stages in ((), (2,)):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            backbone = ResNetV1(18, num_stages=2, norm="sync", width=WIDTH, recompute=stages)
            backbone(images)
        variables = [variable.value for variable in backbone.trainable_variables]

        def replica(backbone=backbone, variables=variables):
            own = tf.gather(images, [tf.distribute.get_replica_context().replica_id_in_sync_group])
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                loss = tf.reduce_mean(tf.sin(3.0 * backbone(own, training=True)[-1]))
            return tape.gradient(loss, variables)

        found = tf.function(lambda replica=replica: strategy.run(replica), autograph=False)()
        copies = [copy for value in found for copy in strategy.experimental_local_results(value)]
        for variable in backbone.non_trainable_variables:
            copies += strategy.experimental_local_results(variable.value)
        ends.append([copy.numpy() for copy in copies])
    for a, b in zip(*ends, strict=True):
        assert_close(a, b)


def test_a_stage_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="stages from 1 to 3 in ResNetV1.recompute. Received: \\(4,\\)"):
        ResNetV1(18, num_stages=3, recompute=(4,))
    assert ResNetV2.from_config(trident(recompute=(2,)).get_config()).recompute == (2,)
    assert C5BboxHead(3, 18, width=WIDTH, recompute=True).stage4.recompute
