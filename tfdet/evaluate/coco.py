"""COCO box and mask metrics in original image coordinates and original category ids.

They are those of pycocotools, computed by faster-coco-eval in an eighth of the time (docs/decisions.md).
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfdet.arguments import whole_number
from tfdet.collector import without_collector
from tfdet.data.formats.coco import load_coco
from tfdet.data.problems import ProblemReport
from tfdet.data.values import shown
from tfdet.errors import UserError
from tfdet.evaluate.classes import with_data_ids
from tfdet.evaluate.ground_truth import checked_ground_truth
from tfdet.evaluate.in_parts import coco_evaluation
from tfdet.predict.coco_records import coco_records

#: The twelve figures in the order of `COCOeval.stats`. The sizes are small (area < 32^2), medium and large (>= 96^2).
METRIC_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
#: Detections of an image that COCO's figures count: the best ones of each class.
MAX_DETECTIONS = 100
_SIDES = ("height", "width")
_FEWEST = 10  # COCO's figures of 1 and 10 detections stay what they are


def metric_names(max_detections: int = MAX_DETECTIONS) -> tuple[str, ...]:
    """`METRIC_NAMES`, with `AR300` for `AR100` where so many detections count."""
    return tuple(f"AR{max_detections}" if name == "AR100" else name for name in METRIC_NAMES)


class ClassResult(NamedTuple):
    """The figures of one class. -1 where the ground truth holds no box of it."""

    name: str
    category_id: int
    num_boxes: int  # ground-truth boxes that count: neither crowd nor ignored
    ap: float  # mean over IoU .50:.05:.95
    ap50: float


class CocoResult(NamedTuple):
    """What `CocoEvaluator.result` gives."""

    metrics: dict[str, float]  # by METRIC_NAMES; 0..1, or -1 where there is nothing to measure
    per_class: list[ClassResult]
    mask_metrics: dict[str, float] | None = None  # of masks; None where detections or ground truth have none
    mask_per_class: list[ClassResult] | None = None


def to_records(
    image_id: int,
    detections: Any,
    index: int,
    category_ids: list[int],
    size: tuple[int, int] | None = None,
    mask_paste: str = "simpledet",
) -> list[dict]:
    """Detections of one image as COCO result records.

    Args:
      image_id: the id of the image in the ground truth.
      detections: `Detections` of a batch (arrays or tensors).
      index: the place of the image in the batch.
      category_ids: the original category id of each class.
      size: height and width of the original image, to which masks are pasted; None leaves masks out.
      mask_paste: the rule of pasting, see `ops.paste_masks`.

    Returns:
      A list of `{"image_id", "category_id", "bbox", "score"}`, best first, padded slots left out; of detections with
      masks also `"segmentation"`, COCO's compressed run lengths.
    """
    valid = int(detections.num_valid[index])
    real = np.asarray(detections.classes[index])[:valid] >= 0
    fields = (detections.boxes, detections.scores, detections.classes, detections.masks)
    corners, scores, classes, masks = (
        None if field is None else np.asarray(field[index])[:valid][real] for field in fields
    )
    ids = [category_ids[class_index] for class_index in classes]
    return coco_records(image_id, corners, scores, ids, masks, size, mask_paste)


class CocoEvaluator:
    """Collects the detections of a data set and computes COCO's twelve figures and the AP of each class.

    Only images that were added are measured: a part of the data set can be evaluated alone. Masks are measured where
    the detections have them and the annotations have `segmentation`; an annotation without one, among others that have
    it, counts as its box.

    Args:
      ground_truth: a dict of COCO's annotation format: `images`, `annotations` (boxes `[x, y, width, height]` in
        pixels of the original image, `iscrowd`, `area`, `segmentation`) and `categories` with the original ids. It is
        not changed. What is wrong with it is left out and named in `report`. Categories are those of the manifest by
        their names; where they have none, by their ids.
      manifest: the data set's manifest: `name`, `classes` (names) and `category_ids`, both by class index.
      mask_paste: as in `to_records`; of a detector its `mask_paste`.
      max_detections: detections of each class in an image that count, the best ones; 100 by COCO's definition. Other
        numbers give other figures than those that are published: data sets of many objects an image use them.

    Attributes:
      max_detections: likewise.
      report: a `ProblemReport`: what of the ground truth and of the detections could not be measured as it was.

    Raises:
      UserError: the categories of the ground truth are not those of the manifest, or it is no ground truth.
    """

    def __init__(
        self,
        ground_truth: dict,
        manifest: Any,
        mask_paste: str = "simpledet",
        max_detections: int = MAX_DETECTIONS,
    ):
        self._mask_paste = mask_paste
        self.max_detections = whole_number("max_detections", max_detections, _FEWEST)
        self._classes = list(manifest.classes)
        self._category_ids = [int(category) for category in manifest.category_ids]
        if len(self._classes) != len(self._category_ids):
            raise ValueError(
                f"Expected a category id for each class. Received: classes={len(self._classes)}, "
                f"category_ids={len(self._category_ids)}"
            )
        self.report = ProblemReport()
        # By its own ids first: one that the ground truth does not define may be another class of the data set.
        ground_truth = checked_ground_truth(ground_truth, self._category_ids, self.report)
        ground_truth = with_data_ids(ground_truth, manifest)
        known = {category["id"] for category in ground_truth["categories"]}
        absent = [name for name, number in zip(self._classes, self._category_ids) if number not in known]
        if known and absent:
            raise UserError(
                f"the ground truth has no category with the id of {absent[:3]} "
                f"({len(absent)} of {len(self._classes)} classes): use the annotations that the data set was made from"
            )
        self._images = {image["id"]: image for image in ground_truth["images"]}
        self._annotations: list[dict] = ground_truth["annotations"]
        self._seen: dict[int, None] = {}
        self._records: list[dict] = []
        self._known_masks = any(annotation["segmentation"] for annotation in self._annotations)
        self._found_masks = False
        self._told = False

    def anew(self) -> CocoEvaluator:
        """One of the same ground truth, to which nothing was added. What was found wrong with that is told once."""
        other = copy.copy(self)
        other.report, other._seen, other._records, other._found_masks = ProblemReport(), {}, [], False
        if not self._told:
            self._told, other.report = True, self.report
        return other

    def check_sizes(self, sizes: Mapping[int, tuple[int, int]]) -> None:
        """Looks whether the ground truth is of the data set's images: equal ids alone do not say so.

        A data set stores each image as its annotations have it, turned by its EXIF orientation or not. So boxes of the
        same image with its sides swapped lie elsewhere, and are refused like any others.

        Args:
          sizes: height and width of the data set's images by id. What has no size in the ground truth is not compared.

        Raises:
          UserError: an image has another size.
        """
        common = [number for number in sizes if "height" in self._images.get(number, ())]
        other = [number for number in common if sizes[number] != tuple(self._images[number][k] for k in _SIDES)]
        if other:
            (height, width), image = sizes[other[0]], self._images[other[0]]
            name = f" ({shown(image['file_name'])})" if image["file_name"] else ""
            raise UserError(
                f"the annotations are of other images than the data set: image id {other[0]}{name} is {image['width']}x"
                f"{image['height']} there and {width}x{height} in the data set, {len(other)} of {len(common)} images "
                "differ; use annotations of the images that the data set was made from"
            )

    def add(self, image_ids: Any, detections: Any) -> None:
        """Adds the detections of a batch.

        Args:
          image_ids: int64 [B]; negative ids mark padding of the batch and are left out.
          detections: `Detections`, boxes in pixels of the original image, inclusive corners.

        Raises:
          UserError: an image is not in the ground truth, or detections have masks and it has no size there.
          ValueError: an image came twice.
        """
        for image_id, records in self.records_of(image_ids, detections):
            self.add_records(image_id, records, detections.masks is not None)

    def records_of(self, image_ids: Any, detections: Any) -> list[tuple[int, list[dict]]]:
        """Detections of a batch as `add_records` takes them; several threads may call it. Args, Raises: as of `add`."""
        detections = type(detections)(*(None if field is None else np.asarray(field) for field in detections))
        found = []
        for index, image_id in enumerate(int(number) for number in np.asarray(image_ids).reshape(-1)):
            if image_id < 0:
                continue
            image, size = self._image(image_id), None
            if detections.masks is not None:
                if "height" not in image or "width" not in image:
                    raise UserError(f"image {image_id} of the ground truth has no height and width, which masks need")
                size = int(image["height"]), int(image["width"])
            found.append(
                (image_id, to_records(image_id, detections, index, self._category_ids, size, self._mask_paste))
            )
        return found

    def add_records(self, image_id: int, records: Sequence[dict], masks: bool = False) -> None:
        """Adds the detections of one image, as `to_records` gives them.

        Args:
          image_id: id of the image.
          records: of this image alone; none where nothing was found.
          masks: the detector finds masks, though this image may have none.

        Raises:
          UserError: the image is not in the ground truth.
          ValueError: it came twice.
        """
        self._image(image_id)
        if image_id in self._seen:
            raise ValueError(f"Expected each image once. Received: image_id={image_id} twice")
        self._seen[image_id] = None
        # A sum is finite where all of it is.
        finite = [record for record in records if math.isfinite(record["score"] + sum(record["bbox"]))]
        if len(finite) < len(records):
            # A single one would count as a match of everything, or as no false positive.
            reason = f"{len(records) - len(finite)} of {len(records)} detections are not finite"
            self.report.add("detection not finite", f"image id {image_id}", image_id, reason, "left out")
        self._records.extend(finite)
        self._found_masks |= masks or any("segmentation" in record for record in finite)

    def _image(self, image_id: int) -> dict:
        if image_id not in self._images:
            raise UserError(
                f"image id {image_id} of the data set is not in the ground truth: "
                "use the annotations that the data set was made from"
            )
        return self._images[image_id]

    @property
    def detections(self) -> list[dict]:
        """All records added so far, in COCO's result format."""
        return self._records

    @property
    def images(self) -> list[int]:
        """Ids of the images added so far."""
        return list(self._seen)

    def file_names(self) -> dict[int, str | None]:
        """The file of every image of the ground truth by id, None where it does not say one."""
        return {number: image.get("file_name") for number, image in self._images.items()}

    @property
    def num_images(self) -> int:
        """The number of images added so far."""
        return len(self._seen)

    def ground_truth(self) -> list[dict]:
        """The annotations (completed: id, area, iscrowd) of the images added so far."""
        return [annotation for annotation in self._annotations if annotation["image_id"] in self._seen]

    def result(self) -> CocoResult:
        """Computes the figures of what was added.

        Returns:
          A `CocoResult`; every figure is -1 where there is no ground truth to measure it on, 0 where there is
          ground truth and no detection.
        """
        with without_collector():
            boxes = self._measure("bbox")
            if not (self._known_masks and self._found_masks):
                return boxes
            masks = self._measure("segm")
        return boxes._replace(mask_metrics=masks.metrics, mask_per_class=masks.per_class)

    def _measure(self, kind: str) -> CocoResult:
        """The figures of boxes (`kind` "bbox") or masks ("segm")."""
        annotations = self.ground_truth()
        wanted = set(self._category_ids)
        annotations = [annotation for annotation in annotations if annotation["category_id"] in wanted]
        found = self._result_annotations(kind)
        if kind == "segm":
            annotations = [{**a, "segmentation": a["segmentation"] or [_rectangle(a["bbox"])]} for a in annotations]
        images = [self._images[number] for number in self._seen]
        evaluation = coco_evaluation(kind, images, self._category_ids, annotations, found, self.max_detections)
        metrics = {name: float(value) for name, value in zip(metric_names(self.max_detections), evaluation.stats)}
        return CocoResult(metrics, self._per_class(evaluation, annotations))

    def _result_annotations(self, kind: str) -> list[dict]:
        from pycocotools import mask as coco_mask

        # COCO.loadRes fails on an empty list; these are the fields that it would add.
        if kind == "segm":
            areas = [float(coco_mask.area(record["segmentation"])) for record in self._records]
        else:
            areas = [record["bbox"][2] * record["bbox"][3] for record in self._records]
        return [
            {**record, "id": number, "area": area, "iscrowd": 0}
            for number, (record, area) in enumerate(zip(self._records, areas), 1)
        ]

    def _per_class(self, evaluation, annotations: list[dict]) -> list[ClassResult]:
        counts = dict.fromkeys(self._category_ids, 0)
        for annotation in annotations:
            counts[annotation["category_id"]] += not annotation["iscrowd"]
        # precision: [IoU threshold, recall, class, area range, maximum of detections]; all areas, 100 detections.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        place = {int(number): index for index, number in enumerate(evaluation.params.catIds)}  # COCOeval sorts them
        return [
            ClassResult(
                name,
                number,
                counts[number],
                _mean_of_valid(precision[:, :, place[number]]),
                _mean_of_valid(precision[:1, :, place[number]]),
            )
            for name, number in zip(self._classes, self._category_ids)
        ]


def load_annotations(path: str | os.PathLike) -> dict:
    """Reads a COCO annotation file.

    Args:
      path: a json file with `images`, `annotations` and `categories`.

    Returns:
      The dict, its entries as they are: `CocoEvaluator` checks them.

    Raises:
      UserError: the file is absent, no json, or lacks one of the three lists.
    """
    return load_coco(path, needed=("images", "annotations", "categories"))


def _rectangle(box: list[float]) -> list[float]:
    """A COCO box as a polygon."""
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _mean_of_valid(values: np.ndarray) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0
