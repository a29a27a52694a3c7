"""Evaluation during training: COCO's figures of the detector as it is after some step."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfdet.cluster import Workers
from tfdet.evaluate.classes import match_model
from tfdet.evaluate.coco import METRIC_NAMES, CocoEvaluator
from tfdet.evaluate.run import EvalResult, detect_on, evaluate, make_evaluator
from tfdet.evaluate.validation import ValidationParts, beside
from tfdet.predict.predictors import detect_function
from tfdet.report.drawing import draw_samples
from tfdet.report.tensorboard import EventWriter
from tfdet.text import one_line
from tfdet.training.evaluation import Evaluation
from tfdet.training.figures import TOTAL_LOSS, tag_of
from tfdet.training.on_devices import OnDevices
from tfdet.training.run_record import data_fingerprint

_NUM_PICTURES = 8


class EvaluationDuringTraining(Evaluation):
    """Evaluates again and again with one trace of `detect`, which reads the detector's variables as they are.

    Args:
      detector: a model with `detect` and `num_classes`.
      eval_input: an `EvalInput`.
      report: called with the step, what was found, all figures by name, and the file of each image that is kept for a
        picture by its id, such as an `EvaluationReport`.
      console: a `rich.console.Console` for the progress bar; None: no bar.
      num_pictures: images whose detections are kept for `report`.
      classes: the detector's names by class, as in `evaluate`.
      validation: what is measured besides, of `Validation.of`.
      devices: of this process that take the batches in turn, with copies of the weights, as in `detect_on`; None: one,
        with the detector itself. Several workers need them: reading what is trained can be a collective of them all.
      workers: that train together, of which each detects on its part of the images.

    Attributes:
      metric_names: COCO's twelve figures; the same of masks, with `mask_` in front, where detector and data have them;
        then the AP of each class,
        and the validation loss where it is measured.
      warnings: what is not measured.

    Raises:
      UserError: the data set has other classes than the detector.
    """

    def __init__(
        self,
        detector: Any,
        eval_input: Any,
        report: Callable[[int, EvalResult, Mapping[str, float], Mapping[int, str]], None] | None = None,
        console: Any = None,
        num_pictures: int = _NUM_PICTURES,
        classes: Sequence[str] | None = None,
        validation: ValidationParts | None = None,
        devices: Sequence[str] | None = None,
        workers: Workers | None = None,
    ):
        match_model(detector.num_classes, classes, eval_input.manifest)
        self._classes = classes
        self._detector, self._input = detector, eval_input
        self._evaluators: dict[int, CocoEvaluator] = {}  # by input: annotations are read once
        self._workers = workers or Workers()
        self._report, self._console, self._num_pictures = report, console, num_pictures
        rule = eval_input.resize.rule
        self._detect = detect_function(detector, rule) if devices is None else detect_on(detector, rule, devices)
        self._validation = validation or ValidationParts()
        self.warnings = self._validation.warnings
        manifest = eval_input.manifest
        self.data = data_fingerprint(manifest)
        kinds = ["", "mask_"] if getattr(detector, "masks", None) is not None and manifest.has_masks else [""]
        figures = [f"{kind}{name}" for kind in kinds for name in METRIC_NAMES]
        figures += [f"per_class/{kind}AP/{name}" for kind in kinds for name in manifest.classes]
        self.metric_names = figures + ([] if self._validation.loss is None else [TOTAL_LOSS])

    def prepare(self) -> None:
        """Traces `detect`, and the losses where they are measured: a wrong value shows before the first step.

        Nothing is computed, so weights and random numbers stay as they are, and the first evaluation finds the trace.

        Raises:
          UserError: a part of `detect` refuses a value.
        """
        if isinstance(self._detect, OnDevices):
            self._detect.prepare()
        else:
            self._detect.get_concrete_function()
        if self._validation.loss is not None:
            self._validation.loss.prepare()

    def __call__(self, step: int) -> dict[str, float]:
        """The scalars of an `EvalResult`, and those of the validation: figures that exist, by name.

        Of several workers those of worker 0 count.
        """
        result = self._evaluate(self._input, self._num_pictures if self._report else 0)
        figures = result.scalars()
        if self._validation.loss is not None and self._workers.is_chief:
            figures |= self._validation.loss()
        if self._validation.sample is not None:
            figures |= beside(figures, self._evaluate(self._validation.sample, 0).scalars())
        if self._report:
            self._report(step, result, figures, self._names(result))
        return figures

    def _evaluate(self, eval_input: Any, num_samples: int) -> EvalResult:
        if id(eval_input) not in self._evaluators:
            self._evaluators[id(eval_input)] = make_evaluator(eval_input, self._detector.mask_paste)
        return evaluate(
            self._detector,
            eval_input,
            num_samples=num_samples,
            detect=self._detect,
            console=self._console,
            classes=self._classes,
            workers=self._workers,
            evaluator=self._evaluators[id(eval_input)],
        )

    def _names(self, result: EvalResult) -> dict[int, str]:
        """The files of the samples by image id; the id itself where the data set does not say one."""
        names = self._evaluators[id(self._input)].file_names()
        return {sample.image_id: names.get(sample.image_id) or str(sample.image_id) for sample in result.samples}


class EvaluationReport:
    """Writes what an evaluation found to one folder: its figures, and pictures, truth left and detections right.

    Args:
        folder: such as `RunDirectory.eval_events`.
        classes: class names by class.
        warn: receives a line where the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike, classes: Sequence[str], warn: Callable[[str], None] = warnings.warn):
        self._events, self._classes = EventWriter(folder, warn), classes

    def __call__(self, step: int, result: EvalResult, figures: Mapping[str, float], names: Mapping[int, str]) -> None:
        """Args: step, of the training; result, of its evaluation; figures and names, see `EvaluationDuringTraining`."""
        self._events.scalars(step, {tag_of(name): value for name, value in figures.items()})
        for sample, picture in zip(result.samples, draw_samples(result.samples, self._classes), strict=True):
            self._events.images(step, f"pictures/{one_line(names[sample.image_id])}", picture[None])
