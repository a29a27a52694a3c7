import cv2
import numpy as np
import PIL
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.data.canvas import Canvas, pad_to_canvas
from tfdet.data.pillow_resize import resize_as_pillow
from tfdet.data.resize import Resize, resize_image, resized_size, scale_bilinear, view_signature
from tfdet.errors import UserError
from tfdet.ops import native

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
    function = tf.function(lambda image: resize_image(image, 40, 60), signature, autograph=False)
    for size in ((20, 30), (33, 21)):
        image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
        np.testing.assert_array_equal(function(image)[0], resize_image(tf.constant(image), 40, 60)[0])


def test_pad_to_canvas():
    padded = pad_to_canvas(tf.ones([2, 3, 1]), Canvas(tf.constant(4), tf.constant(5))).numpy()[..., 0]
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


# Original and resized height and width: up, down, both, an axis or neither unchanged, single pixels, large steps.
PILLOW_SIZES = [
    ((48, 64), (80, 107)), ((90, 140), (32, 50)), ((30, 30), (40, 40)), ((21, 90), (60, 33)), ((90, 21), (33, 60)),
    ((40, 33), (13, 33)), ((33, 40), (33, 13)), ((40, 33), (71, 33)), ((17, 23), (17, 23)), ((1, 1), (7, 9)),
    ((1, 40), (1, 9)), ((40, 1), (9, 1)), ((50, 70), (1, 1)), ((300, 211), (9, 6)), ((200, 60), (67, 20)),
    ((130, 60), (65, 30)), ((3, 9), (2, 500)), ((500, 3), (11, 2)),
]  # fmt: skip
RANDOM_SIZES = np.random.default_rng(5).integers(1, 120, (40, 2, 2)).tolist()


def passes_of_pillow(image, height, width):
    """Both passes by Pillow itself, one call each: in the order of its version 13 whatever the installed one is."""

    def resized(pixels, height, width):
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))

    lost_rows, lost_columns = image.shape[0] - height, image.shape[1] - width
    if lost_rows > 0 and lost_rows > 2 * lost_columns:
        return resized(resized(image, height, image.shape[1]), height, width)
    return resized(resized(image, image.shape[0], width), height, width)


@pytest.fixture(scope="module")
def as_pillow():
    signature = [tf.TensorSpec([None, None, 3], tf.uint8), *[tf.TensorSpec([], tf.int32)] * 2]
    return tf.function(resize_as_pillow, signature, autograph=False)


@pytest.mark.parametrize("sizes", [PILLOW_SIZES, RANDOM_SIZES], ids=["chosen", "random"])
def test_resizes_as_pillow_bit_for_bit(sizes, as_pillow):
    random = np.random.default_rng(2)
    orders = set()
    for number, (size, (height, width)) in enumerate(sizes):
        # Every other one of few levels, whose means are often halves.
        image = random.integers(0, 256 if number % 2 else 3, (*size, 3), np.uint8)
        expected = passes_of_pillow(image, height, width)
        np.testing.assert_array_equal(as_pillow(image, height, width), expected, err_msg=f"{size} -> {height, width}")
        if int(PIL.__version__.split(".")[0]) >= 13:
            whole = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(whole, expected, err_msg=f"{size} -> {height, width}")
        swapped = passes_of_pillow(image.swapaxes(0, 1), width, height).swapaxes(0, 1)
        orders.add(bool((swapped != expected).any()))
    assert orders == {False, True}  # the order of the passes shows


def test_detectron2_resizes_as_pillow_and_has_a_scale_for_each_axis():
    image = np.random.default_rng(2).integers(0, 256, (90, 141, 3), np.uint8)
    resized, info = resize_image(tf.constant(image), 40, 50, "detectron2")
    np.testing.assert_array_equal(resized, passes_of_pillow(image, 32, 50))
    np.testing.assert_array_equal(info, np.float32([32, 50, 32 / 90, 50 / 141]))


@pytest.mark.parametrize("size, expected_size", [((48, 61), (80, 101)), ((200, 333), (72, 120)), ((1, 2), (60, 120))])
def test_torchvision_interpolates_as_torch_and_does_not_round(size, expected_size):
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    resized, info = resize_image(tf.constant(image), 80, 120, "torchvision")
    assert resized.dtype == tf.float32
    np.testing.assert_array_equal(
        info, np.float32([*expected_size, expected_size[0] / size[0], expected_size[1] / size[1]])
    )
    np.testing.assert_allclose(resized, interpolated_by_torch(image, *expected_size), atol=1e-4)
    # The same but for float32's weights, by another program.
    by_opencv = cv2.resize(image.astype(np.float32), expected_size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(resized, by_opencv, atol=0.02)


def interpolated_by_torch(image, height, width):
    """torch.nn.functional.interpolate(mode="bilinear", align_corners=False), by its formula: all of it in float32."""
    one, half = np.float32(1), np.float32(0.5)

    def taps(size, new_size):
        source = np.float32(size) / np.float32(new_size) * (np.arange(new_size, dtype=np.float32) + half) - half
        source = np.maximum(source, np.float32(0))
        first = np.minimum(source.astype(int), size - 1)
        return first, np.minimum(first + 1, size - 1), source - first.astype(np.float32)

    x0, x1, right = taps(image.shape[1], width)
    y0, y1, low = taps(image.shape[0], height)
    pixels, right, low = image.astype(np.float32), right[None, :, None], low[:, None, None]
    top = pixels[y0][:, x0] * (one - right) + pixels[y0][:, x1] * right
    bottom = pixels[y1][:, x0] * (one - right) + pixels[y1][:, x1] * right
    return top * (one - low) + bottom * low


@pytest.mark.parametrize("rule", ["simpledet", "detectron2", "torchvision"])
def test_what_a_detector_receives_is_what_the_signature_says(rule):
    image, info = resize_image(tf.zeros([30, 40, 3], tf.uint8), 60, 90, rule)
    images, infos = view_signature(rule)
    assert images.is_compatible_with(image[None]) and infos.is_compatible_with(info[None])


def test_sides_that_do_not_fit_are_named():
    with pytest.raises(UserError, match=r"EvalInput.short_side must be at most its long_side. Received: 120, 80"):
        Resize(120, 80).check("EvalInput")


@pytest.mark.parametrize("size", [(70, 100, 96, 137), (200, 90, 64, 29), (300, 310, 31, 33), (5, 9, 5, 9)])
def test_the_dense_form_of_pillows_resize_is_it_but_for_rare_halves(size):
    """What a graph for other programs holds."""
    height, width, new_height, new_width = size
    image = np.random.default_rng(0).integers(0, 256, [height, width, 3]).astype(np.uint8)
    exact = resize_as_pillow(image, new_height, new_width).numpy().astype(int)
    with native.implementation("exchange"):
        dense = resize_as_pillow(image, new_height, new_width).numpy().astype(int)
    assert np.abs(dense - exact).max() <= 1 and (dense != exact).mean() <= 5e-3
