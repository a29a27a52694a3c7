"""What training knows of an evaluation. `tfdet.evaluate.during_training` has the one with COCO's figures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


class Evaluation:
    """Measures the detector that is being trained. A subclass gives the figures, and may prepare.

    Attributes:
        metric_names: every name that the figures may have; `Trainer.best_metric` is looked for among them.
        warnings: what a person should know of it before training, a line each.
        data: fingerprint of what it measures on: figures of other data do not decide which checkpoint is the best.
    """

    metric_names: Collection[str] = ()
    data: str = ""
    warnings: Sequence[str] = ()

    def prepare(self) -> None:
        """Called once, before the first step: finds out now what the first evaluation would stumble over."""

    def __call__(self, step: int) -> Mapping[str, float]:
        """The figures by name after `step`; names of `metric_names` that could not be measured are left out."""
        raise NotImplementedError
