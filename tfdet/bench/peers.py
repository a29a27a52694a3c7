"""A training step or a detection beside those of other programs, in turn, in one run.

Each side has a process of its own: TensorFlow and torch do not always live in one.
"""

from __future__ import annotations

import collections
import contextlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tfdet.bench.limit import Took, timed
from tfdet.bench.measure import process_peak
from tfdet.detectors import Detector, RetinaDetector
from tfdet.errors import UserError
from tfdet.necks import FPN
from tfdet.other_python import OtherProgram
from tfdet.weights.verify import programs_folder

PYTHON = "TFDET_TORCH_PYTHON"
"""The variable of the environment that names the Python of the other programs."""

FAMILIES = {
    "torchvision": ("faster_fpn", "mask_fpn", "retina"),
    "detectron2": ("faster_fpn", "faster_c4", "mask_fpn", "mask_c4", "retina", "cascade_fpn", "cascade_mask_fpn"),
}
"""What `tools/crosscheck/time_torch.py` measures of each program."""


class Side(NamedTuple):
    """What one program took: the least of all measured."""

    took: Took  # seconds
    memory_peak: int  # bytes that its process held at most
    versions: str
    threads: int | None  # None: as TensorFlow has it


def family_of(detector: Detector) -> str:
    """The family of a detector on a ResNet-50, by which the other programs know it.

    Raises:
        UserError: they have none of that kind.
    """
    if getattr(detector.backbone, "depth", None) != 50 or getattr(detector.backbone, "branches", ()):
        raise UserError("benchmark peers: the other programs' detectors are on a ResNet-50; take a row of R50")
    if isinstance(detector, RetinaDetector):
        return "retina"
    kind = "cascade" if len(detector.bbox_heads) > 1 else "faster"
    if detector.masks is not None:
        kind = "mask" if kind == "faster" else "cascade_mask"
    family = f"{kind}_{'fpn' if isinstance(detector.neck, FPN) else 'c4'}"
    if not any(family in families for families in FAMILIES.values()):
        raise UserError(f"benchmark peers: neither torchvision nor Detectron2 has a {family.replace('_', ' ')}")
    return family


def measure_peers(
    own: Callable[[], object],
    family: str,
    what: str,
    image: tuple[int, int],
    images: int,
    repeats: int,
    threads: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Side]:
    """Runs tfdet and every other program that has the family and is installed, in turn.

    Args:
        own: takes tfdet's step, or detects, and returns tensors.
        family: of `family_of`.
        what: "train" or "inference".
        image: height and width in pixels.
        images: in a batch.
        repeats: of each side, after those that warm it up.
        threads: of each side; None: as each chooses.
        progress: is told what is being measured, and which program is not.

    Returns:
        By program, "tfdet" first.

    Raises:
        UserError: no other program runs.
    """
    height, width = image
    arguments = [family, what, *map(str, (height, width, images, threads or 0))]
    with contextlib.ExitStack() as running:
        sides: dict[str, Callable[[], tuple[Took, int]]] = {}
        said: dict[str, dict[str, Any]] = {}
        problems = []
        for program in (program for program, families in FAMILIES.items() if family in families):
            progress(f"starting {program}")
            packages = f"torch and {program}"
            source = programs_folder() / "time_torch.py"
            other = running.enter_context(OtherProgram(PYTHON, source, [program, *arguments], program, packages))
            try:
                said[program] = json.loads(other.answer())
            except UserError as error:
                problems.append(error)
                progress(f"{program} is left out: {error}")
                continue
            sides[program] = lambda other=other: _of_other(json.loads(other.answer("once more")))
        if not sides:
            raise problems[0]
        for _ in range(_WARM_UP):
            timed(own)
        # Before the others' turn nothing of them counts here, nor does anything later: processes are apart.
        sides = {"tfdet": lambda: (timed(own), process_peak())} | sides
        measured: dict[str, list[tuple[Took, int]]] = collections.defaultdict(list)
        for number in range(repeats):
            progress(f"{', '.join(sides)}: {number + 1} of {repeats}")
            for name, run in sides.items():
                measured[name].append(run())
    return {name: _side(figures, said.get(name)) for name, figures in measured.items()}


_WARM_UP = 2


def _of_other(found: dict[str, float]) -> tuple[Took, int]:
    return Took(found["cpu"], found["wall"]), int(found["memory_peak"])


def _side(figures: list[tuple[Took, int]], said: dict[str, Any] | None) -> Side:
    from tensorflow import __version__

    least = Took(*(min(took[index] for took, _ in figures) for index in (0, 1)))
    versions = said["versions"] if said else {"tensorflow": __version__}
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Side(least, max(memory for _, memory in figures), named, said["threads"] if said else None)
