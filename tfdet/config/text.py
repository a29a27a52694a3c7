"""The configuration as text that `parse` reads again."""

from __future__ import annotations

import gin

from tfdet.config.bindings import MACRO, Binding, Bindings, macro_name, references
from tfdet.config.registration import code_scopes


def config_text(configuration: Bindings) -> str:
    """The whole configuration: every binding of the files and parameters in force, as a gin file.

    Left out are leftovers of overrides, which would be refused on reading: macros that no value uses any more, and
    bindings of parts that only a replaced value referred to and that nothing has read.

    Returns:
      Text for `parse`; the same configuration results from it.
    """
    orphans = configuration.orphans()
    kept: dict = {}
    for binding, value in configuration.bindings():
        if binding.selector not in orphans or configuration.is_read(binding):
            kept.setdefault((binding.scope, binding.selector), {})[binding.parameter] = value
    kept = _without_unused_scopes(configuration, kept)
    waiting = list(kept.values())
    while waiting:
        for reference in references(waiting.pop()):
            name = macro_name(reference)
            if name is not None and (name, MACRO) not in kept:
                kept[name, MACRO] = {"value": configuration.macro_value(name)}
                waiting.append(kept[name, MACRO])
    with configuration.active():
        return gin.config._config_str(kept, max_line_length=110)


def _without_unused_scopes(configuration: Bindings, kept: dict) -> dict:
    """Drops the bindings of scopes that only replaced values opened and nothing has read."""
    opened = {"/".join(part.scopes) for value in kept.values() for part in references(value)}
    for _, value in configuration.bindings():
        opened.update("/".join(part.scopes) for part in references(value))
    for name in configuration.macros:
        opened.update("/".join(part.scopes) for part in references(configuration.macro_value(name)))
    opened |= code_scopes()
    result: dict = {}
    for (scope, selector), values in kept.items():
        live = not scope or any(f"{name}/".startswith(f"{scope}/") for name in opened)
        for parameter, value in values.items():
            if live or configuration.is_read(Binding(scope, selector, parameter)):
                result.setdefault((scope, selector), {})[parameter] = value
    return result
