"""Small annotation files and data sets, made on the spot."""

from __future__ import annotations

import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.convert import convert
from tfdet.data.problems import ProblemReport


def jpeg(height: int, width: int, seed: int = 0, mode: str = "RGB", **options) -> bytes:
    """A smooth random picture as JPEG bytes."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (4, 5, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90, **options)
    return buffer.getvalue()


class CocoBuilder:
    """Collects images and annotations and writes them as a COCO file with its image folder."""

    def __init__(self, folder: pathlib.Path, categories=((3, "cat"), (7, "dog"))):
        self.folder = folder
        self.images_dir = folder / "images"
        self.images_dir.mkdir(parents=True)
        self.content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": number, "name": name} for number, name in categories],
        }

    def image(self, image_id: int, height: int = 40, width: int = 60, encoded: bytes | None = None, name=None):
        name = name or f"{image_id:04d}.jpg"
        if encoded != b"missing":
            (self.images_dir / name).write_bytes(jpeg(height, width, image_id) if encoded is None else encoded)
        self.content["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
        return self

    def box(self, image_id: int, bbox, category_id: int = 3, **fields):
        entry = {"id": len(self.content["annotations"]) + 1, "image_id": image_id, "bbox": list(bbox)}
        entry |= {"category_id": category_id, "iscrowd": 0, "area": bbox[2] * bbox[3], **fields}
        self.content["annotations"].append(entry)
        return self

    def write(self) -> tuple[pathlib.Path, pathlib.Path]:
        path = self.folder / "annotations.json"
        path.write_text(json.dumps(self.content))
        return path, self.images_dir


@pytest.fixture
def coco(tmp_path):
    """A `CocoBuilder` with two categories (ids 3 and 7)."""
    return CocoBuilder(tmp_path / "coco")


@pytest.fixture
def make_jpeg():
    """The function `jpeg(height, width, seed, mode, **save options) -> bytes`."""
    return jpeg


@pytest.fixture
def make_coco(tmp_path):
    """Makes further `CocoBuilder`s: make_coco(name, categories)."""
    return lambda name, *arguments: CocoBuilder(tmp_path / name, *arguments)


def write_set(folder, sizes, boxes=None, num_shards: int = 2, categories=(Category(3, "cat"), Category(7, "dog"))):
    """Writes a data set of random images.

    Args:
        folder: the data set folder.
        sizes: (height, width) of every image; image ids are 10, 11, ...
        boxes: for every image a list of (x, y, w, h, category id); default one box that names the image.
    """
    images = []
    for number, (height, width) in enumerate(sizes):
        own = [(1.0, 2.0, 8.0 + number % 7, 9.0, 7)] if boxes is None else boxes[number]
        objects = [ObjectAnnotation(*box[:4], box[4], box[2] * box[3]) for box in own]
        image_id = 10 + number
        encoded = jpeg(height, width, number)
        images.append(ImageAnnotation(image_id, f"{image_id}.jpg", None, height, width, objects, encoded))
    return convert(
        AnnotationSet(list(categories), images), folder, "tiny", "test", ProblemReport(), num_shards, num_workers=0
    )


@pytest.fixture
def make_set():
    """The function `write_set`."""
    return write_set


@pytest.fixture
def mixed_set(tmp_path):
    """A data set of 9 landscape and 5 portrait images with a box, and 2 without."""
    sizes = [(30, 40)] * 9 + [(40, 30)] * 4 + [(32, 32)] + [(30, 40), (40, 30)]
    boxes = [[(1.0, 2.0, 8.0 + number, 9.0, 7)] for number in range(14)] + [[], []]
    write_set(tmp_path / "mixed", sizes, boxes, num_shards=3)
    return tmp_path / "mixed"
