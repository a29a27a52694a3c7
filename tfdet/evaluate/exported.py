"""Measures an exported model: a SavedModel by the signature that reads records, or whatever detects on an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfdet.data.doctor import explain_pipeline_error
from tfdet.data.example import decode_example
from tfdet.data.ground_truth import coco_ground_truth
from tfdet.data.manifest import Manifest
from tfdet.data.records import read_serialized, record_table
from tfdet.errors import UserError
from tfdet.evaluate.classes import in_data_classes, match_model
from tfdet.evaluate.coco import MAX_DETECTIONS, CocoEvaluator
from tfdet.evaluate.part_times import PartTimes
from tfdet.evaluate.run import EvalResult, measure
from tfdet.predict.exported import found_by_export
from tfdet.predict.found import Found, Labels
from tfdet.structures import Batch, Detections


def evaluate_export(
    tf_example: Callable[[tf.Tensor], Mapping[str, Any]],
    labels: Labels,
    data_dir: str | os.PathLike,
    **options: Any,
) -> EvalResult:
    """Detects with a SavedModel on every image of a data set and computes COCO's figures.

    Args:
        tf_example: the signature of that name, called with serialised records string [B].
        labels: of the model; without names its classes are taken to be the data set's.
        data_dir: the data set's folder.
        options: as in `evaluate_found`.

    Raises:
        UserError: as there, or an image is larger than the model takes.
    """

    def find(serialized: tf.Tensor, image: np.ndarray) -> Found:
        outputs = tf_example(serialized[None])
        if "image_status" in outputs and int(outputs["image_status"][0]):
            size = "x".join(map(str, image.shape[:2]))
            raise UserError(f"the exported model takes no image of {size} pixels: see --max_pixels of tfdet export")
        return found_by_export(outputs, image, labels)

    return evaluate_found(find, labels, data_dir, **options)


def evaluate_found(
    find: Callable[[tf.Tensor, np.ndarray], Found],
    labels: Labels,
    data_dir: str | os.PathLike,
    max_images: int | None = None,
    num_samples: int = 0,
    ground_truth: dict | None = None,
    console: Any = None,
    max_detections: int = MAX_DETECTIONS,
) -> EvalResult:
    """COCO's figures of what is found on every image of a data set, one after the other.

    Args:
        find: called with a serialised record, string [], and its image, uint8 [H, W, 3].
        labels: of the model; without names its classes are taken to be the data set's.
        data_dir: the data set's folder.
        max_images, num_samples, ground_truth, console, max_detections: as in `evaluate.run.evaluate`.

    Raises:
        UserError: the data set is missing or damaged, or its classes are not the model's.
    """
    manifest = Manifest.load(data_dir)
    index = manifest.load_index()
    count = len(labels.classes) or len(manifest.classes)
    mapping = match_model(count, labels.classes, manifest, "the exported model")

    times = PartTimes()

    def found(count: int) -> Iterator[tuple[Batch, Detections]]:
        table = record_table(manifest, index)
        try:
            for row in range(count):
                with times.of("reading"):
                    serialized = read_serialized(table, tf.constant(row))
                    stored = decode_example(serialized, table.image_id[row], manifest.category_ids)
                with times.of("detecting"):
                    objects = find(serialized, stored.image.numpy())
                height, width = objects.image.shape[:2]
                batch = Batch(
                    images=stored.image[None],
                    image_info=np.float32([[height, width, 1.0]]),
                    boxes=stored.boxes[None],
                    classes=stored.classes[None],
                    image_ids=stored.image_id[None],
                    edges=stored.edges[None],
                    edge_owners=stored.edge_owners[None],
                )
                detections = Detections(
                    boxes=objects.drawing_boxes()[None],
                    scores=objects.scores[None],
                    classes=objects.class_ids[None],
                    num_valid=np.int32([len(objects)]),
                    masks=None if objects.mask_probabilities is None else objects.mask_probabilities[None],
                )
                yield batch, in_data_classes(detections, mapping)
        except tf.errors.OpError as error:
            raise explain_pipeline_error(error, manifest.folder) from error

    truth = ground_truth or coco_ground_truth(manifest, index)
    evaluator = CocoEvaluator(truth, manifest, labels.mask_paste, max_detections)
    evaluator.check_sizes(index.image_sizes())
    return measure(found, manifest, evaluator, max_images, num_samples, console, times=times)
