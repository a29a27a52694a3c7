"""`tfdet.write_report`: what is behind the AP of a run, or of any detector's detections, as a page and as json."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdet import arguments
from tfdet.config.lines import Settings
from tfdet.errors import UserError
from tfdet.files import write_json

if TYPE_CHECKING:
    from rich.console import Console

    from tfdet.data.manifest import Manifest
    from tfdet.report.analysis.summary import Analysis
    from tfdet.report.report_page import DataSide

PAGE, FIGURES, THRESHOLDS, DETECTIONS = "index.html", "report.json", "thresholds.json", "detections.json"
"""The files of a report."""

FOLDER = "report"
"""Where they are within a run."""

_NUM_WORST = 24
_SAMPLE = 5000  # images whose objects' sizes are read where a data set has more
_PACKAGES = ("Python", "system", "tfdet", "tensorflow", "keras", "numpy", "pycocotools", "CPU", "GPU")


@dataclasses.dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        folder: with index.html, report.json and thresholds.json.
        figures: the content of report.json.
        lines: the first screen in plain text.
    """

    folder: Path
    figures: dict[str, Any]
    lines: list[str]

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.folder / PAGE


@dataclasses.dataclass(frozen=True)
class _Measured:
    """Detections on a data set, and who made them."""

    detections: list[dict]
    ground_truth: dict  # checked, of the images that were looked at
    manifest: Manifest
    what: dict[str, str]  # the model in words, line by line
    made_for: dict[str, Any]  # the same for json
    notes: list[str]
    configuration: Any = None  # of a run


def write_report(
    run: str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    *,
    detections: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    checkpoint: int | str | None = None,
    raw_weights: bool = False,
    bindings: Settings = None,
    allow_imports: bool = False,
    max_images: int | None = None,
    num_worst: int = _NUM_WORST,
    score_threshold: float | None = None,
    console: Console | None = None,
) -> Report:
    """Measures a run, or detections that another program wrote, and explains the figures in an HTML page.

    Args:
        run: folder of a training run, or an exported model; None with `detections`.
        data: the data set to measure on; None: the one that the run evaluates on.
        detections: a file in COCO's result format, with the image and category ids of the data set; with `run` they are
            taken to be that run's, which is not run again.
        output: folder to write to; None: `report` within the run, or `report` here.
        checkpoint, raw_weights, bindings, allow_imports: of a run, as in `tfdet.load`.
        max_images: looks at the first so many alone.
        num_worst: most images to draw.
        score_threshold: from which score on a detection counts in the confusion of classes and in the worst images,
            0..1; None: the best of each class.
        console: is told what happens; None: nothing is said.

    Returns:
        Where it is, and its figures.

    Raises:
        UserError: there is neither run nor detections, the data set has no object, or something cannot be read.

    Example:
        >>> report = tfdet.write_report("runs/cells", "data/val")
        >>> report.page, report.figures["boxes"]["AP"]
        (PosixPath('runs/cells/report/index.html'), 0.431)
    """
    if run is None and detections is None:
        raise UserError("give the folder of a run, or detections: a file in COCO's result format")
    num_worst = arguments.whole_number("num_worst", num_worst, 0)
    if max_images is not None:
        max_images = arguments.whole_number("max_images", max_images, 1)
    if score_threshold is not None:
        score_threshold = float(arguments.number("score_threshold", score_threshold, 1))
    folder = Path(arguments.path("output", output)) if output is not None else _folder(run)
    if detections is None:
        measured = _of_a_run(
            run, data, checkpoint, raw_weights, bindings, allow_imports, max_images, console
        )  # fmt: skip
    else:
        measured = _of_a_file(run, data, arguments.path("detections", detections), max_images, allow_imports)
    if detections is None:
        write_json(measured.detections, folder / DETECTIONS)
    return _write(folder, _analyses(measured, score_threshold), measured, run, num_worst)


def _folder(run: str | os.PathLike | None) -> Path:
    return Path(FOLDER) if run is None else Path(arguments.path("run", run)) / FOLDER


def _of_a_run(
    run: Any,
    data: Any,
    checkpoint: int | str | None,
    raw_weights: bool,
    bindings: Settings,
    allow_imports: bool,
    max_images: int | None,
    console: Console | None,
) -> _Measured:
    from tfdet.data.manifest import Manifest
    from tfdet.model import Model, load
    from tfdet.predict.restore import evaluation_folder

    model = load(
        run, checkpoint=checkpoint, raw_weights=raw_weights, bindings=bindings, allow_imports=allow_imports
    )  # fmt: skip
    if isinstance(model, Model):
        data = evaluation_folder(model.configured(None, {"EvalInput.data_dir": data}))
    if data is None:
        raise UserError("no data set to measure on: give data, or --data on the command line")
    manifest = Manifest.load(data)
    ground_truth, notes = _ground_truth(manifest, max_images)
    result = model.evaluate(data, max_images=max_images, console=console)
    step = model.step if isinstance(model, Model) else 0
    what = {"run": os.fspath(run), "weights": model.describe(), "data": f"{manifest.name} ({manifest.folder})"}
    made_for = {"run": os.fspath(run), "step": step, "weights": model.describe(), "data": manifest.name}
    return _Measured(
        result.detections, ground_truth, manifest, what, made_for, notes, getattr(model, "configuration", None)
    )


def _of_a_file(run: Any, data: Any, path: str, max_images: int | None, allow_imports: bool) -> _Measured:
    from tfdet import config
    from tfdet.config.files import RUN_FILE
    from tfdet.data.manifest import Manifest
    from tfdet.predict.restore import evaluation_folder
    from tfdet.report.analysis.scene import checked_detections

    configuration = None
    if run is not None and os.path.isfile(Path(run) / RUN_FILE):
        config.register_all()
        configuration = config.parse([str(Path(run) / RUN_FILE)], (), allow_imports)
        data = data or evaluation_folder(configuration)
    if data is None:
        raise UserError("detections say nothing of what is there: give data, or --data, the data set they are of")
    manifest = Manifest.load(data)
    ground_truth, notes = _ground_truth(manifest, max_images)
    records, others = checked_detections(_read_json(path), ground_truth, manifest.category_ids, path)
    if max_images is None:  # others are of images that were not asked for
        notes += others
    own = {} if run is None else {"run": os.fspath(run)}
    what = {**own, "detections": path, "data": f"{manifest.name} ({manifest.folder})"}
    made_for = {**own, "detections": path, "data": manifest.name}
    return _Measured(records, ground_truth, manifest, what, made_for, notes, configuration)


def _read_json(path: str) -> Any:
    import json

    from tfdet.files import read_regular

    try:
        return json.loads(read_regular(path))
    except OSError as error:
        raise UserError(f"cannot read the detections {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid json: {error}") from None


def _ground_truth(manifest: Manifest, max_images: int | None) -> tuple[dict, list[str]]:
    """The objects of the data set's first images, checked; and in words what is not measured as it is written."""
    from tfdet.data.ground_truth import coco_ground_truth
    from tfdet.data.problems import ProblemReport
    from tfdet.evaluate.ground_truth import checked_ground_truth

    index = manifest.load_index()
    found = ProblemReport()
    content = coco_ground_truth(manifest, _first(index, max_images))
    checked = checked_ground_truth(content, manifest.category_ids, found)
    if not any(not entry["iscrowd"] for entry in checked["annotations"]):
        raise UserError(
            f"data set {manifest.folder} has no object in {len(checked['images'])} images: detections can only be "
            "measured on annotated images; give --data a set with boxes"
        )
    return checked, [f"Not measured as it is: {line}" for line in found.lines()]


def _first(index: Any, count: int | None) -> Any:
    """The first rows of an index."""
    if count is None:
        return index
    return _rows(index, np.arange(min(count, len(index))))


def _rows(index: Any, rows: np.ndarray) -> Any:
    columns = {field.name: getattr(index, field.name)[rows] for field in dataclasses.fields(index)}
    return dataclasses.replace(index, **columns)


def _analyses(measured: _Measured, score_threshold: float | None) -> dict[str, Analysis]:
    from tfdet.report.analysis.scene import build_scene, has_masks
    from tfdet.report.analysis.summary import analyse

    kinds = {"boxes": "bbox"}
    if has_masks(measured.detections) and has_masks(measured.ground_truth["annotations"]):
        kinds["masks"] = "segm"
    manifest = measured.manifest
    return {
        what: analyse(
            build_scene(measured.ground_truth, measured.detections, manifest.classes, manifest.category_ids, kind),
            score_threshold,
        )
        for what, kind in kinds.items()
    }


def _write(folder: Path, analyses: dict[str, Analysis], measured: _Measured, run: Any, num_worst: int) -> Report:
    from tfdet.report.analysis.advice import Context, headline
    from tfdet.report.analysis.summary import figures
    from tfdet.report.analysis.thresholds import best_thresholds
    from tfdet.report.environment import findings
    from tfdet.report.page import write_page
    from tfdet.report.report_page import Story, advices, report_html
    from tfdet.report.run_logs import TRAIN_AP, own_values, read_logs

    manifest = measured.manifest
    is_run = measured.configuration is not None
    logs = read_logs(run) if is_run else None
    train = _training_side(run, measured) if is_run else None
    evaluations = logs.figures.get("AP") if logs else None
    train_ap = logs.figures.get(TRAIN_AP, {}) if logs else {}
    context = Context(
        train_counts=None if train is None else train.counts,
        evaluations=evaluations,
        train_ap=train_ap[max(train_ap)] if train_ap else None,
    )
    made = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    versions = {entry.subject: entry.value for entry in findings() if entry.subject.startswith(_PACKAGES)}
    story = Story(
        title=f"Report of {Path(run).resolve().name}" if run is not None else "Report of detections",
        made=made,
        model=measured.what,
        context=context,
        logs=logs,
        own=None if measured.configuration is None else own_values(measured.configuration),
        train=train,
        data=_side(manifest, measured.ground_truth),
        versions=versions,
        notes=measured.notes,
    )
    last = list(analyses.values())[-1]
    thresholds = best_thresholds(last.curves, last.together)
    said = advices(analyses, context)
    content = {
        "tfdet": versions.get("tfdet"),
        "made": made,
        "made_for": measured.made_for,
        "images": len(measured.ground_truth["images"]),
        "advice": [{"what": entry.what, "do": entry.do} for entry in said],
        **{what: figures(analysis) for what, analysis in analyses.items()},
        "worst_images": _worst(last),
        "configuration": None if story.own is None else dataclasses.asdict(story.own),
        "training": None if logs is None else dataclasses.asdict(logs),
        "versions": versions,
        "notes": measured.notes,
    }
    write_json(content, folder / FIGURES, for_people=True)
    write_json(
        {
            "thresholds": dict(zip(manifest.classes, map(float, thresholds), strict=True)),
            "made_for": {**measured.made_for, "figure": f"F1 of {list(analyses)[-1]} at IoU 0.5"},
        },
        folder / THRESHOLDS,
        for_people=True,
    )
    write_page(folder / PAGE, report_html(analyses, story, _reader(manifest), num_worst))
    lines = [headline(analysis, what) for what, analysis in analyses.items()]
    lines += [" ".join(filter(None, entry)) for entry in said]
    return Report(folder, content, lines)


def _worst(analysis: Analysis, most: int = 200) -> list[dict[str, Any]]:
    """The worst images for json."""
    scene = analysis.scene
    return [
        {
            "image_id": scene.image_ids[entry.image],
            "file_name": scene.file_names[entry.image],
            "weight": round(entry.weight, 3),
            "errors": [
                {
                    "kind": error.kind,
                    "class": scene.classes[
                        scene.found.label[error.found] if error.found >= 0 else scene.truth.label[error.truth]
                    ],
                    "bbox": (
                        scene.found.box[error.found] if error.found >= 0 else scene.truth.box[error.truth]
                    ).tolist(),
                    "score": float(scene.found.score[error.found]) if error.found >= 0 else None,
                }
                for error in entry.errors
            ],
        }
        for entry in analysis.errors[:most]
    ]


def _side(manifest: Manifest, ground_truth: dict) -> DataSide:
    from tfdet.report.report_page import DataSide

    real = [entry for entry in ground_truth["annotations"] if not entry["iscrowd"]]
    place = {int(number): label for label, number in enumerate(manifest.category_ids)}
    counts = np.bincount([place[entry["category_id"]] for entry in real], minlength=len(place))
    areas = np.array([entry["area"] for entry in real], float)
    return DataSide(manifest.name, len(ground_truth["images"]), counts.tolist(), areas)


def _training_side(run: Any, measured: _Measured) -> DataSide | None:
    """The training data by the run's copy of its manifest; sizes where the data set itself is still there."""
    from tfdet.data.ground_truth import coco_ground_truth
    from tfdet.data.manifest import Manifest
    from tfdet.report.report_page import DataSide

    try:
        manifest = Manifest.load(run, check_shards=False)
        by_name = dict(zip(manifest.classes, manifest.boxes_per_class, strict=True))
        counts = [int(by_name[name]) for name in measured.manifest.classes]
    except (UserError, KeyError):
        return None
    areas = np.zeros(0)
    try:
        there = Manifest.load(arguments.folders(measured.configuration.value("TrainInput.data_dir"))[0])
        if there.index_sha256 == manifest.index_sha256:
            index = there.load_index()
            chosen = np.unique(np.linspace(0, len(index) - 1, min(len(index), _SAMPLE)).astype(int))
            content = coco_ground_truth(there, _rows(index, chosen))
            areas = np.array([entry["area"] for entry in content["annotations"] if not entry["iscrowd"]], float)
    except (UserError, AttributeError):
        pass  # the run is elsewhere than its data, or detections came from a file
    return DataSide(manifest.name, manifest.num_images, counts, areas)


def _reader(manifest: Manifest) -> Callable[[int], np.ndarray | None]:
    """Reads the stored picture of an image id."""
    import tensorflow as tf

    from tfdet.data.records import read_serialized, record_table
    from tfdet.data.schema import decode_rgb, parse_record

    index = manifest.load_index()
    table = record_table(manifest, index)
    rows = {int(number): row for row, number in enumerate(index.image_id)}

    def read(image_id: int) -> np.ndarray | None:
        try:
            record = parse_record(read_serialized(table, tf.constant(rows[image_id])))
            return decode_rgb(record.encoded).numpy()
        except (tf.errors.OpError, KeyError):
            return None

    return read
