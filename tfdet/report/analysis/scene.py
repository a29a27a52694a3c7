"""Ground truth and detections of a data set as arrays, and how much each two of them overlap."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdet.data.masks import NO_PIXEL, MaskError, read_segmentation
from tfdet.data.values import shown
from tfdet.errors import UserError

BACKGROUND_IOU = 0.1
"""Below it two boxes have nothing to do with each other (Bolya et al. 2020)."""

MATCH_IOU = 0.5
"""From it on a detection is of an object."""

MAX_DETECTIONS = 100
"""Of one class in one image, the best ones, as COCO counts."""

_MASKS_AT_ONCE = 20_000
_MAX_DIGITS = 6  # of a count in compressed run lengths: 30 bits, more than any run of these images


@dataclasses.dataclass(frozen=True)
class Instances:
    """Objects or detections of all images, image after image.

    Attributes:
        image: int64 [N], index of the image.
        label: int64 [N], class, 0..C-1.
        box: float64 [N, 4], `[x, y, width, height]` in pixels of the original image.
        area: float64 [N], pixels; of masks the pixels inside.
        score: float64 [N]; detections are sorted by it within an image, best first; 1 for objects.
        crowd: bool [N], regions of many objects; False for detections.
        masks: COCO's run lengths of each; None where boxes are compared.
        starts: int64 [I + 1], where the instances of each image begin.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    area: np.ndarray
    score: np.ndarray
    crowd: np.ndarray
    masks: list[dict] | None
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def of_image(self, index: int) -> slice:
        """Where those of an image are."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Objects and detections that overlap, sorted by detection, then by object.

    Attributes:
        found: int64 [P], the detection.
        truth: int64 [P], the object.
        iou: float64 [P], at least `BACKGROUND_IOU`; with a crowd the share of the detection that lies in it.
    """

    found: np.ndarray
    truth: np.ndarray
    iou: np.ndarray

    def where(self, chosen: np.ndarray) -> Pairs:
        """Those that a bool [P] chooses."""
        return Pairs(self.found[chosen], self.truth[chosen], self.iou[chosen])


@dataclasses.dataclass(frozen=True)
class Scene:
    """A data set and what was found on it.

    Attributes:
        kind: "bbox" where boxes are compared, "segm" where masks are.
        classes: C names.
        image_ids: I ids in ascending order.
        sizes: int64 [I, 2], height and width; 0 where they are not known.
        file_names: I names, as annotated.
        truth: the objects.
        found: the detections, at most `MAX_DETECTIONS` of a class and image.
        pairs: what overlaps.
    """

    kind: str
    classes: list[str]
    image_ids: list[int]
    sizes: np.ndarray
    file_names: list[str]
    truth: Instances
    found: Instances
    pairs: Pairs


def has_masks(records: Sequence[dict]) -> bool:
    """Whether any entry of a list of COCO's has a mask."""
    return any(record.get("segmentation") for record in records)


def build_scene(
    ground_truth: dict, detections: Sequence[dict], classes: Sequence[str], category_ids: Sequence[int], kind: str
) -> Scene:
    """Puts ground truth and detections side by side.

    Args:
        ground_truth: of COCO's form, checked (`tfdet.evaluate.ground_truth`): `images`, `annotations`.
        detections: COCO result records, checked (`checked_detections`).
        classes, category_ids: names and ids by class; of others nothing is taken.
        kind: "bbox" or "segm". An object without mask among others that have it counts as its box.
    """
    images = sorted(ground_truth["images"], key=lambda image: image["id"])
    image_of = {image["id"]: index for index, image in enumerate(images)}
    label_of = {int(number): index for index, number in enumerate(category_ids)}
    sizes = np.array([[image.get("height", 0), image.get("width", 0)] for image in images], np.int64).reshape(-1, 2)
    truth = _instances(ground_truth["annotations"], image_of, label_of, sizes, kind, is_truth=True)
    found = _instances(detections, image_of, label_of, sizes, kind, is_truth=False)
    names = [str(image.get("file_name", "")) for image in images]
    ids = [int(image["id"]) for image in images]
    return Scene(kind, list(classes), ids, sizes, names, truth, found, _pairs(truth, found, kind))


def checked_detections(
    content: Any, ground_truth: dict, category_ids: Sequence[int], path: str
) -> tuple[list[dict], list[str]]:
    """The detections of a file that any program may have written.

    Args:
        content: what json gave.
        ground_truth: the data set's, with `images`.
        category_ids: of the data set.
        path: the file, for messages.

    Returns:
        The records of the data set's images and classes; and in words how many others there are.

    Raises:
        UserError: it is no list of COCO result records, one has values that cannot be, or none is of the data set.
    """
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if not isinstance(content, list):
        raise UserError(f"{path} is no list of detections: COCO's result format is [{{'image_id', 'bbox', ...}}, ...]")
    sizes = {image["id"]: (image.get("height", 0), image.get("width", 0)) for image in ground_truth["images"]}
    wanted = {int(number) for number in category_ids}
    kept, other_images, other_classes = [], 0, 0
    for number, record in enumerate(content):
        try:
            image_id, category_id, score = record["image_id"], record["category_id"], float(record["score"])
            left, top, width, height = box = [float(value) for value in record["bbox"]]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise UserError(
                f"{path}: entry {number} needs image_id, category_id, bbox of four numbers and score: {shown(record)}"
            ) from None
        if not all(map(math.isfinite, box)) or width < 0 or height < 0:
            raise UserError(f"{path}: entry {number} has a box that cannot be: {shown(record)}")
        if not 0 <= score <= 1:
            raise UserError(f"{path}: entry {number} has the score {score:g}, and scores are from 0 to 1: scale them")
        if image_id not in sizes:
            other_images += 1
        elif category_id not in wanted:
            other_classes += 1
        else:
            checked = {"image_id": image_id, "category_id": int(category_id), "bbox": box, "score": score}
            if record.get("segmentation"):
                checked |= {"segmentation": record["segmentation"], "number": number}
            kept.append(checked)
    if content and not kept:
        what = "images" if other_images else "classes"
        raise UserError(
            f"{path}: none of its {len(content)} detections is of the data set's {what}: compare the ids in it with "
            "those of the annotations that the data set was made from"
        )
    _check_masks(kept, sizes, path)
    notes = [
        f"{count} of {len(content)} detections are of other {what} than the data set's and were left out"
        for count, what in ((other_images, "images"), (other_classes, "classes"))
        if count
    ]
    return kept, notes


def _check_masks(records: list[dict], sizes: dict, path: str) -> None:
    """Replaces the masks of records by what pycocotools reads safely; `number` of each says where it is in the file."""
    masked = [record for record in records if "segmentation" in record]
    sound = sound_masks([record["segmentation"] for record in masked], [sizes[r["image_id"]] for r in masked])
    for record, is_sound in zip(masked, sound.tolist()):
        if is_sound:
            continue
        try:
            checked = read_segmentation(record["segmentation"], *sizes[record["image_id"]])
        except MaskError as error:
            if error.kind != NO_PIXEL:
                raise UserError(f"{path}: entry {record['number']} has a mask that cannot be read: {error}") from None
            checked = None
        record["segmentation"] = None if checked is None else checked.value


def sound_masks(masks: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Which masks surely are whole compressed run lengths with a pixel; half a million of them take seconds.

    `tfdet.data.rle.counts_from_string` reads one such string, and says what is wrong with it.

    Args:
        masks: COCO's segmentations, whatever they are.
        sizes: height and width of the image of each.

    Returns:
        bool [N].
    """
    sound = np.zeros(len(masks), bool)
    likely = [
        number
        for number, (mask, size) in enumerate(zip(masks, sizes))
        if isinstance(mask, dict) and mask.get("size") == list(size)
        and isinstance(mask.get("counts"), str) and mask["counts"].isascii() and mask["counts"]
    ]  # fmt: skip
    for begin in range(0, len(likely), _MASKS_AT_ONCE):
        part = likely[begin : begin + _MASKS_AT_ONCE]
        pixels = np.array([sizes[number][0] * sizes[number][1] for number in part], np.int64)
        sound[part] = _are_sound([masks[number]["counts"] for number in part], pixels)
    return sound


def _are_sound(texts: list[str], pixels: np.ndarray) -> np.ndarray:
    """Decodes strings of 5 bits a character, lowest first, in two's complement, all at once. Source: maskApi.c."""
    lengths = np.array([len(text) for text in texts])
    codes = np.frombuffer("".join(texts).encode(), np.uint8).astype(np.int64) - 48
    last = np.cumsum(lengths) - 1
    is_end = (codes & 32) == 0
    owner = np.repeat(np.arange(len(texts)), lengths)
    wrong = ~is_end[last]  # the string ends within a count
    wrong[owner[(codes < 0) | (codes > 63)]] = True
    is_end[last] = True
    ends = np.flatnonzero(is_end)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits, owner = ends - starts + 1, owner[ends]
    wrong[owner[digits > _MAX_DIGITS]] = True
    places = np.minimum(np.arange(len(codes)) - np.repeat(starts, digits), _MAX_DIGITS)
    values = np.add.reduceat((codes & 31) << (5 * places), starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * np.minimum(digits, _MAX_DIGITS)), 0)
    # From the fourth count on each is the difference to the one two before. So runs outside and inside stand in two
    # columns, in rows that begin anew with each mask, and are summed down; the first count is in no such sum.
    numbers = np.bincount(owner, minlength=len(texts))
    rows = (numbers + 1) // 2
    begins = np.cumsum(rows) - rows
    place = np.arange(len(values)) + np.repeat(2 * begins - (np.cumsum(numbers) - numbers), numbers)
    table = np.zeros(2 * rows.sum(), np.int64)
    table[place] = values
    first = table[2 * begins].copy()
    table[2 * begins] = 0
    sums = np.cumsum(table.reshape(-1, 2), axis=0)
    before = np.where(begins[:, None] > 0, sums[begins - 1], 0)
    counts = (sums - np.repeat(before, rows, axis=0)).reshape(-1)
    counts[2 * begins] = first
    counts = counts[place]
    wrong[owner[counts < 0]] = True
    total = np.add.reduceat(counts, np.cumsum(numbers) - numbers)
    outside = np.add.reduceat(np.where(place % 2 == 0, counts, 0), np.cumsum(numbers) - numbers)
    return ~wrong & (total == pixels) & (total > outside)


def _instances(
    records: Sequence[dict], image_of: dict, label_of: dict, sizes: np.ndarray, kind: str, is_truth: bool
) -> Instances:
    records = [entry for entry in records if entry["image_id"] in image_of and entry["category_id"] in label_of]
    image = np.array([image_of[entry["image_id"]] for entry in records], np.int64)
    label = np.array([label_of[entry["category_id"]] for entry in records], np.int64)
    score = np.ones(len(records)) if is_truth else np.array([entry["score"] for entry in records], np.float64)
    order = np.lexsort((-score, image))  # stable: equal scores stay in their order
    if not is_truth:
        order = order[_rank(image[order] * (len(label_of) + 1) + label[order]) < MAX_DETECTIONS]
    image, label, score = image[order], label[order], score[order]
    box = np.array([records[index]["bbox"] for index in order], np.float64).reshape(-1, 4)
    masks = None
    if kind == "segm":
        from pycocotools import mask as coco_mask

        masks = [_run_lengths(records[index], *sizes[image_of[records[index]["image_id"]]]) for index in order]
    if is_truth:
        area = np.array([records[index]["area"] for index in order], np.float64)
    elif masks is not None:
        area = np.array([float(coco_mask.area(mask)) for mask in masks], np.float64)
    else:
        area = box[:, 2] * box[:, 3]
    crowd = np.array([bool(records[index].get("iscrowd", 0)) and is_truth for index in order], bool)
    starts = np.searchsorted(image, np.arange(len(image_of) + 1))
    return Instances(image, label, box, area, score, crowd, masks, starts)


def _rank(groups: np.ndarray) -> np.ndarray:
    """Of each entry how many of its group stand before it."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    first = np.searchsorted(ordered, ordered)
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - first
    return ranks


def _run_lengths(record: dict, height: int, width: int) -> dict:
    """A mask as pycocotools takes it; the box where there is none."""
    from pycocotools import mask as coco_mask

    height, width = int(height), int(width)
    segmentation = record.get("segmentation")
    if not segmentation:
        x, y, w, h = record["bbox"]
        segmentation = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def _pairs(truth: Instances, found: Instances, kind: str) -> Pairs:
    """What overlaps by `BACKGROUND_IOU` or more, computed by pycocotools as its evaluation does."""
    from pycocotools import mask as coco_mask

    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for image in np.flatnonzero((np.diff(truth.starts) > 0) & (np.diff(found.starts) > 0)):
        own, other = found.of_image(image), truth.of_image(image)
        left, right = (found.box[own], truth.box[other]) if kind == "bbox" else (found.masks[own], truth.masks[other])
        iou = np.asarray(coco_mask.iou(left, right, truth.crowd[other].astype(np.uint8).tolist()))
        rows, columns = np.nonzero(iou >= BACKGROUND_IOU)
        parts.append((rows + own.start, columns + other.start, iou[rows, columns]))
    if not parts:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts)))
