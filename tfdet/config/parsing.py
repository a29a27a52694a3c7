"""Reads gin files and `--gin_param` bindings, statement by statement, and refuses what cannot be meant."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable, Sequence
from pathlib import Path

import gin
from gin import config_parser

from tfdet.config import registration
from tfdet.config.files import did_you_mean, find_gin_file
from tfdet.config.record import MACRO, Binding, Record, bindings, macro_value, references, start
from tfdet.config.values import check_types
from tfdet.errors import UserError


def parse(gin_files: Sequence[str] = (), gin_params: Sequence[str] = ()) -> None:
    """Makes gin files and parameters the configuration of this process, in place of any earlier one.

    The modules with the configurables must have been imported, by the caller or by an `import` in a gin file.

    Args:
      gin_files: names of gin files, later ones override earlier ones; `find_gin_file` says where they are looked for.
        An `include` in a file may also name a file relative to that file.
      gin_params: bindings such as `Trainer.steps = 10`; they override the files.

    Raises:
      UserError: a file is missing or cannot be read, a syntax error, an unknown configurable or parameter, a macro
        that is not defined or not used, a scope that nothing uses, a value of a wrong type.
    """
    record = start()
    for name in [gin_files] if isinstance(gin_files, str) else gin_files:
        _read_file(find_gin_file(name), record, ())
    for text in [gin_params] if isinstance(gin_params, str) else gin_params:
        _read(text, f"--gin_param {text!r}", record, None, ())
    _check_macros(record)
    _check_scopes(record)
    check_types(record)


class _Delegate(gin.config.ParserDelegate):
    """Makes references as gin does, names the nearest configurable on a miss, and keeps count of what is used."""

    def __init__(self, record: Record):
        super().__init__()
        self._record = record

    def configurable_reference(self, scoped_selector, evaluate):
        scope, _, name = scoped_selector.rpartition("/")
        _known_selector(name)
        self._record.used_scopes.update(_prefixes(scope))
        return super().configurable_reference(scoped_selector, evaluate)

    def macro(self, name):
        self._record.used_macros.add(name)
        return super().macro(name)


def _prefixes(scope: str) -> list[str]:
    """`a`, `a/b`, `a/b/c` for `a/b/c`: the scopes that are active inside it."""
    parts = scope.split("/") if scope else []
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _known_selector(name: str) -> str:
    """The complete selector that `name` means; UserError when there is none, or more than one."""
    found = registration.matching_selectors(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{name!r} can mean {' or '.join(sorted(found))}: write more of the module's name.")
    raise UserError(f"nothing configurable is called {name!r}.{did_you_mean(name, registration.known_names())}")


def _read_file(path: Path, record: Record, opened: tuple[Path, ...]) -> None:
    if path.resolve() in opened:
        chain = " -> ".join(str(part) for part in (*opened, path.resolve()))
        raise UserError(f"gin files include each other: {chain}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read gin file {path}: {getattr(error, 'strerror', None) or error}.") from error
    _read(text, str(path), record, path, (*opened, path.resolve()))


def _read(text: str, source: str, record: Record, path: Path | None, opened: tuple[Path, ...]) -> None:
    """Applies every statement of a text.

    Args:
      text: gin statements.
      source: what errors call it: the path of the file, or the flag.
      record: receives what is read.
      path: the file, or None for a flag (whose statements stand in no line).
      opened: the files being read, outermost first.
    """
    place = source
    parser = None
    # An empty last line ends the last statement even where the file does not end in one.
    stream = io.StringIO(text + "\n")
    try:
        parser = config_parser.ConfigParser(stream, _Delegate(record))
        with gin.config._parse_scope() as context:
            while True:
                statement = parser.parse_statement()
                if statement is None:
                    break
                if path is not None:
                    place = f"{path}:{statement.location.line_num}"
                if isinstance(statement, config_parser.IncludeStatement):
                    _read_file(find_gin_file(statement.filename, path), record, opened)
                    continue
                _apply(statement, place, record, context)
            gin.config._IMPORTS.update(context.imports)
    except UserError as error:
        # The error of an included file names its own place.
        original = registration.original_exception(error)
        if getattr(original, "placed", False):
            raise original from None
        if original is not error and path is not None:  # raised while a value was read: the parser knows the line
            place = f"{path}:{parser._current_token.start[0]}"
        raise _placed(place, str(original)) from None
    except (SyntaxError, tokenize.TokenError) as error:
        raise _placed(*_syntax_error(error, source, path, text)) from None


def _placed(place: str, message: str) -> UserError:
    error = UserError(f"{place}: {message}")
    error.placed = True
    return error


def _apply(statement, place: str, record: Record, context) -> None:
    """Carries out one import, block or binding statement."""
    if isinstance(statement, config_parser.ImportStatement):
        try:
            context.process_import(statement)
        except ImportError as error:
            raise UserError(f"cannot import {statement.module}: {error}.") from error
    elif isinstance(statement, config_parser.BlockDeclaration):
        _known_selector(statement.selector)
    elif not statement.arg_name:
        name = f"{statement.scope}/{statement.selector}" if statement.scope else statement.selector
        if registration.matching_selectors(name):
            raise UserError(f"{name} is configurable: name its parameter too, as in {name}.parameter = value.")
        if name in record.macros:
            record.overridden.append(macro_value(name))
        gin.bind_parameter((name, MACRO, "value"), statement.value)
        record.macros[name] = place
    else:
        binding = _known_binding(statement.scope, statement.selector, statement.arg_name)
        if binding in record.places:
            record.overridden.append(gin.config._CONFIG[binding.scope, binding.selector][binding.parameter])
        gin.bind_parameter(tuple(binding), statement.value)
        record.places[binding] = place


def _known_binding(scope: str, name: str, parameter: str) -> Binding:
    """The complete key of a binding; UserError when the configurable has no such parameter to set."""
    selector = _known_selector(name)
    known = registration.parameters(selector)
    takes_any = any(entry.kind is entry.VAR_KEYWORD for entry in known.values())
    if parameter not in known and not takes_any:
        names = ", ".join(known) or "none"
        raise UserError(f"{name} has no parameter {parameter!r}.{did_you_mean(parameter, known)} It has: {names}.")
    return Binding(scope, selector, parameter)


def _syntax_error(error: Exception, source: str, path: Path | None, text: str) -> tuple[str, str]:
    """Where gin's parser stopped, and one line that says why."""
    if isinstance(error, SyntaxError):
        message, line = str(error.msg).splitlines()[0].rstrip("."), error.lineno
        if "Failed to parse token" in str(error.msg):
            message = "the value is no number, text, list, tuple, dictionary, @reference or %macro"
        content = (error.text or "").strip()
    else:  # Python's tokenizer: an open bracket or string
        message, line = str(error.args[0]), error.args[1][0]
        content = ""
        message = "a bracket or a string is not closed" if "EOF" in message else message
    value = text.partition("=")[2].strip() if path is None else content.partition("=")[2].strip()
    hint = ""
    if value.lower() in ("true", "false", "none", "null"):
        hint = f" Write {'None' if value.lower() in ('none', 'null') else value.capitalize()}."
    elif value and value[0] not in "\"'([{@%-+.0123456789":
        hint = f" A text needs quotes: {value!r}" + (
            ", and the whole binding quotes of its own for the shell." if path is None else "."
        )
    elif path is None and "=" not in text:
        hint = ' Write --gin_param="Name.parameter = value".'
    place = f"{path}:{line}" if path is not None and line else source
    quoted = f" in {content!r}" if content and path is not None else ""
    return place, f"not gin syntax: {message}{quoted}.{hint}"


def _check_macros(record: Record) -> None:
    """Refuses macros that are used and not defined, defined and not used, or defined through themselves."""
    constants = [name for name, _ in gin.config._CONSTANTS.items()]
    places = [(record.places.get(binding, "the program"), value) for binding, value in bindings()]
    places += [(place, macro_value(name)) for name, place in record.macros.items()]
    for place, value in places:
        for name in _macro_names(value):
            if name not in record.macros:
                hint = did_you_mean(name, [*record.macros, *constants])
                raise UserError(f"{place}: the macro %{name} is not defined.{hint}")
    for name, place in record.macros.items():
        if name not in record.used_macros:
            near = did_you_mean(name, [*registration.known_names(), *(used for used in record.used_macros)])
            raise UserError(f"{place}: {name!r} is set but nothing uses %{name}: was a Name.parameter meant?{near}")
        inside, frontier = set(), [name]
        while frontier:
            for used in _macro_names(macro_value(frontier.pop())):
                if used == name:
                    raise UserError(f"{place}: the macro %{name} is defined through itself.")
                if used not in inside:
                    inside.add(used)
                    frontier.append(used)


def _macro_names(value) -> Iterable[str]:
    return ["/".join(part.scopes) for part in references(value) if part.configurable.selector == MACRO]


def _check_scopes(record: Record) -> None:
    """Refuses bindings in a scope that no reference and no code ever opens."""
    used = set(record.used_scopes)
    for scope in registration.code_scopes():
        used.update(_prefixes(scope))
    for binding, place in record.places.items():
        if binding.scope and binding.scope not in used:
            hint = did_you_mean(binding.scope, used)
            if not hint:
                scopes = ", ".join(sorted(used))
                hint = f" Scopes in use: {scopes}." if used else " This configuration uses no scope."
            name = registration.minimal_name(binding.selector)
            raise UserError(f"{place}: nothing uses the scope {binding.scope!r} of {name}.{binding.parameter}.{hint}")
