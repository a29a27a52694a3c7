"""The figures of a report of training by name, for every sink that takes scalars."""

from __future__ import annotations

from tfdet.training.observer import Progress


def figures_of(progress: Progress) -> dict[str, float]:
    """The tags and values of one report; figures that do not exist are left out."""
    values = {f"loss/{name}": value for name, value in progress.losses.items()}
    values |= {
        "loss/total": progress.total,
        "optimizer/learning_rate": progress.learning_rate,
        "optimizer/loss_scale": progress.loss_scale,
        "optimizer/skipped_steps": progress.skipped_steps,
        "optimizer/gradient_norm": progress.gradient_norm,
        "speed/images_per_second": progress.images_per_second,
        "speed/data_wait_share": progress.data_wait,
    }
    if progress.gpu_memory_peak is not None:
        values["memory/gpu_peak_gib"] = progress.gpu_memory_peak / 2**30
    return {tag: value for tag, value in values.items() if value is not None}
