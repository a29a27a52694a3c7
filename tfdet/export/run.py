"""Writes a detector in a format and compares what the two find: one call for Python and for the command."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfdet.arguments import MAX_PIXELS
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.export import check, saved_model, verify
from tfdet.export.check import Measured
from tfdet.export.formats import FORMATS, ExportFormat, Precision
from tfdet.export.formats.graph import Canvas, freeze, input_in_words, square_canvas
from tfdet.export.formats.predictor import GraphPredictor, detector_run, feeds_of, model_bytes
from tfdet.export.model_card import write_card
from tfdet.export.saved_model import BadImages
from tfdet.export.verify import Difference
from tfdet.ops import native
from tfdet.predict.exported import SIGNATURES
from tfdet.predict.found import Labels
from tfdet.predict.predictors import CheckpointPredictor, SavedModelPredictor

if TYPE_CHECKING:
    from rich.table import Table

_LABELS = "labels.json"  # beside the file of another program's format
SAVED_MODEL_TITLE = "TensorFlow SavedModel"


@dataclasses.dataclass(frozen=True)
class Target:
    """What is written, and where to."""

    folder: str  # absent or empty
    format: ExportFormat = "saved_model"
    precision: Precision = "float32"
    canvas: Canvas | None = None  # one size of all images; None: any, or the format's default
    native_ops: bool = False  # trace tfdet's custom ops; of a SavedModel
    max_pixels: int = MAX_PIXELS  # most pixels of an image that a SavedModel takes encoded, height times width
    bad_images: BadImages = "alone"  # what fails where an image of a SavedModel's batch cannot be read

    @property
    def title(self) -> str:
        """The format, for people."""
        return FORMATS[self.format].title if self.format in FORMATS else SAVED_MODEL_TITLE


@dataclasses.dataclass(frozen=True)
class Compared:
    """Images that both models detect on."""

    encoded: list[bytes]  # JPEG or PNG
    origin: str  # in words
    box_tolerance: float | None = None  # pixels of the image; None: the format's
    score_tolerance: float | None = None  # None: `verify.SCORE_TOLERANCE`
    data: str | None = None  # a data set on which AP is measured
    max_images: int | None = None  # of it; None: all
    calibration: Sequence[bytes] = ()  # images on which the ranges of int8 are measured


@dataclasses.dataclass(frozen=True)
class Export:
    """What was written, and how it differs from the model that it is of."""

    folder: str
    resize: Resize  # of the images
    differences: list[Difference]  # one a signature; none where nothing was compared
    origin: str  # of the images that were compared, in words
    box_tolerance: float  # infinite where AP alone decides
    score_tolerance: float
    measured: Measured | None = None  # AP of both; None where no data set was given
    bytes: int = 0  # of the model's files
    format: ExportFormat = "saved_model"
    precision: Precision = "float32"
    canvas: Canvas | None = None

    @property
    def passed(self) -> bool:
        """Whether all differences are within the tolerances, and no AP is lost."""
        same = all(entry.passed(self.box_tolerance, self.score_tolerance) for entry in self.differences)
        return (same or not self.judged) and (self.measured is None or self.measured.passed)

    @property
    def judged(self) -> bool:
        """Whether the differences decide, and not AP alone."""
        return bool(np.isfinite(self.box_tolerance))

    def describe(self) -> str:
        """What was written, in words."""
        sides = f"short side {self.resize.short_side}, long side at most {self.resize.long_side}"
        if self.format == "saved_model":
            return f"signatures {', '.join(SIGNATURES)} (image_bytes is also serving_default), {sides}"
        form, canvas = FORMATS[self.format], f", canvas {self.canvas}" if self.canvas else ""
        return f"{form.file}, {form.title} {self.precision}, {self.bytes / 1e6:.1f} MB, {sides}{canvas}"

    @property
    def num_detections(self) -> int:
        """Detections that were compared: 0 says nothing."""
        return self.differences[0].num_detections if self.differences else 0

    def table(self) -> Table:
        """The differences, for a console."""
        return verify.table(self.differences, self.box_tolerance, self.score_tolerance)


class ExportDiffersError(UserError):
    """An export does not find what the model finds; `export` has the differences."""

    def __init__(self, export: Export):
        worst = "; ".join(difference.describe() for difference in export.differences)
        super().__init__(f"the export in {export.folder} does not find what the model finds: do not use it ({worst})")
        self.export = export


def export_and_compare(
    detector: Any, labels: Labels, resize: Resize, target: Target, compared: Compared | None, card: Mapping[str, Any]
) -> Export:
    """Writes a detector and its card, and compares it with what was written.

    A SavedModel is compared as `verify.verify` does it; a format of another program as `check.compare_on_images`, in
    float32 alone: of lower precisions AP decides, where a data set is given.

    Args:
        detector: a model with `detect`, weights restored.
        labels: what its classes are.
        resize: of the images.
        target: what to write.
        compared: by which images; None compares nothing.
        card: of `model_card.card_of`.

    Raises:
        ExportDiffersError: a difference is not within the tolerances, or AP is lost.
        UserError: the folder is not empty or cannot be written, there are no custom ops, or the format's packages are
            not installed.
    """
    compared = compared or Compared([], "")
    score_tolerance = verify.SCORE_TOLERANCE if compared.score_tolerance is None else compared.score_tolerance
    if target.format == "saved_model":
        write = _write_saved_model(detector, labels, resize, target)
        default, compare = verify.BOX_TOLERANCE, _compare_saved_model
    else:
        write = _write_format(detector, labels, resize, target, compared.calibration)
        default, compare = check.BOX_TOLERANCE, _compare_format
    if target.precision != "float32" and compared.box_tolerance is None:
        default = float("inf")
    box_tolerance = default if compared.box_tolerance is None else compared.box_tolerance
    facts = write(card)
    differences, measured = compare(detector, labels, resize, target, compared, (box_tolerance, score_tolerance))
    size = model_bytes(target.folder)
    canvas = facts["format"]["canvas"]
    done = Export(
        target.folder,
        resize,
        differences,
        compared.origin,
        box_tolerance,
        score_tolerance,
        measured,
        size,
        target.format,
        target.precision,
        canvas,
    )
    facts["format"]["bytes"] = size
    write_card(target.folder, card, **facts, **_results(done))
    if not done.passed:
        raise ExportDiffersError(done)
    return done


def _facts(target: Target, resize: Resize, canvas: Canvas | None) -> dict[str, Any]:
    """What the card says of the format."""
    form = {"name": target.format, "title": target.title, "precision": target.precision, "canvas": canvas}
    return {"format": form, "input": input_in_words(target.format, resize, canvas)}


def _results(done: Export) -> dict[str, Any]:
    """What the card says of the comparison."""
    measured, worst = done.measured, done.differences
    return {
        "verification": None
        if not worst
        else {
            "images": worst[0].num_images,
            "detections": worst[0].num_detections,
            "missing": max(entry.missing for entry in worst),
            "extra": max(entry.extra for entry in worst),
            "box": max(entry.box for entry in worst),
            "score": max(entry.score for entry in worst),
            "passed": done.passed,
        },
        "evaluation": None
        if measured is None
        else {
            "data": os.path.basename(os.path.normpath(measured.data)),
            "images": measured.num_images,
            "checkpoint": measured.checkpoint,
            "export": measured.export,
            "checkpoint_masks": measured.checkpoint_masks,
            "export_masks": measured.export_masks,
        },
    }


def _write_saved_model(detector: Any, labels: Labels, resize: Resize, target: Target) -> Any:
    def write(card: Mapping[str, Any]) -> dict[str, Any]:
        facts = _facts(target, resize, None)
        implementation = "native" if target.native_ops else "python"
        names, ids, _ = labels
        options = (implementation, target.max_pixels, target.bad_images)
        saved_model.export(detector, target.folder, resize, names, ids, *options)
        write_card(target.folder, card, **facts)
        return facts

    return write


def _compare_saved_model(
    detector: Any, labels: Labels, resize: Resize, target: Target, compared: Compared, tolerances: tuple[float, float]
) -> tuple[list[Difference], Measured | None]:
    if not compared.encoded and compared.data is None:
        return [], None
    names, ids, _ = labels
    measured = None
    with native.implementation("native" if target.native_ops else "python"):
        predictor = CheckpointPredictor(detector, resize, names, ids)
        differences = verify.verify(predictor, target.folder, compared.encoded, *tolerances, target.max_pixels)
        if compared.data is not None:
            exported = SavedModelPredictor(target.folder)
            measured = check.measure_both(predictor, exported, labels, compared.data, compared.max_images)
    return differences, measured


def _write_format(detector: Any, labels: Labels, resize: Resize, target: Target, calibration: Sequence[bytes]) -> Any:
    known = FORMATS[target.format]
    module, canvas = known.module(target.format), _canvas_of(target, resize)

    def write(card: Mapping[str, Any]) -> dict[str, Any]:
        facts = _facts(target, resize, canvas)
        images = (_pixels(image) for image in calibration)
        feeds = [feeds_of(image, resize, canvas) for image in images] if target.precision == "int8" else None
        with saved_model.new_folder(target.folder) as temporary:
            module.write(freeze(detector, resize, canvas), os.path.join(temporary, known.file), target.precision, feeds)
            saved_model.write_labels(
                os.path.join(temporary, _LABELS), labels.classes, labels.category_ids, resize, detector, canvas=canvas
            )
            write_card(temporary, card, **facts)
        return facts

    return write


def _canvas_of(target: Target, resize: Resize) -> Canvas | None:
    return square_canvas(resize) if target.canvas is None and FORMATS[target.format].needs_canvas else target.canvas


def _compare_format(
    detector: Any, labels: Labels, resize: Resize, target: Target, compared: Compared, tolerances: tuple[float, float]
) -> tuple[list[Difference], Measured | None]:
    if not compared.encoded and compared.data is None:
        return [], None
    known, canvas = FORMATS[target.format], _canvas_of(target, resize)
    session = known.module(target.format).Session(os.path.join(target.folder, known.file))
    exported = GraphPredictor(session, resize, canvas, labels)
    with native.implementation("python"):
        alone = CheckpointPredictor(detector, resize, labels.classes, labels.category_ids)
        # On a canvas the network sees a border that an image alone does not have: that is no fault of the conversion.
        reference = (
            alone if canvas is None else GraphPredictor(detector_run(detector, resize, canvas), resize, canvas, labels)
        )
        images = [_pixels(image) for image in compared.encoded]
        # Of lower precisions the differences are told, in units of a pixel and a hundredth.
        limits = tolerances if np.isfinite(tolerances[0]) else (1.0, 0.01)
        difference = check.compare_on_images(target.format, reference, exported, images, *limits)
        measured = None
        if compared.data is not None:
            measured = check.measure_both(alone, exported, labels, compared.data, compared.max_images)
    return [difference], measured


def _pixels(encoded: bytes) -> np.ndarray:
    return saved_model.decode_image(tf.constant(encoded)).numpy()
