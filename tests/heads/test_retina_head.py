import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet.heads import RetinaHead


def test_two_towers_shared_by_all_levels():
    head = RetinaHead(num_classes=5, num_anchors=3, channels=8)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 6, 7)), tf.float32)
    (cls, box), (again, _), (smaller, _) = head([x, x, x[:, :2, :3]])
    assert cls.shape == (2, 4, 6, 15) and box.shape == (2, 4, 6, 12) and smaller.shape == (2, 2, 3, 15)
    np.testing.assert_array_equal(cls, again)
    assert len(head.weights) == 2 * (4 + 1) * 2
    # A layer's ReLU: with its bias at -1e9 nothing of the image is left.
    head.box_convs[3].bias.assign(tf.fill([8], -1e9))
    (blind_cls, blind_box) = head([x])[0]
    np.testing.assert_array_equal(blind_cls, cls)
    np.testing.assert_array_equal(blind_box, tf.broadcast_to(head.box.bias, blind_box.shape))


def test_initial_values():
    head = RetinaHead(80, 9, channels=64)
    head([tf.zeros([1, 2, 2, 64])])
    for conv in [*head.cls_convs, *head.box_convs, head.cls, head.box]:
        assert np.std(conv.kernel) == pytest.approx(0.01, rel=0.05)
    np.testing.assert_allclose(head.cls.bias, -np.log(99.0), rtol=1e-6)
    assert not any(np.any(conv.bias) for conv in [*head.cls_convs, *head.box_convs, head.box])
    np.testing.assert_allclose(tf.sigmoid(head([tf.zeros([1, 2, 2, 64])])[0][0]), 0.01, rtol=1e-4)


def test_predictions_are_float32_behind_half_precision_towers():
    keras.mixed_precision.set_global_policy("mixed_float16")
    head = RetinaHead(3, 2, channels=8)
    cls, box = head([tf.ones([1, 4, 4, 8], tf.float16)])[0]
    assert cls.dtype == box.dtype == tf.float32
    assert head.cls_convs[0](tf.ones([1, 4, 4, 8])).dtype == tf.float16
    assert head.cls.compute_dtype == head.box.compute_dtype == "float32"


def test_refuses_a_prior_that_is_no_probability():
    with pytest.raises(ValueError, match="RetinaHead.prior = 1.0: expected a float above 0 and below 1"):
        RetinaHead(3, 2, prior=1.0)
