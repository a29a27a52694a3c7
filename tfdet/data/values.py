"""One rule for each kind of value in annotations: ids, flags, numbers, sizes. No TensorFlow here.

Files of other tools write one id as 1, "1" or 1.0, and a flag as 0, "0" or "false". Each function takes every form
that has one meaning and raises ValueError, with the reason in words, for the others.
"""

from __future__ import annotations

import hashlib
import math
import numbers
import re
from typing import Any

LARGEST_ID = 2**63 - 1
"""Records, the index and batches hold ids as int64."""

_WHOLE = re.compile(r"\s*([0-9]{1,40})(?:\.0*)?\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
_LONGEST_NUMBER = 400  # characters that are looked at: the pattern's time grows with their square
_FLAGS = {
    "": False, "0": False, "0.0": False, "false": False, "no": False, "none": False, "null": False,
    "1": True, "1.0": True, "true": True, "yes": True,
}  # fmt: skip
_NAME_BITS = 52  # whole numbers below 2^53 are exact in every reader of json
_SHOWN = 60  # characters of a value in a message


def shown(value: Any) -> str:
    """A value as a message names it: as json has it or its repr, cut short, without control characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits, a nest
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def whole_id(value: Any) -> int:
    """The id that a value is: `1`, `"1"` and `1.0` are one.

    Args:
        value: of a json file.

    Returns:
        The id, 0 to 2^63 - 1.

    Raises:
        ValueError: it is none: a bool, a fraction, negative, larger, or text that is no number.
    """
    number = _whole(value)
    if number is None:
        raise ValueError(f"{shown(value)} is no whole number")
    if number < 0:
        raise ValueError(f"{shown(value)} is negative")
    if number > LARGEST_ID:
        raise ValueError(f"{shown(value)} is larger than 2^63 - 1")
    return number


def image_number(value: Any) -> tuple[int, bool]:
    """The number of an image: its id, or for a name as id the number of the name.

    Args:
        value: the id as a file has it.

    Returns:
        The number, and whether the id is a name: text that is no number. A number that is no id
        is none as text either.

    Raises:
        ValueError: it is neither.
    """
    try:
        return whole_id(value), False
    except ValueError:
        if isinstance(value, str) and value.strip() and not _NUMBER.fullmatch(value[:_LONGEST_NUMBER]):
            return number_of_name(value), True
        raise


def number_of_name(name: str) -> int:
    """The number that stands for a name: the same in every file, 2^52 to 2^53 - 1, where ids of hand do not lie.

    Args:
        name: any text.
    """
    digest = hashlib.sha256(name.strip().encode("utf-8", "surrogatepass")).digest()
    return (1 << _NAME_BITS) | int.from_bytes(digest[:8], "big") >> (64 - _NAME_BITS)


def flag(value: Any) -> bool:
    """A flag by its value: 0, "0", "false", "no", null and the empty text are false; 1, "1", "true", "yes" are true.

    Raises:
        ValueError: it is none of these.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, numbers.Real) and value in (0, 1):
        return bool(value == 1)
    known = _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None
    if known is None:
        raise ValueError(f"{shown(value)} is neither 0 nor 1")
    return known


def real_number(value: Any) -> float:
    """A number, or text that is one; it may be infinite or not a number, which the caller judges.

    Raises:
        ValueError: it is something else, or too large for a float.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str) and _NUMBER.fullmatch(value[:_LONGEST_NUMBER]):
        return float(value)
    raise ValueError(f"{shown(value)} is no number")


def image_side(value: Any) -> int:
    """Height or width of an image in pixels; 0 where the file does not say (nothing, null, 0).

    Raises:
        ValueError: it is no whole number, negative, or larger than an image can be.
    """
    if value is None:
        return 0
    number = _whole(value)
    if number is None or not 0 <= number < 2**31:
        raise ValueError(f"{shown(value)} is no number of pixels")
    return number


def _whole(value: Any) -> int | None:
    """A whole number of any size, from a number or text; None where it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return int(value) if float(value).is_integer() else None
    match = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) if match else None
