"""Whether a bound value fits the parameter it is bound to: its annotation, or the type of its default."""

from __future__ import annotations

import inspect
from typing import Any

from tfdet.config import registration, renamed
from tfdet.config.annotations import LITERALS, evaluated, mismatch
from tfdet.config.bindings import Bindings
from tfdet.errors import UserError


def check_types(configuration: Bindings) -> None:
    """Refuses the first binding whose value cannot be what its parameter takes.

    Only what is certain is refused: parameters without annotation and default, and annotations that say nothing
    about gin's values (protocols, type variables), take anything. A list may stand for a tuple and the reverse; an
    int for a float, never a bool for a number or a number for a bool. Leftovers of overrides build nothing, and may
    share a macro with what took their place.

    Args:
      configuration: what was read, and where.

    Raises:
      UserError: names the place, the parameter, what it takes and what it got.
    """
    orphans = configuration.orphans()
    for binding, value in configuration.bindings():
        if binding.selector in orphans:
            continue
        parameter = registration.parameters(binding.selector).get(binding.parameter)
        if parameter is None:  # goes into a **kwargs
            continue
        resolved = configuration.resolve(value)
        if parameter.default is not parameter.empty and _equal(parameter.default, resolved):
            continue
        expected = expected_type(binding.selector, parameter)
        reason = mismatch(resolved, expected)
        if reason:
            name = f"{registration.minimal_name(binding.selector)}.{binding.parameter}"
            reason += renamed.hint(name, resolved)
            name = f"{binding.scope}/{name}" if binding.scope else name
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
    annotation = evaluated(parameter.annotation, registration.constructor(selector))
    if annotation is not parameter.empty:
        return annotation
    default = parameter.default
    if default is parameter.empty or default is None or type(default) not in LITERALS:
        return Any
    # Nobody wrote a type: a default of 0 may well stand for a float.
    return (float if type(default) is int else type(default)) | None


def _equal(default: Any, value: Any) -> bool:
    """Whether a value is the default itself; comparing arrays is not attempted."""
    if type(default) is not type(value) or type(default) not in (*LITERALS, type(None)):
        return False
    return bool(repr(default) == repr(value))
