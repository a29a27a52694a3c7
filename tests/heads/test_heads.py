import numpy as np
import pytest
import tensorflow as tf

from tfdet.heads import C5BboxHead, C5V2BboxHead, MlpBboxHead, RoiExtractor, RpnHead
from tfdet.heads.rpn import split_logits
from tfdet.ops.proposals_portable import foreground_probability


def test_rpn_channels_are_all_backgrounds_then_all_foregrounds():
    logits = tf.reshape(tf.range(6, dtype=tf.float32), [1, 1, 1, 6])
    np.testing.assert_array_equal(split_logits(logits)[0, 0, 0], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_allclose(foreground_probability(logits)[0, 0, 0], [1 / (1 + np.exp(-3))] * 3, rtol=1e-5)


def test_rpn_shares_its_weights_over_levels():
    head = RpnHead(3, 8)
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 4, 5, 6)), tf.float32)
    (a_cls, a_box), (b_cls, b_box) = head([x, x])
    assert a_cls.shape == (1, 4, 5, 6) and a_box.shape == (1, 4, 5, 12)
    np.testing.assert_array_equal(a_cls, b_cls)
    np.testing.assert_array_equal(a_box, b_box)
    assert len(head.weights) == 6


@pytest.mark.parametrize("objectness", ["softmax", "sigmoid"])
def test_rpn_outputs_are_those_of_its_two_layers(objectness):
    head = RpnHead(3, 8, objectness)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 5, 6)), tf.float32)
    head([x])
    for weight in head.weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    shared = tf.nn.relu(head.convs[0](x))
    with tf.GradientTape() as tape:
        outputs = head([x])[0]
        sum_ = tf.reduce_sum(outputs[0] ** 2) + tf.reduce_sum(outputs[1] ** 2)
    for found, layer in zip(outputs, (head.cls, head.box), strict=True):
        np.testing.assert_allclose(found, layer(shared), rtol=1e-5, atol=1e-5)
    assert all(np.any(gradient) for gradient in tape.gradient(sum_, head.trainable_variables))


def test_initial_standard_deviations():
    head = MlpBboxHead(80, 64)
    head(tf.zeros([1, 7, 7, 16]))
    assert np.std(head.predictor.cls.kernel) == pytest.approx(0.01, rel=0.1)
    assert np.std(head.predictor.box.kernel) == pytest.approx(0.001, rel=0.1)
    limit = np.sqrt(3 / (49 * 16))  # Xavier uniform, factor "in", magnitude 3
    assert 0.95 * limit < np.abs(head.fc1.kernel).max() <= limit


def test_the_last_bn_of_a_v2_head_keeps_its_statistics_under_sync():
    """SimpleDet's SyncBN row: stage 4 is synchronised, the BN after it is not."""
    head = C5V2BboxHead(5, 26, norm="sync", width=1 / 16)
    x = tf.constant(np.random.default_rng(0).normal(1, 2, size=(3, 7, 7, 64)), tf.float32)
    head(x)
    before = {w.path: w.numpy() for w in head.weights if "moving" in w.path}
    head(x, training=True)
    still = {w.path for w in head.weights if w.path in before and (w.numpy() == before[w.path]).all()}
    assert still == {"bbox_head/bn1/moving_mean", "bbox_head/bn1/moving_variance"}


def test_gaussian_initial_standard_deviation_of_a_cascade_head():
    head = MlpBboxHead(80, 64, use_bias=False, initializer="gaussian")
    head(tf.zeros([1, 7, 7, 16]))
    assert np.std(head.fc1.kernel) == pytest.approx(np.sqrt(2 / (49 * 16)), rel=0.05)
    with pytest.raises(ValueError, match="xavier"):
        MlpBboxHead(80, 64, initializer="xavier")


@pytest.mark.parametrize("agnostic,outputs", [(True, 8), (False, 24)])
def test_outputs_of_the_box_heads(agnostic, outputs):
    for head, channels in [
        (C5BboxHead(5, 18, width=1 / 16, class_agnostic=agnostic), 16),
        (C5V2BboxHead(5, 26, width=1 / 16, class_agnostic=agnostic), 64),
        (MlpBboxHead(5, 8, class_agnostic=agnostic), 4),
    ]:
        cls, box = head(tf.ones([3, 7, 7, channels]))
        assert cls.shape == (3, 6) and box.shape == (3, outputs)


def test_mlp_without_bias():
    head = MlpBboxHead(5, 8, use_bias=False)
    head(tf.zeros([1, 7, 7, 4]))
    assert [w.path for w in head.weights if "fc" in w.path and "bias" in w.path] == []


def test_roi_extractor_takes_the_level_that_fits():
    features = [tf.fill([1, 64 // s, 64 // s, 1], float(s)) for s in (4, 8, 16, 32)]
    extractor = RoiExtractor((4, 8, 16, 32), output_size=2)
    side = np.array([10, 111, 112, 223, 224, 447, 448, 600], "f") - 1
    boxes = np.stack([np.zeros(8), np.zeros(8), side, side], 1)[None].astype("f")
    pooled = extractor(features, tf.constant(boxes))
    np.testing.assert_array_equal(tf.reduce_max(pooled, [1, 2, 3]), [4, 4, 8, 8, 16, 16, 32, 32])


def test_roi_extractor_names_a_stride_that_is_not_there():
    with pytest.raises(ValueError, match=r"within \[16\]"):
        RoiExtractor((4, 16)).select([tf.zeros([1, 4, 4, 1])], [16])
