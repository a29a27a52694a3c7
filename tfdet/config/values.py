"""Whether a bound value fits the parameter it is bound to: its annotation, or the type of its default."""

from __future__ import annotations

import collections.abc
import difflib
import inspect
import os
import types
import typing
from typing import Any

import gin

from tfdet.config import registration
from tfdet.config.bindings import Bindings, is_reference
from tfdet.errors import UserError

_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_LITERALS = (bool, int, float, complex, str, bytes, list, tuple, dict)


def check_types(configuration: Bindings) -> None:
    """Refuses the first binding whose value cannot be what its parameter takes.

    Only what is certain is refused: parameters without annotation and default, and annotations that say nothing
    about gin's values (protocols, type variables), take anything. A list may stand for a tuple and the reverse; an
    int for a float, never a bool for a number or a number for a bool.

    Args:
      configuration: what was read, and where.

    Raises:
      UserError: names the place, the parameter, what it takes and what it got.
    """
    for binding, value in configuration.bindings():
        parameter = registration.parameters(binding.selector).get(binding.parameter)
        if parameter is None:  # goes into a **kwargs
            continue
        resolved = configuration.resolve(value)
        if parameter.default is not parameter.empty and _equal(parameter.default, resolved):
            continue
        expected = expected_type(binding.selector, parameter)
        reason = mismatch(resolved, expected)
        if reason:
            name = f"{binding.scope}/" if binding.scope else ""
            name += f"{registration.minimal_name(binding.selector)}.{binding.parameter}"
            place = configuration.places.get(binding, "set by the program")
            shown = repr(value) if repr(value) == repr(resolved) else f"{value!r} (= {resolved!r})"
            raise UserError(f"{place}: {name} = {shown}: {reason}")


def expected_type(selector: str, parameter: inspect.Parameter) -> Any:
    """What a parameter takes, as an annotation.

    Args:
      selector: complete selector of the configurable.
      parameter: one of its parameters.

    Returns:
      The annotation, evaluated where it is text; without one, the type of the default or None; `Any` if unknown.
    """
    annotation = parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, registration.constructor(selector).__globals__)  # noqa: S307
        except Exception:  # a name that exists for type checkers only
            return Any
    if annotation is not parameter.empty:
        return annotation
    default = parameter.default
    if default is parameter.empty or default is None or type(default) not in _LITERALS:
        return Any
    # Nobody wrote a type: a default of 0 may well stand for a float.
    return (float if type(default) is int else type(default)) | None


def mismatch(value: Any, expected: Any) -> str | None:
    """Says why a value does not fit an annotation.

    Args:
      value: a literal or a gin reference, macros resolved.
      expected: an annotation.

    Returns:
      A sentence, or None when the value fits or when that cannot be told.
    """
    if expected is Any or value is gin.REQUIRED or isinstance(expected, (str, typing.TypeVar)):
        return None
    if expected is None or expected is type(None):
        return None if value is None else _wrong("None", value)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is typing.Annotated:
        return mismatch(value, arguments[0])
    if origin is typing.Union or origin is types.UnionType:
        reasons = [mismatch(value, option) for option in arguments]
        if None in reasons:
            return None
        options = [reason for option, reason in zip(arguments, reasons) if option is not type(None)]
        return options[0] if len(options) == 1 else _wrong(_describe(expected), value)
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


def _scalar_mismatch(value: Any, plain: type) -> str | None:
    if plain is bool:
        return None if isinstance(value, bool) else _wrong("True or False", value)
    if plain is int:
        if isinstance(value, float) and value.is_integer():
            return f"expected an int, got the float {value!r}. Write {int(value)}."
        return None if isinstance(value, int) and not isinstance(value, bool) else _wrong("an int", value)
    if plain is float:
        return None if isinstance(value, (int, float)) and not isinstance(value, bool) else _wrong("a float", value)
    if plain is str:
        return None if isinstance(value, str) else _wrong("a text in quotes", value)
    if issubclass(plain, os.PathLike):
        return None if isinstance(value, (str, os.PathLike)) else _wrong("a path in quotes", value)
    if plain is collections.abc.Callable:
        return None if callable(value) else _wrong("a function or class such as @Name", value)
    if plain.__module__.partition(".")[0] in ("tfdet", "keras") and type(value) in _LITERALS:
        if issubclass(plain, _LITERALS):  # an enumeration over str, a named tuple
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
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return None
    listed = ", ".join(repr(choice) for choice in choices)
    near = difflib.get_close_matches(str(value), [choice for choice in choices if isinstance(choice, str)], 1)
    return f"expected one of {listed}." + (f" Did you mean {near[0]!r}?" if near else "")


def _wrong(expected: str, value: Any) -> str:
    if is_reference(value):
        got = "a reference"
    elif value is None:
        got = "None"
    else:
        got = f"the {type(value).__name__} {value!r}"
    hint = ""
    if isinstance(value, str) and expected in ("an int", "a float", "True or False", "a list", "a tuple"):
        hint = (
            " Leave the quotes away."
            if value.strip()[:1] in tuple("+-.0123456789([")
            or value
            in (
                "True",
                "False",
            )
            else ""
        )
    return f"expected {expected}, got {got}.{hint}"


def _describe(expected: Any) -> str:
    if isinstance(expected, type) and typing.get_origin(expected) is None:
        return expected.__name__
    return str(expected).replace("typing.", "").replace("collections.abc.", "")


def _equal(default: Any, value: Any) -> bool:
    """Whether a value is the default itself; comparing arrays is not attempted."""
    if type(default) is not type(value) or type(default) not in (*_LITERALS, type(None)):
        return False
    return bool(repr(default) == repr(value))
