"""The speed of torchvision's detectors on this machine, to compare with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfdet.other_python import run_other_python

MODELS = ("faster", "mask", "retina")
_PROGRAM = Path(__file__).parent / "programs" / "torchvision_speed.py"


def benchmark_torchvision(
    what: str, model: str, short_side: int, long_side: int, images: int, repeats: int
) -> dict[str, Any]:
    """The figures of a step, in the Python that TFDET_TORCH_PYTHON names, else in this one.

    Args:
        what: "train" or "inference".
        model: of `MODELS`, with R50-FPN.
        short_side, long_side: of the images, which fill them.
        images: in a batch.
        repeats: measured steps.

    Raises:
        UserError: it did not come to its end.
    """
    arguments = [what, model, *map(str, (short_side, long_side, images, repeats))]
    said = run_other_python("TFDET_TORCH_PYTHON", _PROGRAM, arguments, f"{what} of {model}", "torch and torchvision")
    found = json.loads(said)
    return {
        "seconds": round(found["seconds"], 3),
        "cpu_seconds": round(found["cpu_seconds"], 3),
        "least_cpu_seconds": round(found["least_cpu_seconds"], 3),
        "images": images,
        "image": f"{short_side}x{long_side}",
        "threads": found["threads"],
        "versions": f"torch {found['torch']}, torchvision {found['torchvision']}",
        "repeats": repeats,
    }
