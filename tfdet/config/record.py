"""What was parsed and where it stood: the memory that gin itself does not keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import gin

MACRO = "gin.macro"
CONSTANT = "gin.constant"


class Binding(NamedTuple):
    """The name of one bound parameter, complete: gin's key and the parameter."""

    scope: str
    selector: str  # complete, module.Name
    parameter: str


@dataclasses.dataclass
class Record:
    """Everything about the last `parse` that errors and checks need."""

    places: dict[Binding, str] = dataclasses.field(default_factory=dict)  # where each binding was last written
    macros: dict[str, str] = dataclasses.field(default_factory=dict)  # macro name -> where it was defined
    used_macros: set[str] = dataclasses.field(default_factory=set)  # also by values that were overridden later
    used_scopes: set[str] = dataclasses.field(default_factory=set)  # likewise
    overridden: list[Any] = dataclasses.field(default_factory=list)  # values that a later binding replaced


_last = Record()


def last() -> Record:
    """The record of the last `parse` of this process (an empty one before)."""
    return _last


def start() -> Record:
    """Clears gin's configuration and begins a new record."""
    global _last
    gin.clear_config()
    _last = Record()
    return _last


def bindings() -> Iterator[tuple[Binding, Any]]:
    """All current bindings with their values, macros left out, in the order of their first appearance."""
    for (scope, selector), values in gin.config._CONFIG.items():
        if selector != MACRO:
            for parameter, value in values.items():
                yield Binding(scope, selector, parameter), value


def macro_value(name: str) -> Any:
    """The value of a macro; KeyError when it is not defined."""
    return gin.config._CONFIG[name, MACRO]["value"]


def macro_name(reference) -> str | None:
    """`name` for the reference that stands for `%name`, None for other references."""
    return "/".join(reference.scopes) if reference.configurable.selector == MACRO else None


def is_reference(value: Any) -> bool:
    """Whether a value is gin's reference: `@Name`, `@Name()` or `%name`."""
    return isinstance(value, gin.config.ConfigurableReference)


def references(value: Any) -> Iterator:
    """All references inside a value, those within lists, tuples and dictionaries included."""
    if is_reference(value):
        yield value
    elif isinstance(value, dict):
        for part in (*value.keys(), *value.values()):
            yield from references(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from references(part)


def reachable(values: Iterable[Any], selectors: Iterable[str] = ()) -> set[str]:
    """The configurables that values refer to, directly or through macros and the bindings of what they refer to.

    Args:
      values: values of bindings.
      selectors: complete selectors to start from as well.

    Returns:
      Complete selectors, the given ones included.
    """
    by_selector: dict[str, list[Any]] = {}
    for binding, value in bindings():
        by_selector.setdefault(binding.selector, []).append(value)
    found: set[str] = set()
    seen_macros: set[str] = set()
    waiting = list(values)
    for selector in selectors:
        found.add(selector)
        waiting.extend(by_selector.get(selector, ()))
    while waiting:
        for reference in references(waiting.pop()):
            name = macro_name(reference)
            selector = reference.configurable.selector
            if name is not None:
                if name not in seen_macros and (name, MACRO) in gin.config._CONFIG:
                    seen_macros.add(name)
                    waiting.append(macro_value(name))
            elif selector not in found:
                found.add(selector)
                waiting.extend(by_selector.get(selector, ()))
    return found
