"""Times torchvision's R50-FPN detectors on this machine, to compare with `tfdet benchmark`.

    python -m tools.benchmark_torchvision faster --short_side=512 --long_side=512     # also: mask, retina; --inference

torch and torchvision are in the Python that TFDET_TORCH_PYTHON names, else in this one.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tfdet.errors import EXIT_OK, UserError
from tfdet.other_python import run_other_python

MODELS = ("faster", "mask", "retina")
_PROGRAM = Path(__file__).parent / "programs" / "torchvision_speed.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("model", choices=MODELS, help="all R50-FPN, with random weights")
    parser.add_argument("--inference", action="store_true", help="detection in place of training steps")
    parser.add_argument("--short_side", type=int, default=800, metavar="N", help="of the images (default 800)")
    parser.add_argument("--long_side", type=int, default=1333, metavar="N", help="of the images (default 1333)")
    parser.add_argument("--batch", type=int, default=2, metavar="N", help="images in a batch (default 2)")
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="measured batches (default 10)")


def run(args: argparse.Namespace) -> int:
    """Measures and prints the figures."""
    for flag in ("short_side", "long_side", "batch", "repeats"):
        if getattr(args, flag) < 1:
            raise UserError(f"--{flag} {getattr(args, flag)} must be at least 1")
    what, sides = "inference" if args.inference else "train", (args.short_side, args.long_side)
    for name, value in benchmark_torchvision(what, args.model, *sides, args.batch, args.repeats).items():
        print(f"{name.replace('_', ' ')}: {value}")
    return EXIT_OK


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


if __name__ == "__main__":
    from tfdet.commands import run_module

    sys.exit(run_module(sys.modules[__name__], "benchmark_torchvision.py"))
