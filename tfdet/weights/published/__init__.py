"""Published weights by name: where each file is offered, and which detector it fills.

One module a program; `docs/weights.md` shows the table.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from tfdet.config import Configuration, parse
from tfdet.config.files import did_you_mean
from tfdet.errors import UserError
from tfdet.fetch import cache_folder, download
from tfdet.fetch.progress import say
from tfdet.weights.published import detectron2, keras_applications, simpledet, torchvision
from tfdet.weights.published.record import Published

__all__ = [
    "Published",
    "cached",
    "check_row",
    "everything",
    "fetch",
    "find",
    "get",
    "named",
    "row_of",
    "suggestion",
]

TITLES = {"torchvision": "torchvision", "detectron2": "Detectron2", "simpledet": "SimpleDet", "keras": "Keras"}
"""The programs by the first part of a name, in the order in which they are listed."""


@cache
def everything() -> dict[str, Published]:
    """All published files by name."""
    modules = (torchvision, detectron2, simpledet, keras_applications)
    return {published.name: published for module in modules for published in module.files()}


@cache
def _by_any_name() -> dict[str, Published | None]:
    """By every name that one file alone has; None for what several are called."""
    found: dict[str, Published | None] = {}
    for published in everything().values():
        for name in published.names():
            found[name] = None if name in found else published
    return found | everything()


def find(name: str | os.PathLike) -> Published | None:
    """The file that a name means, None where it is no published one.

    Args:
        name: as in the list; the program may be left out, or the name of the file taken, where that is plain.
    """
    text, known = os.fspath(name), _by_any_name()
    stem, ending = os.path.splitext(text)
    found = known.get(text) or known.get(stem)
    return found if found is None or not ending or text in known or found.file_name.endswith(ending) else None


def named(path: str | os.PathLike) -> Published | None:
    """The published file that a path means as a name: `find`, but for the path of something that is there."""
    return None if os.path.exists(path) else find(path)


def get(name: str) -> Published:
    """As `find`; `UserError` with the nearest names where there is none."""
    found = find(name)
    if found is None:
        raise UserError(f"{name} is not the name of published weights.{suggestion(name)} `tfdet weights` lists them")
    return found


def row_of(published: Published) -> tuple[list[str], list[str]]:
    """The gin files of the detector that a file fills, and the lines beside them.

    Raises:
        UserError: it is a backbone.
    """
    if not published.is_detector:
        raise UserError(
            f"{published.name} is a backbone, no detector: training starts from it, --init_weights={published.name}"
        )
    return list(published.gin_files), list(published.bindings)


def check_row(published: Published, configuration: Configuration) -> None:
    """Says where a configuration that a person gave has other values than the file was published for."""
    own = configuration
    try:
        fitting = parse(own.files, [*own.params, *published.bindings], own.allow_imports).text()
    except UserError:  # a macro that these gin files do not have
        fitting = ""
    if published.bindings and fitting != own.text():
        say(
            f"warning: {published.name} was published for {', '.join(published.bindings)}, which this configuration "
            "does not have: what it finds will differ"
        )


def suggestion(name: str) -> str:
    """` Did you mean ...?` where a name is nearly one of the list, or an empty text."""
    if same_file := find(Path(name).name):
        return f" Did you mean {same_file.name!r}?"
    shorter = (short for short, published in _by_any_name().items() if published is not None)
    return did_you_mean(name, everything()) or did_you_mean(name, shorter)


def cached(published: Published) -> Path:
    """Where the cache keeps the file, whether it is there or not."""
    return cache_folder() / "weights" / published.name / published.file_name


def fetch(published: Published) -> Path:
    """The file, from the cache or from where it is offered.

    Raises:
        UserError: it is nowhere to be had; see `tfdet.fetch.download`.
    """
    try:
        return download(published.addresses, cached(published), checksum=published.checksum, label=published.name)
    except UserError as error:
        if published.same_source and not cached(published).exists():
            raise UserError(f"{error}. Made of the same weights by another program: {published.same_source}") from error
        raise
