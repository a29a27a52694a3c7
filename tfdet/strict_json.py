"""JSON of unknown origin: read as its standard has it, or refused in one line."""

from __future__ import annotations

import json
import math
import os
from typing import Any, NoReturn

from tfdet.errors import UserError
from tfdet.files import read_regular

_SHOWN = 40  # characters of a text in a message


def read_json(path: str | os.PathLike, what: str, advice: str = "") -> Any:
    """Reads a JSON file.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        what: it is, for messages: "the labels".
        advice: what to do where it cannot be read, for messages.

    Returns:
        The content.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or is not valid: see `parse_json`.
    """
    try:
        return parse_json(read_regular(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(_line(path, what, error.strerror or str(error), advice)) from error
    except ValueError as error:
        raise UserError(_line(path, what, str(error), advice)) from None


def parse_json(text: bytes | str) -> Any:
    """Parses a JSON text.

    Python's own parser takes NaN and Infinity, which are no JSON and which no metric and no count survives, keeps the
    last of two entries of one name, and leaves with a RecursionError where brackets are nested a thousand deep.

    Args:
        text: bytes are UTF-8, with or without a byte order mark.

    Returns:
        The content.

    Raises:
        ValueError: it is not valid, not UTF-8, nested too deeply, has a name twice in one object, or a number that is
            none, too large for a float, or an integer of thousands of digits. The message is one line.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 at byte {error.start}") from None
    try:
        return json.loads(
            text.removeprefix("\ufeff"),
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no valid JSON: {error}") from None


def field(content: Any, name: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
    """A value of an object, of the right type.

    Args:
        content: what should be an object.
        name: of the value.
        kind: its type, or several; a boolean is no int.
        default: where the object has no such name; none makes that an error.

    Raises:
        ValueError: `content` is no object, or has no value of the name and type.
    """
    if not isinstance(content, dict):
        raise ValueError(f"expected an object with {name!r}, not {_shown(content)}")
    if name not in content:
        if default is ...:
            raise ValueError(f"there is no {name!r}")
        return default
    value = content[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or isinstance(value, bool) and bool not in kinds:
        wanted = " or ".join(_NAMES[one] for one in kinds)
        raise ValueError(f"{name!r} must be {wanted}, not {_shown(value)}")
    return value


_NAMES = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number", bool: "a boolean"}


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:_SHOWN]} is too large")
    return value


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python's limit, of 4,300 digits
        raise ValueError(f"the number {text[:_SHOWN]}... has {len(text)} digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{name[:_SHOWN]!r} stands twice in one object")
            seen.add(name)
    return content


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _line(path: str | os.PathLike, what: str, why: str, advice: str) -> str:
    return f"cannot read {what} {os.fspath(path)}: {why}" + (f"; {advice}" if advice else "")
