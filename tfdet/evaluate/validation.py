"""What an evaluation during training measures besides AP: whether the run learns, or learns by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfdet.config import configurable
from tfdet.config.ranges import NonNegativeInt, PositiveInt
from tfdet.data.inputs import EvalInput, TrainInput
from tfdet.data.loss_input import LossInput, SampledInput
from tfdet.training.figures import AP, GAP_AP, TRAIN_AP
from tfdet.training.validation_loss import ValidationLoss

_KINDS = ((AP, TRAIN_AP, GAP_AP), ("mask_AP", "validation/train_mask_AP", "validation/gap_mask_AP"))


@configurable
class Validation:
    """What evaluations during training measure besides AP. All is off by default: it costs time at each evaluation.

    Nothing of it changes what is trained: it draws no random number of the run and moves no variable.

    Args:
        loss: the training losses over the evaluation set. Costs about what detecting on the same images costs.
        loss_images: most images for the losses, spread evenly; None: all that have a box.
        train_images: AP on images of the training set, as many as the evaluation set has and at most so many, always
            the same ones; 0: none. Costs what detecting on so many images costs.
    """

    def __init__(self, loss: bool = False, loss_images: PositiveInt | None = None, train_images: NonNegativeInt = 0):
        self.loss, self.loss_images, self.train_images = loss, loss_images, train_images

    def of(
        self,
        detector: Any,
        train_input: TrainInput,
        eval_input: EvalInput,
        seed: int,
        devices: Sequence[str] | None = None,
    ) -> ValidationParts:
        """What is measured, for one run.

        Args:
            detector: that is trained.
            train_input, eval_input: of the run.
            seed: of the run; decides which training images are measured.
            devices: as in `ValidationLoss`.
        """
        parts = ValidationParts()
        if not self.loss and not self.train_images:
            return parts
        if not eval_input.manifest.num_boxes:
            parts.warnings.append(
                f"the data set {eval_input.manifest.name!r} has no box: no validation loss and no gap is measured on it"
            )
            return parts
        if self.loss:
            batches = LossInput(eval_input, train_input, self.loss_images)
            if train_input.masks and not batches.has_masks:
                parts.warnings.append(
                    f"the data set {eval_input.manifest.name!r} has no masks: the validation loss "
                    "is that of boxes alone"
                )
            parts.loss = ValidationLoss(detector, batches, devices)
        if self.train_images:
            count = min(self.train_images, eval_input.manifest.num_images)
            parts.sample = SampledInput(eval_input, train_input, count, seed)
        return parts


class ValidationParts:
    """What `Validation` measures in one run.

    Attributes:
        loss: of the evaluation set, or None.
        sample: images of the training set to measure AP on, or None.
        warnings: what cannot be measured, a line each.
    """

    def __init__(self) -> None:
        self.loss: ValidationLoss | None = None
        self.sample: SampledInput | None = None
        self.warnings: list[str] = []


def beside(figures: Mapping[str, float], of_sample: Mapping[str, float]) -> dict[str, float]:
    """AP on training images beside AP of the evaluation: figures by name, 0..1, those that exist.

    Args:
        figures: scalars of the evaluation.
        of_sample: those of the training images.

    Returns:
        `validation/train_AP` and `validation/gap_AP`, the first less AP of the evaluation; the same of masks.
    """
    found = {}
    for own, train, gap in _KINDS:
        if own in of_sample:
            found[train] = of_sample[own]
            if own in figures:
                found[gap] = of_sample[own] - figures[own]
    return found
