"""The configuration as text that `parse` reads again."""

from __future__ import annotations

import gin

from tfdet.config.record import MACRO, Binding, bindings, last, macro_name, macro_value, reachable, references
from tfdet.config.usage import is_read


def config_str() -> str:
    """The whole configuration: every binding of the files and parameters in force, as a gin file.

    Left out are leftovers of overrides, which would be refused on reading: macros that no value uses any more, and
    bindings of parts that only a replaced value referred to and that nothing has read.

    Returns:
      Text for `parse`; the same configuration results from it.
    """
    live = reachable(value for _, value in bindings())
    orphans = reachable(last().overridden) - live
    kept: dict = {}
    for binding, value in bindings():
        if binding.selector not in orphans or is_read(binding):
            kept.setdefault((binding.scope, binding.selector), {})[binding.parameter] = value
    kept = _without_unused_scopes(kept)
    waiting = list(kept.values())
    while waiting:
        for reference in references(waiting.pop()):
            name = macro_name(reference)
            if name is not None and (name, MACRO) not in kept:
                kept[name, MACRO] = {"value": macro_value(name)}
                waiting.append(kept[name, MACRO])
    return gin.config._config_str(kept, max_line_length=110)


def operative_config_str() -> str:
    """The parameters that were really used so far, defaults included, as a gin file."""
    return gin.operative_config_str(max_line_length=110)


def _without_unused_scopes(kept: dict) -> dict:
    """Drops the bindings of scopes that only replaced values opened and nothing has read."""
    from tfdet.config.registration import code_scopes

    opened = {"/".join(part.scopes) for value in kept.values() for part in references(value)}
    for _, value in bindings():
        opened.update("/".join(part.scopes) for part in references(value))
    opened |= {"/".join(part.scopes) for name in last().macros for part in references(macro_value(name))}
    opened |= code_scopes()
    result: dict = {}
    for (scope, selector), values in kept.items():
        live = not scope or any(f"{name}/".startswith(f"{scope}/") for name in opened)
        for parameter, value in values.items():
            if live or is_read(Binding(scope, selector, parameter)):
                result.setdefault((scope, selector), {})[parameter] = value
    return result
