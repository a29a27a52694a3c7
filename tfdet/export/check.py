"""Compares an export in another program's format with the checkpoint: box by box on images, and by AP on a data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfdet.evaluate.exported import evaluate_found
from tfdet.export import verify
from tfdet.predict.found import Found, Labels

BOX_TOLERANCE = 0.1  # pixels of the original image, of float32 in another program
AP_TOLERANCE = 1.0  # points of 100 that an export may have less

Detect = Callable[[np.ndarray], Found]


@dataclasses.dataclass(frozen=True)
class Measured:
    """AP of the checkpoint and of an export on the same images."""

    data: str  # the data set's folder
    num_images: int
    checkpoint: dict[str, float]  # COCO's figures by name, 0..1
    export: dict[str, float]
    checkpoint_masks: dict[str, float] | None = None
    export_masks: dict[str, float] | None = None

    @property
    def points_lost(self) -> float:
        """Points of 100 of AP that the export has less, of boxes or of masks, whichever is more."""
        lost = self.checkpoint["AP"] - self.export["AP"]
        if self.checkpoint_masks is not None and self.export_masks is not None:
            lost = max(lost, self.checkpoint_masks["AP"] - self.export_masks["AP"])
        return 100.0 * lost

    @property
    def passed(self) -> bool:
        """Whether no more than `AP_TOLERANCE` is lost."""
        return self.points_lost <= AP_TOLERANCE

    def line(self) -> str:
        """Both figures in one line."""

        def of(boxes: dict[str, float], masks: dict[str, float] | None) -> str:
            return f"{100 * boxes['AP']:.1f}" + ("" if masks is None else f" (masks {100 * masks['AP']:.1f})")

        before, after = of(self.checkpoint, self.checkpoint_masks), of(self.export, self.export_masks)
        return f"AP of the checkpoint {before}, of the export {after}, on {self.num_images} images"


def compare_on_images(
    name: str,
    reference: Detect,
    exported: Any,
    images: Sequence[np.ndarray],
    box_tolerance: float,
    score_tolerance: float,
) -> verify.Difference:
    """How an export differs from the checkpoint, as `verify.verify` says it of a SavedModel.

    Args:
        name: of the format, for the table.
        reference: the checkpoint.
        exported: a `GraphPredictor`; rows of its padding that are not zero count as detections too many.
        images: uint8 [H, W, 3] each.
        box_tolerance, score_tolerance: as in `verify.verify`.
    """
    expected = [reference(image) for image in images]
    found = [exported(image) for image in images]
    pairs = [verify.compare(a, b, box_tolerance, score_tolerance) for a, b in zip(expected, found)]
    return verify.Difference(
        signature=name,
        num_images=len(images),
        num_detections=sum(map(len, expected)),
        missing=sum(pair[0] for pair in pairs),
        extra=sum(pair[1] for pair in pairs) + exported.unclean,
        box=max((pair[2] for pair in pairs), default=0.0),
        score=max((pair[3] for pair in pairs), default=0.0),
        mask=max((pair[4] for pair in pairs if pair[4] is not None), default=None),
    )


def measure_both(
    checkpoint: Detect, exported: Detect, labels: Labels, data_dir: str | os.PathLike, max_images: int | None
) -> Measured:
    """AP of both on the first images of a data set.

    Args:
        checkpoint, exported: what detects on an image, uint8 [H, W, 3].
        labels: of both.
        data_dir: the data set.
        max_images: None: all.

    Raises:
        UserError: the data set cannot be read or has other classes.
    """
    before, after = (
        evaluate_found(lambda _, image, detect=detect: detect(image), labels, data_dir, max_images)
        for detect in (checkpoint, exported)
    )
    return Measured(
        os.fspath(data_dir),
        before.num_images,
        before.metrics,
        after.metrics,
        before.mask_metrics,
        after.mask_metrics,
    )
