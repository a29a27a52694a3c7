"""Whole files or none: every file that tfdet writes gets its name when it is complete. And paths taken literally."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfdet.errors import UserError

_FILE_DESCRIPTORS = Path("/proc/self/fd")  # Linux: another name for every open folder
# A drive of Windows has one letter. pathlib makes one slash of two.
_SCHEME, _SCHEME_OF_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://"), re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Hands out a temporary name beside `path`, and renames it to `path` where the block ends well.

    Args:
        path: the file to write; its folder is made where it is missing. The temporary name keeps its suffix.

    Raises:
        UserError: the file cannot be written. Nothing is left behind, and an older file stays as it was.
    """
    check_local(path)
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


def partials(path: str | os.PathLike) -> list[Path]:
    """The temporary files that `replacing` made for `path` and a killed process left."""
    path = Path(path)
    name = re.compile(rf"{re.escape(f'.{path.stem}.partial')}\d+{re.escape(path.suffix)}")
    return [found for found in path.parent.glob(".*") if name.fullmatch(found.name)]


def at_home(path: str | os.PathLike) -> Path:
    """The path with `~` and `~name` at its beginning as that home folder; `UserError` where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        text = os.fspath(path)
        raise UserError(
            f"{text}: nothing here says where the home folder {Path(text).parts[0]} is: give the whole path, or "
            f"./{text} for a folder of that name"
        ) from None


def read_regular(path: str | os.PathLike) -> bytes:
    """The bytes of a regular file; a pipe or device, which may never begin or have no end, is not read.

    What a shell hands over as /dev/fd/N is open already and is read.

    Raises:
        OSError: there is no such file, it is another thing, or it cannot be read; `strerror` says why.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        raise FileNotFoundError(errno.ENOENT, "no file can have this name", os.fspath(path)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if (kind := irregular(mode)) and os.path.dirname(os.fspath(path)) != "/dev/fd":
        raise OSError(errno.EINVAL, f"is a {kind}, not a file", os.fspath(path))
    with open(path, "rb") as file:
        return file.read()


def is_address(path: Any) -> bool:
    """Whether a path is an address such as gs://bucket/coco or https://host/coco, which data sets may have."""
    return isinstance(path, str) and bool(_SCHEME.match(path)) and not path.startswith("file:")


def check_local(path: str | os.PathLike, name: str = "") -> None:
    """`UserError` for an address such as gs://bucket/run: but for data sets, files are on disks of this machine.

    Args:
        path: what a person gave for a path.
        name: of the flag or argument, for the message.
    """
    text = os.fspath(path)
    pattern = _SCHEME if isinstance(path, str) else _SCHEME_OF_PATH
    if isinstance(text, str) and pattern.match(text):
        shown = f"{name} {text}" if name else text
        if text.startswith("file:"):
            raise UserError(f"{shown} is an address: give the path alone, without file://")
        raise UserError(
            f"{shown} is an address, and tfdet reads data sets alone from there (--train_data, --eval_data): copy "
            "it, or mount it and give the path"
        )


_KINDS = {
    stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device",
    stat.S_IFDIR: "folder",
}  # fmt: skip


def irregular(mode: int) -> str | None:
    """What is there instead of a file, by the `st_mode` of `os.stat`: "pipe", "folder", ...; None for a file.

    To open a pipe waits for ever where nobody writes, and a device may be read without end.
    """
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "thing")


def is_in_place(descriptor: int, path: str | os.PathLike) -> bool:
    """Whether an open file is still the one at a path; not where it was removed, or another one took its place."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def has_pattern(path: str | os.PathLike) -> bool:
    """Whether TensorFlow takes the path of a checkpoint or SavedModel for a pattern."""
    return any(character in os.fspath(path) for character in "*?[\\")


def check_no_pattern(path: str | os.PathLike) -> None:
    """`UserError` for a folder below which other programs will look for a model with TensorFlow, and not find it."""
    if has_pattern(path):
        raise UserError(
            f"{os.fspath(path)}: TensorFlow takes *, ?, [ and \\ in the path of a checkpoint or SavedModel for a "
            "pattern and does not find it: choose or rename the folder without them"
        )


@contextlib.contextmanager
def literal(folder: str | os.PathLike) -> Iterator[str]:
    """Hands out a name of a folder that TensorFlow takes for a name.

    TensorFlow looks for checkpoints and the variables of SavedModels by pattern: below `exp[1]` it writes files and
    does not find them again. The name that is handed out leads to the same folder while the block runs.

    Args:
        folder: an existing folder.

    Raises:
        UserError: the name is a pattern, and the system has no other name for the folder (it is no Linux).
        OSError: the folder cannot be opened.
    """
    text = os.fspath(folder)
    if not has_pattern(text):
        yield text
        return
    if not os.path.isdir(_FILE_DESCRIPTORS):
        check_no_pattern(text)
    descriptor = os.open(text, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"{_FILE_DESCRIPTORS}/{descriptor}"
    finally:
        os.close(descriptor)


def literal_beginning(pattern: str) -> str:
    """A pattern for `glob.glob` whose folders mean themselves as far as they are there.

    `exp[1]/*.jpg` are pictures in `exp[1]` where that is a folder.
    """
    beginning, longer = os.path.dirname(pattern), ""
    while beginning != longer:
        if os.path.isdir(beginning):
            return glob.escape(beginning) + pattern[len(beginning) :]
        beginning, longer = os.path.dirname(beginning), beginning
    return pattern


def write_json(content: Any, path: str | os.PathLike, for_people: bool = False) -> None:
    """Writes json to a temporary name beside `path`, then renames it.

    Args:
      content: what to write.
      path: the file.
      for_people: on many lines, in UTF-8.

    Raises:
      UserError: the file cannot be written.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n" if for_people else json.dumps(content)
    with replacing(path) as temporary:
        # Bytes of a name that are no UTF-8 become json's own escapes: `\\udce9` is read back as `os.fsdecode` had it.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
