"""What a gin file may do, and how much of it is read.

A run's own file comes with the run, and a run may come from anyone: it imports tfdet's own modules alone, refers to
tfdet's own parts alone, and includes nothing outside of its folder but tfdet's files. Any file may be of any size and
refer to itself in any way: what is read, and what it stands for, has a limit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfdet.config import registration
from tfdet.config.bindings import CONSTANT, MACRO, Bindings, is_reference, macro_name, references
from tfdet.config.files import RUN_FILE, find_gin_file, gin_configs_folder
from tfdet.errors import UserError

MAX_BYTES, MAX_FILES = 1 << 19, 1000
"""Of all the files of a configuration together, each counted as often as it is included. The largest row has 15 kB."""
MAX_VALUES, MAX_DEPTH = 200_000, 100
"""What all bindings may stand for once macros are replaced and parts are built, and how deep macros may refer."""


class Source(NamedTuple):
    """Where gin statements stand.

    Fields:
        name: what errors call it: the path of the file, or the flag.
        path: the file; None for a flag, whose statements stand in no line.
        opened: the files that are being read, outermost first, this one the last.
        run: the folder of the run that the file came with; None where a person named it.
    """

    name: str
    path: Path | None = None
    opened: tuple[Path, ...] = ()
    run: Path | None = None

    def file(self, path: Path) -> Source:
        """The source of a file that this one includes, or, of a source without a file, of a file by itself.

        Raises:
            UserError: the file includes itself.
        """
        resolved = path.resolve()
        if resolved in self.opened:
            chain = " -> ".join(str(part) for part in (*self.opened, resolved))
            raise UserError(f"gin files include each other: {chain}.")
        run = path.parent.resolve() if self.run is None and path.name == RUN_FILE else self.run
        return Source(str(path), path, (*self.opened, resolved), run)

    def included(self, name: str) -> Source:
        """The source that an `include` means.

        Raises:
            UserError: there is none, it includes itself, or it is none of a run's own.
        """
        path = find_gin_file(name, self.path)
        if self.run is not None:
            folders = (self.run, gin_configs_folder().resolve())
            if not any(folder in path.resolve().parents for folder in folders):
                raise UserError(f"include {name!r} leaves the folder of the run, {self.run}: copy what it needs there.")
        return self.file(path)

    @property
    def quotable(self) -> bool:
        """Whether messages may show the text: not of a file that is no gin file by its name, links followed."""
        return self.path is None or self.opened[-1].suffix == ".gin"

    def check_import(self, module: str, allowed: bool) -> None:
        """Refuses an `import` of a run's own file that is not of tfdet.

        Args:
            module: as the statement names it.
            allowed: whether the person trusts the run.
        """
        if self.run is None or allowed or _is_own_module(module):
            return
        raise UserError(
            f"import {module}: not a module of tfdet's parts, and the file came with the run: its author "
            "decides what an import does. If you trust them, give --allow_imports, from Python allow_imports=True."
        )

    def check_part(self, selector: str, allowed: bool) -> None:
        """Refuses what a run's own file configures or refers to beyond tfdet's parts; Args: see `check_import`."""
        if self.run is None or allowed or selector in (MACRO, CONSTANT) or registration.is_own(selector):
            return
        raise UserError(f"{selector} is no part of tfdet: give --allow_imports, from Python allow_imports=True.")


def _is_own_module(module: str) -> bool:
    """Whether importing it does nothing that `register_all` would not."""
    if module in sys.modules and (module == "tfdet" or module.startswith("tfdet.")):
        return not module.startswith(registration.NOT_CONFIGURABLE)
    return module in registration.configurable_modules()


class Budget:
    """Counts what is read of gin files."""

    def __init__(self) -> None:
        self._files = self._bytes = 0

    def read(self, path: Path) -> str:
        """The text of a file.

        Raises:
            UserError: it cannot be read, or more was read than a configuration has.
        """
        try:
            self._files += 1
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES - self._bytes + 1)
            self._bytes += len(content)
            text = content.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read gin file {path}: {getattr(error, 'strerror', None) or error}.") from error
        if self._bytes > MAX_BYTES or self._files > MAX_FILES:
            raise UserError(
                f"{path}: with it gin files have more than {MAX_BYTES >> 10} kB, or are more than {MAX_FILES}; "
                "no configuration is that long."
            )
        return text


def check_macros(configuration: Bindings) -> None:
    """Refuses macros that are defined through themselves, or refer to each other too deeply.

    Args:
        configuration: every macro that is used is defined.
    """

    def cycle(name: str) -> UserError:
        return UserError(f"{configuration.macros[name]}: the macro %{name} is defined through itself.")

    depths: dict[str, int] = {}
    for name, below in _behind(_macros(configuration), cycle):
        depths[name] = 1 + max((depths[part] for part in below), default=0)
        if depths[name] > MAX_DEPTH:
            raise UserError(f"{configuration.macros[name]}: %{name} stands behind {MAX_DEPTH} other macros.")


def check_size(configuration: Bindings) -> None:
    """Refuses a configuration that stands for more values than one has: lists of lists that multiply.

    Args:
        configuration: macros are defined, and none through itself.
    """
    values: dict[str, list[Any]] = {}
    for binding, value in configuration.bindings():
        values.setdefault(f"@{binding.selector}", []).append(value)
    values |= {name: [configuration.macro_value(name)] for name in configuration.macros}
    parts = {name: [part for value in found for part in _stands_for(value)] for name, found in values.items()}
    own = {name: sum(map(_count, found)) for name, found in values.items()}
    sizes: dict[str, int] = {}
    for name, below in _behind(parts, lambda name: None):
        sizes[name] = min(own.get(name, 1) + sum(sizes.get(part, 1) for part in below), MAX_VALUES + 1)
    total = sum(size for name, size in sizes.items() if name.startswith("@"))
    if total > MAX_VALUES:
        largest = max(sizes, key=lambda name: sizes[name])
        shown = f"%{largest}" if not largest.startswith("@") else registration.minimal_name(largest[1:])
        raise UserError(f"this configuration stands for more than {MAX_VALUES} values, most of them behind {shown}.")


def _macros(configuration: Bindings) -> dict[str, list[str]]:
    """Macro -> the macros that its value names."""
    found = {}
    for name in configuration.macros:
        named = map(macro_name, references(configuration.macro_value(name)))
        found[name] = [other for other in named if other is not None]
    return found


def _stands_for(value: Any) -> Iterable[str]:
    """Macros, and `@selector` of the parts that are built, as often as the value has them."""
    for reference in references(value):
        name = macro_name(reference)
        if name is not None:
            yield name
        elif reference.evaluate:
            yield f"@{reference.configurable.selector}"


def _count(value: Any) -> int:
    """How much a value is by itself; a text by its length."""
    if isinstance(value, dict):
        return 1 + sum(_count(key) + _count(part) for key, part in value.items())
    if isinstance(value, (list, tuple)) and not is_reference(value):
        return 1 + sum(map(_count, value))
    return 1 + len(value) // 64 if isinstance(value, (str, bytes)) else 1


def _behind(
    parts: Mapping[str, list[str]], cycle: Callable[[str], Exception | None]
) -> Iterable[tuple[str, list[str]]]:
    """Each name with the names below it, every one after those; no recursion, so that no depth is too much.

    Args:
        parts: name -> the names that it stands for.
        cycle: the error for a name that stands behind itself; None leaves that reference out.
    """
    done: set[str] = set()
    for start in parts:
        waiting: list[tuple[str, bool]] = [(start, False)]
        open_names: set[str] = set()
        while waiting:
            name, is_behind = waiting.pop()
            below = parts.get(name, [])
            if is_behind:
                open_names.discard(name)
                done.add(name)
                yield name, [part for part in below if part in done]
            elif name not in done and name not in open_names:
                open_names.add(name)
                waiting.append((name, True))
                for part in dict.fromkeys(below):
                    if part in open_names:
                        error = cycle(part)
                        if error is not None:
                            raise error
                    elif part not in done:
                        waiting.append((part, False))
