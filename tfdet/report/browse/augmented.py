"""A contact sheet of what training sees: images several times, as the input pipeline gives them."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdet.errors import UserError
from tfdet.report.drawing import class_color, draw_detections
from tfdet.report.page import picture_uri, render, write_page
from tfdet.text import name_of, printable

if TYPE_CHECKING:
    from tfdet.data.inputs import TrainInput
    from tfdet.structures import Batch

DEFAULT_IMAGES, DEFAULT_DRAWS = 8, 4
_DEFAULT_SIDE = 480  # pixels
_MOST = 2000  # pictures on a page


def browse_augmented(
    train_input: TrainInput,
    output: str | os.PathLike,
    *,
    images: int = DEFAULT_IMAGES,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    picture_size: int | None = None,
) -> list[str]:
    """Writes one HTML page: some images of the training set as they are stored, and as training may see them.

    The pictures are those of `TrainInput.views`, the input of training itself, boxes and masks drawn on the pixels that
    the network gets, padding included.

    Args:
        train_input: of a configuration.
        output: the page to write.
        images: how many of the data set, evenly over it; fewer where it has fewer.
        draws: times that each is drawn.
        seed: of the draws.
        picture_size: the most pixels of a side of a picture; None: 480.

    Returns:
        The augmentations that are on, in words.

    Raises:
        UserError: a number is out of range, a record is damaged, or the page cannot be written.
    """
    for name, value, most in (("images", images, _MOST), ("draws", draws, _MOST)):
        if not 1 <= value <= most:
            raise UserError(f"{name} {value} must be from 1 to {most}")
    if images * draws > _MOST:
        raise UserError(f"{images} images drawn {draws} times are more than {_MOST} pictures: too large for a page")
    side = _DEFAULT_SIDE if picture_size is None else picture_size
    rows = _rows(train_input, images)
    index = train_input.manifest.load_index()
    ids = index.image_id[rows].tolist()
    import tensorflow as tf

    try:
        stored, seen = list(_plain(train_input).views(ids, 1)), list(train_input.views(ids, draws, seed))
    except tf.errors.OpError as error:
        raise train_input.explain(error) from error
    names = _file_names(train_input, rows)
    sheet = []
    for number, name in enumerate(names):
        own = [(stored[number][0], "without augmentation"), *seen[number * draws : (number + 1) * draws]]
        pictures = [
            {
                "uri": picture_uri(_drawn(item, train_input), max_side=side),
                "words": words or "as it is",
                "objects": int((item.classes >= 0).sum()),
            }
            for item, words in own
        ]
        sheet.append({"name": name, "pictures": pictures})
    listed = described(train_input)
    page = render(
        "augmented.html",
        name=printable(train_input.manifest.name),
        sheet=sheet,
        listed=listed,
        draws=draws,
        seed=seed,
        num_images=train_input.manifest.num_images,
    )
    write_page(output, page)
    return listed


def described(train_input: TrainInput) -> list[str]:
    """The augmentations of an input in words, mirroring and scales among them."""
    listed = ["mirrored left to right (every image and its mirror once an epoch)"] if train_input.flip else []
    jitter = train_input.jitter
    if jitter is not None:
        listed.append(
            f"large-scale jitter of {jitter.min_scale:g} to {jitter.max_scale:g} on {jitter.width} x {jitter.height}"
        )
    elif len(train_input.short_sides) > 1:
        listed.append(f"shorter side of {', '.join(map(str, train_input.short_sides))}")
    return listed + (train_input.augmentation.names() if train_input.augmentation is not None else [])


def _plain(train_input: TrainInput) -> Any:
    """The same input without anything that is drawn."""
    plain = copy.copy(train_input)
    plain.augmentation, plain.jitter, plain.flip = None, None, False
    plain.short_sides = (train_input.short_side,)
    return plain


def _rows(train_input: TrainInput, count: int) -> list[int]:
    """Rows of images that have a box, evenly over the set."""
    usable = np.flatnonzero(train_input.manifest.load_index().is_trainable)
    places = np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int))
    return usable[places].tolist()


def _file_names(train_input: TrainInput, rows: list[int]) -> Iterator[str]:
    from tfdet.data.records import read_serialized, record_table
    from tfdet.data.schema import parse_record

    table = record_table(train_input.manifest, train_input.manifest.load_index())
    for row in rows:
        yield printable(name_of(parse_record(read_serialized(table, row)).filename.numpy()))


def _drawn(item: Batch, train_input: TrainInput) -> np.ndarray:
    """The picture of a `Batch` without the batch axis, with its objects: uint8 [H, W, 3]."""
    image = np.clip(np.round(item.images), 0, 255).astype(np.uint8)
    image = _with_masks(image, item)
    boxes = item.boxes - [0, 0, 1, 1] if train_input.profile == "continuous" else item.boxes
    return draw_detections(image, boxes, item.classes, None, train_input.manifest.classes)


def _with_masks(image: np.ndarray, item: Batch) -> np.ndarray:
    """Masks as veils in the colours of the classes."""
    from tfdet.data.augmentation.spans import spans_of_edges

    if not len(item.edges):
        return image
    image = image.copy()
    spans = spans_of_edges(item.edges, item.edge_owners, *image.shape[:2])
    for number, row, start, end in zip(*(column.numpy().tolist() for column in spans), strict=True):
        color = np.array(class_color(int(item.classes[number])), np.uint16)
        image[row, start:end] = (image[row, start:end] + color) // 2
    return image
