"""The zoo's rows, read from the headers of their gin files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tfdet.config.files import gin_configs_folder
from tfdet.errors import UserError

_AP = re.compile(r"box AP (?P<box>\d+\.\d)(?:, mask AP (?P<mask>\d+\.\d))?")
_MEMORY = re.compile(r"(\d+\.\d)G of GPU memory")
_SPEED = re.compile(r"(\d+) img/s")
_SETTING = re.compile(r"on (8 GPUs[^:]*?):")


class Row(NamedTuple):
    """One row of SimpleDet's model zoo; what it published, None where it published nothing."""

    name: str  # of the gin file, without its suffix
    title: str
    setting: str  # such as "8 GPUs x 2 images"
    box_ap: float | None  # percent
    mask_ap: float | None  # percent
    memory_gb: float | None  # of a GPU
    images_per_second: float | None  # over all GPUs


def zoo_rows(folder: str | Path | None = None) -> list[Row]:
    """The rows in the order of their names: every file at the top of `folder` whose header says what was published.

    Args:
        folder: by default tfdet's own gin files.

    Raises:
        UserError: a header says "Published by SimpleDet" and has no figure that can be read.
    """
    files = sorted(Path(folder or gin_configs_folder()).glob("*.gin"))
    return [_row(path, header) for path in files if "Published by SimpleDet" in (header := read_header(path))]


def read_header(path: Path) -> str:
    """The comment at the top of a gin file, as one line."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines)


def _row(path: Path, header: str) -> Row:
    ap, memory, speed, setting = (pattern.search(header) for pattern in (_AP, _MEMORY, _SPEED, _SETTING))
    if not (memory and speed and setting):
        raise UserError(f'{path}: the header needs "on 8 GPUs x N images: ... G of GPU memory, ... img/s"')
    return Row(
        path.stem,
        re.sub(r" \(.*?\)", "", path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")).rstrip("."),
        setting[1],
        float(ap["box"]) if ap else None,
        float(ap["mask"]) if ap and ap["mask"] else None,
        float(memory[1]),
        float(speed[1]),
    )
