"""The training losses over images that are not trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfdet.layers import layers_in_inference
from tfdet.structures import Batch
from tfdet.training.figures import LOSSES, TOTAL_LOSS
from tfdet.training.on_devices import OnDevices, map_ahead

_SEED = 0  # of the samplers: another draw would move the figure by more than a little training does


class ValidationLoss:
    """Computes the losses of a detector as it is, with the targets and samplers of training, and changes nothing.

    The samplers draw by the number of the batch alone, the same at every evaluation. Normalisation layers use their
    stored statistics and nothing is dropped, as in inference.

    Args:
        detector: with `losses(batch, seed)`.
        batches: iterated anew at each call, gives `(Batch, images that count)`; `dataset()` has their spec, `has_masks`
            says whether the loss of masks can be measured.
        devices: that take the batches in turn, with copies of the weights, as in `OnDevices`; None: the detector itself
            is asked, on the device that TensorFlow chooses.
    """

    def __init__(self, detector: Any, batches: Any, devices: Sequence[str] | None = None):
        self._detector, self._batches, self._devices = detector, batches, devices
        self._losses: Any = None

    def prepare(self) -> None:
        """Traces the losses once. Draws no random number, moves no variable."""
        if self._losses is None:
            spec = self._batches.dataset().element_spec
            signature = [spec, tf.TensorSpec([], tf.int32)]
            if self._devices is not None:
                self._losses = OnDevices(self._detector, self._traced, signature, self._devices)
                self._losses.prepare()
                return
            # No AutoGraph, as in the step of training.
            self._losses = tf.function(self._traced, input_signature=signature, autograph=False)
            self._losses.get_concrete_function()

    def __call__(self) -> dict[str, float]:
        """Means over the images by name, each with `LOSSES` in front; `TOTAL_LOSS` is their sum."""
        self.prepare()
        sums, images = defaultdict(float), 0
        counted: Iterable[tuple[Batch, int]] = self._batches
        for losses, count in self._each(enumerate(counted)):
            for name, value in losses.items():
                sums[name] += count * float(value)
            images += count
        means = {name: value / images for name, value in sums.items() if name != "mask" or self._batches.has_masks}
        return {f"{LOSSES}{name}": value for name, value in means.items()} | {TOTAL_LOSS: sum(means.values())}

    def _each(self, counted: Iterable[tuple[int, tuple[Batch, int]]]) -> Iterator[tuple[dict[str, tf.Tensor], int]]:
        def of(item: tuple[int, tuple[Batch, int]]) -> tuple[dict[str, tf.Tensor], int]:
            number, (batch, count) = item
            return self._losses(batch, tf.constant(number)), count

        if not isinstance(self._losses, OnDevices):
            yield from map(of, counted)
            return
        with self._losses.with_weights():
            yield from map_ahead(of, counted, len(self._losses.devices))

    def _traced(self, batch: Batch, number: tf.Tensor) -> dict[str, tf.Tensor]:
        seed = tf.random.experimental.stateless_fold_in(tf.constant([_SEED, 0], tf.int32), number)
        with layers_in_inference():
            losses = self._detector.losses(batch, seed)
        return {name: tf.cast(value, tf.float32) for name, value in losses.items()}
