"""Evaluation during training: what is wrong shows before the first step, and nothing of the training changes."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import small_detector
from tests.fakes import CLASSES, ColorDetector, MaskedColorDetector, PictureInput
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.evaluate.coco import METRIC_NAMES
from tfdet.evaluate.during_training import EvaluationDuringTraining, EvaluationReport
from tfdet.evaluate.validation import Validation, ValidationParts
from tfdet.report.curves import read_scalars
from tfdet.training.validation_loss import ValidationLoss

PICTURES = [(40, 60, {0: (5, 5, 20, 20)}), (50, 50, {1: (10, 10, 30, 30)})]


def pictures(has_masks=False):
    eval_input = PictureInput(PICTURES)
    eval_input.manifest.has_masks = has_masks
    return eval_input


def test_detect_is_traced_once_before_the_first_step_and_follows_the_weights():
    traces = []

    class Counted(ColorDetector):
        def detect(self, images, image_info):
            traces.append(tf.executing_eagerly())
            return super().detect(images, image_info)

    detector, reports = Counted(), []
    evaluation = EvaluationDuringTraining(detector, pictures(), lambda *given: reports.append(given))
    evaluation.prepare()
    assert traces == [False]
    assert evaluation(1)["AP"] > 0.5
    detector.mix.kernel.assign(tf.zeros_like(detector.mix.kernel))
    assert evaluation(2)["AP"] == 0.0
    assert traces == [False]
    assert [step for step, *_ in reports] == [1, 2] and len(reports[0][1].samples) == len(PICTURES)
    assert reports[0][3] == {1000: "1000", 1007: "1007"}  # these pictures have no file


def test_annotations_are_read_once_and_what_is_wrong_with_them_is_said_once():
    class Counted(PictureInput):
        read = 0

        def ground_truth(self):
            self.read += 1
            truth = super().ground_truth()
            truth["annotations"].append(truth["annotations"][0] | {"id": 99, "bbox": [1, 1, 0, 5]})
            return truth

    source, sample = Counted(PICTURES), Counted(PICTURES[:1])
    parts = ValidationParts()
    parts.sample = sample
    evaluation = EvaluationDuringTraining(ColorDetector(), source, validation=parts)
    with pytest.warns(UserWarning) as said:
        first = evaluation(1)
        second = evaluation(2)
    assert (source.read, sample.read) == (1, 1) and len(said) == 2
    assert first["AP"] == second["AP"] == pytest.approx(0.9) and "validation/train_AP" in second
    assert {"evaluation_seconds/reading", "evaluation_seconds/detecting", "evaluation_seconds/figures"} <= set(first)


class LossOf(ValidationLoss):
    """A loss that is what it is told to be."""

    def __init__(self, value):
        self.value, self.prepared = value, 0

    def prepare(self):
        self.prepared += 1

    def __call__(self):
        return {"validation/loss/cls": self.value, "validation_loss": self.value}


def test_a_validation_adds_its_figures_and_changes_no_other(tmp_path):
    plain = EvaluationDuringTraining(ColorDetector(), pictures())(1)
    parts, report = ValidationParts(), EvaluationReport(tmp_path, CLASSES)
    parts.loss, parts.sample = LossOf(0.75), PictureInput([(40, 60, {0: (5, 5, 20, 20)})] * 2)
    parts.warnings.append("no masks")
    evaluation = EvaluationDuringTraining(ColorDetector(), pictures(), report, validation=parts)
    evaluation.prepare()
    figures = evaluation(1)
    assert parts.loss.prepared == 1 and evaluation.warnings == ["no masks"]
    assert "validation_loss" in evaluation.metric_names
    added = set(figures) - set(plain)
    assert added == {"validation/loss/cls", "validation_loss", "validation/train_AP", "validation/gap_AP"}
    measured = [name for name in plain if name != "images_per_second" and not name.startswith("evaluation_seconds/")]
    assert {name: figures[name] for name in measured} == {name: plain[name] for name in measured}
    assert figures["validation/gap_AP"] == figures["validation/train_AP"] - figures["AP"]
    report._events.close()
    scalars = read_scalars(tmp_path)
    assert scalars["validation/loss/total"] == {1: 0.75} and scalars["coco/AP"][1] == pytest.approx(figures["AP"])
    assert f"class/AP/{CLASSES[0]}" in scalars and "AP" not in scalars


def test_preparing_moves_neither_weights_nor_random_numbers():
    detector = small_detector("c4")
    evaluation = EvaluationDuringTraining(
        detector, SimpleNamespace(manifest=manifest(detector), resize=Resize(64, 128))
    )
    before = [variable.numpy() for variable in detector.variables]
    keras.utils.set_random_seed(5)
    expected = draws()
    keras.utils.set_random_seed(5)
    evaluation.prepare()
    np.testing.assert_array_equal(draws(), expected)
    for variable, value in zip(detector.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


def draws():
    """Numbers of every generator that a seed sets: Python's users, NumPy, TensorFlow and Keras."""
    return np.array([np.random.rand(), float(tf.random.uniform([])), float(keras.random.uniform([]))])


def manifest(detector, num_classes=None, has_masks=False):
    names = [f"class {index}" for index in range(num_classes or detector.num_classes)]
    return SimpleNamespace(name="data", classes=names, has_masks=has_masks)


def test_a_wrong_value_of_the_post_processing_is_one_line_before_the_first_step():
    detector = small_detector("c4")
    detector.postprocess.nms_method = "guassian"  # as a part of somebody's own would have it, which nothing checks
    evaluation = EvaluationDuringTraining(
        detector, SimpleNamespace(manifest=manifest(detector), resize=Resize(64, 128))
    )
    with pytest.raises(UserError) as error:
        evaluation.prepare()
    assert "guassian" in str(error.value) and "\n" not in str(error.value)


def test_another_number_of_classes_is_refused_before_the_first_step():
    detector = ColorDetector()
    with pytest.raises(UserError, match="the detector has 3 classes and the data set 'data' has 5"):
        EvaluationDuringTraining(detector, SimpleNamespace(manifest=manifest(detector, 5))).prepare()


@pytest.mark.parametrize("has_branch, has_masks", [(True, True), (True, False), (False, True)])
def test_the_names_of_the_figures_are_those_it_gives(has_branch, has_masks):
    detector = MaskedColorDetector() if has_branch else ColorDetector()
    detector.masks = object() if has_branch else None
    names = EvaluationDuringTraining(detector, pictures(has_masks)).metric_names
    assert list(names[:12]) == list(METRIC_NAMES)
    assert ("mask_AP" in names, "mask_ARl" in names) == (has_branch and has_masks,) * 2
    assert f"per_class/AP/{CLASSES[0]}" in names
    assert (f"per_class/mask_AP/{CLASSES[2]}" in names) == (has_branch and has_masks)


def test_every_scalar_but_the_speed_has_a_known_name():
    evaluation = EvaluationDuringTraining(ColorDetector(), pictures())
    left = set(evaluation(1)) - set(evaluation.metric_names)
    assert {name for name in left if not name.startswith("evaluation_seconds/")} == {"images_per_second"}


def test_what_cannot_be_measured_is_said_before_training():
    empty = SimpleNamespace(manifest=SimpleNamespace(name="photos", num_boxes=0, num_images=3, has_masks=False))
    train_input = SimpleNamespace(masks=True)
    parts = Validation(loss=True, train_images=5).of(None, train_input, empty, 0)
    assert (parts.loss, parts.sample) == (None, None)
    assert parts.warnings == ["the data set 'photos' has no box: no validation loss and no gap is measured on it"]
    off = Validation().of(None, train_input, empty, 0)
    assert (off.loss, off.sample, off.warnings) == (None, None, [])
