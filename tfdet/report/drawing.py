"""Draws boxes and masks on pictures: detections with a full line and a label, ground truth with a dashed one."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.files import replacing
from tfdet.ops.paste_masks import paste_mask
from tfdet.text import printable

# Okabe and Ito's palette without its black, then Paul Tol's "bright" and "vibrant" colours that differ from it:
# hues that people with the common forms of colour blindness tell apart. Neighbours differ most.
_PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
    (238, 51, 119),
    (187, 187, 187),
    (34, 136, 51),
    (170, 51, 119),
    (51, 187, 238),
)


def class_color(index: int) -> tuple[int, int, int]:
    """The colour of a class, the same in every picture and run.

    Args:
      index: the class, 0..C-1. After the palette's 12 colours they come again darker, then lighter.

    Returns:
      Red, green, blue, 0..255.
    """
    red, green, blue = _PALETTE[index % len(_PALETTE)]
    turn = (index // len(_PALETTE)) % 3
    if turn == 1:
        return red * 6 // 10, green * 6 // 10, blue * 6 // 10
    if turn == 2:
        return (red + 255) // 2, (green + 255) // 2, (blue + 255) // 2
    return red, green, blue


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

    Lines and letters grow with the picture, from 160 pixels to several thousand. The best detection is drawn last, on
    top. A label sits above its box, or inside where there is no room; ground truth has a white-edged dashed line and
    its name below the box.

    Args:
      image: uint8 [H, W, 3], RGB. It is not changed.
      boxes: float [D, 4], `[x1, y1, x2, y2]` inclusive corners in pixels of the image.
      classes: int [D], 0..C-1; negative ones are padding and are left out.
      scores: float [D], 0..1, shown in percent; None: names alone.
      class_names: names by class; None or too short: "class 3".
      score_threshold: detections below it are not drawn.
      gt_boxes: float [G, 4], as `boxes`.
      gt_classes: int [G], as `classes`.
      masks: float [D, M, M], probabilities inside the boxes; shown as a veil in the class's colour.

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
    pen = _Pen(ImageDraw.Draw(picture), picture.size)
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
    """The image with each mask mixed in by half, and its edge in full colour."""
    image = image.copy()
    for index in shown:
        part, left, top = paste_mask(masks[index], boxes[index], *image.shape[:2])
        color = np.array(class_color(int(classes[index])), np.uint16)
        window = image[top : top + part.shape[0], left : left + part.shape[1]]
        window[part] = ((window[part].astype(np.uint16) + color) // 2).astype(np.uint8)
        rim = np.pad(part, 1)
        inner = rim[:-2, 1:-1] & rim[2:, 1:-1] & rim[1:-1, :-2] & rim[1:-1, 2:]
        window[part & ~inner] = color
    return image


def _shrink(image: np.ndarray, max_side: int) -> tuple[np.ndarray, float]:
    from PIL import Image

    scale = max_side / max(image.shape[:2])
    if scale >= 1.0:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)), scale


def _name(kind: int, class_names: Sequence[str] | None) -> str:
    return printable(class_names[kind]) if class_names is not None and kind < len(class_names) else f"class {kind}"


@functools.lru_cache(maxsize=16)
def _font(size: int):
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


class _Pen:
    """Lines and labels in proportion to the picture."""

    def __init__(self, draw: Any, size: tuple[int, int]):
        self._draw = draw
        self._width, self._height = size
        side = max(size)
        self._line = max(1, round(side / 400))
        self._font = _font(int(np.clip(round(side / 48), 10, 40)))
        self._pad = max(1, self._line)
        self._pending: list[tuple] = []

    def box(self, box: np.ndarray, color: tuple[int, int, int], label: str) -> None:
        corners = self._inside(box)
        if corners is None:
            return
        left, top, right, bottom = corners
        # A dark line around the coloured one keeps it visible on a ground of its own colour.
        self._draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=self._line + 2)
        self._draw.rectangle(corners, outline=color, width=self._line)
        self._pending.append(((left, top), label, color, True))

    def dashed_box(self, box: np.ndarray, color: tuple[int, int, int], label: str) -> None:
        corners = self._inside(box)
        if corners is None:
            return
        left, top, right, bottom = corners
        self._draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(255, 255, 255), width=self._line + 2)
        dash = max(3, 4 * self._line)
        for x in range(left, right + 1, 2 * dash):
            for y in (top, bottom):
                self._draw.line((x, y, min(x + dash, right), y), fill=color, width=self._line + 1)
        for y in range(top, bottom + 1, 2 * dash):
            for x in (left, right):
                self._draw.line((x, y, x, min(y + dash, bottom)), fill=color, width=self._line + 1)
        self._pending.append(((left, bottom), label, color, False))

    def labels(self) -> None:
        """Draws the labels of all boxes so far: after the lines, so that no line crosses a word."""
        for at, text, color, above in self._pending:
            self._label(at, text, color, above)
        self._pending.clear()

    def _inside(self, box: np.ndarray) -> tuple[int, int, int, int] | None:
        if not np.all(np.isfinite(box)):
            return None
        left, right = (int(np.clip(round(float(value)), 0, self._width - 1)) for value in box[[0, 2]])
        top, bottom = (int(np.clip(round(float(value)), 0, self._height - 1)) for value in box[[1, 3]])
        return (left, top, right, bottom) if right >= left and bottom >= top else None

    def _label(self, at: tuple[int, int], text: str, color: tuple[int, int, int], above: bool) -> None:
        x0, y0, x1, y1 = self._draw.textbbox((0, 0), text, font=self._font)
        width, height = x1 - x0 + 2 * self._pad, y1 - y0 + 2 * self._pad
        left = int(np.clip(at[0], 0, max(0, self._width - width)))
        top = at[1] - height if above else at[1] + 1
        if top < 0 or top + height > self._height:
            # No room outside: just inside the same edge.
            top = at[1] + 1 if above else at[1] - height
        top = int(np.clip(top, 0, max(0, self._height - height)))
        self._draw.rectangle((left, top, left + width - 1, top + height - 1), fill=color)
        # Relative luminance (ITU-R BT.709) decides between black and white letters.
        bright = 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2] > 110
        ink = (0, 0, 0) if bright else (255, 255, 255)
        self._draw.text((left + self._pad - x0, top + self._pad - y0), text, font=self._font, fill=ink)
