"""The worst images of a report: what is there and what was found, side by side, with a number on each error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tfdet.data.rle import rings_of_mask
from tfdet.report.analysis.images import ImageError, ImageErrors
from tfdet.report.analysis.summary import Analysis
from tfdet.report.page import picture_uri

_MAX_SIDE = 640  # pixels of a picture in the page
_QUALITY = 78
_MAX_LISTED = 40  # errors of an image that are drawn with a number
_MASK_SIDE = 240  # pixels of the grid that outlines of masks are drawn on


def error_pictures(
    analysis: Analysis, worst: Iterable[ImageErrors], read: Callable[[int], np.ndarray | None]
) -> list[dict[str, Any]]:
    """What the page needs of each of the worst images.

    Args:
        analysis: with the scene.
        worst: the images, in their order.
        read: gives the picture of an image id, uint8 [H, W, 3]; None where it cannot be read.

    Returns:
        For each image its name, the errors in words, and shapes to draw left (truth) and right (found).
    """
    pictures = []
    for number, entry in enumerate(worst, 1):
        scene = analysis.scene
        image = read(scene.image_ids[entry.image])
        height, width = map(int, scene.sizes[entry.image]) if image is None else image.shape[:2]
        listed = entry.errors[:_MAX_LISTED]
        pictures.append(
            {
                "number": number,
                "image_id": scene.image_ids[entry.image],
                "name": scene.file_names[entry.image] or f"image {scene.image_ids[entry.image]}",
                "width": int(width) or 1,
                "height": int(height) or 1,
                "uri": None if image is None else picture_uri(image, max_side=_MAX_SIDE, quality=_QUALITY),
                "weight": round(entry.weight, 2),
                "summary": _summary(entry.errors),
                "errors": [
                    {"number": place, "kind": error.kind, "text": _in_words(analysis, error)}
                    for place, error in enumerate(listed, 1)
                ],
                "more": len(entry.errors) - len(listed),
                "truth": _truth_shapes(analysis, entry, listed),
                "found": _found_shapes(analysis, entry, listed),
            }
        )
    return pictures


def _summary(errors: list[ImageError]) -> str:
    """`3 missed, 1 background`."""
    kinds = [error.kind for error in errors]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds), key=lambda kind: -kinds.count(kind)))


def _in_words(analysis: Analysis, error: ImageError) -> str:
    scene = analysis.scene
    names, truth, found = scene.classes, scene.truth, scene.found
    if error.kind == "missed":
        x, y, width, height = truth.box[error.truth]
        return f"missed: {names[truth.label[error.truth]]}, {width:.0f} x {height:.0f} pixels"
    what = f"{names[found.label[error.found]]} {100 * found.score[error.found]:.0f}%"
    if error.kind == "classification":
        return f"wrong class: {what} is {names[truth.label[error.truth]]}"
    if error.kind == "localisation":
        own = (scene.pairs.found == error.found) & (scene.pairs.truth == error.truth)
        overlap = float(scene.pairs.iou[own].max()) if own.any() else 0.0
        return f"wrong place: {what} overlaps its object by {100 * overlap:.0f}%"
    if error.kind == "duplicate":
        return f"duplicate: {what} on an object that was found already"
    if error.kind == "background":
        return f"background: {what} where nothing is labelled"
    return f"wrong class and place: {what}"


def _truth_shapes(analysis: Analysis, entry: ImageErrors, listed: list[ImageError]) -> list[dict[str, Any]]:
    truth = analysis.scene.truth
    numbers = {error.truth: place for place, error in enumerate(listed, 1) if error.truth >= 0 and error.weight >= 1}
    kinds = {error.truth: error.kind for error in entry.errors if error.truth >= 0}
    shapes = []
    for index in range(truth.of_image(entry.image).start, truth.of_image(entry.image).stop):
        if truth.crowd[index]:
            state = "crowd"
        else:
            state = "right" if analysis.outcome.found[index] else kinds.get(index, "missed")
        shapes.append(_shape(analysis, truth, index, state, numbers.get(index), ""))
    return sorted(shapes, key=lambda shape: shape["number"] is not None)


def _found_shapes(analysis: Analysis, entry: ImageErrors, listed: list[ImageError]) -> list[dict[str, Any]]:
    found, outcome = analysis.scene.found, analysis.outcome
    numbers = {error.found: place for place, error in enumerate(listed, 1) if error.found >= 0}
    kinds = {error.found: error.kind for error in entry.errors if error.found >= 0}
    shapes = []
    for index in range(found.of_image(entry.image).start, found.of_image(entry.image).stop):
        if outcome.shown[index]:
            state = "right" if outcome.right[index] else kinds.get(index, "crowd")
            score = f" {100 * found.score[index]:.0f}%"
            shapes.append(_shape(analysis, found, index, state, numbers.get(index), score))
    return sorted(shapes, key=lambda shape: shape["number"] is not None)


def _shape(analysis: Analysis, instances: Any, index: int, state: str, number: int | None, score: str) -> dict:
    x, y, width, height = (round(float(value), 1) for value in instances.box[index])
    shape = {"x": x, "y": y, "width": max(width, 1.0), "height": max(height, 1.0), "state": state, "number": number}
    shape["label"] = analysis.scene.classes[instances.label[index]] + score
    shape["path"] = "" if instances.masks is None else _outline(instances.masks[index])
    return shape


def _outline(mask: dict) -> str:
    """The outline of run lengths as an SVG path in pixels of the image, on a coarser grid."""
    from pycocotools import mask as coco_mask

    inside = coco_mask.decode(mask).astype(bool)
    step = max(1, -(-max(inside.shape) // _MASK_SIDE))
    parts = []
    for ring in rings_of_mask(inside[step // 2 :: step, step // 2 :: step]):
        corners = (ring * step).tolist()
        parts.append(f"M{corners[0][0]} {corners[0][1]}")
        for (left, _), (x, y) in zip(corners, corners[1:]):
            parts.append(f"V{y}" if x == left else f"H{x}")
        parts.append("Z")
    return "".join(parts)
