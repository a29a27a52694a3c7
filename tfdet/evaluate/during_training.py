"""Evaluation during training: COCO's figures of the detector as it is after some step."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tfdet.evaluate.classes import match_model
from tfdet.evaluate.coco import METRIC_NAMES
from tfdet.evaluate.run import EvalResult, evaluate
from tfdet.predict.predictors import detect_function
from tfdet.report.drawing import draw_detections
from tfdet.report.tensorboard import EventWriter
from tfdet.training.evaluation import Evaluation
from tfdet.training.run_record import data_fingerprint

_NUM_PICTURES = 8
_DRAWN_FROM = 0.3  # score of a detection in a picture


class EvaluationDuringTraining(Evaluation):
    """Evaluates again and again with one trace of `detect`, which reads the detector's variables as they are.

    Args:
      detector: a model with `detect` and `num_classes`.
      eval_input: an `EvalInput`.
      report: called with the step and what was found, such as an `EvaluationReport`.
      console: a `rich.console.Console` for the progress bar; None: no bar.
      num_pictures: images whose detections are kept for `report`.
      classes: the detector's names by class, as in `evaluate`.

    Attributes:
      metric_names: COCO's twelve figures; the same of masks, with `mask_` in front, where detector and data have them;
        then the AP of each class.

    Raises:
      UserError: the data set has other classes than the detector.
    """

    def __init__(
        self,
        detector: Any,
        eval_input: Any,
        report: Callable[[int, EvalResult], None] | None = None,
        console: Any = None,
        num_pictures: int = _NUM_PICTURES,
        classes: Sequence[str] | None = None,
    ):
        match_model(detector.num_classes, classes, eval_input.manifest)
        self._classes = classes
        self._detector, self._input = detector, eval_input
        self._report, self._console, self._num_pictures = report, console, num_pictures
        self._detect = detect_function(detector, eval_input.resize.rule)
        manifest = eval_input.manifest
        self.data = data_fingerprint(manifest)
        kinds = ["", "mask_"] if getattr(detector, "masks", None) is not None and manifest.has_masks else [""]
        figures = [f"{kind}{name}" for kind in kinds for name in METRIC_NAMES]
        self.metric_names = figures + [f"per_class/{kind}AP/{name}" for kind in kinds for name in manifest.classes]

    def prepare(self) -> None:
        """Traces `detect`: a wrong value of the post-processing shows before the first step of training.

        Nothing is computed, so weights and random numbers stay as they are, and the first evaluation finds the trace.

        Raises:
          UserError: a part of `detect` refuses a value.
        """
        self._detect.get_concrete_function()

    def __call__(self, step: int) -> dict[str, float]:
        """The scalars of an `EvalResult`: figures that exist, by name."""
        result = evaluate(
            self._detector,
            self._input,
            num_samples=self._num_pictures if self._report else 0,
            detect=self._detect,
            console=self._console,
            classes=self._classes,
        )
        if self._report:
            self._report(step, result)
        return result.scalars()


class EvaluationReport:
    """Writes what an evaluation found to one folder: its figures, and pictures with truth and detections.

    Args:
        folder: such as `RunDirectory.eval_events`.
        classes: class names by class.
        warn: receives a line where the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike, classes: Sequence[str], warn: Callable[[str], None] = warnings.warn):
        self._events, self._classes = EventWriter(folder, warn), classes

    def __call__(self, step: int, result: EvalResult) -> None:
        """Args: step, of the training; result, of its evaluation."""
        self._events.scalars(step, result.scalars())
        for index, sample in enumerate(result.samples):
            picture = draw_detections(
                sample.image,
                sample.boxes,
                sample.classes,
                sample.scores,
                self._classes,
                score_threshold=_DRAWN_FROM,
                gt_boxes=sample.gt_boxes,
                gt_classes=sample.gt_classes,
                masks=sample.masks,
            )
            self._events.images(step, f"detections/{index}", picture[None])
