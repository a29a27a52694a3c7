import numpy as np
import pytest
import tensorflow as tf

from tfdet.backbones import Residuals, ResNetV1, ResNetV1Stage


def built(depth, num_stages=4, **kwargs):
    backbone = ResNetV1(depth, num_stages=num_stages, **kwargs)
    backbone(tf.zeros([1, 64, 64, 3]))
    return backbone


@pytest.mark.parametrize("depth,arguments,statistics", [(50, 159, 106), (101, 312, 208)])
def test_tensor_counts_equal_those_of_simpledet(depth, arguments, statistics):
    """SimpleDet's checkpoints of v1-50 and v1-101: `arg` and `aux` entries of the backbone."""
    backbone = built(depth, width=0.125)
    assert len(backbone.trainable_variables) == arguments
    assert len(backbone.non_trainable_variables) == statistics


def test_full_width_channels():
    shapes = {w.path: tuple(w.shape) for w in built(50).weights}
    assert shapes["backbone/conv0/kernel"] == (7, 7, 3, 64)
    assert shapes["backbone/stage1/unit1/sc/kernel"] == (1, 1, 64, 256)
    assert shapes["backbone/stage3/unit1/conv2/kernel"] == (3, 3, 256, 256)
    assert shapes["backbone/stage4/unit3/conv3/kernel"] == (1, 1, 512, 2048)


def test_feature_sizes_of_the_zoo_canvas():
    # Channels do not matter for sizes; the narrowest net runs the real canvas in a second.
    features = ResNetV1(18, num_stages=4, width=1 / 16)(tf.zeros([1, 800, 1333, 3]))
    assert [tuple(f.shape[1:3]) for f in features] == [(200, 334), (100, 167), (50, 84), (25, 42)]


@pytest.mark.parametrize(("stride_on", "reads_all"), [("1x1", False), ("3x3", True)])
def test_stride_on_the_first_convolution_reads_every_second_pixel(stride_on, reads_all):
    stage = ResNetV1Stage(Residuals(width=0.125, stride_on=stride_on), 2, 2)
    every = np.random.default_rng(0).normal(size=[1, 8, 10, 4]).astype("f")
    some = np.zeros_like(every)
    some[:, ::2, ::2] = every[:, ::2, ::2]
    outputs, others = stage(every), stage(some)
    assert outputs.shape == (1, 4, 5, 64)
    assert np.array_equal(outputs, others) != reads_all


def test_features_are_after_relu_and_depend_on_training_only_through_bn():
    backbone = built(50, width=0.125)
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 64, 64, 3)), tf.float32)
    testing, training = backbone(x), backbone(x, training=True)
    for a, b in zip(testing, training, strict=True):
        assert float(tf.reduce_min(a)) >= 0.0 and float(tf.reduce_max(a)) > 0.0
        np.testing.assert_allclose(a, b, atol=1e-5 * float(tf.reduce_max(a)))  # training folds the BN


def test_refuses_an_unknown_depth():
    with pytest.raises(ValueError, match="ResNetV1.depth = 34: expected one of 18, 50, 101, 152"):
        ResNetV1(34)


@pytest.mark.parametrize(("norm", "moving"), [("torch_local", {"stage2"}), ("group", set())])
def test_the_norms_of_frozen_stages_keep_to_their_statistics(norm, moving):
    """Detectron2's FREEZE_AT = 2: the stem and stage 1."""
    net = built(18, 2, norm=norm, frozen_norms=2, initializer="detectron2")
    images = tf.constant(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), tf.float32)
    before = {v.path: v.numpy() for v in net.weights}
    (tested, _), (trained, _) = net(images), net(images, training=True)
    np.testing.assert_allclose(tested, trained, atol=1e-5)  # of stage 1, whose norms do the same in both
    moved = {v.path.split("/")[1] for v in net.weights if (v.numpy() != before[v.path]).any()}
    assert moved == moving
    assert {v.path.split("/")[-1] for v in net.weights if "bn0" in v.path} == (
        {"gamma", "beta"} if norm == "group" else {"gamma", "beta", "moving_mean", "moving_variance"}
    )
