"""Reads gin files and `--gin_param` bindings, statement by statement, and refuses what cannot be meant."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable, Sequence
from typing import Any

import gin
from gin import config_parser

from tfdet.config import registration, renamed
from tfdet.config.bindings import MACRO, Binding, is_reference, macro_name, references
from tfdet.config.configuration import Configuration
from tfdet.config.files import RUN_FILE, did_you_mean, find_gin_file, is_shipped
from tfdet.config.lines import Line
from tfdet.config.text import noted_origin
from tfdet.config.untrusted import Budget, Source, check_macros, check_size
from tfdet.config.values import check_types
from tfdet.errors import UserError

_CONTAINERS = (list, tuple, dict)
_MAX_NESTED = 100
_NESTED = f"brackets are nested too deeply, more than {_MAX_NESTED} of them in one another."
_MAX_MESSAGE = 2000  # a line of a file can be of any length


def parse(gin_files: Sequence[str] = (), gin_params: Sequence[str] = (), allow_imports: bool = False) -> Configuration:
    """Reads gin files and parameters. gin's own state stays as it is: see `Configuration.active`.

    The modules with the configurables must have been imported (`register_all`), by the caller or by an `import` in a
    gin file.

    Args:
      gin_files: names of gin files, later ones override earlier ones; `find_gin_file` says where they are looked for.
        An `include` in a file may also name a file relative to that file. A run's own `config.gin` may say what is
        called otherwise now (`tfdet.config.renamed`), and what it may do is limited (`tfdet.config.untrusted`).
      gin_params: bindings such as `Trainer.steps = 10`; they override the files.
      allow_imports: whether a run's own file may import modules that are not tfdet's.

    Returns:
      The configuration.

    Raises:
      UserError: a file is missing or cannot be read, a syntax error, an unknown configurable or parameter, a macro
        that is not defined or not used, a scope that nothing uses, a value of a wrong type.
    """
    files = [gin_files] if isinstance(gin_files, str) else list(gin_files)
    params = [gin_params] if isinstance(gin_params, str) else list(gin_params)
    configuration = Configuration(files, params, allow_imports)
    budget = Budget()
    with configuration.active():
        for name in files:
            _read_file(Source(name).file(find_gin_file(name)), configuration, budget)
        for text in params:
            origin = text.origin if isinstance(text, Line) else f"the binding {text!r}"
            _read(text, Source(origin), configuration, budget)
    _leave_out_unpaired_data(configuration)
    _check_macros(configuration)
    check_size(configuration)
    _check_scopes(configuration)
    check_types(configuration)
    return configuration


def extended(configuration: Configuration, params: Sequence[str]) -> Configuration:
    """The configuration with further parameters, which override; it has built nothing. Args: params as in `parse`."""
    return parse(configuration.files, [*configuration.params, *params], configuration.allow_imports)


def _leave_out_unpaired_data(configuration: Configuration) -> None:
    """A row's own evaluation data go with its own training data: who names others gets no figures of COCO."""
    inputs: dict[str, Binding] = {}
    for binding in configuration.places:
        if binding.parameter == "data_dir" and not binding.scope:
            inputs[binding.selector.rpartition(".")[2]] = binding
    train, evaluation = inputs.get("TrainInput"), inputs.get("EvalInput")
    if train is None or evaluation is None or is_shipped(configuration.places[train]):
        return
    if is_shipped(configuration.places[evaluation]):
        del configuration.bound["", evaluation.selector][evaluation.parameter]
        del configuration.places[evaluation]


class _Delegate(gin.config.ParserDelegate):
    """Makes references as gin does, names the nearest configurable on a miss, and keeps count of what is used."""

    def __init__(self, configuration: Configuration, source: Source):
        super().__init__()
        self._configuration, self._source = configuration, source

    def configurable_reference(self, scoped_selector, evaluate):
        scope, _, name = scoped_selector.rpartition("/")
        self._source.check_part(registration.known_selector(name), self._configuration.allow_imports)
        self._configuration.used_scopes.update(_prefixes(scope))
        return super().configurable_reference(scoped_selector, evaluate)

    def macro(self, name):
        self._configuration.used_macros.add(name)
        return super().macro(name)


def _prefixes(scope: str) -> list[str]:
    """`a`, `a/b`, `a/b/c` for `a/b/c`: the scopes that are active inside it."""
    parts = scope.split("/") if scope else []
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _read_file(source: Source, configuration: Configuration, budget: Budget) -> None:
    assert source.path is not None
    _read(budget.read(source.path), source, configuration, budget)


def _read(text: str, source: Source, configuration: Configuration, budget: Budget) -> None:
    """Applies every statement of a text.

    Args:
      text: gin statements.
      source: where they stand.
      configuration: receives what is read.
      budget: of all texts.
    """
    place, path, lines = source.name, source.path, text.splitlines()
    parser: Any = None
    # An empty last line ends the last statement even where the file does not end in one.
    stream = io.StringIO(text + "\n")
    try:
        parser = config_parser.ConfigParser(stream, _Delegate(configuration, source))
        with gin.config._parse_scope() as context:
            while True:
                statement = parser.parse_statement()
                if statement is None:
                    break
                if path is not None:
                    place = f"{path}:{statement.location.line_num}"
                    if path.name == RUN_FILE:
                        place += noted_origin(lines, statement.location.line_num)
                if isinstance(statement, config_parser.IncludeStatement):
                    _read_file(source.included(statement.filename), configuration, budget)
                    continue
                _check_nesting(getattr(statement, "value", None))
                _apply(statement, place, configuration, context, source)
            gin.config._IMPORTS.update(context.imports)
    except UserError as error:
        # The error of an included file names its own place.
        original = registration.original_exception(error)
        if getattr(original, "placed", False):
            raise original from None
        if original is not error and path is not None:  # raised while a value was read: the parser knows the line
            place = f"{path}:{parser._current_token.start[0]}"
        raise _placed(place, str(original), source) from None
    except (SyntaxError, tokenize.TokenError) as error:
        raise _placed(*_syntax_error(error, source, text), source) from None
    except RecursionError:  # gin's parser calls itself for each bracket
        line = f":{parser._current_token.start[0]}" if path is not None and parser is not None else ""
        raise _placed(f"{source.name[:_MAX_MESSAGE]}{line}", _NESTED, source) from None


def _check_nesting(value: Any) -> None:
    """`UserError` where a value has so many brackets in brackets that what looks into it would not come back."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(_MAX_NESTED):
        parts = [part for outer in level for part in ((*outer, *outer.values()) if isinstance(outer, dict) else outer)]
        level = [part for part in parts if isinstance(part, _CONTAINERS)]
        if not level:
            return
    raise UserError(_NESTED)


def _placed(place: str, message: str, source: Source) -> UserError:
    if not source.quotable:  # `include '/etc/passwd'` is no way to read that
        message = "no gin syntax, or no gin file of tfdet: its name does not end in .gin, and its text is not shown."
    error = UserError(f"{place}: {message[:_MAX_MESSAGE]}")
    error.placed = True  # type: ignore[attr-defined]
    return error


def _apply(statement: Any, place: str, configuration: Configuration, context: Any, source: Source) -> None:
    """Carries out one import, block or binding statement."""
    if isinstance(statement, config_parser.ImportStatement):
        source.check_import(statement.module, configuration.allow_imports)
        try:
            context.process_import(statement)
        except ImportError as error:
            raise UserError(f"cannot import {statement.module}: {error}.") from error
    elif isinstance(statement, config_parser.BlockDeclaration):
        registration.known_selector(statement.selector)
    elif not statement.arg_name:
        name = f"{statement.scope}/{statement.selector}" if statement.scope else statement.selector
        if registration.matching_selectors(name):
            raise UserError(f"{name} is configurable: name its parameter too, as in {name}.parameter = value.")
        if name in configuration.macros:
            configuration.overridden.append(configuration.macro_value(name))
        gin.bind_parameter((name, MACRO, "value"), statement.value)
        configuration.macros[name] = place
    else:
        _bind(statement, place, configuration, source)


def _bind(statement: Any, place: str, configuration: Configuration, source: Source) -> None:
    """Carries out one binding statement; one of a run's own file is in the spelling of its time."""
    scope, name, value = statement.scope, f"{statement.selector}.{statement.arg_name}", statement.value
    if source.path is not None and source.path.name == RUN_FILE:
        name, value = renamed.current(name, value, _behind_macros(value, configuration))
        if name.rpartition(".")[0] != statement.selector:
            scope = ""  # of the part that had the parameter then
    selector, _, parameter = registration.selector_and_parameter(name)
    source.check_part(selector, configuration.allow_imports)
    binding = Binding(scope, selector, parameter)
    if binding in configuration.places:
        configuration.overridden.append(configuration.bound[binding.scope, binding.selector][binding.parameter])
    gin.bind_parameter(tuple(binding), value)
    configuration.places[binding] = place


def _behind_macros(value: Any, configuration: Configuration) -> Any:
    """The value, or what a macro that it is stands for, so far as macros are defined."""
    seen: set[str] = set()
    while is_reference(value) and (name := macro_name(value)) in configuration.macros and name not in seen:
        seen.add(name)
        value = configuration.macro_value(name)
    return value


def _syntax_error(error: Exception, source: Source, text: str) -> tuple[str, str]:
    """Where gin's parser stopped, and one line that says why."""
    path = source.path
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
    place = f"{path}:{line}" if path is not None and line else source.name
    quoted = f" in {content!r}" if content and path is not None else ""
    return place, f"not gin syntax: {message}{quoted}.{hint}"


def _check_macros(configuration: Configuration) -> None:
    """Refuses macros that are used and not defined, defined and not used, or defined through themselves."""
    constants = [name for name, _ in gin.config._CONSTANTS.items()]
    places = [(configuration.places.get(binding, "the program"), value) for binding, value in configuration.bindings()]
    places += [(place, configuration.macro_value(name)) for name, place in configuration.macros.items()]
    for place, value in places:
        for name in _macro_names(value):
            if name not in configuration.macros:
                hint = did_you_mean(name, [*configuration.macros, *constants])
                raise UserError(f"{place}: the macro %{name} is not defined.{hint}")
    for name, place in configuration.macros.items():
        if name not in configuration.used_macros:
            near = did_you_mean(name, [*registration.known_names(), *(used for used in configuration.used_macros)])
            raise UserError(f"{place}: {name!r} is set but nothing uses %{name}: was a Name.parameter meant?{near}")
    check_macros(configuration)


def _macro_names(value: Any) -> Iterable[str]:
    return ["/".join(part.scopes) for part in references(value) if part.configurable.selector == MACRO]


def _check_scopes(configuration: Configuration) -> None:
    """Refuses bindings in a scope that no reference and no code ever opens."""
    used = set(configuration.used_scopes)
    for scope in registration.code_scopes():
        used.update(_prefixes(scope))
    for binding, place in configuration.places.items():
        if binding.scope and binding.scope not in used:
            hint = did_you_mean(binding.scope, used)
            if not hint:
                scopes = ", ".join(sorted(used))
                hint = f" Scopes in use: {scopes}." if used else " This configuration uses no scope."
            name = registration.minimal_name(binding.selector)
            raise UserError(f"{place}: nothing uses the scope {binding.scope!r} of {name}.{binding.parameter}.{hint}")
