"""A configuration for people to read: what is bound, part by part, and where; and in what two of them differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tfdet.config import registration
from tfdet.config.bindings import Binding, macro_name, references
from tfdet.config.configuration import Configuration
from tfdet.config.files import short_place

DEFAULT = "default"
"""The place of a value that no file binds."""

_LAST = ("Trainer", "Schedule", "TrainInput", "EvalInput", "Row")  # behind the detector and its parts, in this order


class Setting(NamedTuple):
    """One parameter of one part."""

    part: str  # its name in gin files, with the scope it is used in: `first/RoiTargetSampler`
    parameter: str
    value: str  # as a gin file would have it, macros replaced by what they stand for
    place: str  # file:line that bound it, and of the macros in it; `DEFAULT` where nothing does


class Difference(NamedTuple):
    """A parameter that is not the same in two configurations; None where one of them has no such part."""

    part: str
    parameter: str
    left: Setting | None
    right: Setting | None


def settings(configuration: Configuration, defaults: bool = False) -> list[Setting]:
    """The bindings in force, the detector and its parts first, in the order in which they refer to each other.

    Leftovers of overrides are left out: bindings of parts that only a replaced value referred to.

    Args:
        configuration: parsed; nothing needs to be built.
        defaults: name the parameters too that nothing binds, of every part that something binds.
    """
    orphans = configuration.orphans()
    by_part: dict[tuple[str, str], dict[str, Any]] = {}
    for binding, value in configuration.bindings():
        if binding.selector not in orphans:
            by_part.setdefault((binding.scope, binding.selector), {})[binding.parameter] = value
    return [
        setting
        for scope, selector in _in_order(by_part)
        for setting in _of_part(configuration, scope, selector, by_part[scope, selector], defaults)
    ]


def differences(left: Configuration, right: Configuration) -> list[Difference]:
    """What is not the same; a value that one side binds and the other leaves at the same default is the same."""
    sides = [{(s.part, s.parameter): s for s in settings(side, defaults=True)} for side in (left, right)]
    found = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        one, other = (side.get(key) for side in sides)
        # A part that one side alone has is described by what is bound there.
        same = one.value == other.value if one and other else all(s.place == DEFAULT for s in (one, other) if s)
        if not same:
            found.append(Difference(*key, one, other))
    return found


def _in_order(by_part: dict[tuple[str, str], dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The parts: from `build_detector` along the references, then the others, the recipe and the data last."""
    names = {part: registration.minimal_name(part[1]) for part in by_part}
    seen: dict[tuple[str, str], None] = {}

    def follow(part: tuple[str, str]) -> None:
        if part in seen or part not in by_part:
            return
        seen[part] = None
        for value in by_part[part].values():
            for reference in references(value):
                selector = reference.configurable.selector
                follow(("", selector))
                follow(("/".join(reference.scopes), selector))

    for part, name in names.items():
        if name == "build_detector":
            follow(part)
    for part in sorted(by_part, key=lambda part: _LAST.index(names[part]) if names[part] in _LAST else -1):
        follow(part)
    return iter(seen)


def _of_part(
    configuration: Configuration, scope: str, selector: str, bound: dict[str, Any], defaults: bool
) -> Iterator[Setting]:
    part = f"{scope}/{registration.minimal_name(selector)}" if scope else registration.minimal_name(selector)
    for name, parameter in registration.parameters(selector).items():
        if name in bound:
            value = bound[name]
            places = [configuration.places.get(Binding(scope, selector, name), "the program")]
            places += [f"{macro} in {configuration.macros[macro]}" for macro in _macros(configuration, value)]
            yield Setting(part, name, repr(configuration.resolve(value)), ", ".join(map(short_place, places)))
        elif defaults and parameter.default is not registration.NO_DEFAULT and not scope:
            yield Setting(part, name, repr(parameter.default), DEFAULT)
    for name in bound:  # of a **kwargs
        if name not in registration.parameters(selector):
            place = configuration.places.get(Binding(scope, selector, name), "the program")
            yield Setting(part, name, repr(configuration.resolve(bound[name])), short_place(place))


def _macros(configuration: Configuration, value: Any) -> list[str]:
    """The macros that a value is made of, those within macros included."""
    found: dict[str, None] = {}
    waiting = [value]
    while waiting:
        for reference in references(waiting.pop()):
            name = macro_name(reference)
            if name is not None and name not in found:
                found[name] = None
                waiting.append(configuration.macro_value(name))
    return [name for name in found if name in configuration.macros]
