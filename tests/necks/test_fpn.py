import numpy as np
import pytest
import tensorflow as tf

from tfdet.necks import FPN


def pyramid(sizes=((50, 75), (25, 38), (13, 19), (7, 10)), seed=0):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=(1, *s, 4 + i)), tf.float32) for i, s in enumerate(sizes)]


def test_sizes_and_subsampled_p6():
    outputs = FPN(8)(pyramid())
    assert [tuple(o.shape[1:3]) for o in outputs] == [(50, 75), (25, 38), (13, 19), (7, 10), (4, 5)]
    np.testing.assert_array_equal(outputs[4], outputs[3].numpy()[:, ::2, ::2])


def test_top_down_sum_doubles_pixels_and_crops_at_the_top_left():
    neck, inputs = FPN(3), pyramid()
    neck(inputs)
    top = neck.laterals[3](inputs[3]).numpy()
    lateral = neck.laterals[2](inputs[2]).numpy()
    p4_sum = lateral + top.repeat(2, axis=1).repeat(2, axis=2)[:, :13, :19]
    np.testing.assert_allclose(neck(inputs)[2], neck.outputs_[2](p4_sum), atol=1e-5)


def test_names_the_missing_stage():
    with pytest.raises(ValueError, match="num_stages = 4"):
        FPN(8)(pyramid()[:3])
