"""Draws boxes and masks on pictures: detections with a full line and a label, ground truth with a dashed one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.files import replacing
from tfdet.ops.paste_masks import paste_mask
from tfdet.report.colors import class_color
from tfdet.report.fonts import can_show
from tfdet.report.pen import Pen, line_width
from tfdet.text import one_line

__all__ = ["class_color", "draw_detections", "draw_samples", "save_picture"]


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    score_threshold: float = 0.0,
    gt_boxes: np.ndarray | None = None,
    gt_classes: np.ndarray | None = None,
    masks: np.ndarray | None = None,
) -> np.ndarray:
    """Draws detections, and ground truth where it is given.

    Lines and letters grow with the picture, from some 60 pixels to several thousand. The best detection is drawn last,
    on top. Labels stand at their boxes, above them where there is room, inside the picture and not upon each other, the
    best first; in a crowd one that finds no place is left out. Ground truth has a white-edged dashed line and its name
    below the box.

    Args:
      image: uint8 [H, W, 3], RGB. It is not changed.
      boxes: float [D, 4], `[x1, y1, x2, y2]` inclusive corners in pixels of the image.
      classes: int [D], 0..C-1; negative ones are padding and are left out.
      scores: float [D], 0..1, shown in percent; None: names alone.
      class_names: names by class, in any script; None, too short, or a name that no font here has letters for:
        "class 3".
      score_threshold: detections below it are not drawn.
      gt_boxes: float [G, 4], as `boxes`.
      gt_classes: int [G], as `classes`.
      masks: float [D, M, M], probabilities inside the boxes; shown as a veil in the class's colour with an outline.

    Returns:
      uint8 [H, W, 3], a new picture.

    Raises:
      ValueError: the image is not uint8 [H, W, 3].
    """
    from PIL import Image, ImageDraw

    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"Expected a uint8 image of shape [H, W, 3]. Received: {image.dtype} {image.shape}")
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    order = np.arange(len(boxes)) if scores is None else np.argsort(-np.asarray(scores), kind="stable")
    shown = [
        index for index in order[::-1] if classes[index] >= 0 and (scores is None or scores[index] >= score_threshold)
    ]
    if masks is not None:
        image = _veiled(image, boxes, classes, masks, shown)
    picture = Image.fromarray(image)  # copies: the caller's array stays as it is
    pen = Pen(ImageDraw.Draw(picture), picture.size)
    if gt_boxes is not None:
        kinds = np.zeros(len(gt_boxes), int) if gt_classes is None else np.asarray(gt_classes)
        for box, kind in zip(np.asarray(gt_boxes, float).reshape(-1, 4), kinds):
            if kind >= 0:
                pen.dashed_box(box, class_color(int(kind)), _name(int(kind), class_names))
    for index in shown:
        kind = int(classes[index])
        label = _name(kind, class_names)
        if scores is not None:
            label = f"{label} {100 * float(scores[index]):.0f}%"
        pen.box(boxes[index], class_color(kind), label)
    pen.labels()
    return np.array(picture)


def draw_samples(
    samples: Sequence[Any], class_names: Sequence[str] | None = None, score_threshold: float = 0.3, max_side: int = 800
) -> list[np.ndarray]:
    """Draws the samples of an evaluation: the ground truth on the left, the detections on the right.

    Args:
      samples: `tfdet.evaluate.run.Sample` records.
      class_names: names by class.
      score_threshold: detections below it are not drawn.
      max_side: larger images are made smaller to this first, so that event files stay small.

    Returns:
      A list of uint8 [H, 2 W + gap, 3].
    """
    pictures = []
    for sample in samples:
        image, scale = _shrink(sample.image, max_side)
        nothing = np.zeros([0, 4])
        left = draw_detections(image, nothing, [], None, class_names, 0.0, sample.gt_boxes * scale, sample.gt_classes)
        right = draw_detections(
            image,
            sample.boxes * scale,
            sample.classes,
            sample.scores,
            class_names,
            score_threshold,
            masks=sample.masks,
        )
        gap = np.full([image.shape[0], 4, 3], 255, np.uint8)
        pictures.append(np.concatenate([left, gap, right], axis=1))
    return pictures


def save_picture(image: np.ndarray, path: str | os.PathLike) -> None:
    """Writes a picture to a temporary name, then renames it.

    Args:
      image: uint8 [H, W, 3], RGB.
      path: ends in .jpg (quality 90, full colour resolution: thin lines stay clean) or .png.

    Raises:
      UserError: it cannot be written.
    """
    from PIL import Image

    options = {} if Path(path).suffix.lower() == ".png" else {"quality": 90, "subsampling": 0}
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="JPEG" if options else "PNG", **options)


def _veiled(image: np.ndarray, boxes, classes, masks, shown: Sequence[int]) -> np.ndarray:
    """The image with each mask mixed in by half, its edge in full colour, and a dark line around that."""
    image = image.copy()
    width = line_width(max(image.shape[:2]))
    for index in shown:
        part, left, top = paste_mask(masks[index], boxes[index], *image.shape[:2])
        color = np.array(class_color(int(classes[index])), np.uint16)
        window = image[top : top + part.shape[0], left : left + part.shape[1]]
        window[part] = ((window[part].astype(np.uint16) + color) // 2).astype(np.uint8)
        edge = part & ~_eroded(part, width)
        dark = edge & ~_eroded(part, max(1, width // 3)) if width > 1 else np.zeros_like(part)
        window[edge] = color
        window[dark] = window[dark] // 4
    return image


def _eroded(mask: np.ndarray, by: int) -> np.ndarray:
    """bool [H, W], the pixels of a mask that have none outside it within so many rows and columns."""
    size = 2 * by + 1
    mask = np.pad(mask, by)
    for _ in ("rows", "columns"):
        reach = 1
        while reach < size:
            # The minimum over a stretch of rows is that of two shorter ones.
            step = min(reach, size - reach)
            mask, reach = mask[:-step] & mask[step:], reach + step
        mask = mask.T
    return mask


def _shrink(image: np.ndarray, max_side: int) -> tuple[np.ndarray, float]:
    from PIL import Image

    scale = max_side / max(image.shape[:2])
    if scale >= 1.0:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)), scale


def _name(kind: int, class_names: Sequence[str] | None) -> str:
    name = one_line(class_names[kind]).strip() if class_names is not None and kind < len(class_names) else ""
    return name if name and can_show(name) else f"class {kind}"
