"""Detects on image files and writes an annotated picture for each and one json file for all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfdet.arguments import MAX_PIXELS
from tfdet.data.images import read_image
from tfdet.errors import UserError
from tfdet.files import write_json
from tfdet.ops.paste_masks import encode_masks
from tfdet.predict.float32 import in_float32
from tfdet.predict.found import Found, Labels
from tfdet.report.drawing import save_picture
from tfdet.terminal import shown
from tfdet.text import one_line

JSON_FILE = "detections.json"


@dataclasses.dataclass
class Summary:
    """What was done."""

    json_file: str
    num_images: int = 0
    num_detections: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)
    images_per_second: float = 0.0


def predict_files(
    predictor: Any,
    files: Sequence[str],
    output: str | os.PathLike,
    score_threshold: float,
    console: Any,
    max_pixels: int = MAX_PIXELS,
) -> Summary:
    """Detects on each file; what cannot be read is named on the console and skipped.

    The json file holds `images` (id, file_name, width, height, picture), `categories` and `annotations`: COCO's format
    with `score`, `class_name` and `file_name` added to each annotation, boxes `[x, y, width, height]` in pixels of the
    image turned upright; of a detector with masks also `segmentation`, COCO's compressed run lengths.

    Args:
      predictor: from uint8 [H, W, 3] and a path to a `Found`, with `labels`.
      files: paths of images.
      output: the folder to write to; made where it is absent.
      score_threshold: detections below it are neither drawn nor written.
      console: a `rich.console.Console`.
      max_pixels: most pixels of an image, height times width; larger ones are skipped.

    Returns:
      A `Summary`.

    Raises:
      UserError: the output cannot be written, or a picture would replace an input.
    """
    pictures = picture_names(files, output)
    summary = Summary(os.path.join(output, JSON_FILE))
    images: list[dict] = []
    annotations: list[dict] = []
    kinds: set[int] = set()
    seconds, timed = 0.0, 0
    with _progress(console, len(files)) as advance:
        for number, (path, picture) in enumerate(zip(files, pictures), 1):
            try:
                image = read_image(path, max_pixels)
            except UserError as error:
                console.print(shown(one_line(f"skipped: {error}"), "yellow"), soft_wrap=True)
                summary.failed.append(path)
                advance()
                continue
            start = time.perf_counter()
            with in_float32():
                found = predictor(image, path).above(score_threshold)
            if summary.num_images:  # the first image traces the graph
                seconds, timed = seconds + time.perf_counter() - start, timed + 1
            summary.num_images += 1
            summary.num_detections += len(found)
            save_picture(np.asarray(found.draw()), picture)
            height, width = image.shape[:2]
            size = {"width": width, "height": height}
            images.append({"id": number, "file_name": path, **size, "picture": os.path.basename(picture)})
            kinds.update(int(kind) for kind in found.class_ids)
            for entry in _annotations(found, number):
                annotations.append({"id": len(annotations) + 1, **entry})
            advance()
    kinds.update(range(len(predictor.labels.classes)))
    categories = [_category(predictor.labels, kind) for kind in sorted(kinds)]
    write_json({"images": images, "categories": categories, "annotations": annotations}, summary.json_file)
    summary.images_per_second = timed / seconds if seconds > 0 else 0.0
    return summary


def picture_names(files: Sequence[str], output: str | os.PathLike) -> list[str]:
    """Where the annotated picture of each file goes: its base name, `.png` for PNG files and `.jpg` for all others.

    Two inputs of one base name get `name.jpg` and `name_2.jpg`.

    Raises:
      UserError: a picture would replace an input.
    """
    inputs = {os.path.realpath(path) for path in files}
    taken: set[str] = set()
    pictures = []
    for path in files:
        stem, extension = os.path.splitext(os.path.basename(path))
        extension = ".png" if extension.lower() == ".png" else ".jpg"
        name, count = stem + extension, 1
        while name.lower() in taken:  # some file systems do not tell upper from lower case
            count += 1
            name = f"{stem}_{count}{extension}"
        taken.add(name.lower())
        picture = os.path.join(output, name)
        if os.path.realpath(picture) in inputs:
            raise UserError(f"the picture {picture} would replace an input: give another --output")
        pictures.append(picture)
    return pictures


def _annotations(found: Found, image_id: int) -> list[dict]:
    """The entries of one image: by its edges, so that a run and its export write the same."""
    segments: list[dict] = [{}] * len(found)
    if found.mask_probabilities is not None:
        (height, width), rule = found.image.shape[:2], found.labels.mask_paste
        encoded = encode_masks(found.mask_probabilities, found.drawing_boxes(), height, width, rule)
        segments = [{"segmentation": segment} for segment in encoded]
    boxes = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
    rows = zip(found.category_ids, found.class_names, boxes.tolist(), found.scores.tolist(), segments, strict=True)
    return [
        {
            "image_id": image_id,
            "file_name": found.path,
            "category_id": category_id,
            "class_name": name,
            "bbox": [round(value, 2) for value in box],
            "score": round(score, 5),
            **segment,
        }
        for category_id, name, box, score, segment in rows
    ]


def _category(labels: Labels, kind: int) -> dict:
    return {"id": labels.category_id(kind), "name": labels.name(kind)}


@contextlib.contextmanager
def _progress(console: Any, total: int) -> Iterator[Callable[[], None]]:
    if not console.is_terminal or total < 2:
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("predicting", total=total)
        yield lambda: bar.advance(task)
