"""Whether a folder of Detectron2 or torchvision holds what its `meta.json` says of it.

A figure that is not in `meta.json` is not asked for: copies of folders go without many.
"""

from __future__ import annotations

import numpy as np

from tools.golden.torch_folder import TorchGolden
from tools.golden.verdict import Figure, disagreements, known, scale_of

_RELATIVE = 1e-4
"""Of a stated figure."""


def meta_findings(golden: TorchGolden) -> list[str]:
    """A finding for every figure of `meta.json` that is not that of the arrays."""
    found = _found(golden)
    said = known(golden.meta, found)
    for open_ended in ("absmax_std", "conventions"):  # which tell of more than is known here
        if isinstance(said.get(open_ended), dict):
            said[open_ended] = known(said[open_ended], found[open_ended])
    if "stride_on" in said["conventions"]:  # "1x1 conv (conv1), STRIDE_IN_1X1=True"
        said["conventions"]["stride_on"] = str(said["conventions"]["stride_on"])[:3]
    unnamed = set(found["state_dict"]) - set(golden.meta["state_dict"] or found["state_dict"])
    return disagreements(said, found) + [f"meta.json: state_dict lacks {name}" for name in sorted(unnamed)[:1]]


def _found(golden: TorchGolden) -> dict:
    """The entries of `meta.json` that the arrays tell, in its form."""
    outputs, train, settings = golden.outputs, golden.train, golden.settings
    found: dict = {
        "hw": list(outputs["image"].shape[1:]),
        "n_prop": {name: len(array) for name, array in outputs.items() if name.startswith("proposals")},
        "absmax_std": {name: _absmax_std(array) for name, array in outputs.items() if array.size > 1},
        "train_losses": {
            key.removeprefix("loss/"): _figure(array) for key, array in train.items() if key.startswith("loss/")
        },
        "state_dict": {name: list(array.shape) for name, array in golden.arrays.items()},
        "conventions": {},
    }
    if "det_boxes" in outputs:
        found["n_det"] = len(outputs["det_boxes"])
    if "det_classes" in outputs:
        found["n_det_classes"] = len(np.unique(outputs["det_classes"]))
    if "det_scores" in outputs and outputs["det_scores"].size:
        found["det_score_range"] = [_figure(outputs["det_scores"].min()), _figure(outputs["det_scores"].max())]
    background = 1 if golden.program == "detectron2" else 0  # torchvision counts it
    for name in [name for name in outputs if name.startswith("box_cls_logits")][:1]:
        found["conventions"]["num_classes"] = outputs[name].shape[-1] - background
    if settings:
        found["config_overrides"] = settings
    if "MODEL.RESNETS.STRIDE_IN_1X1" in settings:
        found["conventions"]["stride_on"] = "1x1" if settings["MODEL.RESNETS.STRIDE_IN_1X1"] else "3x3"
    return found


def _figure(value) -> Figure | str:
    number = np.asarray(value, np.float64)
    return Figure(float(number.item()), _RELATIVE * abs(number.item()) + 1e-12) if number.size == 1 else "no number"


def _absmax_std(array: np.ndarray) -> list[Figure | str]:
    return [_figure(scale_of(array)), _figure(array.astype(np.float64).std(ddof=1))]
