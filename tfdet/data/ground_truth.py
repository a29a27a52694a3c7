"""Reads the annotations of a data set back, without decoding a pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.data.annotations import are_boxes
from tfdet.data.index import RecordIndex
from tfdet.data.manifest import Manifest
from tfdet.data.mask_schema import parse_segmentations
from tfdet.data.records import read_serialized, record_table
from tfdet.data.schema import Record, parse_record
from tfdet.errors import UserError
from tfdet.strict_json import parse_json
from tfdet.text import name_of

# Records hold float32 corners relative to the image size. Three decimals of a pixel undo that rounding exactly for any
# annotation with at most three decimals (COCO has two) and images up to 8,000 pixels.
_DECIMALS = 3


def coco_ground_truth(manifest: Manifest, index: RecordIndex) -> dict:
    """The data set as a COCO annotation dictionary.

    Args:
        manifest, index: the data set.

    Returns:
        `images` (id, height, width, file_name), `annotations` (id, image_id, category_id, bbox `[x, y, w, h]` in pixels
        of the original image, area, iscrowd, and for objects that have a mask `segmentation`, the polygons as annotated
        or a compressed RLE) and `categories` (id, name), ids as in the original annotations.
    """
    images, annotations, left_out = [], [], set(manifest.left_out)
    for row, (record, segmentations) in enumerate(_records(manifest, index)):
        image_id, height, width = int(index.image_id[row]), int(index.height[row]), int(index.width[row])
        name = name_of(record.filename)
        images.append({"id": image_id, "height": height, "width": width, "file_name": name})
        x, y = record.xmin.astype(np.float64) * width, record.ymin.astype(np.float64) * height
        w, h = record.xmax.astype(np.float64) * width - x, record.ymax.astype(np.float64) * height - y
        boxes = np.round(np.stack([x, y, w, h], axis=-1), _DECIMALS)
        areas = record.area if len(record.area) == len(boxes) else boxes[:, 2] * boxes[:, 3]
        texts = segmentations if len(segmentations) == len(boxes) else [b""] * len(boxes)
        real = are_boxes(record.xmin, record.ymin, record.xmax, record.ymax, areas)
        for box, label, crowd, area, text, is_box in zip(
            boxes, record.labels, record.is_crowd, areas, texts, real, strict=True
        ):
            if not is_box or int(label) in left_out:
                continue  # no target of training either
            annotations.append(
                {
                    "id": len(annotations) + 1,  # pycocotools takes id 0 for "no match"
                    "image_id": image_id,
                    "category_id": int(label),
                    "bbox": box.tolist(),
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
            if text:
                annotations[-1]["segmentation"] = _segmentation(text, manifest, image_id)
    categories = [{"id": i, "name": name} for i, name in zip(manifest.category_ids, manifest.classes, strict=True)]
    info = {"description": manifest.name}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def _segmentation(text: bytes, manifest: Manifest, image_id: int) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(
            f"data set {manifest.folder}: a mask of image id {image_id} is damaged ({error}); convert the data again"
        ) from None


def image_files(manifest: Manifest, index: RecordIndex) -> dict[int, str]:
    """Original file name of every image id."""
    records = enumerate(_records(manifest, index))
    return {int(index.image_id[row]): name_of(record.filename) for row, (record, _) in records}


def _records(manifest: Manifest, index: RecordIndex):
    """Yields every parsed record in order and the texts of its segmentations, as numpy; the image is left out."""
    table = record_table(manifest, index)

    @tf.autograph.experimental.do_not_convert
    def load(row: tf.Tensor) -> tuple[Record, tf.Tensor]:
        serialized = read_serialized(table, row)
        return parse_record(serialized)._replace(encoded=tf.constant("")), parse_segmentations(serialized)

    dataset = tf.data.Dataset.range(len(index.shard))
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(64).as_numpy_iterator()
