"""The verdict on a golden folder of Detectron2 or torchvision: what tfdet computes beside what is stored.

`compute` runs the network once; `judge` compares arrays, and can do so again for other stored ones.
"""

from __future__ import annotations

from tools.golden import torch_compare, torch_folder, torch_maps, torch_meta, torch_training
from tools.golden.torch_compare import Computed
from tools.golden.torch_folder import TorchGolden
from tools.golden.verdict import Verdict


def check(golden: TorchGolden) -> Verdict:
    """Builds the detector of a golden and compares all that is stored there."""
    if findings := torch_compare.input_findings(golden):
        return Verdict([], [], [], findings, {})
    return judge(golden, compute(golden))


def compute(golden: TorchGolden) -> Computed:
    """Runs the detector of a golden: its maps, its detections and, where one is stored, the training step.

    Raises:
        UserError: the checkpoint does not fit the family.
    """
    configuration = torch_folder.configuration_of(golden)
    detector = torch_folder.build(golden, configuration)
    maps, found = torch_maps.compute(detector, golden), torch_maps.detect(detector, golden)
    step = None
    if golden.train:
        frozen = configuration.value("Trainer.frozen")
        step = torch_training.losses_and_gradients(detector, golden, frozen)
    return Computed(maps, found, step)


def judge(golden: TorchGolden, computed: Computed) -> Verdict:
    """The verdict on a folder, given what tfdet computes for it."""
    verdict = torch_compare.compare(golden, computed)
    return verdict._replace(findings=verdict.findings + torch_meta.meta_findings(golden))
