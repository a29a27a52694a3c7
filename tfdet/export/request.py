"""What is asked of an export, checked, and the images by which it is proved: `Model.export` and the command."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tfdet import arguments
from tfdet.arguments import MAX_PIXELS, folders, whole_number
from tfdet.config import Configuration
from tfdet.data.images import ImageError, image_size
from tfdet.data.manifest import is_data_set
from tfdet.errors import UserError
from tfdet.export import verify
from tfdet.export.formats import FORMATS, ExportFormat, Precision, check_format
from tfdet.export.formats.graph import check_canvas
from tfdet.export.model_card import card_of
from tfdet.export.run import Compared, Export, Target, export_and_compare
from tfdet.export.saved_model import BadImages, check_target
from tfdet.export.serving_files import next_version
from tfdet.ops import native
from tfdet.predict.float32 import in_float32
from tfdet.predict.found import Labels
from tfdet.predict.restore import evaluation_folder, evaluation_resize
from tfdet.predict.sources import ImageSource, named_images, read_source

CALIBRATION_IMAGES = 64


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of `Model.export`, which says what they are."""

    format: ExportFormat
    precision: Precision
    canvas: tuple[int, int] | None
    verify: bool
    images: ImageSource | Iterable[ImageSource] | None
    eval_data: str | os.PathLike | None
    num_images: int
    ap_images: int | None
    box_tolerance: float | None
    score_tolerance: float | None
    native_ops: bool
    max_pixels: int
    versions: bool
    bad_images: BadImages

    def check(self) -> None:
        """`UserError` where an argument is wrong by itself, or the packages of the format are not installed."""
        check_format(self.format, self.precision)
        if self.format in FORMATS:
            FORMATS[self.format].module(self.format)
            if self.native_ops:
                raise UserError(f"{self.format} has none of tfdet's custom ops: leave --native_ops out")
        if self.native_ops:
            native.library()
        if self.canvas is not None:
            check_canvas(self.format, self.canvas)
        if self.bad_images not in ("alone", "all"):
            raise UserError(f'bad_images {self.bad_images!r}: give "alone" or "all"')
        if self.ap_images is not None:
            whole_number("ap_images", self.ap_images, 0)
        for name in ("box_tolerance", "score_tolerance"):
            value = getattr(self, name)
            arguments.number(name, 0 if value is None else value)


def export_model(model: Any, folder: str | os.PathLike, request: Request) -> Export:
    """Writes a `tfdet.model.Model` and compares it with what was written.

    Args:
        model: with a configuration, a detector and names of its classes.
        folder: where to.
        request: what to write.

    Raises:
        UserError: as `Model.export` says.
    """
    request.check()
    folder = next_version(folder) if request.versions else os.fspath(folder)
    check_target(folder)
    configuration = model.configured(None, {"EvalInput.data_dir": request.eval_data})
    compared = None
    if request.verify:
        chosen = images_to_compare(
            request.images,
            evaluation_folder(configuration),
            request.num_images,
            request.eval_data is not None,
            request.max_pixels,
        )
        data = None if request.eval_data is None or request.ap_images == 0 else os.fspath(request.eval_data)
        compared = Compared(*chosen, request.box_tolerance, request.score_tolerance, data, request.ap_images)
    if request.precision == "int8":
        chosen_images = calibration_images(configuration, request)
        compared = dataclasses.replace(compared or Compared([], ""), calibration=chosen_images)
    resize = evaluation_resize(model.configuration)
    canvas = None if request.canvas is None else check_canvas(request.format, request.canvas)
    target = Target(
        folder,
        request.format,
        request.precision,
        canvas,
        request.native_ops,
        request.max_pixels,
        request.bad_images,
    )
    labels = Labels(model.classes, model.category_ids, model.detector.mask_paste)
    weights = None if model.weights is None else model.weights.path
    card = card_of(model.name, model.describe(), model.configuration, model.classes, model.category_ids, weights)
    with in_float32():
        return export_and_compare(model.detector, labels, resize, target, compared, card)


def calibration_images(configuration: Configuration, request: Request) -> list[bytes]:
    """Images on which the ranges of int8 are measured: the given ones, else of the training data, else of the other.

    Raises:
        UserError: there are none; or an image cannot be read.
    """
    if request.images is not None:
        return images_to_compare(request.images, None, CALIBRATION_IMAGES, max_pixels=request.max_pixels)[0]
    train = configuration.value("TrainInput.data_dir") if configuration.is_bound("TrainInput.data_dir") else None
    for data in (*(() if train is None else folders(train)), evaluation_folder(configuration)):
        if data is not None and is_data_set(data):
            return _within(request.max_pixels, verify.images_of_records(data, CALIBRATION_IMAGES))
    raise UserError("--precision int8 is calibrated on images: give --eval_data or --images")


def images_to_compare(
    images: ImageSource | Iterable[ImageSource] | None,
    data_dir: str | None,
    count: int,
    must_read: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> tuple[list[bytes], str]:
    """Encoded images, and in words where they come from.

    Args:
        images: as in `Model.predict`; None: of the data set, where it is there, else drawn ones.
        data_dir: a data set, or None.
        count: most images.
        must_read: refuse a data set that cannot be read.
        max_pixels: as in `export_and_compare`; larger images are left out, but those of `images` are refused.

    Raises:
        UserError: an image or the data set cannot be read, or `count` is none.
    """
    count = whole_number("num_images", count, 1)
    if images is not None:
        pixels = [read_source(image, index, max_pixels) for index, image in enumerate(named_images(images)[:count])]
        # As PNG, which the exported model decodes to the same pixels.
        return [tf.io.encode_png(image).numpy() for image in pixels], "the images given"
    if data_dir:
        try:
            return _within(max_pixels, verify.images_of_records(data_dir, count)), f"images of {data_dir}"
        except UserError:  # by now the data set is elsewhere; the export does not need it
            if must_read:
                raise
    return _within(max_pixels, verify.synthetic_images(count)), "drawn images"


def _within(max_pixels: int, encoded: list[bytes]) -> list[bytes]:
    def fits(image: bytes) -> bool:
        try:
            return bool(image_size(image, max_pixels))
        except ImageError:
            return False

    return [image for image in encoded if fits(image)]
