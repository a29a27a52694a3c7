"""The training losses over other images: what they are made of, and that nothing moves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import small_detector
from tfdet.layers import layers_in_inference
from tfdet.structures import Batch
from tfdet.training.validation_loss import ValidationLoss


class Batches:
    """Random pictures with two boxes each; the second batch counts half."""

    has_masks = False
    counts = (2, 1)

    def dataset(self):
        random = np.random.default_rng(3)

        def batch():
            boxes = random.uniform(0, 30, [2, 2, 4]).astype(np.float32)
            boxes[..., 2:] += boxes[..., :2] + 8
            return Batch(
                random.integers(0, 256, [2, 64, 96, 3], np.uint8),
                np.float32([[64, 96, 1]] * 2),
                boxes,
                random.integers(0, 2, [2, 2]).astype(np.int32),
                np.arange(2),
                np.zeros([2, 0, 4], np.float32),
                np.zeros([2, 0, 2], np.int32),
            )

        fields = zip(*[batch() for _ in self.counts])
        return tf.data.Dataset.from_tensor_slices(Batch(*[np.stack(field) for field in fields]))

    def __iter__(self):
        return zip(self.dataset(), self.counts)


@pytest.mark.parametrize("kind", ["c4", "retina"])
def test_it_is_the_mean_of_the_losses_and_changes_nothing(kind):
    detector = small_detector(kind)
    if kind == "retina":  # whose divisor moves in training
        detector.loss_divisor = "moving"
        detector.moving_foreground = detector.add_weight(shape=(), initializer="ones", trainable=False, name="moving")
    before = [variable.numpy() for variable in detector.variables]
    keras.utils.set_random_seed(5)
    expected_draw = tf.random.uniform([]).numpy(), np.random.rand()
    keras.utils.set_random_seed(5)
    measure = ValidationLoss(detector, Batches())
    measure.prepare()
    found = measure()
    assert found == measure() == ValidationLoss(detector, Batches())()  # the same draws, evaluation after evaluation
    assert (tf.random.uniform([]).numpy(), np.random.rand()) == expected_draw
    for variable, value in zip(detector.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)

    several = ValidationLoss(detector, Batches(), ["/device:CPU:0", "/device:CPU:1"])
    several.prepare()
    assert several() == several() == found
    names = [name for name in found if name.startswith("validation/loss/")]
    assert found["validation_loss"] == pytest.approx(sum(found[name] for name in names)) and len(names) >= 2
    expected = dict.fromkeys(names, 0.0)
    for number, (batch, count) in enumerate(Batches()):
        seed = tf.random.experimental.stateless_fold_in(tf.constant([0, 0]), number)
        with layers_in_inference():
            losses = detector.losses(batch, seed)
        for name, value in losses.items():
            expected[f"validation/loss/{name}"] += count * float(value) / 3
    assert {name: found[name] for name in names} == pytest.approx(expected, rel=1e-5)


def test_normalisation_uses_what_it_stored_and_nothing_is_dropped():
    from tfdet.layers import BatchNorm, DropPath, drop_seed

    x = tf.random.stateless_normal([4, 3, 3, 2], [1, 2]) + 5.0
    norm, drop = BatchNorm("local"), DropPath(0.9)
    norm(x, training=False)
    with drop_seed(tf.constant([0, 0])), layers_in_inference():
        np.testing.assert_array_equal(norm(x, training=True), norm(x, training=False))
        np.testing.assert_array_equal(drop(x, training=True), x)
    assert float(norm.moving_mean[0]) == 0.0
    with drop_seed(tf.constant([0, 0])):
        assert not np.array_equal(norm(x, training=True), x) and not np.array_equal(drop(x, training=True), x)
    assert float(norm.moving_mean[0]) != 0.0
