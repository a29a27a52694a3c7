"""Names of the figures that an evaluation during training gives, and where TensorBoard and CSV files show them."""

from __future__ import annotations

AP = "AP"
"""Of the evaluation, 0..1."""

TRAIN_AP, GAP_AP = "validation/train_AP", "validation/gap_AP"
"""AP on a sample of the training set, and how much more that is than AP of the evaluation."""

LOSSES = "validation/loss/"
"""Before the name of each loss over the evaluation set."""

TOTAL_LOSS = "validation_loss"
"""Their sum."""

PART_SECONDS = "evaluation_seconds/"
"""Before the name of each part of an evaluation whose time was measured."""


def tag_of(name: str) -> str:
    """The tag of a figure of an evaluation; what stands before its `/` is its group in TensorBoard.

    COCO's figures are in `coco/`, those of single classes in `class/`, the speed in `speed/`; what has a group of its
    own, such as `validation/`, keeps it.
    """
    if name.startswith("per_class/"):
        return f"class/{name.removeprefix('per_class/')}"
    if name == TOTAL_LOSS:
        return f"{LOSSES}total"
    if name == "images_per_second":
        return "speed/evaluation_images_per_second"
    return name if "/" in name else f"coco/{name}"
