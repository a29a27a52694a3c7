"""What people give to the functions of tfdet, checked: a wrong type is one line, no traceback."""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Mapping, Set
from typing import Any

from tfdet.errors import UserError
from tfdet.files import check_local

MAX_PIXELS = 89_478_485
"""Of an image, height times width, where nobody says otherwise: from there on PIL warns of a bomb."""

AUTO = "auto"
"""The batch that is tried out."""


def max_pixels(value: Any) -> int:
    """The most pixels of an image: `value`, a whole number from 1, or `MAX_PIXELS` for None; `UserError` for others."""
    return MAX_PIXELS if value is None else whole_number("max_pixels", value, 1)


def whole_number(name: str, value: Any, least: int) -> int:
    """A count.

    Args:
        name: of the argument.
        value: an int of Python or NumPy; True is none.
        least: the smallest that is allowed.

    Raises:
        UserError: it is no whole number, or smaller.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise UserError(f"{name} must be a whole number. Received: {value!r}")
    if number < least:
        raise UserError(f"{name} must be at least {least}. Received: {number}")
    return number


def number(name: str, value: Any, most: float = math.inf) -> float:
    """A number of Python or NumPy from 0 to `most`; `UserError` where `value` is none, or no number at all."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) <= most:
        raise UserError(f"{name} must be from 0 to {most:g}. Received: {value!r}")
    return float(value)


def folders(value: Any) -> list[str]:
    """The data sets that a value of `TrainInput.data_dir` or `EvalInput.data_dir` names: one, or several."""
    return [os.fspath(one) for one in ((value,) if isinstance(value, (str, os.PathLike)) else value)]


def path(name: str, value: Any) -> str:
    """A path as text; `UserError` where `value` is none, or no file system takes it."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text:
        raise UserError(f"{name} must be a path. Received: {value!r}")
    check_local(value, name)
    try:
        os.lstat(text)
    except ValueError as error:
        raise UserError(f"{name} {text!r}: {error}") from None
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError)):
            return text  # said where the file is needed
        raise UserError(f"{name} {text[:60]!r}...: {error.strerror}") from None
    return text


def gin_files(row: Any) -> list[str]:
    """The gin files that a row is: one name or path, or several.

    Raises:
        UserError: it is neither, or there is none.
    """
    try:
        files = [row] if isinstance(row, (str, bytes, os.PathLike)) else list(row)
    except TypeError:
        files = []
    if not files:
        raise UserError(f"row must be the name of a zoo row, the path of a gin file, or several. Received: {row!r}")
    return [path("row", file) for file in files]


def class_names(num_classes: Any, classes: Any) -> tuple[int | None, list[str] | None]:
    """The number of classes and their names, None where they are not said.

    Args:
        num_classes: C, or None.
        classes: C names, or None.

    Raises:
        UserError: they are of a wrong type, none, named twice, or do not agree.
    """
    if num_classes is not None:
        num_classes = whole_number("num_classes", num_classes, 1)
    if classes is None:
        return num_classes, None
    try:
        names = None if isinstance(classes, (str, bytes, Mapping, Set)) else list(classes)
    except TypeError:
        names = None
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f'classes must be a list of names, such as ["car", "bus"]. Received: {classes!r}')
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"classes names {str(twice)!r} twice")
    if num_classes not in (None, len(names)):
        raise UserError(f"num_classes is {num_classes}, but {len(names)} classes are named: leave one out")
    return len(names), list(map(str, names))
