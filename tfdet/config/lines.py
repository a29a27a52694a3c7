"""Values from Python as the lines of a gin file."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, TypeAlias

from tfdet.errors import UserError

Settings: TypeAlias = Mapping[str, Any] | Sequence[str] | None
"""Values by gin name, {"AnchorGenerator.scales": (4,)}, or gin's own lines, ["AnchorGenerator.scales = (4,)"]."""


class Line(str):
    """A line of gin that a person did not write as one, but by a flag such as `--lr`.

    Args:
        text: the line.
        origin: what stands for file and line where it is said who set the value.
    """

    origin: str

    def __new__(cls, text: str, origin: str) -> Line:
        """The text, with its origin."""
        line = super().__new__(cls, text)
        line.origin = origin
        return line

    @classmethod
    def setting(cls, name: str, value: Any, origin: str) -> Line:
        """The line that gives a Python value to a parameter; see `gin_lines`."""
        return cls(gin_lines({name: value})[0], origin)


def gin_lines(settings: Settings) -> list[str]:
    """One line for each value.

    Args:
        settings: Python values by gin name: numbers, texts, None, and tuples, lists and dictionaries of them; NumPy's
            numbers and arrays and paths are taken for what they hold. Lines of gin stay as they are.

    Raises:
        UserError: gin has no way to write a value, or the settings are neither form.
    """
    if settings is None:
        return []
    if isinstance(settings, str):
        return [settings]
    if not isinstance(settings, Mapping):
        lines = list(settings) if isinstance(settings, Iterable) else [settings]
        if not all(isinstance(line, str) for line in lines):
            raise UserError(f"bindings must be a dictionary of values, or a list of lines. Received: {settings!r}")
        return lines
    for name in settings:
        if not isinstance(name, str) or not re.fullmatch(r"[\w./]+", name):
            raise UserError(f"bindings: {name!r} is not the name of a value, such as 'Trainer.epochs'")
    return [f"{name} = {_literal(name, value)}" for name, value in settings.items()]


def _literal(name: str, value: Any) -> str:
    text = repr(_plain(value))
    try:
        if isinstance(ast.literal_eval(text), Set):
            raise ValueError("gin has no sets")
    except (ValueError, SyntaxError, MemoryError):
        raise UserError(
            f"{name} = {value!r}: give finite numbers, texts, tuples, lists or dictionaries; what gin calls by @ or % "
            f"goes into a list of lines, such as ['{name} = @FPN()']"
        ) from None
    return text


def _plain(value: Any) -> Any:
    """The value without types of NumPy and paths."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(part) for part in value]) if type(value) in (list, tuple) else tuple(value)
    return value.tolist() if hasattr(value, "tolist") else value  # of NumPy
