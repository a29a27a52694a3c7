"""Group normalisation against numpy, and where networks have it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import small_v2_detector
from tfdet.backbones import ResNetV1
from tfdet.heads import RetinaHead
from tfdet.layers import BatchNorm, GroupNorm, make_norm
from tfdet.necks import FPN, RetinaNeck


def by_hand(x, groups, gamma, beta):
    """float64, image by image and group by group."""
    out = np.empty(x.shape)
    width = x.shape[-1] // groups
    for image in range(len(x)):
        for group in range(groups):
            part = np.s_[image, :, :, group * width : (group + 1) * width]
            values = x[part].astype(float)
            out[part] = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
    return out * gamma + beta


@pytest.mark.parametrize("channels, groups", [(64, 32), (32, 32), (24, 8), (8, 8), (9, 1)])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_formula(channels, groups, policy):
    keras.mixed_precision.set_global_policy(policy)
    layer = GroupNorm()
    random = np.random.default_rng(channels)
    dtype = tf.as_dtype(layer.compute_dtype)
    # A mean far above the deviation, where the one-pass variance fails.
    x = tf.cast(random.normal(200.0, 2.0, [2, 5, 3, channels]), dtype)
    layer.build(x.shape)
    gamma, beta = random.uniform(0.5, 1.5, channels), random.normal(size=channels)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    y = layer(x, training=True)
    assert y.dtype == dtype and layer.gamma.dtype == layer.beta.dtype == "float32"
    assert layer.num_groups == groups and len(layer.weights) == 2
    expected = by_hand(tf.cast(x, tf.float32).numpy(), groups, gamma, beta)
    tolerance = {"float32": 5e-4, "mixed_float16": 4e-3, "mixed_bfloat16": 3e-2}[policy]
    np.testing.assert_allclose(tf.cast(y, tf.float32), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(y, layer(x, training=False))


def test_the_gradient_is_that_of_the_formula():
    layer = GroupNorm(2)
    x = tf.constant(np.random.default_rng(0).normal(size=[1, 2, 2, 4]), tf.float32)
    layer.build(x.shape)
    weights = tf.constant(np.random.default_rng(1).normal(size=[1, 2, 2, 4]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) * weights)
    found = tape.gradient(loss, x).numpy()
    for place in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[place] = 1e-4
        up, down = (by_hand(x.numpy() + s * step, 2, 1.0, 0.0) for s in (1, -1))
        assert found[place] == pytest.approx(((up - down) * weights.numpy()).sum() / 2e-4, abs=1e-4)


def test_networks_have_it_where_norm_says_group():
    backbone = ResNetV1(18, num_stages=4, norm="group", width=1 / 16)
    features = backbone(np.ones([1, 64, 64, 3], "f"), training=True)
    assert not [layer for layer in backbone._flatten_layers() if isinstance(layer, BatchNorm)]
    assert backbone.stages[1].units[0].bn1.num_groups == 8
    for neck, skipped in ((FPN(8, norm="group"), 0), (RetinaNeck(8, norm="group"), 2)):
        maps = neck(features)
        assert all(np.isfinite(m).all() for m in maps)
        norms = [layer for layer in neck._flatten_layers() if isinstance(layer, GroupNorm)]
        assert len(norms) == 2 * (len(maps) - skipped) - (2 if isinstance(neck, FPN) else 0)
        assert sum(v.path.endswith("bias") for v in neck.weights) == skipped
    # With gamma 0 a lateral's normalisation is what stands between a map and the pyramid.
    for norm in (*neck.lateral_norms, *neck.output_norms):
        norm.gamma.assign(tf.zeros_like(norm.gamma.value))
    assert all(not np.any(m) for m in neck(features)[:3])
    head = RetinaHead(3, 2, 8, num_convs=2, norm="group")
    head(maps)
    assert sum(isinstance(layer, GroupNorm) for layer in head._flatten_layers()) == 4
    assert sorted(v.path.split("/")[-2] for v in head.weights if v.path.endswith("bias")) == ["box", "cls"]
    assert FPN.from_config(FPN(8, norm="group").get_config()).norm == "group"


def test_a_pre_activation_network_ends_in_groups_too():
    detector = small_v2_detector("c4", norm="group")
    left = [layer.name for layer in detector._flatten_layers() if isinstance(layer, BatchNorm)]
    assert left == ["bn_data"]
    assert isinstance(detector.bbox_head.bn1, GroupNorm)


def test_unknown_norms_are_named():
    with pytest.raises(ValueError, match="norm to be one of .*'group'.*Received: norm='batch'"):
        make_norm("batch", "bn1")
    with pytest.raises(ValueError, match="FPN.norm = 'batch': expected one of .*'group'"):
        FPN(8, norm="batch")
    with pytest.raises(ValueError, match="groups of at least 1"):
        GroupNorm(0)
