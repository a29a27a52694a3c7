"""Bindings that no code read: known only after everything was built."""

from __future__ import annotations

from collections.abc import Iterable

import gin

from tfdet.config import registration
from tfdet.config.bindings import MACRO, Binding, Bindings
from tfdet.config.files import did_you_mean, nearest
from tfdet.errors import UserError

# Packages whose parts a training run may leave to other commands; tfdet.config has what a row says of itself. Their
# parameters' names and types are checked all the same, at parse time.
OTHER_COMMANDS = ("tfdet.config", "tfdet.predict", "tfdet.evaluate", "tfdet.export", "tfdet.report", "tfdet.bench")


def check_all_bindings_used(configuration: Bindings, not_built: Iterable[str] = ()) -> None:
    """Refuses bindings that nothing has read. To be called once all parts of a training run were built.

    A binding counts as read when its configurable was called in its scope, or a scope inside it, and took the
    parameter from gin or its default. It does not when the code passes the parameter itself: then the binding could
    have no effect. Not refused are bindings of parts that were only referred to by a value which a later binding
    replaced (`Detector.backbone = @Other()` leaves the parameters of the first backbone without a reader, on
    purpose), of `OTHER_COMMANDS` and of `not_built`, and of what only those refer to.

    Commands that build a part of a configuration (evaluate, export, predict) do not call this: there a binding of
    the trainer has no reader and is right. For them `parse` has refused unknown names, scopes, macros and types.

    Args:
      configuration: by which all was built.
      not_built: configurables (their names) or packages ("tfdet.data") that this run leaves out.

    Raises:
      UserError: names the bindings, where they stand and what was meant perhaps.
    """
    unread = unread_bindings(configuration, not_built)
    if not unread:
        return
    sentences = [_sentence(configuration, binding) for binding in unread[:3]]
    if len(unread) > 3:
        sentences.append(f"and {len(unread) - 3} more.")
    raise UserError(" ".join(sentences))


def unread_bindings(configuration: Bindings, not_built: Iterable[str] = ()) -> list[Binding]:
    """The bindings that `check_all_bindings_used` refuses, in the order they were written.

    Args:
      configuration, not_built: as there.

    Returns:
      Bindings without a reader.
    """
    excused = configuration.reachable(configuration.overridden, _selectors_of((*OTHER_COMMANDS, *not_built)))
    return [
        binding
        for binding, _ in configuration.bindings()
        if not configuration.is_read(binding)
        and binding.selector not in excused
        and not binding.selector.startswith("gin.")
    ]


def _selectors_of(names: Iterable[str]) -> set[str]:
    """Complete selectors of configurables given by name or by package."""
    found = set()
    for name in names:
        found.update(registration.matching_selectors(name))
        found.update(key for key, _ in gin.config._REGISTRY.items() if key.startswith(f"{name}."))
    return found


def _sentence(configuration: Bindings, binding: Binding) -> str:
    name = registration.minimal_name(binding.selector)
    scoped = f"{binding.scope}/{name}" if binding.scope else name
    place = configuration.places.get(binding, "set by the program")
    called = {key for key in configuration.operative if key[1] != MACRO}
    here = [scope for scope, selector in called if selector == binding.selector]
    said = f"{place}: {scoped}.{binding.parameter} is never read"
    if not here:
        with_parameter = [
            registration.minimal_name(selector)
            for _, selector in called
            if binding.parameter in registration.parameters(selector)
        ]
        hint = did_you_mean(name, with_parameter)
        if not hint and with_parameter:
            hint = f" Parts of this run with that parameter: {', '.join(sorted(set(with_parameter)))}."
        return f"{said}: this run builds no {name}.{hint}"
    if binding.scope and not any(f"{scope}/".startswith(f"{binding.scope}/") for scope in here):
        scopes = sorted(scope for scope in here if scope)
        near = nearest(binding.scope, scopes)
        hint = f" Did you mean {near[0]!r}?" if near else f" Its scopes: {', '.join(scopes) or 'none'}."
        return f"{said}: {name} is not built in the scope {binding.scope!r}.{hint}"
    return f"{said}: the program sets {binding.parameter} of {name} itself; remove the line or use the command's flag."
