"""gin's bindings as an object: their names, their values, what the values refer to, and where they were written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gin

MACRO = "gin.macro"
CONSTANT = "gin.constant"

process_state = threading.RLock()
"""Held while gin's variables, Keras' policy or TensorFlow's precision are not what they were: threads take turns."""


class Binding(NamedTuple):
    """The name of one bound parameter, complete: gin's key and the parameter."""

    scope: str
    selector: str  # complete, module.Name
    parameter: str


def macro_name(reference: Any) -> str | None:
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


class Bindings:
    """What gin keeps in variables of its module, as a thing of its own, with what gin does not keep: the places.

    Attributes:
        files: names of the gin files, as they were given.
        params: bindings beside them, as they were given.
        allow_imports: whether a run's own file may import modules that are not tfdet's.
        places: where each binding was last written.
        macros: macro name -> where it was defined.
        used_macros, used_scopes: also by values that were overridden later.
        overridden: values that a later binding replaced.
        bound: (scope, complete selector) -> parameter -> value, as gin keeps it.
        operative: the same of what was built so far, defaults included.
    """

    def __init__(self, files: Sequence[str] = (), params: Sequence[str] = (), allow_imports: bool = False):
        self.files, self.params, self.allow_imports = tuple(files), tuple(params), allow_imports
        self.places: dict[Binding, str] = {}
        self.macros: dict[str, str] = {}
        self.used_macros: set[str] = set()
        self.used_scopes: set[str] = set()
        self.overridden: list[Any] = []
        self.bound: dict[tuple[str, str], dict[str, Any]] = {}
        self.operative: dict[tuple[str, str], dict[str, Any]] = {}
        self._imports: set = set()
        self._singletons: dict = {}

    @contextlib.contextmanager
    def active(self) -> Iterator[Any]:
        """Within it configurables take their parameters from here; behind it gin's state is what it was before."""
        lent = {
            "_CONFIG": self.bound,
            "_OPERATIVE_CONFIG": self.operative,
            "_IMPORTS": self._imports,
            "_SINGLETONS": self._singletons,
            "_CONFIG_IS_LOCKED": False,
        }
        with process_state:
            kept = {name: getattr(gin.config, name) for name in lent}
            _lend(lent)
            try:
                with gin.config_scope(None):
                    yield self
            finally:
                _lend(kept)

    def bindings(self) -> Iterator[tuple[Binding, Any]]:
        """All bindings with their values, macros left out, in the order of their first appearance."""
        for (scope, selector), values in self.bound.items():
            if selector != MACRO:
                for parameter, value in values.items():
                    yield Binding(scope, selector, parameter), value

    def macro_value(self, name: str) -> Any:
        """The value of a macro; KeyError when it is not defined."""
        return self.bound[name, MACRO]["value"]

    def resolve(self, value: Any) -> Any:
        """A value with every macro and constant inside it replaced by what it stands for."""
        if is_reference(value):
            name = macro_name(value)
            if name is not None:
                return self.resolve(self.macro_value(name))
            if value.configurable.selector == CONSTANT:
                return gin.config._CONSTANTS["/".join(value.scopes)]
            return value
        if isinstance(value, dict):
            return {self.resolve(key): self.resolve(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(part) for part in value)
        return value

    def reachable(self, values: Iterable[Any], selectors: Iterable[str] = ()) -> set[str]:
        """The configurables that values refer to, directly or through macros and the bindings of what they refer to.

        Args:
            values: values of bindings.
            selectors: complete selectors to start from as well.

        Returns:
            Complete selectors, the given ones included.
        """
        by_selector: dict[str, list[Any]] = {}
        for binding, value in self.bindings():
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
                    if name not in seen_macros and (name, MACRO) in self.bound:
                        seen_macros.add(name)
                        waiting.append(self.macro_value(name))
                elif selector not in found:
                    found.add(selector)
                    waiting.extend(by_selector.get(selector, ()))
        return found

    def orphans(self) -> set[str]:
        """The complete selectors of configurables that only replaced values refer to: leftovers of overrides."""
        return self.reachable(self.overridden) - self.reachable(value for _, value in self.bindings())

    def is_read(self, binding: Binding) -> bool:
        """Whether a configurable was called in the binding's scope and did not get the parameter from its caller."""
        for (scope, selector), values in list(self.operative.items()):
            if selector == binding.selector and binding.parameter in values:
                if not binding.scope or f"{scope}/".startswith(f"{binding.scope}/"):
                    return True
        return False


def _lend(state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        setattr(gin.config, name, value)
