"""Suppression of a list with classes: to the last bit what the same boxes give with a score of every class."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.ops import native
from tfdet.ops.class_aware_nms import class_aware_nms
from tfdet.ops.nms import METHODS, multiclass_nms

pytestmark = pytest.mark.usefixtures("implementation")

MANY = 1000  # for which the custom op, too, gets a list
CONVENTIONS = ["legacy_plus_one", "continuous"]
STRANGE = np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e19, 0, -0.0])
FIELDS = ("boxes", "scores", "classes", "num_valid")


def random_list(rng, batch, count, classes, size=60, strange=False):
    corner = rng.uniform(0, size, (batch, count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(-2, size / 2, (batch, count, 2))], axis=-1).astype("f")
    scores = rng.uniform(-0.1, 1, (batch, count)).astype("f").round(2)  # many ties
    if strange:
        for values in (boxes, scores):
            where = rng.random(values.shape) < 0.03
            values[where] = rng.choice(STRANGE, where.sum())
    return boxes, scores, rng.integers(-1, max(classes, 1), (batch, count)).astype("i4")


def with_every_class(boxes, scores, classes, num_classes):
    """The list as `multiclass_nms` takes it."""
    spread = np.zeros((*scores.shape, num_classes), "f")
    image, row = np.nonzero(classes >= 0)
    spread[image, row, classes[image, row]] = scores[image, row]
    return boxes[:, :, None], spread


def assert_same(found, expected, exact=True):
    for name in FIELDS:
        one, other = np.asarray(getattr(found, name)), np.asarray(getattr(expected, name))
        if exact:
            np.testing.assert_array_equal(one, other, err_msg=name)
        else:  # TensorFlow's exponential differs in its last bit by the place in the tensor
            np.testing.assert_allclose(one, other, rtol=1e-5, err_msg=name)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**31 - 1),
    st.integers(0, 3),
    st.sampled_from([0, 1, 15, 40, 90]),
    st.sampled_from([1, 2, 5, 30]),
    st.sampled_from([1, 7, 120]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(METHODS),
    st.sampled_from(CONVENTIONS),
)
def test_equals_scores_of_every_class(seed, batch, count, classes, kept, many, strange, method, convention):
    rng = np.random.default_rng(seed)
    listed = random_list(rng, batch, count, classes, strange=strange)
    iou = float(rng.uniform(0.05, 0.9))
    options = {"convention": convention, "method": method, "sigma": 0.4}
    found = class_aware_nms(*listed, MANY if many else classes, iou, kept, **options)
    expected = multiclass_nms(*with_every_class(*listed, classes), 0.0, iou, kept, **options)
    assert found.boxes.shape == (batch, kept, 4) and found.masks is None
    assert_same(found, expected, exact=method != "gaussian" or native.in_use())


@pytest.mark.parametrize("method", ["hard", "linear"])
def test_classes_of_any_length(method):
    """Of one box, of some, and of more than the custom op pads to."""
    rng = np.random.default_rng(1)
    boxes, scores, _ = random_list(rng, 2, 5500, 1, size=600)
    classes = np.repeat([7, 0, 3, 4, 2, 9], [1, 16, 17, 300, 656, 4510])[None].repeat(2, axis=0)
    classes[1] = rng.permutation(classes[1])
    found = class_aware_nms(boxes, scores, classes, MANY, 0.5, 200, method=method)
    assert_same(found, multiclass_nms(*with_every_class(boxes, scores, classes, 10), 0.0, 0.5, 200, method=method))
    assert set(np.unique(found.classes)) > {0, 3, 9}


def test_equals_torchvision(golden):
    z = {k[len("1000x80_") :]: v for k, v in golden("batched_nms_torchvision").items() if k.startswith("1000x80_")}
    found = class_aware_nms(z["boxes"][None], z["scores"][None], z["idxs"][None], MANY, 0.5, 1000, "continuous")
    keep = z["keep_50"]
    keep = keep[np.lexsort((keep, z["idxs"][keep], -z["scores"][keep]))]  # equal scores: here the lower class first
    assert int(found.num_valid[0]) == len(keep)
    np.testing.assert_array_equal(found.scores[0, : len(keep)], z["scores"][keep])
    np.testing.assert_array_equal(found.classes[0, : len(keep)], z["idxs"][keep])
    np.testing.assert_array_equal(found.boxes[0, : len(keep)], z["boxes"][keep])


def test_no_gradient_flows_through_detections():
    boxes, scores, classes = (tf.constant(v) for v in random_list(np.random.default_rng(0), 1, 5, 2))
    with tf.GradientTape() as tape:
        tape.watch([boxes, scores])
        found = class_aware_nms(boxes, scores, classes, 2, 0.5, 4)
        total = tf.reduce_sum(found.boxes) + tf.reduce_sum(found.scores)
    assert tape.gradient(total, [boxes, scores]) == [None, None]


@pytest.mark.parametrize(
    ("options", "named"),
    [({"method": "fuzzy"}, "method.*fuzzy"), ({"sigma": 0.0}, "sigma"), ({"convention": "other"}, "convention")],
)
def test_mistakes_are_named(options, named):
    with pytest.raises(UserError, match=named):
        class_aware_nms(np.zeros([1, 1, 4], "f"), np.zeros([1, 1], "f"), np.zeros([1, 1], "i4"), 1, 0.5, 1, **options)
