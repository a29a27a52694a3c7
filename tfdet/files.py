"""Whole files or none: every file that tfdet writes gets its name when it is complete."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfdet.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Hands out a temporary name beside `path`, and renames it to `path` where the block ends well.

    Args:
        path: the file to write; its folder is made where it is missing. The temporary name keeps its suffix.

    Raises:
        UserError: the file cannot be written. Nothing is left behind, and an older file stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.partial{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_no_pattern(path: str | os.PathLike) -> None:
    """`UserError` for a folder below which TensorFlow would write checkpoints and models, and not find them again."""
    if any(character in os.fspath(path) for character in "*?[\\"):
        raise UserError(
            f"{os.fspath(path)}: TensorFlow takes *, ?, [ and \\ in the path of a checkpoint or SavedModel for a "
            "pattern and does not find it: choose or rename the folder without them"
        )


def write_json(content: Any, path: str | os.PathLike) -> None:
    """Writes json to a temporary name beside `path`, then renames it.

    Raises:
      UserError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
