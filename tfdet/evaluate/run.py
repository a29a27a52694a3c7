"""Runs a detector over an evaluation input and measures it."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.arguments import whole_number
from tfdet.cluster import Workers
from tfdet.data.problems import ProblemReport
from tfdet.data.resize import Resize, Rule, view_signature
from tfdet.detectors.one_size import View
from tfdet.errors import UserError
from tfdet.evaluate.classes import in_data_classes, match_model
from tfdet.evaluate.coco import MAX_DETECTIONS, ClassResult, CocoEvaluator
from tfdet.evaluate.part_times import PartTimes
from tfdet.evaluate.tables import percent
from tfdet.files import write_json
from tfdet.ops.boxes import box_scale
from tfdet.predict.augment import AugmentedDetector, TestTimeAugmentation
from tfdet.predict.predictors import DetectFunction, detect_function
from tfdet.report.drawing import draw_samples, save_picture
from tfdet.structures import Batch, Detections
from tfdet.training.figures import PART_SECONDS
from tfdet.training.on_devices import OnDevices, map_ahead

_ENCODERS = 2  # threads that encode masks; all it has to do is to keep up with detecting


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image of the evaluation with what is there and what was found, all in pixels of `image`."""

    image_id: int
    image: np.ndarray  # uint8 [H, W, 3], the resized image without its padding
    gt_boxes: np.ndarray  # float32 [G, 4], inclusive corners
    gt_classes: np.ndarray  # int32 [G]
    boxes: np.ndarray  # float32 [D, 4], inclusive corners, best first
    classes: np.ndarray  # int32 [D]
    scores: np.ndarray  # float32 [D]
    masks: np.ndarray | None = None  # float32 [D, M, M], probabilities inside the boxes


@dataclasses.dataclass(frozen=True)
class EvalResult:
    """What an evaluation gives."""

    metrics: dict[str, float]  # COCO's twelve figures by name, 0..1, or -1 where there is nothing to measure
    per_class: list[ClassResult]
    detections: list[dict]  # COCO result records: original image coordinates and category ids
    samples: list[Sample]
    num_images: int
    seconds: float  # wall-clock of reading and detecting, without the first batch (which traces the graph)
    images_per_second: float
    mask_metrics: dict[str, float] | None = None  # as `metrics`, of masks; None where nothing has masks
    mask_per_class: list[ClassResult] | None = None
    data: str = ""  # name of the data set
    classes: list[str] = dataclasses.field(default_factory=list)  # its names by class
    findings: dict[str, int] = dataclasses.field(default_factory=dict)  # what was not measured as it is, by kind
    parts: dict[str, float] = dataclasses.field(default_factory=dict)  # wall-clock seconds: "reading", "detecting", ...
    max_detections: int = MAX_DETECTIONS  # of an image that count in `metrics`

    def scalars(self) -> dict[str, float]:
        """The figures that exist, as TensorBoard scalars: `AP`, ..., `per_class/AP/<name>`, `images_per_second`.

        Those of masks are `mask_AP`, ..., `per_class/mask_AP/<name>`.
        """
        scalars = {name: value for name, value in self.metrics.items() if value >= 0}
        scalars.update({f"per_class/AP/{entry.name}": entry.ap for entry in self.per_class if entry.ap >= 0})
        scalars.update({f"mask_{name}": value for name, value in (self.mask_metrics or {}).items() if value >= 0})
        scalars.update({f"per_class/mask_AP/{e.name}": e.ap for e in self.mask_per_class or [] if e.ap >= 0})
        scalars["images_per_second"] = self.images_per_second
        scalars.update({f"{PART_SECONDS}{part}": seconds for part, seconds in self.parts.items()})
        return scalars

    def line(self) -> str:
        """One line for a log: `AP 37.1  AP50 58.2 ...` in percent, then the same of masks."""
        names = ("AP", "AP50", "AP75", f"AR{self.max_detections}")
        figures = "  ".join(f"{name} {percent(self.metrics[name])}" for name in names)
        if self.mask_metrics is not None:
            figures += "  masks: " + "  ".join(f"{name} {percent(self.mask_metrics[name])}" for name in names)
        found = ", ".join(f"{kind} {count}" for kind, count in self.findings.items())
        found = found and f"; not measured as it is: {found}"
        most = "" if self.max_detections == MAX_DETECTIONS else f", up to {self.max_detections} detections an image"
        return f"{figures}  ({self.num_images} images{most}, {self.images_per_second:.1f} img/s{found})"

    def time_line(self) -> str:
        """Where the time went, such as `12.3 s: reading 0.4, detecting 10.9, collecting 0.2, figures 0.8`."""
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in self.parts.items())
        return f"{sum(self.parts.values()):.1f} s: {parts}"

    def save_detections(self, path: str | os.PathLike) -> None:
        """Writes the detections in COCO's result format; UserError where that is not possible."""
        write_json(self.detections, path)

    def save_pictures(self, folder: str | os.PathLike) -> None:
        """Draws each sample, truth left and detections right, and writes it as `<image id>.png`."""
        for sample, image in zip(self.samples, draw_samples(self.samples, self.classes), strict=True):
            save_picture(image, os.path.join(folder, f"{sample.image_id}.png"))


def evaluate(
    detector: Any,
    eval_input: Any,
    max_images: int | None = None,
    num_samples: int = 8,
    ground_truth: dict | None = None,
    detect: DetectFunction | OnDevices | None = None,
    console: Any = None,
    augmentation: TestTimeAugmentation | None = None,
    classes: Sequence[str] | None = None,
    workers: Workers | None = None,
    evaluator: CocoEvaluator | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> EvalResult:
    """Detects on every image of the input and computes COCO's figures.

    After training on several replicas it reads the first replica's copy of the weights. Masks are encoded while the
    next images are detected on, and those are read ahead.

    Args:
      detector: a model with `detect` and `num_classes`.
      eval_input: an `EvalInput`: `manifest`, `dataset()` of `Batch`, `ground_truth()`, `image_sizes()`.
      max_images: stop after this many images and measure those alone; None: all, as several workers do.
      num_samples: images to keep for drawing, spread evenly over the data set, the same at each evaluation.
      ground_truth: a COCO annotation dict to measure against in place of the input's own; the image ids must be those
        of the data set, with images of its sizes, and the categories have its names.
      detect: the result of `detect_function`, to avoid another trace; or that of `detect_on`, whose devices take the
        batches in turn. Each batch is that of one device, so that what is found does not depend on their number.
      console: a `rich.console.Console` for the progress bar, shown on a terminal only; None: no bar.
      augmentation: of the images; where it is on, `detect` is not used.
      classes: the detector's names by class, which the data set may list in another order; None: they are not known,
        and taken to be the data set's.
      workers: of which each detects on its part of the images; all of them call this. Worker 0 has the figures of all,
        the others those of their own part, and samples are of its part too.
      evaluator: of an earlier evaluation of the same data, with `ground_truth` or without: its ground truth is not read
        again, and nothing else of it counts.
      max_detections: as in `CocoEvaluator`.

    Returns:
      An `EvalResult`.

    Raises:
      UserError: the data set has no image, its classes are not the detector's, or `ground_truth` is of other images or
        classes.
    """
    manifest = eval_input.manifest
    mapping = match_model(detector.num_classes, classes, manifest)
    resizes = None
    if augmentation is not None and augmentation.is_on:
        resizes = augmentation.resizes(eval_input.resize)
        detect_views = AugmentedDetector(detector, augmentation.flip, eval_input.resize.rule)
    else:
        detect = detect or detect_function(detector, eval_input.resize.rule)

    workers, times = workers or Workers(), PartTimes()

    def views_of(count: int) -> Iterator[tuple[Batch, list[View]]]:
        for batch, views in times.each("reading", _batches(eval_input, resizes, workers)):
            yield _first_images(batch, count), [(images[:count], image_info[:count]) for images, image_info in views]
            count -= int(batch.images.shape[0])
            if count <= 0:
                return

    def find(batch: Batch, views: list[View]) -> tuple[Batch, Detections]:
        found = detect(batch.images, batch.image_info) if resizes is None else detect_views(views)
        return batch, in_data_classes(found, mapping)

    def detections(count: int) -> Iterator[tuple[Batch, Detections]]:
        if isinstance(detect, OnDevices) and resizes is None:
            with detect.with_weights():
                yield from map_ahead(
                    lambda item: find(*item), views_of(count), len(detect.devices), lambda: times.of("detecting")
                )
            return
        for item in views_of(count):
            with times.of("detecting"):
                found = find(*item)
            yield found

    evaluator = evaluator or make_evaluator(eval_input, detector.mask_paste, ground_truth, max_detections)
    return measure(detections, manifest, evaluator.anew(), max_images, num_samples, console, workers, times)


def make_evaluator(
    eval_input: Any, mask_paste: str, ground_truth: dict | None = None, max_detections: int = MAX_DETECTIONS
) -> CocoEvaluator:
    """What measures detections on a data set. Args, Raises: as in `evaluate`; mask_paste, as in `CocoEvaluator`."""
    truth = ground_truth or eval_input.ground_truth()
    evaluator = CocoEvaluator(truth, eval_input.manifest, mask_paste, max_detections)
    evaluator.check_sizes(eval_input.image_sizes())
    return evaluator


def detect_on(detector: Any, rule: Rule, devices: Sequence[str]) -> OnDevices:
    """`detector.detect` of batches, each on one of the devices; as `predict.detect_function` on one.

    Args:
        detector, rule: as there.
        devices: as in `OnDevices`.
    """
    return OnDevices(detector, detector.detect, view_signature(rule), devices)


def measure(
    found: Callable[[int], Iterable[tuple[Batch, Detections]]],
    manifest: Any,
    evaluator: CocoEvaluator,
    max_images: int | None,
    num_samples: int,
    console: Any,
    workers: Workers | None = None,
    times: PartTimes | None = None,
) -> EvalResult:
    """COCO's figures of what was found.

    Args:
      found: called with a number of images, gives the data set's first ones in batches, with their detections, whose
        classes are the data set's.
      manifest: of the data set.
      evaluator: to which nothing was added yet.
      max_images, num_samples, console: as in `evaluate`.
      workers: as in `evaluate`; `found` gives this worker's part.
      times: has those of `found`.
    """
    if max_images is not None:
        max_images = whole_number("max_images", max_images, 1)
    num_samples = whole_number("num_samples", num_samples, 0)
    told = _tell(evaluator.report, console)
    workers, times = workers or Workers(), times or PartTimes()
    if max_images is not None and workers.count > 1:
        raise UserError("max_images measures the first images of a data set: leave it out, or evaluate in one process")
    most = manifest.num_images if max_images is None else min(max_images, manifest.num_images)
    total = -(-most // workers.count)  # of this worker, more or less: it has whole batches
    wanted = set(np.linspace(0, total - 1, min(num_samples, total)).astype(int).tolist()) if total > 0 else set()
    samples: list[Sample] = []
    warm_images, start = 0, time.perf_counter()

    def recorded(pair: tuple[Batch, Detections]) -> tuple[Batch, Detections, list[tuple[int, list[dict]]]]:
        batch, detections = pair
        detections = Detections(*(None if field is None else np.asarray(field) for field in detections))
        return batch, detections, evaluator.records_of(batch.image_ids, detections)

    with _progress(console, total) as advance:
        pairs = found(most) if most > 0 else ()
        for batch, detections, records in map_ahead(recorded, pairs, _ENCODERS, lambda: times.of("collecting")):
            position = evaluator.num_images
            for image_id, of_image in records:
                evaluator.add_records(image_id, of_image, masks=detections.masks is not None)
            for index in range(int(batch.images.shape[0])):
                if position + index in wanted:
                    samples.append(_sample(batch, detections, index))
            if position == 0:
                warm_images, start = evaluator.num_images, time.perf_counter()
            advance(evaluator.num_images)
    with times.of("collecting"):
        told = _gather(evaluator, workers, told)
    seconds = time.perf_counter() - start
    timed = max(0, evaluator.num_images - warm_images * workers.count)
    with times.of("figures"):
        result = evaluator.result()
    _tell(evaluator.report, console, told)
    return EvalResult(
        metrics=result.metrics,
        per_class=result.per_class,
        detections=evaluator.detections,
        samples=samples,
        num_images=evaluator.num_images,
        seconds=seconds,
        images_per_second=timed / seconds if timed and seconds > 0 else 0.0,
        mask_metrics=result.mask_metrics,
        mask_per_class=result.mask_per_class,
        data=str(manifest.name),
        classes=list(manifest.classes),
        findings=evaluator.report.counts(),
        parts=dict(times.seconds),
        max_detections=evaluator.max_detections,
    )


def _tell(report: ProblemReport, console: Any, told: int = 0) -> int:
    """Says what could not be measured as it was, from finding number `told` on; returns how many there are."""
    for line in report.lines(told):
        if console is None:
            warnings.warn(line, stacklevel=3)
        else:
            console.print(f"not measured as it is: {line}", markup=False, highlight=False, soft_wrap=True)
    return len(report.problems)


def _gather(evaluator: CocoEvaluator, workers: Workers, told: int) -> int:
    """Gives the evaluator of worker 0 what the others found. Args and returns: told, as `_tell` returns it."""
    problems = [dataclasses.asdict(problem) for problem in evaluator.report.problems[told:]]
    own = {"images": evaluator.images, "records": evaluator.detections, "problems": problems}
    for part in workers.gather("detections", own if workers.count > 1 else None)[1:]:
        records: dict[int, list[dict]] = {number: [] for number in part["images"]}
        for record in part["records"]:
            records[record["image_id"]].append(record)
        for number, found in records.items():
            evaluator.add_records(number, found)
        for problem in part["problems"]:
            evaluator.report.add(**problem)
    return told


def _batches(eval_input, resizes: list[Resize] | None, workers: Workers) -> Iterator[tuple[Batch, list[View]]]:
    """A worker's batches of an `EvalInput`, each with its views at these sizes; its errors name the record."""
    part = {"part": (workers.number, workers.count)} if workers.count > 1 else {}
    others = [eval_input.dataset(resize, **part) for resize in resizes or ()]
    try:
        for batch, *views in zip(eval_input.dataset(**part), *others):
            yield batch, [(view.images, view.image_info) for view in views]
    except tf.errors.OpError as error:
        raise eval_input.explain(error) from error


def _first_images(batch: Batch, count: int) -> Batch:
    if int(batch.images.shape[0]) <= count:
        return batch
    return Batch(*(field[:count] for field in batch))


def _sample(batch: Batch, found: Detections, index: int) -> Sample:
    height, width = (int(value) for value in np.asarray(batch.image_info[index, :2]))
    scale = box_scale(batch.image_info[index : index + 1])
    image = np.asarray(batch.images[index])[:height, :width]
    real = np.asarray(batch.classes[index]) >= 0
    valid = int(found.num_valid[index])
    return Sample(
        image_id=int(batch.image_ids[index]),
        image=image if image.dtype == np.uint8 else np.rint(image).astype(np.uint8),
        gt_boxes=np.asarray(batch.boxes[index])[real],
        gt_classes=np.asarray(batch.classes[index])[real],
        boxes=found.boxes[index][:valid] * np.asarray(scale),
        classes=found.classes[index][:valid],
        scores=found.scores[index][:valid],
        masks=None if found.masks is None else found.masks[index][:valid],
    )


class _progress:
    """A bar on a terminal, nothing elsewhere: a log file of a long evaluation stays short."""

    def __init__(self, console: Any, total: int):
        self._console, self._total, self._bar = console, total, None

    def __enter__(self) -> Callable[[int], None]:
        if self._console is None or not self._console.is_terminal:
            return lambda done: None
        from rich import progress

        self._bar = progress.Progress(
            progress.TextColumn("evaluating"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        task = self._bar.add_task("evaluate", total=self._total)
        return lambda done: self._bar.update(task, completed=done)

    def __exit__(self, *exception: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
