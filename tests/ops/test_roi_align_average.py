"""RoIAlign by averages against torchvision and Detectron2: values, gradients, levels, adaptive sampling."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.ops.roi_align import roi_align

STRIDES = (4, 8, 16, 32)


def nhwc(maps):
    return maps.transpose(0, 2, 3, 1)


def by_image(rois, *values):
    """torchvision's list of RoIs with an image index, as boxes [B, R, 4] padded with zeros, and where each one went."""
    image = rois[:, 0].astype(int)
    slot = np.array([(image[:i] == image[i]).sum() for i in range(len(image))])
    boxes = np.zeros([image.max() + 1, slot.max() + 1, 4], np.float32)
    boxes[image, slot] = rois[:, 1:]
    padded = [np.zeros(boxes.shape[:2] + v.shape[1:], v.dtype) for v in values]
    for target, value in zip(padded, values):
        target[image, slot] = value
    return boxes, (image, slot), *padded


def average(features, boxes, stride, size, **options):
    levels = tf.zeros(boxes.shape[:2], tf.int32)
    return roi_align([features], boxes, levels, [stride], size, mode="average", **options)


@pytest.mark.parametrize("aligned", [False, True])
def test_average_equals_detectron(golden, implementation, aligned):
    z = golden("roi_align_average")
    features, boxes = tf.constant(nhwc(z["x"])), z["rois"][None, :, 1:]
    assert (z["rois"][:, 0] == 0).all()
    key = f"aligned{int(aligned)}_sr2"
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = average(
            features,
            boxes,
            1 / float(z["spatial_scale"]),
            z["grad_out"].shape[-1],
            sampling_ratio=2,
            aligned=aligned,
        )
    np.testing.assert_allclose(pooled.numpy()[0].transpose(0, 3, 1, 2), z[f"y_{key}"], atol=1e-5)
    gradient = tape.gradient(pooled, features, nhwc(z["grad_out"])[None])
    np.testing.assert_allclose(gradient.numpy().transpose(0, 3, 1, 2), z[f"gx_{key}"], atol=1e-5)


@pytest.mark.parametrize("aligned", [False, True], ids=["not_aligned", "aligned"])
@pytest.mark.parametrize("case", range(4))
def test_equals_torchvision(golden, implementation, case, aligned):
    """Sizes that are not square, several images, RoIs partly and wholly outside, of no size, as large as the map."""
    z = golden(f"roi_align_{case}")
    features = tf.constant(nhwc(z["x"]))
    boxes, where, upstream = by_image(z["rois"], nhwc(z["grad_out"]))
    stride, size = 1 / float(z["spatial_scale"]), tuple(int(s) for s in z["output_size"])
    for ratio in range(4):
        key = f"aligned{int(aligned)}_sr{ratio}"
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = average(features, boxes, stride, size, sampling_ratio=ratio, aligned=aligned)
        np.testing.assert_allclose(pooled.numpy()[where], nhwc(z[f"y_{key}"]), atol=2e-6)
        if f"gx_{key}" in z:
            gradient = tape.gradient(pooled, features, upstream)
            np.testing.assert_allclose(gradient, nhwc(z[f"gx_{key}"]), rtol=5e-6, atol=1e-5)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [False, True], ids=["ROIAlign", "ROIAlignV2"])
def test_equals_the_pooler_of_detectron(golden, implementation, aligned, ratio):
    z = golden("d2_pooler")
    image = np.repeat([0, 1], [len(z["boxes0"]), len(z["boxes1"])])[:, None]
    rois = np.concatenate([image, np.concatenate([z["boxes0"], z["boxes1"]])], axis=1).astype(np.float32)
    expected = nhwc(z[f"y_ROIAlign{'V2' if aligned else ''}_sr{ratio}"])
    boxes, where, levels = by_image(rois, z["levels_canon224"].astype(np.int32))
    features = [tf.constant(nhwc(z[f"p{i}"])) for i in (2, 3, 4, 5)]
    pooled = roi_align(features, boxes, levels, STRIDES, 7, mode="average", sampling_ratio=ratio, aligned=aligned)
    np.testing.assert_allclose(pooled.numpy()[where], expected, atol=2e-6)


@pytest.mark.parametrize("mode", ["max", "average"])
def test_bins_need_not_be_square(implementation, mode):
    """(2, 4) bins are those of the transposed map and boxes, (4, 2), transposed."""
    rng = np.random.default_rng(3)
    features = tf.constant(rng.normal(size=(1, 9, 11, 3)), tf.float32)
    boxes = tf.constant([[[4.0, 6.0, 70.0, 50.0], [-9.0, 3.0, 30.0, 90.0]]])
    tall, wide = (roi_align([features], boxes, [[0, 0]], [8], size, mode=mode) for size in ((4, 2), (2, 4)))
    assert tall.shape == (1, 2, 4, 2, 3) and wide.shape == (1, 2, 2, 4, 3)
    turned = roi_align(
        [tf.transpose(features, [0, 2, 1, 3])],
        tf.gather(boxes, [1, 0, 3, 2], axis=-1),
        [[0, 0]],
        [8],
        (4, 2),
        mode=mode,
    )
    np.testing.assert_allclose(tf.transpose(turned, [0, 1, 3, 2, 4]), wide, atol=1e-6)


def test_an_adaptive_ratio_stops_at_128(implementation):
    features = tf.constant(np.arange(12.0).reshape(1, 3, 4, 1), tf.float32)
    boxes = tf.constant([[[0.0, 0.0, 400.0, 3.0]]])
    pooled = tf.function(average, autograph=False)(features, boxes, 1, 1, sampling_ratio=0).numpy().item()
    # 3 x 128 samples, 3.125 pixels apart from 1.5625 on: one column of samples lies within the map.
    assert pooled == pytest.approx(np.mean([y * 4 + 1.5625 for y in (0.5, 1.5, 2.0)]) / 128)
