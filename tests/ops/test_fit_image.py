"""Resize, mirror, window and canvas: the custom op gives the very bytes of TensorFlow's own ops, by every rule."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.data.canvas import Canvas
from tfdet.data.pillow_resize import Window, resize_as_pillow
from tfdet.data.resize import resize_image
from tfdet.ops import native
from tfdet.ops.fit_image import fit_image

NUMBER, FLAG = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.bool)
IMAGE = tf.TensorSpec([None, None, None], tf.uint8)
COLOUR = (3, 128, 250)


def both(function, *signature):
    """Graphs of a function with TensorFlow's own ops and with the custom one."""
    graphs = []
    for name in ("python", "native"):
        with native.implementation(name):
            graphs.append(tf.function(function, signature, autograph=False).get_concrete_function())
    kinds = [{op.type for graph in (g.graph, *_inner(g)) for op in graph.get_operations()} for g in graphs]
    assert ["TfdetFitImage" in found for found in kinds] == [False, True]
    return graphs


def _inner(graph):
    return [inner.graph for inner in graph.graph._functions.values() if hasattr(inner, "graph")]


def side(random):
    return int(random.choice([1, 2, 5, 6, random.integers(1, 30), random.integers(1, 250)]))


def drawn(random, channels):
    image = random.integers(0, 256 if random.random() < 0.7 else 3, (side(random), side(random), channels))
    return image.astype(np.uint8)


def assert_same(graphs, *arguments):
    own, custom = (np.asarray(graph(*map(tf.constant, arguments))) for graph in graphs)
    message = f"{arguments[0].shape} {arguments[1:]}"
    assert own.dtype == custom.dtype and own.shape == custom.shape, message
    np.testing.assert_array_equal(own.view(np.uint8), custom.view(np.uint8), err_msg=message)


@pytest.mark.parametrize("rule", ["simpledet", "detectron2", "torchvision"])
def test_a_resized_image_has_the_same_bytes(custom_ops, rule):
    def fit(image, short, long, mirror, below, beside):
        size = tf.cast(resize_image(image, short, long, rule)[1][:2], tf.int32)
        canvas = Canvas(size[0] + below, size[1] + beside)
        return resize_image(image, short, long, rule, mirror, canvas)[0]

    graphs, random = both(fit, IMAGE, NUMBER, NUMBER, FLAG, NUMBER, NUMBER), np.random.default_rng(0)
    for number in range(250):
        image, short = drawn(random, [3, 3, 1, 4][number % 4]), side(random)
        long = short + side(random)
        if number % 3 == 0:  # little is lost or gained: where eight values need the bytes of more or fewer pixels
            short, long = max(1, min(image.shape[:2]) + int(random.integers(-9, 30))), 1000
        assert_same(graphs, image, short, long, bool(random.integers(2)), *map(int, random.integers(0, 3, 2)))
    for mirror in (False, True):  # a photograph's sizes
        image = random.integers(0, 256, (120, 160, 3)).astype(np.uint8)
        assert_same(graphs, image, 200, 300, mirror, 0, 33)


def test_a_window_of_pillows_resize_has_the_same_bytes(custom_ops):
    def fit(image, height, width, part, mirror, place):
        canvas = Canvas(part[2] + place[2], part[3] + place[3], place[0], place[1], COLOUR)
        return resize_as_pillow(image, height, width, Window(*tf.unstack(part)), mirror, canvas)

    four = tf.TensorSpec([4], tf.int32)
    graphs, random = (
        both(fit, tf.TensorSpec([None, None, 3], tf.uint8), NUMBER, NUMBER, four, FLAG, four),
        (np.random.default_rng(1)),
    )
    for _ in range(250):
        image, size = drawn(random, 3), (side(random), side(random))
        first = [int(random.integers(0, length)) for length in size]
        count = [int(random.integers(1, length - at + 1)) for length, at in zip(size, first)]
        place = random.integers(0, 4, 2)
        beside = place + random.integers(0, 4, 2)
        part, where = np.int32([*first, *count]), np.int32([*place, *beside])
        assert_same(graphs, image, *size, part, bool(random.integers(2)), where)


def call(**changed):
    arguments = dict(size=(8, 6), rule="simpledet", scale=2.0, window=(0, 0, 8, 6), canvas=(9, 9))
    return fit_image(tf.zeros([4, 3, 3], tf.uint8), **arguments | changed)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"window": (1, 0, 8, 6)}, "the window's rows do not fit: from 1, 8 of them, of 8"),
        ({"window": (0, -1, 8, 6)}, "the window's columns do not fit: from -1, 6 of them, of 6"),
        ({"canvas": (7, 9)}, "rows of the canvas do not fit: from 0, 8 of them, of 7"),
        ({"place": (0, 4)}, "columns of the canvas do not fit: from 4, 6 of them, of 9"),
        ({"size": (0, 6)}, "the new height must be 1 to 4194304. Received: 0"),
        ({"scale": float("nan")}, "scale must be above 0 and finite. Received: nan"),
        ({"fill": (1, 2)}, r"fill \[2\] must have shape \[3\]"),
    ],
)
def test_what_does_not_fit_is_named(custom_ops, changed, message):
    assert call().shape == (9, 9, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(**changed)


def test_an_empty_image_is_refused(custom_ops):
    with pytest.raises(tf.errors.InvalidArgumentError, match="the image's width must be 1 to 4194304. Received: 0"):
        fit_image(tf.zeros([4, 0, 3], tf.uint8), (8, 6), "torchvision")


def test_an_empty_window_leaves_the_canvas(custom_ops):
    canvas = fit_image(
        tf.ones([4, 3, 3], tf.uint8), (8, 6), "detectron2", window=(8, 0, 0, 6), canvas=(2, 7), fill=COLOUR
    )
    assert (canvas.numpy() == COLOUR).all()
