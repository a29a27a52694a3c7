"""Patterns of file names, where links that lead in circles have an end."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator


def matches(pattern: str) -> list[str]:
    """What a pattern names but folders, sorted; `**` goes into folders, links followed, into each real one once.

    `glob.glob` goes round links that lead back, 40 times each, and two of them multiply.

    Args:
        pattern: as of `glob.glob` with `recursive`.

    Returns:
        Paths: files, and whatever else has such a name (a link to nothing, a pipe), which reading will name.
    """
    return sorted(path for path in dict.fromkeys(_expanded(pattern)) if not os.path.isdir(path))


def _expanded(pattern: str) -> list[str]:
    parts = pattern.split(os.sep)
    if "**" not in parts:
        return glob.glob(pattern)
    position = parts.index("**")
    head, rest = os.sep.join(parts[:position]), os.sep.join(parts[position + 1 :]) or "*"
    if position and not head:
        head = os.sep
    bases = glob.glob(head) if glob.has_magic(head) else [head]
    seen: set[str] = set()
    return [path for base in bases for folder in _folders(base, seen) for path in _expanded(_below(folder, rest))]


def _below(folder: str, rest: str) -> str:
    return os.path.join(glob.escape(folder), rest) if folder else rest


def _folders(base: str, seen: set[str]) -> Iterator[str]:
    """A folder and those below it that are not hidden, each real one once."""
    for folder, names, _ in os.walk(base or ".", followlinks=True):
        real = os.path.realpath(folder)
        names[:] = [] if real in seen else sorted(name for name in names if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            yield folder if base else folder[2:]  # without "./"
