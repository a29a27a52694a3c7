"""Whether a value fits an annotation: types, choices (`Literal`) and ranges (`Annotated` with a `Range`)."""

from __future__ import annotations

import collections.abc
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable
from typing import Any

import gin

from tfdet.config.bindings import is_reference
from tfdet.config.files import did_you_mean
from tfdet.config.ranges import Range

LITERALS = (bool, int, float, complex, str, bytes, list, tuple, dict)
"""The types of gin's values."""

_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_CHECKED = (*LITERALS, type(None), numbers.Real)


def evaluated(annotation: Any, function: Callable) -> Any:
    """An annotation, evaluated where it is text; `Any` where it names what exists for type checkers only.

    Args:
      annotation: of a parameter of `function`; the parameter's `empty` stays.
      function: a plain function or a class's constructor.
    """
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, function.__globals__)  # noqa: S307
    except Exception:
        return Any


def has_limits(annotation: Any) -> bool:
    """Whether an annotation holds choices or ranges, at whatever depth."""
    if typing.get_origin(annotation) is typing.Literal:
        return True
    return isinstance(annotation, Range) or any(map(has_limits, typing.get_args(annotation)))


def mismatch(value: Any, expected: Any) -> str | None:
    """Says why a value does not fit an annotation.

    Args:
      value: a literal or a gin reference, macros resolved; anything else (a tensor, a function, a part) fits.
      expected: an annotation.

    Returns:
      A sentence, or None when the value fits or when that cannot be told.
    """
    if expected is Any or value is gin.REQUIRED or isinstance(expected, (str, typing.TypeVar)):
        return None
    if not isinstance(value, _CHECKED) and not is_reference(value):
        return None
    if expected is None or expected is type(None):
        return None if value is None else _wrong("None", value)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is typing.Annotated:
        return mismatch(value, arguments[0]) or _range_mismatch(value, *arguments)
    if origin is typing.Union or origin is types.UnionType:
        return _union_mismatch(value, expected, arguments)
    if origin is typing.Literal:
        return _literal_mismatch(value, arguments)
    plain = origin or expected
    if not isinstance(plain, type):
        return None
    if is_reference(value):
        return _reference_mismatch(value, plain)
    return (
        _container_mismatch(value, plain, arguments)
        if plain in _SEQUENCES + _MAPPINGS
        else _scalar_mismatch(value, plain)
    )


def _union_mismatch(value: Any, expected: Any, options: tuple) -> str | None:
    reasons = [(option, mismatch(value, option)) for option in options]
    if any(reason is None for _, reason in reasons):
        return None
    reasons = [(option, reason) for option, reason in reasons if option is not type(None)]
    # What to write in place of a list is a list.
    like = [reason for option, reason in reasons if _is_container(option) == isinstance(value, (list, tuple, dict))]
    return like[0] if len(like) == 1 else reasons[0][1] if len(reasons) == 1 else _wrong(_describe(expected), value)


def _is_container(annotation: Any) -> bool:
    return (typing.get_origin(annotation) or annotation) in _SEQUENCES + _MAPPINGS


def _scalar_mismatch(value: Any, plain: type) -> str | None:
    if plain is bool:
        return None if isinstance(value, bool) else _wrong("True or False", value)
    if plain is int:
        if isinstance(value, float) and value.is_integer():
            return f"expected an int, got the float {value!r}. Write {int(value)}."
        return None if isinstance(value, numbers.Integral) and not isinstance(value, bool) else _wrong("an int", value)
    if plain is float:
        return None if isinstance(value, numbers.Real) and not isinstance(value, bool) else _wrong("a float", value)
    if plain is str:
        return None if isinstance(value, str) else _wrong("a text in quotes", value)
    if issubclass(plain, os.PathLike):
        return None if isinstance(value, (str, os.PathLike)) else _wrong("a path in quotes", value)
    if plain is collections.abc.Callable:
        return None if callable(value) else _wrong("a function or class such as @Name", value)
    if plain.__module__.partition(".")[0] in ("tfdet", "keras") and type(value) in LITERALS:
        if issubclass(plain, LITERALS):  # an enumeration over str, a named tuple
            return None
        return _wrong(f"{plain.__name__}: a reference such as @Name()", value)
    return None


def _container_mismatch(value: Any, plain: type, arguments: tuple) -> str | None:
    if plain in _MAPPINGS:
        if not isinstance(value, dict):
            return _wrong("a dictionary", value)
        pairs = zip(arguments * len(value), [part for item in value.items() for part in item]) if arguments else ()
        return next(filter(None, (mismatch(part, expected) for expected, part in pairs)), None)
    if not isinstance(value, (list, tuple)):
        what = "a tuple" if plain is tuple else "a list"
        example = f" Write ({value!r},)." if type(value) in (int, float) else ""
        return _wrong(what, value) + example
    if plain is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            return f"expected {len(arguments)} values, got {len(value)}."
        return next(filter(None, map(mismatch, value, arguments)), None)
    item = arguments[0] if arguments else Any
    return next(filter(None, (mismatch(part, item) for part in value)), None)


def _reference_mismatch(reference: Any, plain: type) -> str | None:
    """A reference gives an instance or a result (`@Name()`), or the function or class itself (`@Name`)."""
    target = reference.configurable.wrapped
    is_class = inspect.isclass(target)
    if not reference.evaluate:
        if plain in (bool, int, float, str) + _SEQUENCES + _MAPPINGS:
            return _wrong(_describe(plain), reference)
        needs_instance = is_class and issubclass(target, plain) and plain not in (object, type)
        if needs_instance and plain is not collections.abc.Callable:
            return f"expected {plain.__name__}, got the class itself. Write {reference!r}()."
        return None
    if is_class and plain in (bool, int, float, str) and not issubclass(target, plain):
        return f"expected {_describe(plain)}, got an instance of {target.__name__}."
    return None


def _literal_mismatch(value: Any, choices: tuple) -> str | None:
    if any(value == choice and _same_kind(value, choice) for choice in choices):
        return None
    listed = ", ".join(repr(choice) for choice in choices)
    near = did_you_mean(value, [part for part in choices if isinstance(part, str)]) if isinstance(value, str) else ""
    return f"expected one of {listed}.{near}"


def _same_kind(value: Any, choice: Any) -> bool:
    """Whether equal values are of one type: True is not 1, 1.0 is not 1; NumPy's numbers and texts are Python's."""
    if isinstance(value, bool) or isinstance(choice, bool):
        return type(value) is type(choice)
    return isinstance(value, numbers.Integral if isinstance(choice, int) else type(choice))


def _range_mismatch(value: Any, plain: Any, *metadata: Any) -> str | None:
    """Of a number that is of the type `plain`."""
    for limits in metadata:
        if isinstance(limits, Range) and isinstance(value, numbers.Real) and value not in limits:
            return f"expected {'an int' if plain is int else 'a float'} {limits}, got {value!r}."
    return None


def _wrong(expected: str, value: Any) -> str:
    if is_reference(value):
        got = "a reference"
    elif value is None:
        got = "None"
    else:
        got = f"the {type(value).__name__} {value!r}"
    quoted = isinstance(value, str) and expected in ("an int", "a float", "True or False", "a list", "a tuple")
    if quoted and (value in ("True", "False") or value.strip()[:1] in tuple("+-.0123456789([")):
        got += ". Leave the quotes away"
    return f"expected {expected}, got {got}."


def _describe(expected: Any) -> str:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is typing.Annotated:
        return " ".join([_describe(arguments[0]), *(str(part) for part in arguments[1:] if isinstance(part, Range))])
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin is typing.Union or origin is types.UnionType:
        return " or ".join(map(_describe, arguments))
    if arguments and isinstance(origin, type):
        inside = ", ".join("..." if part is Ellipsis else _describe(part) for part in arguments)
        return f"{origin.__name__}[{inside}]"
    if expected is type(None):
        return "None"
    return expected.__name__ if isinstance(expected, type) else str(expected).replace("typing.", "")
