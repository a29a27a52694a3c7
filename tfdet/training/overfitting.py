"""Whether a run learns its images by heart: AP on images of the training set beside AP on those of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from tfdet.training.figures import AP, GAP_AP, TRAIN_AP

_FALL = 0.005  # less than half a point of AP is noise
_IN_A_ROW = 2  # evaluations


def overfitting(evaluations: Mapping[int, Mapping[str, float]], step: int) -> list[str]:
    """What to tell a person after an evaluation: a sentence where the run began to overfit, else nothing.

    It is said once: at the second evaluation in a row whose AP is below that of the best one before, while the gap to
    AP on the training images is larger than it was there. It follows from the figures alone, so that a run that goes on
    after a kill says the same.

    Args:
        evaluations: figures, 0..1, by step, those of `step` included.
        step: that was evaluated last.
    """
    known = {s: f for s, f in sorted(evaluations.items()) if s <= step and AP in f and GAP_AP in f}
    streak, best = 0, 0
    for number, figures in known.items():
        if not best or figures[AP] > known[best][AP]:
            streak, best = 0, number
        elif figures[AP] < known[best][AP] - _FALL and figures[GAP_AP] > known[best][GAP_AP]:
            streak += 1
        else:
            streak = 0
    if step not in known or streak != _IN_A_ROW:
        return []
    then, now = known[best], known[step]
    return [
        f"overfitting: since step {best} AP fell from {100 * then[AP]:.1f} to {100 * now[AP]:.1f} on the evaluation's "
        f"images, and is {100 * now[TRAIN_AP]:.1f} on training images ({100 * then[TRAIN_AP]:.1f} then): more training "
        "makes it worse, more images or more augmentation help"
    ]
