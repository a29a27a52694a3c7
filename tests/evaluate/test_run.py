"""The evaluation loop on pictures whose answers are known."""

import io

import numpy as np
import pytest
import rich.console

from tests.fakes import CLASSES, ColorDetector, MaskedColorDetector, PictureInput
from tfdet.errors import UserError
from tfdet.evaluate.run import detect_function, evaluate
from tfdet.evaluate.tables import class_table, metrics_table

# Resized by exactly 1, 2 and 1/2, so that edges fall on whole pixels.
PICTURES = [
    (64, 128, {0: (10, 8, 41, 47), 1: (60, 4, 99, 43)}),
    (32, 48, {2: (4, 6, 27, 29)}),
    (192, 128, {0: (20, 30, 99, 149)}),
    (64, 64, {}),
]


@pytest.fixture(scope="module")
def detector():
    return ColorDetector()


@pytest.fixture(scope="module")
def result(detector):
    return evaluate(detector, PictureInput(PICTURES), num_samples=2)


def test_boxes_come_back_in_original_coordinates_and_ids(result):
    assert [(entry["image_id"], entry["category_id"]) for entry in result.detections] == [
        (1000, 90),
        (1000, 7),
        (1007, 13),
        (1014, 90),
    ]
    np.testing.assert_allclose(result.detections[0]["bbox"], [10, 8, 32, 40], atol=0.01)
    # Inclusive corners of an enlarged picture lose half a pixel: the reference has the same.
    np.testing.assert_allclose(result.detections[2]["bbox"], [4, 6, 24, 24], atol=1.0)
    np.testing.assert_allclose(result.detections[3]["bbox"], [20, 30, 80, 120], atol=2.0)
    assert result.metrics["AP50"] == pytest.approx(1.0)
    assert result.metrics["AP"] > 0.8
    assert result.num_images == 4 and result.images_per_second > 0


def test_padded_batches_give_what_single_images_give(detector, result):
    together = evaluate(detector, PictureInput(PICTURES, images_per_batch=3))
    assert together.num_images == 4
    for one, other in zip(result.detections, together.detections, strict=True):
        np.testing.assert_allclose(one["bbox"], other["bbox"], atol=1e-3)
        assert one["category_id"] == other["category_id"]


def test_a_detector_that_finds_nothing_has_figures():
    blind = ColorDetector()
    blind.mix.kernel.assign(np.zeros(blind.mix.kernel.shape))
    result = evaluate(blind, PictureInput(PICTURES))
    assert result.detections == [] and result.metrics["AP"] == 0.0
    assert "AP 0.0" in result.line()


def test_a_data_set_without_boxes_or_images_has_figures(detector):
    result = evaluate(detector, PictureInput([(64, 64, {})]))
    assert result.metrics["AP"] == -1 and "AP -" in result.line()
    assert {name for name in result.scalars() if not name.startswith("evaluation_seconds/")} == {"images_per_second"}
    assert result.time_line().endswith(f"figures {result.parts['figures']:.1f}")
    empty = evaluate(detector, PictureInput([]))
    assert empty.num_images == 0 and empty.metrics["AP"] == -1 and empty.samples == []


def test_max_images_measures_the_first_ones_alone(detector):
    result = evaluate(detector, PictureInput(PICTURES, images_per_batch=3), max_images=2, max_detections=300)
    assert result.num_images == 2
    assert "AR300 " in result.line() and "(2 images, up to 300 detections an image, " in result.line()
    assert {entry["image_id"] for entry in result.detections} == {1000, 1007}
    assert result.metrics["AP50"] == pytest.approx(1.0)


def test_samples_hold_image_truth_and_detections_in_one_frame(result):
    assert [sample.image_id for sample in result.samples] == [1000, 1021]
    sample = result.samples[0]
    assert sample.image.shape == (64, 128, 3)
    np.testing.assert_allclose(sample.boxes, sample.gt_boxes, atol=0.01)
    np.testing.assert_array_equal(sample.classes, sample.gt_classes)
    assert len(result.samples[1].gt_boxes) == 0


def test_samples_are_scaled_with_their_image(detector):
    (sample,) = evaluate(detector, PictureInput(PICTURES[2:3]), num_samples=1).samples
    assert sample.image.shape == (96, 64, 3)
    np.testing.assert_allclose(sample.boxes, sample.gt_boxes, atol=1.0)


@pytest.mark.parametrize("rule", ["detectron2", "torchvision"])
def test_the_axes_scales_lead_back_to_the_original(detector, rule):
    """64 x 44.8 pixels of a picture of 100 x 70, and what is drawn is 8-bit."""
    source = PictureInput([(100, 70, {0: (10, 60, 59, 99)})], short_side=64, long_side=64, rule=rule)
    result = evaluate(detector, source, num_samples=1)
    (found,), (sample,) = result.detections, result.samples
    np.testing.assert_allclose(found["bbox"], [10, 60, 50, 40], atol=2.0)
    assert sample.image.dtype == np.uint8 and sample.image.shape == (64, {"detectron2": 45}.get(rule, 44), 3)
    np.testing.assert_allclose(sample.boxes, sample.gt_boxes, atol=1.5)


def test_one_trace_serves_every_size_and_follows_the_weights(detector):
    traces = []

    class Counting(ColorDetector):
        def detect(self, images, image_info):
            traces.append(1)
            return super().detect(images, image_info)

    counting = Counting()
    detect = detect_function(counting)
    first = evaluate(counting, PictureInput(PICTURES), detect=detect)
    evaluate(counting, PictureInput(PICTURES, images_per_batch=2), detect=detect)
    assert len(traces) == 1 and first.detections
    counting.mix.kernel.assign(np.zeros(counting.mix.kernel.shape))
    assert evaluate(counting, PictureInput(PICTURES), detect=detect).detections == []


def test_class_counts_must_agree(detector):
    other = PictureInput(PICTURES)
    other.manifest.classes = ["a", "b"]
    other.manifest.category_ids = [1, 2]
    with pytest.raises(UserError, match=r"3 classes .* has 2 \(a, b\)"):
        evaluate(detector, other)


def test_other_ground_truth_decides(detector):
    given = PictureInput(PICTURES)
    truth = given.ground_truth()
    for annotation in truth["annotations"]:
        annotation["bbox"] = [22, 22, 9, 9]
    assert evaluate(detector, given, ground_truth=truth).metrics["AP"] == 0.0


def render(*parts, terminal=False):
    console = rich.console.Console(file=io.StringIO(), width=100, force_terminal=terminal)
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def test_tables_show_percent_and_a_dash_for_nothing(result):
    text = render(metrics_table(result.metrics), class_table(result.per_class))
    assert "100.0" in text and "AP50" in text
    assert all(name in text for name in CLASSES)
    lines = [line for line in render(metrics_table({"AP": 0.1234, "APl": -1.0})).splitlines() if "AP" in line]
    assert "12.3" in lines[0] and " - " in lines[1]


def test_progress_is_shown_on_a_terminal_only(detector):
    quiet = rich.console.Console(file=io.StringIO())
    evaluate(detector, PictureInput(PICTURES), console=quiet)
    assert quiet.file.getvalue() == ""
    terminal = rich.console.Console(file=io.StringIO(), force_terminal=True, width=100)
    evaluate(detector, PictureInput(PICTURES), console=terminal)
    assert "4/4" in terminal.file.getvalue()


def test_masks_are_measured_where_both_sides_have_them():
    ground_truth = PictureInput(PICTURES).ground_truth()
    for entry in ground_truth["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["segmentation"] = [[x, y, x + w / 2, y, x + w / 2, y + h, x, y + h]]  # the left half
    result = evaluate(MaskedColorDetector(), PictureInput(PICTURES), num_samples=1, ground_truth=ground_truth)
    assert result.metrics["AP50"] == pytest.approx(1.0) and result.mask_metrics["AP50"] == pytest.approx(1.0)
    scalars = result.scalars()
    assert scalars["mask_AP"] == result.mask_metrics["AP"] and "per_class/mask_AP/red" in scalars
    assert "masks: AP " in result.line() and result.samples[0].masks.shape[1:] == (28, 28)
    assert all(set(entry["segmentation"]) == {"size", "counts"} for entry in result.detections)
    without = evaluate(MaskedColorDetector(), PictureInput(PICTURES), num_samples=0)
    assert without.mask_metrics is None and not any("mask" in name for name in without.scalars())


def test_ground_truth_that_is_not_sound_is_said(detector):
    pictures = PictureInput(PICTURES)
    truth = pictures.ground_truth()
    truth["annotations"][0]["bbox"][2] = float("nan")
    console = rich.console.Console(file=io.StringIO(), width=500)
    result = evaluate(detector, pictures, ground_truth=truth, console=console)
    assert result.findings == {"degenerate box": 1} and result.metrics["AP50"] < 1.0
    assert "not measured as it is: degenerate box 1" in result.line()
    assert "degenerate box (1 times), such as" in console.file.getvalue()
    with pytest.warns(UserWarning, match="degenerate box .*left out"):
        evaluate(detector, pictures, ground_truth=truth, max_images=1)
