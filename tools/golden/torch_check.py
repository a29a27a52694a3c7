"""The verdict on a golden folder of Detectron2 or torchvision: what tfdet computes beside what is stored.

`compute` runs the network once; `judge` compares arrays, and can do so again for other stored ones.
"""

from __future__ import annotations

import numpy as np

from tfdet.detectors import Detector
from tools.golden import torch_compare, torch_folder, torch_losses, torch_maps, torch_meta, torch_training
from tools.golden.torch_compare import Computed
from tools.golden.torch_folder import TorchGolden
from tools.golden.verdict import MapError, Verdict

_ROUNDING = 1e-7
"""Of weights that are another float32's neighbour: the spread of the runs that the noise of a folder is measured by."""

_TRIES = 8
_OF_GRADIENTS = ("gradnorm/", "grad/", "gradsample/", "direction of ")


def check(golden: TorchGolden) -> Verdict:
    """Builds the detector of a golden and compares all that is stored there.

    A gradient jumps where an activation is zero but for rounding: the ReLU behind it lets through all or nothing. So
    where gradients alone differ, the step is computed again with weights moved by their own rounding, as the program
    itself was run for its noise, and agrees if one of these runs is within every limit.
    """
    if findings := torch_compare.input_findings(golden):
        return Verdict([], [], [], findings, {})
    detector, frozen = _build(golden)
    values = [variable.numpy() for variable in detector.weights]
    computed = _compute(detector, frozen, golden)
    verdict = judge(golden, computed)
    if computed.step is None or verdict.findings or not only_gradients(verdict.wrong):
        return verdict
    return _beside(golden, verdict, detector, frozen, values)


def compute(golden: TorchGolden) -> Computed:
    """Runs the detector of a golden: its maps, its detections and, where one is stored, the training step.

    Raises:
        UserError: the checkpoint does not fit the family.
    """
    return _compute(*_build(golden), golden)


def _build(golden: TorchGolden) -> tuple[Detector, tuple[str, ...]]:
    configuration = torch_folder.configuration_of(golden)
    return torch_folder.build(golden, configuration), configuration.value("Trainer.frozen")


def _compute(detector: Detector, frozen: tuple[str, ...], golden: TorchGolden) -> Computed:
    maps, found = torch_maps.compute(detector, golden), torch_maps.detect(detector, golden)
    step = torch_training.losses_and_gradients(detector, golden, frozen) if golden.train else None
    return Computed(maps, found, step)


def only_gradients(wrong: list) -> bool:
    """Whether figures are out of their limits, and all of them are of gradients."""
    return bool(wrong) and all(isinstance(row, MapError) and row.name.startswith(_OF_GRADIENTS) for row in wrong)


def _beside(
    golden: TorchGolden, verdict: Verdict, detector: Detector, frozen: tuple[str, ...], values: list[np.ndarray]
) -> Verdict:
    """The verdict by the first of a few runs with weights moved by rounding whose training is within every limit.

    Args:
        golden, detector, frozen: as for the step itself.
        verdict: with the stored weights.
        values: of all weights before the step, which moves statistics.
    """
    draws = np.random.default_rng(0)
    for number in range(1, _TRIES + 1):
        for variable, value in zip(detector.weights, values, strict=True):
            if value.dtype.kind == "f":
                variable.assign(value * (1 + _ROUNDING * draws.standard_normal(value.shape)).astype(value.dtype))
        step = torch_training.losses_and_gradients(detector, golden, frozen)
        training, findings, _ = torch_losses.compare_training(golden, step)
        if not findings and all(row.passed for row in training):
            names = ", ".join(f"{row.name} ({row.error:.1e})" for row in verdict.wrong)
            words = f"gradients agree with weights moved by {_ROUNDING:g}, in run {number} of at most {_TRIES}"
            return verdict._replace(training=training, remarks=(f"{words}; not with those stored: {names}",))
    return verdict


def judge(golden: TorchGolden, computed: Computed) -> Verdict:
    """The verdict on a folder, given what tfdet computes for it."""
    verdict = torch_compare.compare(golden, computed)
    return verdict._replace(findings=verdict.findings + torch_meta.meta_findings(golden))
