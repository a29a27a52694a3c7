"""Which images one of several workers reads."""

from __future__ import annotations

import numpy as np


def own_images(num_replicas: int, in_sync: int, pipelines: int, pipeline: int, each: int) -> np.ndarray:
    """Which images of a global batch of training one worker reads, int64 [N].

    Of R replicas in sync with k micro-batches each, replica r takes parts r, R + r, ... of the k * R of the batch.

    Args:
        num_replicas: k * R.
        in_sync: R.
        pipelines, pipeline: how many workers there are, and which one.
        each: images of a part.
    """
    replicas = in_sync // pipelines
    parts = np.arange(num_replicas).reshape(-1, in_sync)[:, pipeline * replicas : (pipeline + 1) * replicas].ravel()
    return (parts[:, None] * each + np.arange(each)).ravel()


def own_batches(num_images: int, batch: int, number: int, count: int) -> np.ndarray:
    """Which images of an evaluation one worker reads, int64 [N]: batches number, count + number, ... of all.

    The batches are those that one process alone would make, so that what is found does not depend on their number.

    Args:
        num_images: of the data set.
        batch: images of a batch.
        number, count: which worker, of how many.
    """
    images = np.arange(num_images)
    return images[images // batch % count == number]
