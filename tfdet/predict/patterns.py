"""Patterns of file names, where links that lead in circles have an end."""

from __future__ import annotations

import collections
import glob
import os
from collections.abc import Iterator

from tfdet.data.listing import count_endings, ending


def matches(pattern: str) -> list[str]:
    """What a pattern names but folders, sorted; `**` goes into folders, links followed, into each real one once.

    `glob.glob` goes round links that lead back, 40 times each, and two of them multiply.

    Args:
        pattern: as of `glob.glob` with `recursive`.

    Returns:
        Paths: files, and whatever else has such a name (a link to nothing, a pipe), which reading will name.
    """
    return sorted(path for path in dict.fromkeys(_expanded(pattern)) if not os.path.isdir(path))


def why_nothing_matches(pattern: str) -> str:
    """The likely reason why a pattern names no file, in words: the folder that is not there, or what is there."""
    parts = pattern.split(os.sep)
    place = next((number for number, part in enumerate(parts[:-1]) if part == "**"), len(parts) - 1)
    folders, below = parts[:place], parts[place:]
    for number, part in enumerate(folders):
        folder = os.sep.join(folders[: number + 1]) or os.sep
        if os.path.isdir(folder) or glob.has_magic(folder) and glob.glob(folder):
            continue
        hint = ""
        if any(mark in part for mark in "*?["):
            hint = " (in a pattern * ? and [...] stand for other characters; a folder of that very name is not there)"
        return f"there is no folder {folder}{hint}"
    folder = os.sep.join(folders) or (os.sep if pattern.startswith(os.sep) else os.curdir)
    name = os.sep.join(below)
    if not os.path.isdir(folder):
        return f"nothing in the folders {folder} matches {name}"
    files = collections.Counter(ending(entry.name) for entry in os.scandir(folder) if not entry.is_dir())
    if not files:
        return f"the folder {folder} has no file"
    return f"nothing in {folder} matches {name}; it has {count_endings(files)}"


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
