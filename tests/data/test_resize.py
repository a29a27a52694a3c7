import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.data.resize import Resize, pad_to_canvas, resize_image, resized_size, scale_bilinear
from tfdet.errors import UserError

# SimpleDet's sizes for its settings; (333, 500) is 800x1201 where the long side allows it.
VECTORS = [
    ((480, 640), (800, 1200), (800, 1067)),
    ((480, 640), (800, 1333), (800, 1067)),
    ((480, 640), (800, 2000), (800, 1067)),
    ((427, 640), (800, 1200), (800, 1199)),
    ((333, 500), (800, 1200), (799, 1200)),
    ((333, 500), (800, 1333), (800, 1201)),
    ((333, 500), (800, 2000), (800, 1201)),
    ((300, 640), (800, 1200), (562, 1200)),
    ((300, 640), (800, 1333), (625, 1333)),
    ((300, 640), (800, 2000), (800, 1707)),
    ((612, 612), (800, 1200), (800, 800)),
]


@pytest.mark.parametrize("size, sides, expected", VECTORS)
def test_sizes_of_the_reference(size, sides, expected):
    height, width, scale = resized_size(*size, *sides)
    assert (int(height), int(width)) == expected
    assert float(scale) == min(sides[0] / min(size), sides[1] / max(size))
    height, width, _ = resized_size(*size[::-1], *sides)  # the same upright
    assert (int(width), int(height)) == expected


def test_sizes_round_half_to_even():
    # 25 * 0.5 = 12.5 and 27 * 0.5 = 13.5: OpenCV and Python round both to an even number
    assert int(resized_size(20, 25, 10, 100)[1]) == 12
    assert int(resized_size(20, 27, 10, 100)[1]) == 14


def test_sizes_agree_with_opencv():
    random = np.random.default_rng(0)
    for height, width in random.integers(20, 900, (300, 2)).tolist():
        short, long = [(600, 1000), (800, 1333), (128, 160), (320, 320)][random.integers(4)]
        scale = min(short / min(height, width), long / max(height, width))
        expected = cv2.resize(np.zeros((height, width), np.uint8), None, fx=scale, fy=scale).shape
        got = resized_size(height, width, short, long)
        assert (int(got[0]), int(got[1])) == expected
        assert int(got[0]) <= (short if height < width else long)


@pytest.mark.parametrize("size", [(47, 64), (64, 43), (33, 50), (30, 30), (101, 37)])
@pytest.mark.parametrize("sides", [(80, 120), (80, 133), (24, 40)])
def test_pixels_agree_with_opencv(size, sides):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    height, width, scale = resized_size(*size, *sides)
    expected = cv2.resize(image.astype(np.float32), None, fx=float(scale), fy=float(scale))
    exact = scale_bilinear(tf.constant(image), height, width, scale).numpy()
    assert exact.shape == expected.shape
    np.testing.assert_allclose(exact, expected, atol=1e-3)

    resized, info = resize_image(tf.constant(image), *sides)
    assert resized.dtype == tf.uint8
    np.testing.assert_array_equal(resized, np.rint(exact))
    fixed_point = cv2.resize(image, None, fx=float(scale), fy=float(scale))
    assert np.abs(resized.numpy().astype(int) - fixed_point.astype(int)).max() <= 1
    np.testing.assert_array_equal(info, np.array([height, width, scale], np.float32))


def test_uses_the_exact_scale_and_not_the_ratio_of_sizes():
    image = np.random.default_rng(2).integers(0, 256, (300, 640, 3), np.uint8)
    resized, _ = resize_image(tf.constant(image), 80, 120)  # 56.25 x 120: 56 rows
    by_ratio = tf.image.resize(image, resized.shape[:2]).numpy()
    scale = 120 / 640
    exact = cv2.resize(image.astype(np.float32), None, fx=scale, fy=scale)
    assert np.abs(resized.numpy() - exact).max() <= 0.501
    assert np.abs(by_ratio - exact).max() > 10


def test_works_in_a_graph_with_unknown_size():
    signature = [tf.TensorSpec([None, None, 3], tf.uint8)]
    function = tf.function(lambda image: resize_image(image, 40, 60), input_signature=signature)
    for size in ((20, 30), (33, 21)):
        image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
        np.testing.assert_array_equal(function(image)[0], resize_image(tf.constant(image), 40, 60)[0])


def test_pad_to_canvas():
    padded = pad_to_canvas(tf.ones([2, 3, 1]), tf.constant(4), tf.constant(5)).numpy()[..., 0]
    assert padded.shape == (4, 5)
    assert padded[:2, :3].all() and padded.sum() == 6


# Sizes that torchvision 0.29 (_resize_image_and_masks) and Detectron2's ResizeShortestEdge.get_output_shape give.
OTHER_SIZES = [
    ((48, 64), (80, 120), (80, 107), (80, 106)),
    ((64, 43), (80, 133), (119, 80), (119, 80)),
    ((101, 37), (24, 40), (40, 15), (40, 14)),
    ((90, 140), (40, 50), (32, 50), (32, 50)),
    ((480, 640), (800, 1333), (800, 1067), (800, 1066)),
    ((333, 500), (800, 1333), (800, 1201), (800, 1201)),
]


@pytest.mark.parametrize("size, sides, detectron2, torchvision", OTHER_SIZES)
def test_sizes_of_other_programs(size, sides, detectron2, torchvision):
    for rule, expected in (("detectron2", detectron2), ("torchvision", torchvision)):
        height, width, scale = resized_size(*size, *sides, rule)
        assert (int(height), int(width)) == expected
        assert float(scale) == min(sides[0] / min(size), sides[1] / max(size))


@pytest.mark.parametrize("size, sides", [((48, 64), (80, 120)), ((90, 140), (40, 50)), ((30, 30), (40, 60))])
def test_detectron2_resizes_as_pillow(size, sides):
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
    resized, info = resize_image(tf.constant(image), *sides, "detectron2")
    height, width = info.numpy()[:2].astype(int)
    expected = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    difference = np.abs(resized.numpy().astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01  # Pillow's weights are of fixed point
    plain, _ = resize_image(tf.constant(image), *sides)
    assert (size[0] < sides[0]) or (np.abs(plain.numpy().astype(int) - expected) > 8).mean() > 0.2  # it smooths


def test_torchvision_maps_by_the_ratio_of_the_sizes():
    image = np.random.default_rng(3).integers(0, 256, (48, 61, 3), np.uint8)
    resized, info = resize_image(tf.constant(image), 80, 120, "torchvision")
    assert info.numpy()[:2].tolist() == [80, 101]
    # What torch.nn.functional.interpolate computes: pixels of the source at (x + .5) * w / w' - .5.
    expected = cv2.resize(image.astype(np.float32), (101, 80), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(resized.numpy(), expected, atol=0.501)


def test_sides_that_do_not_fit_are_named():
    with pytest.raises(UserError, match=r"EvalInput.short_side must be at most its long_side. Received: 120, 80"):
        Resize(120, 80).check("EvalInput")
