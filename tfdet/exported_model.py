"""What a model and an exported one have in common, and an exported one: it detects and is measured, no more."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypedDict

from tfdet import arguments
from tfdet.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from typing_extensions import Unpack

    from tfdet.evaluate.run import EvalResult
    from tfdet.export.formats.predictor import GraphPredictor
    from tfdet.predict.finder import Finder
    from tfdet.predict.found import Found
    from tfdet.predict.predictors import CheckpointPredictor, SavedModelPredictor
    from tfdet.predict.sources import ImageSource
    from tfdet.predict.tiles import Merge
    from tfdet.predict.video import Video

ChosenThresholds: TypeAlias = "Mapping[str, float] | str | os.PathLike | None"
"""Thresholds of classes: by name, in a file, or "report"."""


_logger = logging.getLogger("tfdet")


class Finding(TypedDict, total=False):
    """How objects are looked for and which count; see `DetectingModel.predict`."""

    score_threshold: float
    thresholds: ChosenThresholds
    tile: int | None
    tile_overlap: float
    tile_merge: Merge
    tile_full_image: bool


class DetectingModel:
    """Predicts by `predictor`.

    Attributes:
        classes: names by class, 0..C-1; empty where they are not known.
        category_ids: of the training data, such as COCO's 1..90, by class.
    """

    classes: list[str]
    category_ids: list[int]

    @property
    def predictor(self) -> CheckpointPredictor | SavedModelPredictor | GraphPredictor:
        """Detects on one image: uint8 [H, W, 3], RGB -> `Found`."""
        raise NotImplementedError

    @property
    def run_folder(self) -> str | None:
        """The folder of the training run that the model is of; None: it is of none."""
        return None

    def finder(
        self,
        *,
        score_threshold: float = 0.3,
        thresholds: ChosenThresholds = None,
        tile: int | None = None,
        tile_overlap: float = 0.2,
        tile_merge: Merge = "nms",
        tile_full_image: bool = False,
    ) -> Finder:
        """What `predict` calls for each image: uint8 [H, W, 3], RGB -> `Found`.

        Args:
            score_threshold, thresholds, tile, tile_overlap, tile_merge, tile_full_image: as in `predict`.

        Raises:
            UserError: as in `predict`.
        """
        from tfdet.predict.finder import Finder
        from tfdet.predict.thresholds import choose_thresholds
        from tfdet.predict.tiles import Tiles

        chosen = choose_thresholds(score_threshold, thresholds, self.classes, self.run_folder)
        if chosen.made_for_step not in (None, getattr(self, "step", None)) and self.run_folder is not None:
            _logger.warning(
                "thresholds: chosen for step %d, and this is step %d: run tfdet report again",
                chosen.made_for_step,
                getattr(self, "step", 0),
            )
        tiles = None if tile is None else Tiles(tile, tile_overlap, tile_merge, bool(tile_full_image))
        return Finder(self.predictor, chosen, tiles)

    def predict(
        self, images: ImageSource | Iterable[ImageSource], *, max_pixels: int | None = None, **finding: Unpack[Finding]
    ) -> list[Found]:
        """Finds objects on images.

        Args:
            images: one or several: files, folders of them, patterns such as "in/**/*.jpg", addresses (http, https),
                arrays (RGB, uint8 [H, W, 3]) or PIL images.
            max_pixels: most pixels of a file or a PIL image, height times width; None: 89,478,485.
            score_threshold: 0..1, objects below it are left out; default 0.3.
            thresholds: such ones for single classes: a dictionary by name, the path of a `thresholds.json`, or
                "report" for what `tfdet report` proposed for the run.
            tile: side in pixels of overlapping tiles, on which larger images are detected on; None: on the whole image.
            tile_overlap: of tiles, as a part of their side; default 0.2. Objects up to so large are whole in a tile.
            tile_merge: of what tiles found twice: "nms" (default) keeps the best box, "wbf" takes the weighted mean.
            tile_full_image: detect on the whole image too, for objects that are larger than a tile.

        Returns:
            A `Found` for each image, in their order; none for an empty list.

        Raises:
            UserError: an image cannot be read, is none, or too large; or an argument is out of its range.

        Example:
            >>> (found,) = model.predict("pictures/street.jpg", score_threshold=0.5)
            >>> found.boxes.dtype, found.boxes.shape[1]
            (dtype('float32'), 4)
            >>> len(model.predict("pictures/street.jpg", tile=48, thresholds={"circle": 0.6}))
            1
        """
        from tfdet.predict.sources import named_images, read_source

        limit = arguments.max_pixels(max_pixels)
        if isinstance(images, (list, tuple)) and not images:
            arguments.number("score_threshold", finding.get("score_threshold", 0), 1)
            return []
        named, finder, results = named_images(images), self.finder(**finding), []
        for index, source in enumerate(named):
            path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
            results.append(finder(read_source(source, index, limit), path))
        return results

    def predict_video(
        self,
        video: str | os.PathLike,
        *,
        frame_stride: int = 1,
        max_frames: int | None = None,
        max_pixels: int | None = None,
        **finding: Unpack[Finding],
    ) -> Iterator[Found]:
        """Finds objects on the frames of a video or a camera, one after the other; needs `tfdet[video]`.

        Args:
            video: path of a file, or "camera:0".
            frame_stride: every so many-th frame is looked at.
            max_frames: looked at; None: all. A camera has no end.
            max_pixels: most pixels of a frame, height times width; None: 89,478,485.
            finding: `score_threshold`, `thresholds`, `tile` and so on, as in `predict`.

        Yields:
            A `Found` for each frame, with `frame`, its number in the video, and `time`, seconds.

        Raises:
            UserError: the video cannot be opened, or an argument is out of its range.

        Example:
            >>> for found in model.predict_video("street.mp4", frame_stride=5, max_frames=1):
            ...     print(found.frame, found.image.shape[2])
            0 3
        """
        from tfdet.predict.video import Video

        stride = arguments.whole_number("frame_stride", frame_stride, 1)
        most = None if max_frames is None else arguments.whole_number("max_frames", max_frames, 1)
        opened, finder = Video(video, arguments.max_pixels(max_pixels)), self.finder(**finding)
        return _frames_of(opened, finder, stride, most)

    def evaluate(
        self,
        eval_data: str | os.PathLike | None = None,
        *,
        annotations: str | os.PathLike | None = None,
        max_images: int | None = None,
        num_samples: int = 0,
        max_detections: int | None = None,
        console: Console | None = None,
    ) -> EvalResult:
        """Measures the model on a data set with COCO's figures, on all GPUs, or the CPU.

        An exported model is measured by its signature `tf_example` on the data set's stored images,
        on one device.

        Args:
            eval_data: folder of the data set; None: the one that the configuration evaluates on.
            annotations: a COCO json to measure against, whose image ids and sizes are the data set's, and whose
                categories have its names; None: its own boxes.
            max_images: measures the first so many alone.
            num_samples: images to keep for `EvalResult.save_pictures`.
            max_detections: detections of each class in an image that count, from 10; None: 100, COCO's. As many have to
                be found: `PostProcess.max_detections` limits them too.
            console: is told what is measured; None warns alone.

        Returns:
            `metrics` (the twelve figures by name, 0..1), `mask_metrics`, `per_class`, `detections` (COCO result
            records) and more.

        Raises:
            UserError: no data set is named, it is missing, or its classes are not the model's.

        Example:
            >>> result = model.evaluate("data/val", max_images=2)
            >>> sorted(result.metrics)[:3], result.num_images
            (['AP', 'AP50', 'AP75'], 2)
        """
        from tfdet.evaluate.coco import MAX_DETECTIONS, load_annotations
        from tfdet.predict.float32 import in_float32

        truth = None if annotations is None else load_annotations(arguments.path("annotations", annotations))
        with in_float32():
            return self._measure(
                eval_data,
                console,
                max_images=max_images,
                num_samples=num_samples,
                ground_truth=truth,
                max_detections=MAX_DETECTIONS if max_detections is None else max_detections,
            )

    def _measure(self, eval_data: str | os.PathLike | None, console: Console | None, **options: Any) -> EvalResult:
        """`evaluate`, within float32. Args: options, the others of the function that measures."""
        raise NotImplementedError


def _frames_of(video: Video, finder: Finder, stride: int, most: int | None) -> Iterator[Found]:
    with video:
        for frame in itertools.islice(video.frames(stride), most):
            found = finder(frame.image, video.name)
            yield dataclasses.replace(found, frame=frame.number, time=frame.time)


class ExportedModel(DetectingModel):
    """What `Model.export` wrote, with `predict` and `evaluate`: a SavedModel, or ONNX, LiteRT or OpenVINO, which run by
    ONNX Runtime, ai-edge-litert and OpenVINO on the CPU.

    Args:
        folder: of the export.

    Attributes:
        format: "saved_model", "onnx", "litert" or "openvino".

    Raises:
        UserError: the folder is no export of a detector, or the program that runs it is not installed.

    Example:
        >>> import tfdet
        >>> exported = tfdet.load("serving/shapes")
        >>> len(exported.predict("pictures/street.jpg"))
        1
    """

    def __init__(self, folder: str | os.PathLike):
        from tfdet.export.formats import format_of

        self.path = os.fspath(folder)
        self.format = format_of(folder) or "saved_model"
        self._predictor: SavedModelPredictor | GraphPredictor
        if self.format == "saved_model":
            from tfdet.predict.predictors import SavedModelPredictor

            self._predictor = SavedModelPredictor(folder)
        else:
            from tfdet.export.formats.opened import open_export

            self._predictor = open_export(folder)
        self.classes, self.category_ids, _ = self._predictor.labels

    def __repr__(self) -> str:
        return f"ExportedModel({self.path}, {len(self.classes)} classes)"

    @property
    def num_classes(self) -> int | None:
        """C; None where the export does not say it."""
        return len(self.classes) or None

    @property
    def predictor(self) -> SavedModelPredictor | GraphPredictor:
        """Detects on one image: uint8 [H, W, 3], RGB -> `Found`."""
        return self._predictor

    def describe(self) -> str:
        """Which model it is, in words."""
        return f"exported model {self.path}"

    def _measure(self, eval_data: str | os.PathLike | None, console: Console | None, **options: Any) -> EvalResult:
        from tfdet.data.manifest import Manifest
        from tfdet.evaluate.exported import evaluate_export, evaluate_found
        from tfdet.predict.predictors import SavedModelPredictor

        if eval_data is None:
            raise UserError("an exported model names no data set: give evaluate its folder")
        introduce(self.describe(), Manifest.load(eval_data), self.classes, console)
        predictor = self._predictor
        if isinstance(predictor, SavedModelPredictor):
            tf_example = predictor.signatures["tf_example"]
            return evaluate_export(tf_example, predictor.labels, eval_data, console=console, **options)
        return evaluate_found(
            lambda _, image: predictor(image), predictor.labels, eval_data, console=console, **options
        )

    def export(self, folder: str | os.PathLike, **options: Any) -> NoReturn:
        """Not possible: it is exported."""
        raise UserError(f"{self.path} is exported already: copy the folder, or export the run that it is of")

    def save(self, path: str | os.PathLike) -> NoReturn:
        """Not possible: an exported model keeps its weights to itself."""
        raise UserError(f"{self.path} is exported: save the weights of the run that it is of")


def introduce(what: str, manifest: Any, classes: list[str] | None, console: Console | None, devices: int = 1) -> None:
    """Says what is measured on which data set.

    Args:
        what: the model, in words.
        manifest: of the data set.
        classes: of the model; None, or none, where they are not known.
        console: where to; None says nothing.
        devices: how many detect.

    Raises:
        UserError: the data set has other classes.
    """
    from tfdet.evaluate.classes import match_classes

    if classes:
        match_classes(classes, manifest.classes, what, f"the data set {manifest.name!r}")
    if console is None:
        return
    from tfdet.terminal import shown

    used = "one device" if devices == 1 else f"{devices} devices"
    count = f"{manifest.num_images} images, {len(manifest.classes)} classes, {used}"
    console.print(shown(f"{what} on {manifest.name}: {count}"))
    if classes and list(classes) != list(manifest.classes):
        console.print("the data set lists its classes in another order: they are compared by name")
