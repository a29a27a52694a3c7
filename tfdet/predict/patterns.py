"""Patterns of file names, where links that lead in circles have an end."""

from __future__ import annotations

import glob
import os


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


def _folders(base: str, seen: set[str]) -> list[str]:
    """A folder and those below it that are not hidden, each real one once."""
    found, waiting = [], [base]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder or ".")
        if real in seen or not os.path.isdir(real):
            continue
        seen.add(real)
        found.append(folder)
        try:
            names = sorted(entry.name for entry in os.scandir(folder or ".") if entry.is_dir())
        except OSError:
            continue
        waiting += [os.path.join(folder, name) for name in reversed(names) if not name.startswith(".")]
    return found
