import numpy as np
import pytest
import tensorflow as tf

from tfdet.necks import ReduceNeck


@pytest.mark.parametrize("kernel_size,use_bias,weights", [(1, True, 2), (3, False, 1)])
def test_reduces_the_last_map_and_hands_the_one_before_on(kernel_size, use_bias, weights):
    neck = ReduceNeck(6, kernel_size, use_bias)
    maps = [tf.random.stateless_normal([1, s, s, 8], [0, s]) for s in (16, 8, 4, 4)]
    c4, reduced = neck(maps)
    np.testing.assert_array_equal(c4, maps[2])
    assert reduced.shape == (1, 4, 4, 6) and float(tf.reduce_min(reduced)) == 0
    assert len(neck.weights) == weights and neck.strides == [16, 16]


def test_initial_kernels():
    """N(0, .01) in the first release; the default, N(0, sqrt(2 / fan_in)), in the later revision."""
    for neck, expected in [(ReduceNeck(256), 0.01), (ReduceNeck(256, 3, use_bias=False), np.sqrt(2 / (9 * 64)))]:
        neck([tf.zeros([1, 4, 4, 64])] * 2)
        assert np.std(neck.conv.kernel) == pytest.approx(expected, rel=0.05)
