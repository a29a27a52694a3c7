"""The box head of convolutions before a fully connected layer, and what statistics of a batch are taken of."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.detectors import build_detector
from tfdet.heads import ConvBboxHead
from tfdet.layers import on_existing
from tfdet.necks import FPN


def features(rows, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(rows, 4, 4, 6)).astype("f"))


def test_rows_that_stand_for_no_roi_take_no_part_in_statistics():
    head = ConvBboxHead(3, num_convs=2, conv_channels=8, channels=8, norm="torch_local")
    x, exists = features(6), tf.constant([True, False, True, True, False, True])
    head(x)
    before = [variable.numpy() for variable in head.norms[0].moving_statistics]
    outputs = on_existing(lambda rows: head(rows, training=True), exists, x)
    moved = [variable.numpy() for variable in head.norms[0].moving_statistics]
    for variable, value in zip(head.norms[0].moving_statistics, before, strict=True):
        variable.assign(value)
    alone = head(tf.boolean_mask(x, exists), training=True)
    for all_rows, own in zip(outputs, alone, strict=True):
        np.testing.assert_array_equal(tf.boolean_mask(all_rows, exists), own)
        assert not np.any(tf.boolean_mask(all_rows, ~exists))
    for variable, value, old in zip(head.norms[0].moving_statistics, moved, before, strict=True):
        np.testing.assert_array_equal(variable, value)
        assert not np.array_equal(value, old)


def test_no_row_at_all_leaves_statistics_alone():
    head = ConvBboxHead(3, num_convs=1, conv_channels=8, channels=8, norm="torch_local")
    head(features(2))
    outputs = on_existing(lambda rows: head(rows, training=True), tf.constant([False, False]), features(2))
    assert all(not np.any(values) for values in outputs)
    assert not np.any(head.norms[0].moving_mean) and np.all(head.norms[0].moving_variance == 1)


def test_convolutions_come_before_the_flattening():
    head = ConvBboxHead(3, num_convs=1, conv_channels=8, num_fcs=2, channels=5, norm=None)
    x = features(2)
    logits, deltas = head(x)
    assert logits.shape == (2, 4) and deltas.shape == (2, 16)
    hidden = tf.nn.relu(tf.nn.conv2d(x, head.convs[0].kernel, 1, "SAME") + head.convs[0].bias)
    for fc in head.fcs:
        hidden = tf.nn.relu(tf.matmul(tf.reshape(hidden, [2, -1]), fc.kernel) + fc.bias)
    np.testing.assert_allclose(head.hidden(x), hidden, rtol=1e-4, atol=1e-5)


def test_a_pyramid_normalises_each_level_by_its_own_batch():
    neck = FPN(8, norm="torch_local")
    maps = [tf.constant(np.random.default_rng(i).normal(size=(2, 16 >> i, 16 >> i, 4)).astype("f")) for i in range(4)]
    outputs = neck(maps, training=True)
    for level in outputs[:4]:
        np.testing.assert_allclose(np.mean(level, axis=(0, 1, 2)), 0, atol=1e-5)
    assert all(conv.bias is None for conv in (*neck.laterals, *neck.outputs_))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "classes", "parameters"),
    [  # sum(p.numel() for p in model.parameters()) of torchvision 0.29.1 and Detectron2
        ("torchvision/fasterrcnn_r50_fpn_v2", 90, 43_712_278),
        ("torchvision/maskrcnn_r50_fpn_v2", 90, 46_359_409),
        ("torchvision/retinanet_r50_fpn_v2", 91, 38_198_935),
        ("detectron2/new_baselines/mask_rcnn_r50_fpn_100ep_lsj", 80, 46_301_232),
    ],
)
def test_a_row_has_as_many_parameters_as_the_program(row, classes, parameters):
    config.register_all()
    detector = config.parse([f"{row}.gin"]).build(build_detector, num_classes=classes)
    # Detectron2's last layer has no box of the background.
    own_box = 4 * (1024 + 1) if row.startswith("detectron2") else 0
    assert sum(int(np.prod(v.shape)) for v in detector.trainable_variables) - own_box == parameters
