"""The configuration as text that `parse` reads again."""

from __future__ import annotations

import re
from collections.abc import Sequence

import gin

from tfdet.config.bindings import MACRO, Binding, Bindings, macro_name, references
from tfdet.config.registration import code_scopes, minimal_name

_NOTE = re.compile(r"# from (--[a-z_]{1,40})")
_FLAG = re.compile(r"(?:^|\()(--[a-z_]{1,40})\)?$")  # a place: the flag alone, or that which a run's file noted


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
        text = gin.config._config_str(kept, max_line_length=110)
    return _with_origins(text, configuration)


def noted_origin(lines: Sequence[str], number: int) -> str:
    """What the line before a statement of a run's file says of its origin: ` (--lr)`, or an empty text.

    Args:
      lines: of the file.
      number: of the statement's line, from 1.
    """
    found = _NOTE.fullmatch(lines[number - 2]) if 2 <= number <= len(lines) + 1 else None
    return f" ({found[1]})" if found else ""


def _with_origins(text: str, configuration: Bindings) -> str:
    """The text with a comment before each value that a flag set: `# from --lr`."""
    notes = {}
    for (scope, selector, parameter), place in configuration.places.items():
        if found := _FLAG.search(place):
            name = f"{minimal_name(selector)}.{parameter}"
            notes[f"{scope}/{name} =" if scope else f"{name} ="] = f"# from {found[1]}"
    lines = []
    for line in text.splitlines(keepends=True):
        note = next((note for name, note in notes.items() if line.startswith(name)), None)
        lines += [f"{note}\n", line] if note else [line]
    return "".join(lines)


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
