"""The check of an export: passes on the same model, fails on each kind of difference."""

import dataclasses
import functools
import io

import numpy as np
import pytest
import rich.console
import tensorflow as tf
from PIL import Image

from tests.export.conftest import CARD, RESIZE
from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector, MaskedColorDetector, picture
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.export.request import images_to_compare
from tfdet.export.run import Compared, Target, export_and_compare
from tfdet.export.saved_model import export
from tfdet.export.verify import (
    BOX_TOLERANCE,
    SCORE_TOLERANCE,
    Difference,
    compare,
    mixed_sizes,
    synthetic_images,
    table,
    verify,
)
from tfdet.predict.exported import load_signatures
from tfdet.predict.found import Found, Labels
from tfdet.predict.predictors import CheckpointPredictor, SavedModelPredictor


@pytest.fixture(autouse=True, scope="module")
def loaded_once():
    """Loading an export, and calling its signatures for the first time, is most of what these tests do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfdet.export.verify.load_signatures", functools.cache(load_signatures))
        yield


@pytest.fixture(scope="module")
def images():
    jpeg = tf.io.encode_jpeg(picture(150, 200, {0: (20, 30, 120, 100), 2: (130, 5, 190, 80)}, noise_seed=1)).numpy()
    return [jpeg, *synthetic_images()]


def test_same_model_passes_with_all_signatures(predictor, exported, images):
    differences = verify(predictor, str(exported), images)
    assert [entry.signature for entry in differences] == ["image_bytes", "image_tensor", "tf_example"]
    for entry in differences:
        assert entry.passed() and entry.num_images == 3 and entry.num_detections >= 5


def test_other_weights_fail(exported, images):
    other = ColorDetector()
    other.mix.kernel.assign(other.mix.kernel * 0.99)
    differences = verify(CheckpointPredictor(other, RESIZE, CLASSES, CATEGORY_IDS), str(exported), images)
    assert not any(entry.passed() for entry in differences)
    assert all(entry.score > SCORE_TOLERANCE for entry in differences)


class SeesNeighbours(ColorDetector):
    """Its scores fall with the padding, by little."""

    def detect(self, images, image_info):
        found = super().detect(images, image_info)
        area = tf.cast(tf.reduce_prod(tf.shape(images)[1:3]), tf.float32)
        padding = area - tf.reduce_prod(image_info[:, :2], axis=1)
        return found._replace(scores=found.scores - 2e-5 * tf.cast(padding > 0, tf.float32)[:, None])


def test_an_export_that_depends_on_the_batch_fails(images, tmp_path):
    detector = SeesNeighbours()
    export(detector, tmp_path / "model", RESIZE, CLASSES, CATEGORY_IDS)
    predictor = CheckpointPredictor(detector, RESIZE, CLASSES, CATEGORY_IDS)
    differences = verify(predictor, str(tmp_path / "model"), images[:1])
    assert [entry.passed() for entry in differences] == [False, True, False]
    assert differences[0].score < 1e-6 and differences[0].batch_score == pytest.approx(2e-5, rel=0.1)
    console = rich.console.Console(file=io.StringIO(), width=80)
    console.print(table(differences, BOX_TOLERANCE, SCORE_TOLERANCE))
    assert "in one batch of several sizes: 0 come or go" in console.file.getvalue().replace("\n", " ")
    assert not dataclasses.replace(differences[1], batch_changed=1).passed()


def test_the_batch_has_images_of_several_sizes_and_orientations():
    lying, square = np.zeros([4, 6, 3], np.uint8), np.zeros([5, 5, 3], np.uint8)
    assert [image.shape[:2] for image in mixed_sizes([lying])] == [(4, 6), (6, 4), (2, 6)]
    assert [image.shape[:2] for image in mixed_sizes([lying] * 4 + [square])] == [(4, 6), (6, 4), (5, 5)]
    assert [image.shape[:2] for image in mixed_sizes([square])] == [(5, 5), (2, 5)]
    assert mixed_sizes([]) == []


def test_another_resize_fails(detector, exported, images):
    other = CheckpointPredictor(detector, Resize(60, 128), CLASSES, CATEGORY_IDS)
    assert not any(entry.passed() for entry in verify(other, str(exported), images))


def test_table_shows_tolerance_and_outcome(exported, predictor, images):
    def text(part):
        console = rich.console.Console(file=io.StringIO(), width=80)
        console.print(table(part, BOX_TOLERANCE, SCORE_TOLERANCE))
        return console.file.getvalue()

    good = verify(predictor, str(exported), images[:1])
    assert "boxes 0.05 px, scores 0.001" in text(good) and text(good).count("equal") == 3
    wrong = [type(entry)(**{**vars(entry), "missing": 1}) for entry in good]
    assert text(wrong).count("DIFFERS") == 3
    heading = next(line for line in text(good).splitlines() if "signature" in line)
    assert [word for word in heading.replace(",", " ").split() if word.isalpha()] == (
        ["signature", "found", "missing", "extra", "box", "px", "score", "mask"]
    )


def prediction(*rows):
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    scores, kinds = np.array([row[2] for row in rows], np.float32), np.array([row[1] for row in rows], int)
    return Found(np.zeros([50, 50, 3], np.uint8), boxes, scores, kinds, Labels([], []))


A, B = ([0, 0, 10, 10], 0, 0.9), ([20, 20, 40, 40], 0, 0.9)


def test_pairs_do_not_depend_on_the_order_of_equal_scores():
    assert compare(prediction(A, B), prediction(B, A), 0.05, 1e-3) == (0, 0, 0.0, 0.0, None)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([A], (1, 0, 0.0, 0.0, None)),
        ([A, B, B], (0, 1, 0.0, 0.0, None)),
        ([A, (B[0], 1, 0.9)], (1, 1, 0.0, 0.0, None)),
        ([A, ([20, 20, 40, 43], 0, 0.9)], (0, 0, 3.0, 0.0, None)),
        ([A, (B[0], 0, 0.4)], (0, 0, 0.0, pytest.approx(0.5), None)),
        ([A, (B[0], 0, float("nan"))], (0, 0, float("inf"), float("inf"), None)),
    ],
)
def test_each_kind_of_difference_is_seen(found, expected):
    assert compare(prediction(A, B), prediction(*found), 0.05, 1e-3) == expected


def test_checkpoint_and_saved_model_predict_alike(predictor, exported):
    image = picture(150, 200, {0: (20, 30, 120, 100), 1: (130, 5, 190, 80)})
    one, other = predictor(image), SavedModelPredictor(exported)(image)
    assert one.class_ids.tolist() == [0, 1]
    assert one.masks is None and other.masks is None
    for name in ("boxes", "scores", "class_ids"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4)
    np.testing.assert_allclose(one.boxes[0], [20, 30, 121, 101], atol=3.5)
    np.testing.assert_allclose(one.drawing_boxes()[0], [20, 30, 120, 100], atol=3.5)
    assert SavedModelPredictor(exported).labels.classes == CLASSES


def test_masks_are_compared():
    masks = np.stack([np.full([4, 4], 0.2), np.full([4, 4], 0.9)])

    def with_masks(found, masks):
        return dataclasses.replace(found, mask_probabilities=masks)

    one, other = with_masks(prediction(A, B), masks), prediction(B, A)
    assert compare(one, with_masks(other, masks[::-1]), 0.05, 1e-3) == (0, 0, 0.0, 0.0, 0.0)
    *_, gap = compare(one, with_masks(other, masks[::-1] + [[[0.0]], [[0.5]]]), 0.05, 1e-3)
    assert gap == pytest.approx(0.5)
    assert compare(one, other, 0.05, 1e-3)[-1] == float("inf")
    shown = Difference("image_bytes", 1, 2, 0, 0, 0.0, 0.0)
    assert shown.passed() and dataclasses.replace(shown, mask=0.001).passed()
    assert not dataclasses.replace(shown, mask=gap).passed()


def test_an_export_with_masks(images, tmp_path):
    detector = MaskedColorDetector()
    export(detector, tmp_path / "model", RESIZE, CLASSES, CATEGORY_IDS)
    for entry in verify(CheckpointPredictor(detector, RESIZE, CLASSES, CATEGORY_IDS), str(tmp_path / "model"), images):
        assert entry.passed() and entry.num_detections >= 5 and entry.mask == 0.0
    found = SavedModelPredictor(tmp_path / "model")(tf.io.decode_image(images[0]).numpy())
    masks = found.mask_probabilities
    assert masks.shape == (2, 28, 28) and masks[:, :, :14].all() and not masks[:, :, 14:].any()


def test_images_that_the_export_will_not_take_are_not_compared(detector, tmp_path):
    chosen, _ = images_to_compare(None, None, 2, max_pixels=70_000)
    assert chosen == synthetic_images()[1:]  # 333 x 201, and not 240 x 320
    with pytest.raises(UserError, match="more than"):
        images_to_compare([np.zeros([300, 300, 3], np.uint8), Image.new("RGB", (300, 300))], None, 2, max_pixels=70_000)
    labels, compared = Labels(CLASSES, CATEGORY_IDS), Compared(chosen, "")
    target = Target(str(tmp_path / "model"), max_pixels=70_000)
    assert export_and_compare(detector, labels, RESIZE, target, compared, CARD).passed


def test_synthetic_images_are_the_same_each_time():
    assert synthetic_images(3) == synthetic_images(3)
    assert len({tf.io.decode_image(image).shape[0] for image in synthetic_images(2)}) == 2
