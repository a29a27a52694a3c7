"""Writes a detector as a SavedModel and compares what the two find: one call for Python and for the command."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfdet.arguments import MAX_PIXELS, whole_number
from tfdet.data.images import ImageError, image_size
from tfdet.data.resize import Resize
from tfdet.errors import UserError
from tfdet.export import saved_model, verify
from tfdet.export.verify import Difference
from tfdet.ops import native
from tfdet.predict.found import Labels
from tfdet.predict.predictors import CheckpointPredictor
from tfdet.predict.sources import ImageSource, named_images, read_source

if TYPE_CHECKING:
    from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Compared:
    """Images that both models detect on."""

    encoded: list[bytes]  # JPEG or PNG
    origin: str  # in words
    box_tolerance: float | None = None  # pixels of the image; None: `verify.BOX_TOLERANCE`
    score_tolerance: float | None = None  # None: `verify.SCORE_TOLERANCE`


@dataclasses.dataclass(frozen=True)
class Export:
    """What was written, and how it differs from the model that it is of."""

    folder: str
    resize: Resize  # of the images
    differences: list[Difference]  # one a signature; none where nothing was compared
    origin: str  # of the images that were compared, in words
    box_tolerance: float
    score_tolerance: float

    @property
    def passed(self) -> bool:
        """Whether all differences are within the tolerances."""
        return all(entry.passed(self.box_tolerance, self.score_tolerance) for entry in self.differences)

    @property
    def num_detections(self) -> int:
        """Detections that were compared: 0 says nothing."""
        return self.differences[0].num_detections if self.differences else 0

    def table(self) -> Table:
        """The differences, for a console."""
        return verify.table(self.differences, self.box_tolerance, self.score_tolerance)


class ExportDiffersError(UserError):
    """An export does not find what the model finds; `export` has the differences."""

    def __init__(self, export: Export):
        super().__init__(f"the export in {export.folder} does not find what the model finds: do not use it")
        self.export = export


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


def export_and_compare(
    detector: Any,
    labels: Labels,
    resize: Resize,
    folder: str | os.PathLike,
    compared: Compared | None,
    native_ops: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Export:
    """Writes a detector, see `saved_model.export`, and compares it with what was written, see `verify.verify`.

    Args:
        detector: a model with `detect`, weights restored.
        labels: what its classes are.
        resize: of the images.
        folder: where to; absent or empty.
        compared: by which images; None compares nothing.
        native_ops: trace tfdet's custom ops.
        max_pixels: most pixels of an image that the export takes encoded, height times width.

    Raises:
        ExportDiffersError: a difference is not within the tolerances.
        UserError: the folder is not empty or cannot be written, or there are no custom ops.
    """
    implementation = "native" if native_ops else "python"
    names, ids, _ = labels
    saved_model.export(detector, folder, resize, names, ids, implementation, max_pixels)
    compared = compared or Compared([], "")
    tolerances = (
        verify.BOX_TOLERANCE if compared.box_tolerance is None else compared.box_tolerance,
        verify.SCORE_TOLERANCE if compared.score_tolerance is None else compared.score_tolerance,
    )
    differences: list[Difference] = []
    if compared.encoded:
        with native.implementation(implementation):
            predictor = CheckpointPredictor(detector, resize, names, ids)
            differences = verify.verify(predictor, os.fspath(folder), compared.encoded, *tolerances, max_pixels)
    done = Export(os.fspath(folder), resize, differences, compared.origin, *tolerances)
    if not done.passed:
        raise ExportDiffersError(done)
    return done
