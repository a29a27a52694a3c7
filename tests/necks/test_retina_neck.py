import numpy as np
import pytest
import tensorflow as tf

from tfdet.necks import RetinaNeck


def features(sizes=((50, 75), (25, 38), (13, 19), (7, 10)), seed=0):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=(1, *s, 4 + i)), tf.float32) for i, s in enumerate(sizes)]


def test_sizes_are_halved_and_rounded_up():
    outputs = RetinaNeck(8)(features())
    assert [tuple(o.shape[1:]) for o in outputs] == [(25, 38, 8), (13, 19, 8), (7, 10, 8), (4, 5, 8), (2, 3, 8)]
    assert RetinaNeck.strides == [8, 16, 32, 64, 128]


def test_p6_is_of_c5_and_p7_of_its_rectified_p6():
    neck, inputs = RetinaNeck(3), features()
    p6, p7 = neck(inputs)[3:]
    np.testing.assert_array_equal(p6, neck.p6(inputs[3]))
    assert (p6.numpy() < 0).any()
    np.testing.assert_array_equal(p7, neck.p7(tf.maximum(p6, 0.0)))


def test_top_down_sum_and_no_use_of_c2():
    neck, inputs = RetinaNeck(3), features()
    outputs = neck(inputs)
    p5_sum = neck.laterals[2](inputs[3]).numpy()
    p4_sum = neck.laterals[1](inputs[2]).numpy() + p5_sum.repeat(2, axis=1).repeat(2, axis=2)[:, :13, :19]
    p3_sum = neck.laterals[0](inputs[1]).numpy() + p4_sum.repeat(2, axis=1).repeat(2, axis=2)[:, :25, :38]
    for ours, conv, x in zip(outputs, neck.outputs_, (p3_sum, p4_sum, p5_sum)):
        np.testing.assert_allclose(ours, conv(x), atol=1e-5)
    other = neck([inputs[0] + 1.0, *inputs[1:]])
    for a, b in zip(outputs, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_initial_kernels_are_xaviers_and_biases_zero():
    neck = RetinaNeck(64)
    neck(features())
    for conv, fan_in in ((neck.p7, 9 * 64), (neck.p6, 9 * 7), (neck.laterals[0], 5)):
        limit = np.sqrt(3 / fan_in)  # Xavier uniform, factor "in", magnitude 3
        assert 0.9 * limit < np.abs(conv.kernel).max() <= limit
        assert not np.any(conv.bias)


def test_names_the_missing_stage():
    with pytest.raises(ValueError, match="num_stages = 4"):
        RetinaNeck(8)(features()[:3])
