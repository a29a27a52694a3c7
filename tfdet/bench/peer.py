"""The speed of torchvision's detectors on this machine, to compare with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tfdet.errors import UserError

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
    python = os.environ.get("TFDET_TORCH_PYTHON") or sys.executable
    command = [python, str(_PROGRAM), what, model, *map(str, (short_side, long_side, images, repeats))]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"TFDET_TORCH_PYTHON: {python} does not run: {error}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1].strip()
        raise UserError(
            f"{_PROGRAM.name} does not run: {said}. It needs torch and torchvision; TFDET_TORCH_PYTHON names the "
            "Python of another environment that has them"
        )
    found = json.loads(done.stdout)
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
