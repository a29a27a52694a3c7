"""The part of a conversion that runs in worker processes: read, check and convert images, judge their boxes and masks.

No TensorFlow here: a worker starts in a fraction of a second and costs little memory.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfdet.arguments import MAX_PIXELS
from tfdet.data.annotations import ImageAnnotation, ObjectAnnotation
from tfdet.data.images import ImageError, PreparedImage, prepare_image, read_file
from tfdet.data.masks import ObjectMask, object_mask
from tfdet.data.objects import judge_objects
from tfdet.data.problems import Problem


@dataclasses.dataclass(frozen=True)
class PreparedRecord:
    """What becomes of one annotated image: the image to store (None: left out), its objects, and what was found.

    `masks` has an entry for every object: its mask, or None. `annotated` are the boxes as they were annotated, float64
    [G, 4] `[x, y, width, height]` in pixels without crowds, those that are left out too.
    """

    image_id: int
    file_name: str
    image: PreparedImage | None
    objects: tuple[ObjectAnnotation, ...]
    masks: tuple[ObjectMask | None, ...]
    problems: tuple[Problem, ...]
    annotated: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros([0, 4]))


def prepare_records(images: list[ImageAnnotation], max_pixels: int = MAX_PIXELS) -> list[PreparedRecord]:
    """Prepares some images of an annotation set; see `prepare_record`."""
    return [prepare_record(image, max_pixels) for image in images]


def prepare_record(annotation: ImageAnnotation, max_pixels: int = MAX_PIXELS) -> PreparedRecord:
    """Reads and checks one image, converts it if need be, sorts out its boxes and masks. Never raises for bad data.

    Args:
        annotation: the image and its objects.
        max_pixels: most pixels of the image, height times width.

    Returns:
        The record to write, or what is wrong.
    """
    problems: list[Problem] = []
    file = str(annotation.path or annotation.file_name)

    def note(kind, reason, action, is_note=False):
        problems.append(Problem(kind, file, annotation.image_id, reason, action, is_note))

    def left_out(kind, reason):
        note(kind, reason, "image left out")
        return PreparedRecord(annotation.image_id, annotation.file_name, None, (), (), tuple(problems))

    encoded = annotation.encoded
    if not isinstance(encoded, bytes):
        try:
            encoded = read_file(annotation.path, max_pixels) if encoded is None else encoded()
        except FileNotFoundError:
            return left_out("missing file", "does not exist")
        except (OSError, ImageError) as error:
            return left_out("unreadable file", getattr(error, "strerror", None) or str(error))
    try:
        image = prepare_image(encoded, annotation.height, annotation.width, max_pixels)
    except ImageError as error:
        kind = "image size differs" if "but the annotation says" in str(error) else "undecodable image"
        return left_out(kind, str(error))
    if image.changes:
        note("converted image", ", ".join(image.changes), f"stored as {image.format}", is_note=True)
    # Boxes and masks refer to the annotated size, which is the size of the image as it is stored.
    judged, found = judge_objects(annotation.objects, image.height, image.width, file, annotation.image_id)
    problems += found
    objects = tuple(dataclasses.replace(item, segmentation=None) for item, _ in judged)
    masks = tuple(None if mask is None else object_mask(mask, item.is_crowd) for item, mask in judged)
    if not annotation.objects:
        note("image without annotation", "has no object", "kept for evaluation, not trained on", is_note=True)
    boxes = [(item.x, item.y, item.width, item.height) for item in annotation.objects if not item.is_crowd]
    annotated = np.array(boxes, np.float64).reshape(-1, 4)
    return PreparedRecord(annotation.image_id, annotation.file_name, image, objects, masks, tuple(problems), annotated)
