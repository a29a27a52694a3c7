"""Means over replicas and their gradients, by hand, and that making them does not look at the network behind."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.ops.replica_mean import replica_mean, sum_in_order


@pytest.mark.parametrize("in_order", [False, True])
def test_means_and_gradients(mirrored, in_order):
    """Replica r has r + 1 and weighs the mean by 10 (r + 1): the gradient is the mean of the weights."""
    strategy = mirrored(2)
    if in_order:
        sum_in_order(strategy)

    def one():
        own = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group + 1, tf.float32)
        values = [own * tf.constant([1.0, 2.0]), tf.fill([1], own)]
        with tf.GradientTape() as tape:
            tape.watch(values)
            means = replica_mean(*values)
            loss = 10.0 * own * (tf.reduce_sum(means[0]) + 5.0 * tf.reduce_sum(means[1]))
        return means, tape.gradient(loss, values)

    means, gradients = tf.function(lambda: strategy.run(one), autograph=False)()
    for replica in range(2):
        (pair, single), (d_pair, d_single) = (
            [strategy.experimental_local_results(t)[replica] for t in group] for group in (means, gradients)
        )
        np.testing.assert_allclose(pair, [1.5, 3.0])
        np.testing.assert_allclose(single, [1.5])
        np.testing.assert_allclose(d_pair, [15.0, 15.0])
        np.testing.assert_allclose(d_single, [75.0])


def test_in_order_the_first_replicas_value_comes_first(mirrored):
    """Float32 numbers whose sum has other bits in other orders; types are exchanged apart."""
    strategy = mirrored(4)
    sum_in_order(strategy)
    own = np.random.default_rng(0).normal(size=[4, 3, 50]).astype(np.float32) * np.float32(10) ** np.arange(-3, 1)[
        :, None, None
    ].astype(np.float32)

    def one():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        x = tf.gather(own, replica)
        return replica_mean(x, tf.cast(x[0], tf.float64), x[1])

    results = tf.function(lambda: strategy.run(one), autograph=False)()
    first, second, third = (strategy.experimental_local_results(result) for result in results)
    expected = (((own[0] + own[1]) + own[2]) + own[3]) / np.float32(4)
    assert not np.array_equal(expected, (((own[3] + own[2]) + own[1]) + own[0]) / np.float32(4))
    for replica in range(4):
        np.testing.assert_array_equal(first[replica], expected)
        np.testing.assert_array_equal(third[replica], expected[1])
        np.testing.assert_allclose(second[replica], own[:, 0].astype(np.float64).mean(axis=0), rtol=1e-15)


def test_one_replica_keeps_its_values():
    x = tf.Variable([1.0, 2.0])
    with tf.GradientTape() as tape:
        (mean,) = replica_mean(x * 3.0)
        loss = tf.reduce_sum(mean * [1.0, 10.0])
    np.testing.assert_allclose(mean, [3.0, 6.0])
    np.testing.assert_allclose(tape.gradient(loss, x), [3.0, 30.0])


def test_the_search_for_variables_ends_at_the_reduction(mirrored, monkeypatch):
    """TensorFlow's own all-reduce walks back through the other replica's whole graph."""
    from tensorflow.python.ops import op_selector

    walked = []
    search = op_selector.get_backward_walk_ops
    monkeypatch.setattr(
        op_selector,
        "get_backward_walk_ops",
        lambda *args, **options: walked.append(search(*args, **options)) or walked[-1],
    )
    strategy = mirrored(2)

    def one(reduce):
        x = tf.ones([4])
        for _ in range(100):
            x = tf.sin(x)
        return reduce(x)

    def most(reduce):
        walked.clear()
        tf.function(lambda: strategy.run(one, args=(reduce,)), autograph=False).get_concrete_function()
        return max(len(found) for found in walked)

    context = tf.distribute.get_replica_context
    assert most(lambda x: context().all_reduce("MEAN", x)) > 100  # else this test sees nothing
    assert most(replica_mean) < 40
