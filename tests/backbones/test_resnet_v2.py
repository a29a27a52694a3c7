import numpy as np
import pytest
import tensorflow as tf

from tfdet.backbones import ResNetV2, ResNetV2Stage
from tfdet.backbones.resnet_v2 import PreActivationUnit
from tfdet.layers import BN_EPSILON


def built(depth, **kwargs):
    backbone = ResNetV2(depth, **kwargs)
    backbone(tf.zeros([1, 64, 64, 3]))
    return backbone


def image(rows=1, size=(64, 80), seed=0):
    return tf.constant(np.random.default_rng(seed).uniform(0, 255, (rows, *size, 3)), tf.float32)


def shake(layer, seed=0):
    """Statistics and affine of every BN that are not those of a new one."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if weight.path.endswith(("moving_variance", "gamma")) and "bn_data/gamma" not in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("moving_mean", "beta")):
            weight.assign(rng.normal(0, 0.3, weight.shape))


@pytest.mark.parametrize("depth,arguments,statistics", [(50, 155, 102), (101, 308, 204)])
def test_tensor_counts_equal_those_of_simpledet(depth, arguments, statistics):
    """SimpleDet's checkpoints of v2-50 and v2-101: `arg` and `aux` entries of the backbone, bn1 included."""
    paths = [w.path for w in built(depth, num_stages=4, width=0.0625).weights]
    assert len([p for p in paths if "moving" in p]) == statistics
    assert len(paths) == arguments + statistics


def test_full_width_shapes():
    shapes = {w.path: tuple(w.shape) for w in built(50, num_stages=4).weights}
    assert shapes["backbone/bn_data/gamma"] == (3,)
    assert shapes["backbone/conv0/kernel"] == (7, 7, 3, 64)
    assert shapes["backbone/stage1/unit1/bn1/gamma"] == (64,)
    assert shapes["backbone/stage1/unit1/sc/kernel"] == (1, 1, 64, 256)
    assert shapes["backbone/stage4/unit1/bn1/gamma"] == (1024,)
    assert shapes["backbone/stage4/unit3/conv3/kernel"] == (1, 1, 512, 2048)
    assert shapes["backbone/bn1/gamma"] == (2048,)
    assert not any("sc_bn" in path for path in shapes)


def test_feature_sizes_of_the_zoo_canvas():
    features = ResNetV2(26, num_stages=4, width=1 / 16, dilate_c5=True)(tf.zeros([1, 800, 1200, 3]))
    assert [tuple(f.shape[1:3]) for f in features] == [(200, 300), (100, 150), (50, 75), (50, 75)]
    assert tuple(ResNetV2(26, num_stages=4, width=1 / 16)(tf.zeros([1, 800, 1200, 3]))[3].shape[1:3]) == (25, 38)


@pytest.mark.parametrize("project,strides,dilation", [(True, 2, 1), (True, 1, 2), (False, 1, 1)])
def test_a_unit_is_what_the_reference_says(project, strides, dilation):
    """bn1, relu, 1x1, bn2, relu, 3x3 (stride, dilation), bn3, relu, 1x1; shortcut of relu1, or the input; sum."""
    unit = PreActivationUnit(3, 8, strides, project, "frozen", dilation)
    x = np.random.default_rng(1).normal(size=(2, 9, 10, 8)).astype("f")
    unit(x)
    shake(unit)

    def bn_relu(layer, value):
        gamma, beta, mean, var = (
            w.numpy() for w in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        )
        return np.maximum((value - mean) / np.sqrt(var + BN_EPSILON) * gamma + beta, 0)

    first = bn_relu(unit.bn1, x)
    second = bn_relu(unit.bn2, first @ unit.conv1.kernel.numpy()[0, 0])
    padded = np.pad(second, [(0, 0), (dilation, dilation), (dilation, dilation), (0, 0)])
    kernel = unit.conv2.kernel.numpy()
    full = sum(
        padded[:, i * dilation : i * dilation + 9, j * dilation : j * dilation + 10] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )
    third = bn_relu(unit.bn3, full[:, ::strides, ::strides]) @ unit.conv3.kernel.numpy()[0, 0]
    shortcut = first[:, ::strides, ::strides] @ unit.sc.kernel.numpy()[0, 0] if project else x
    np.testing.assert_allclose(unit(x), third + shortcut, atol=1e-4)


def test_c4_is_a_plain_sum_and_c5_is_after_bn_and_relu():
    features = built(26, num_stages=4, width=0.125)(image())
    assert all(float(tf.reduce_min(x)) < 0 for x in features[:3])
    assert float(tf.reduce_min(features[3])) == 0


@pytest.mark.parametrize("norm", ["local", "sync"])
def test_the_image_and_the_last_bn_keep_their_statistics_under_every_norm(norm):
    backbone = built(26, num_stages=4, norm=norm, width=0.125)
    before = {w.path: w.numpy() for w in backbone.weights}
    backbone(image(), training=True)
    moved = {w.path for w in backbone.weights if "moving" in w.path and (w.numpy() != before[w.path]).any()}
    still = {path for path in before if "moving" in path} - moved
    assert {path.split("/")[1] for path in still} == {"bn_data", "bn1"}
    assert len(still) == 4


def test_the_gamma_of_the_image_is_not_trained():
    paths = {w.path for w in built(26, width=0.125).trainable_variables}
    assert "backbone/bn_data/beta" in paths and "backbone/bn_data/gamma" not in paths


def test_dilated_c5_dilates_every_unit():
    stage = ResNetV2(50, num_stages=4, width=0.0625, dilate_c5=True).stages[3]
    assert [u.conv2.dilation_rate for u in stage.units] == [(2, 2)] * 3
    assert all(u.conv2.strides == (1, 1) for u in stage.units)


class TestBranches:
    def test_each_branch_is_the_net_at_its_dilation(self):
        backbone = built(50, width=0.125, branches=(1, 2, 3), test_branches=(1, 2, 3))
        shake(backbone)
        x = image(2)
        c4 = backbone(x)[2]
        assert c4.shape[0] == 6
        for branch, dilation in enumerate((1, 2, 3)):
            single = built(50, width=0.125, branches=(1, 2, 3), test_branches=(dilation,))
            for ours, theirs in zip(single.weights, backbone.weights, strict=True):
                ours.assign(theirs)
            # Image-major: image 0 in all branches, then image 1.
            np.testing.assert_allclose(c4[branch::3], single(x)[2], atol=1e-4)
        plain = built(50, width=0.125)
        for ours, theirs in zip(plain.weights, backbone.weights, strict=True):
            ours.assign(theirs)
        np.testing.assert_allclose(c4[0::3], plain(x)[2], atol=1e-4)

    def test_branches_add_no_weight(self):
        plain, trident = built(50, width=0.0625), built(50, width=0.0625, branches=(1, 2, 3), test_branches=(2,))
        assert [w.path for w in plain.weights] == [w.path for w in trident.weights]

    def test_only_units_after_the_first_split(self):
        stage = ResNetV2Stage(26, 3, 2, "frozen", width=0.125)
        x = tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8, 64)), tf.float32)
        y = stage(x, dilations=(1, 2, 3))
        first = stage.units[0](x)
        np.testing.assert_allclose(y[1::3], stage.units[1](first, dilations=(2,)), atol=1e-5)

    @pytest.mark.parametrize("branches,test_branches", [((1, 2), ()), ((), (2,))])
    def test_refuses_branches_in_one_phase_alone(self, branches, test_branches):
        with pytest.raises(ValueError, match="both empty or both not"):
            ResNetV2(50, branches=branches, test_branches=test_branches)


class TestKerasVariant:
    def test_stages_stride_in_their_last_unit_and_give_what_goes_into_it(self):
        backbone = built(26, num_stages=4, width=0.125, variant="keras")
        assert backbone.strides == [4, 8, 16, 32]
        assert [[u.conv2.strides[0] for u in stage.units] for stage in backbone.stages] == [[1, 2]] * 3 + [[1, 1]]
        features = backbone(image(size=(69, 90)))
        assert [tuple(f.shape[1:]) for f in features] == [(18, 23, 32), (9, 12, 64), (5, 6, 128), (3, 3, 256)]
        assert all(float(tf.reduce_min(x)) < 0 for x in features[:3]) and float(tf.reduce_min(features[3])) == 0

    def test_variables_are_those_of_the_default_without_bn0_and_with_biases(self):
        plain = {w.path for w in built(26, num_stages=4, width=0.0625).weights}
        keras = {w.path for w in built(26, num_stages=4, width=0.0625, variant="keras").weights}
        assert {path.split("/")[1] for path in plain - keras} == {"bn0"}
        units = {f"backbone/stage{s}/unit{u}/conv3/bias" for s in (1, 2, 3, 4) for u in (1, 2)}
        shortcuts = {f"backbone/stage{s}/unit1/sc/bias" for s in (1, 2, 3, 4)}
        assert keras - plain == {"backbone/conv0/bias"} | units | shortcuts

    def test_a_unit_that_strides_without_a_projection_keeps_every_other_pixel(self):
        unit = PreActivationUnit(3, 8, 2, False, "frozen", use_bias=True)
        x = np.random.default_rng(1).normal(size=(2, 9, 10, 8)).astype("f")
        unit(x)
        unit.conv3.kernel.assign(tf.zeros_like(unit.conv3.kernel))
        unit.conv3.bias.assign(np.arange(8, dtype="f"))
        np.testing.assert_array_equal(unit(x), x[:, ::2, ::2] + np.arange(8, dtype="f"))

    def test_gradients_reach_every_variable_and_are_the_same_recomputed(self):
        found = []
        for recompute in ((), (1, 2, 3, 4)):
            backbone = built(26, num_stages=4, width=0.0625, variant="keras", recompute=recompute)
            for index, weight in enumerate(backbone.trainable_variables):
                weight.assign(np.random.default_rng(index).normal(0.3, 0.2, weight.shape))
            with tf.GradientTape() as tape:
                loss = sum(tf.reduce_mean(tf.square(f)) for f in backbone(image(size=(40, 40)) / 255, training=True))
            found.append(tape.gradient(loss, [v.value for v in backbone.trainable_variables]))
        for variable, ours, recomputed in zip(backbone.trainable_variables, *found, strict=True):
            assert float(tf.reduce_max(tf.abs(ours))) > 0, variable.path
            scale = float(tf.reduce_max(tf.abs(ours)))
            np.testing.assert_allclose(recomputed, ours, rtol=0, atol=1e-5 * scale, err_msg=variable.path)

    @pytest.mark.parametrize(
        "options,said",
        [
            ({"num_stages": 3}, "variant = 'keras' num_stages = 4.*num_stages=3"),
            ({"num_stages": 4, "dilate_c5": True}, "no dilate_c5.*dilate_c5=True"),
            ({"num_stages": 4, "branches": (1, 2), "test_branches": (2,)}, r"no branches.*branches=\(1, 2\)"),
            ({"variant": "caffe"}, "variant = 'caffe': expected one of"),
        ],
    )
    def test_refuses(self, options, said):
        with pytest.raises(ValueError, match=said):
            ResNetV2(50, **{"variant": "keras"} | options)


def test_the_default_variants_variables_are_simpledets():
    kinds = ("gamma", "beta", "moving_mean", "moving_variance")
    expected = {f"backbone/{bn}/{kind}" for bn in ("bn_data", "bn0", "bn1") for kind in kinds}
    expected.add("backbone/conv0/kernel")
    for stage in (1, 2, 3, 4):
        expected.add(f"backbone/stage{stage}/unit1/sc/kernel")
        for layer in [f"backbone/stage{stage}/unit{unit}/" for unit in (1, 2)]:
            expected |= {f"{layer}bn{i}/{kind}" for i in (1, 2, 3) for kind in kinds}
            expected |= {f"{layer}conv{i}/kernel" for i in (1, 2, 3)}
    assert {w.path for w in built(26, num_stages=4, width=0.0625).weights} == expected


@pytest.mark.parametrize("arguments,said", [({"depth": 34}, "depth = 34"), ({"num_stages": 2}, "num_stages = 2")])
def test_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        ResNetV2(**arguments)


@pytest.mark.parametrize("replicas", [2, 8])
def test_sync_statistics_and_gradients_equal_one_device_with_the_whole_batch(mirrored, replicas):
    """Of a whole stage, biased variance included: SimpleDet's SyncBN row."""
    x = np.random.default_rng(4).normal(1.0, 3.0, size=(8, 6, 6, 4)).astype("f")

    def stage():
        layer = ResNetV2Stage(26, 1, 1, "sync", width=1 / 16, name="stage1")
        layer(tf.zeros([1, 6, 6, 4]))
        for index, weight in enumerate(layer.trainable_variables):
            weight.assign(np.random.default_rng(index).normal(0.5, 0.3, weight.shape))
        return layer

    def gradients(layer, batch):
        with tf.GradientTape() as tape:
            # The mean over images: that of the replicas' means is that of the whole batch.
            loss = tf.reduce_mean(tf.square(layer(batch, training=True)))
        return tape.gradient(loss, [v.value for v in layer.trainable_variables])

    whole = stage()
    expected = gradients(whole, tf.constant(x))
    strategy = mirrored(replicas)
    with strategy.scope():
        split = stage()
    part = 8 // replicas
    shards = strategy.experimental_distribute_values_from_function(
        lambda c: tf.constant(x[c.replica_id_in_sync_group * part : (c.replica_id_in_sync_group + 1) * part])
    )

    def one_replica(batch):
        mean = tf.distribute.ReduceOp.MEAN
        return tf.distribute.get_replica_context().all_reduce(mean, gradients(split, batch))

    found = tf.function(lambda s: strategy.run(one_replica, args=(s,)), autograph=False)(shards)
    for variable, ours, reference in zip(split.trainable_variables, found, expected, strict=True):
        ours = strategy.experimental_local_results(ours)[0]
        np.testing.assert_allclose(ours, reference, rtol=1e-3, atol=1e-4, err_msg=variable.path)
    for ours, reference in zip(split.non_trainable_variables, whole.non_trainable_variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), reference.numpy(), rtol=1e-4, atol=1e-5, err_msg=ours.path)
