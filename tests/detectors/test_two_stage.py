import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import assert_batch_changes_nothing, random_batch, small_detector
from tfdet.detectors.preprocess import normalize_images

SEED = tf.constant([7, 3], tf.int32)
LOSSES = {"rpn_cls", "rpn_box", "bbox_cls", "bbox_reg"}


@pytest.mark.parametrize("trunk", ["c4", "fpn"])
class TestBothTrunks:
    def test_losses_are_finite_for_any_number_of_boxes(self, trunk):
        detector = small_detector(trunk)
        for boxes in ([3, 5], [0, 0], [0, 4], [300, 1]):
            losses = detector.losses(random_batch(boxes, slots=max(*boxes, 1)), SEED)
            assert set(losses) == LOSSES
            for name, value in losses.items():
                assert value.dtype == tf.float32 and np.isfinite(value), (boxes, name)
            if sum(boxes) == 0:
                assert losses["rpn_box"] == 0 and losses["bbox_reg"] == 0 and losses["rpn_cls"] > 0
        losses = detector.losses(random_batch([0, 0], slots=0), SEED)
        assert all(np.isfinite(v) for v in losses.values())

    def test_losses_are_a_function_of_the_seed(self, trunk):
        detector, batch = small_detector(trunk, norm="frozen"), random_batch([3, 5], 5)
        first, again = detector.losses(batch, SEED), detector.losses(batch, SEED)
        other = detector.losses(batch, SEED + 1)
        assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in again.items()}
        assert float(first["rpn_cls"]) != float(other["rpn_cls"])

    def test_every_trainable_variable_gets_a_gradient(self, trunk):
        detector, batch = small_detector(trunk), random_batch([6, 9], 9)
        with tf.GradientTape() as tape:
            total = tf.add_n(list(detector.losses(batch, SEED).values()))
        gradients = tape.gradient(total, detector.trainable_variables)
        without = [v.path for v, g in zip(detector.trainable_variables, gradients, strict=True) if g is None]
        assert without == []
        assert all(np.isfinite(g).all() for g in gradients)

    def test_detections_are_inside_the_original_image_and_sorted(self, trunk):
        detector, batch = small_detector(trunk), random_batch([0, 0], 1)
        detector.postprocess.score_threshold = 0.0
        info = tf.constant([[96.0, 128.0, 1.0], [48.0, 64.0, 0.5]])
        detections = detector.detect(batch.images, info)
        assert detections.boxes.shape == (2, 10, 4) and detections.classes.dtype == tf.int32
        for i in range(2):
            n = int(detections.num_valid[i])
            assert n > 0
            boxes, scores = detections.boxes[i, :n].numpy(), detections.scores[i, :n].numpy()
            assert (boxes >= 0).all() and (boxes[:, 2] <= 127.01).all() and (boxes[:, 3] <= 95.01).all()
            assert (np.diff(scores) <= 0).all()
            assert set(detections.classes[i, :n].numpy()) <= {0, 1, 2}
            assert (detections.classes[i, n:].numpy() == -1).all()

    def test_one_graph_serves_every_canvas(self, trunk):
        detector = small_detector(trunk)
        detector.postprocess.score_threshold = 0.0
        detect = tf.function(
            detector.detect,
            input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None, 3], tf.float32)],
            autograph=False,
        )
        for size in [(96, 128), (128, 96), (70, 101)]:
            batch = random_batch([1], 1, size=size)
            traced, eager = detect(batch.images, batch.image_info), detector.detect(batch.images, batch.image_info)
            np.testing.assert_allclose(traced.scores, eager.scores, atol=1e-5)
        assert_batch_changes_nothing(detector, detect)

    def test_mixed_precision_keeps_the_float32_islands(self, trunk):
        keras.mixed_precision.set_global_policy("mixed_float16")
        detector, batch = small_detector(trunk, norm="frozen"), random_batch([3], 3)
        first = detector.first_stage(batch.images, batch.image_info, training=False)
        assert first.features[0].dtype == tf.float16
        assert all(t.dtype == tf.float32 for level in first.rpn for t in level)
        proposals = detector.propose(first, batch.image_info, training=False)
        assert proposals.boxes.dtype == tf.float32
        logits, deltas = detector.second_stage(first, proposals.boxes, training=False)
        assert logits.dtype == deltas.dtype == tf.float32
        assert all(v.dtype == "float32" for v in detector.weights)


def test_padding_is_the_mean_colour():
    images = tf.fill([1, 4, 6, 3], tf.constant(9, tf.uint8))
    info = tf.constant([[3.0, 5.0, 1.0]])
    x = normalize_images(images, info, (1.0, 2.0, 3.0), (2.0, 2.0, 2.0)).numpy()[0]
    np.testing.assert_allclose(x[:3, :5], np.broadcast_to([4.0, 3.5, 3.0], (3, 5, 3)))
    assert not x[3:].any() and not x[:, 5:].any()


@pytest.mark.parametrize("trunk", ["c4", "fpn"])
def test_proposals_on_a_padded_canvas_stay_on_the_content(trunk):
    detector, batch = small_detector(trunk, norm="frozen"), random_batch([0], 1, size=(192, 256))
    info = tf.constant([[96.0, 128.0, 1.0]])
    first = detector.first_stage(batch.images, info, training=False)
    proposals = detector.propose(first, info, training=False)
    boxes = proposals.boxes.numpy()[proposals.scores.numpy() > 0]
    assert len(boxes) > 0
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 127).all() and (boxes[:, [1, 3]] <= 95).all()


def test_refuses_no_classes():
    with pytest.raises(ValueError, match="num_classes = 0"):
        small_detector("c4", num_classes=0)
