"""What can be configured: the `configurable` decorator, gin's registry seen from outside, and gin's exceptions."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gin

from tfdet.config import renamed
from tfdet.config.annotations import evaluated, has_limits, mismatch
from tfdet.config.files import did_you_mean
from tfdet.errors import ParameterError, UserError

NO_DEFAULT = inspect.Parameter.empty

_OWN: set[int] = set()  # identities of what `configurable` registered
_CODE_SCOPES: set[str] = set()  # scopes that code opens itself, with gin.config_scope
NOT_CONFIGURABLE = ("tfdet.commands", "tfdet.__main__")  # register nothing, and some are scripts


def configurable(name_or_target: str | Callable | None = None, **options: Any) -> Callable:
    """Makes the parameters of a function or of a constructor settable from gin files, and checks them in every call.

    Does what `gin.configurable` does, and
    - refuses arguments, of gin files and of Python callers, that are none of the choices (`Literal`) or outside of
      the range (`tfdet.config.ranges`) of their annotation, with a ParameterError;
    - raises a UserError as it is, one line, without the lines that gin adds to it;
    - keeps the constructor's signature visible: Keras 3 inspects it in `Operation.__new__` and fails with IndexError
      on a layer or model that gin alone has wrapped.

        @configurable
        class ResNetV1(keras.Model): ...

        @configurable("sgd")
        def build_sgd(learning_rate: PositiveFloat = 0.01): ...

    Args:
      name_or_target: the function or class, or the name to give it in gin files (default: its own name).
      **options: `module`, `allowlist`, `denylist` of `gin.configurable`.

    Returns:
      The decorated function or class (the same class, its constructor wrapped), or a decorator.
    """
    if name_or_target is not None and not isinstance(name_or_target, str):
        return configurable(None)(name_or_target)

    def decorate(target):
        name = name_or_target or target.__name__
        configure = gin.configurable(name_or_target, **options)
        if not inspect.isclass(target):
            checked = _checked(target, name)
            _OWN.add(id(checked))
            return _without_gins_lines(configure(checked))
        _OWN.add(id(target))
        construction = gin.config._find_class_construction_fn(target)
        # A class with neither __init__ nor __new__ has object's slot wrapper here.
        if inspect.isfunction(construction):
            setattr(target, construction.__name__, _checked(construction, name))
        configure(target)
        if inspect.isfunction(construction):
            wrapped = target.__dict__[construction.__name__]
            setattr(target, construction.__name__, _without_gins_lines(wrapped))
        return target

    return decorate


def _checked(function: Callable, name: str) -> Callable:
    """The function, which refuses arguments outside of the choices and ranges of its annotations.

    Args:
      function: a function or a class's constructor.
      name: what messages call it.
    """
    signature = inspect.signature(function)
    positional = [part.name for part in signature.parameters.values() if part.kind <= part.POSITIONAL_OR_KEYWORD]

    @functools.cache  # at the first call: then all the names of the module exist
    def limits() -> dict[str, Any]:
        hints = {
            part.name: evaluated(part.annotation, inspect.unwrap(function)) for part in signature.parameters.values()
        }
        return {part: hint for part, hint in hints.items() if has_limits(hint)}

    @functools.wraps(function)
    def checked(*args, **kwargs):
        for parameter, value in (*zip(positional, args), *kwargs.items()):
            if parameter in limits() and value is not signature.parameters[parameter].default:
                reason = mismatch(value, limits()[parameter])
                if reason:
                    known = renamed.hint(f"{name}.{parameter}", value)
                    raise ParameterError(f"{name}.{parameter} = {value!r}: {reason}{known}")
            elif parameter not in signature.parameters:
                renamed.refuse(f"{name}.{parameter}")
        return function(*args, **kwargs)

    checked.__signature__ = signature  # type: ignore[attr-defined]
    return checked


def _without_gins_lines(function: Callable) -> Callable:
    """gin's wrapper of a function, which raises the UserError of the function itself."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except UserError as error:
            raise original_exception(error) from None

    call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return call


def declare_scope(name: str) -> str:
    """Says that code opens the gin scope `name` itself (`with gin.config_scope(name)`).

    Scopes that gin files use through `@scope/Name()` need no declaration; any other scope in a binding is refused.

    Args:
      name: the scope, parts separated by "/".

    Returns:
      The name, so that a module can write `_SCOPE = declare_scope("stage2")`.
    """
    _CODE_SCOPES.add(name)
    return name


def code_scopes() -> set[str]:
    """The scopes announced by `declare_scope`."""
    return set(_CODE_SCOPES)


def matching_selectors(name: str) -> list[str]:
    """The complete selectors (`module.Name`) of the configurables that `name` can mean.

    Args:
      name: a configurable's name, with as much of its module in front as wanted.

    Returns:
      Complete selectors: none if unknown, several if ambiguous.
    """
    return list(gin.config._REGISTRY.matching_selectors(name))


def known_names() -> list[str]:
    """The shortest unambiguous name of every configurable, gin's own (macro, constant, singleton) left out."""
    registry = gin.config._REGISTRY
    return sorted(registry.minimal_selector(key) for key, _ in registry.items() if not key.startswith("gin."))


def minimal_name(selector: str) -> str:
    """The shortest unambiguous name of the configurable with this complete selector."""
    return gin.config._REGISTRY.minimal_selector(selector)


def entry(selector: str) -> Any:
    """gin's record of a configurable (`wrapped`, `allowlist`, `denylist`, ...) for a complete selector."""
    return gin.config._REGISTRY[selector]


def is_own(selector: str) -> bool:
    """Whether `configurable` registered what has this complete selector, and not some other package's gin."""
    return id(entry(selector).wrapped) in _OWN


def constructor(selector: str) -> Callable:
    """The plain function behind a configurable: the function itself, or the class's `__init__` (or `__new__`)."""
    target = entry(selector).wrapped
    if inspect.isclass(target):
        target = gin.config._find_class_construction_fn(target)
    return inspect.unwrap(target)


def parameters(selector: str) -> dict[str, inspect.Parameter]:
    """The parameters of a configurable that a gin file may set, by name.

    Args:
      selector: complete selector.

    Returns:
      Name to parameter; `self`, `*args` and what an allowlist or denylist excludes are left out. A `**kwargs`
      stays, under its own name, with kind VAR_KEYWORD.
    """
    record = entry(selector)
    found = dict(_signature(constructor(selector)).parameters)
    if inspect.isclass(record.wrapped):
        found.pop(next(iter(found), ""), None)
    return {
        name: parameter
        for name, parameter in found.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY)
        and not (record.allowlist and name not in record.allowlist)
        and not (record.denylist and name in record.denylist)
    }


@functools.cache
def _signature(function: Callable) -> inspect.Signature:
    """Parsing asks for it once a binding."""
    return inspect.signature(function)


def configurable_called(name: str) -> Callable:
    """The configurable of this name, to be called; `UserError` where there is none, or more than one."""
    return gin.get_configurable(known_selector(name))


def known_selector(name: str) -> str:
    """The complete selector that `name` means; `UserError` when there is none, or more than one."""
    found = matching_selectors(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{name!r} can mean {' or '.join(sorted(found))}: write more of the module's name.")
    raise UserError(f"nothing configurable is called {name!r}.{did_you_mean(name, known_names())}")


def selector_and_parameter(name: str) -> tuple[str, str, str]:
    """`EvalInput.data_dir` -> the complete selector, the configurable's name, the parameter's.

    Raises:
      UserError: there is no such configurable, or it has no such parameter to set.
    """
    owner, _, parameter = name.rpartition(".")
    selector = known_selector(owner)
    known = parameters(selector)
    takes_any = any(entry.kind is entry.VAR_KEYWORD for entry in known.values())
    if parameter not in known and not takes_any:
        renamed.refuse(f"{owner.rpartition('.')[2]}.{parameter}")
        names = ", ".join(known) or "none"
        raise UserError(f"{owner} has no parameter {parameter!r}.{did_you_mean(parameter, known)} It has: {names}.")
    return selector, owner, parameter


def register_all() -> None:
    """Imports every module of tfdet that registers something, so that all configurables are known to gin.

    Modules whose source does not speak of a configurable are left alone: some cost seconds, and nothing needs them
    all.
    """
    for name in configurable_modules():
        importlib.import_module(name)


def configurable_modules() -> list[str]:
    """The modules of tfdet that are not imported yet and that may register something."""
    root = Path(__file__).parents[1]  # by its folder: the root package imports this one
    found = []
    for module in pkgutil.walk_packages([str(root)], "tfdet."):
        if module.name.startswith(NOT_CONFIGURABLE) or module.name in sys.modules:
            continue
        spec = importlib.util.find_spec(module.name)
        source = getattr(spec and spec.loader, "get_source", lambda name: None)(module.name)
        if module.ispkg or "configurable" in (source or "configurable"):
            found.append(module.name)
    return found


def original_exception(error: BaseException) -> BaseException:
    """The exception that was raised, without the proxies gin puts around it.

    gin re-raises whatever leaves a configurable as a proxy of the same class with its own lines added to the message
    and without the attributes of built-in exceptions (`OSError.errno` is None). The original is its context.

    Args:
      error: any exception.

    Returns:
      The innermost original; `error` itself where gin had no part in it.
    """
    while "augment_exception_message_and_reraise" in getattr(type(error).__str__, "__qualname__", ""):
        if error.__context__ is None:
            break
        error = error.__context__
    return error


def explain(error: BaseException) -> UserError | None:
    """Turns gin's way of saying "this parameter has no value" into an error for people.

    Args:
      error: an exception that left a configurable.

    Returns:
      A UserError naming the parameter, or None when the exception is about something else.
    """
    text = str(error)
    required = re.search(r"Required bindings for `(.+?)` not provided in config: \[(.+?)\]", text)
    if required:
        name, missing = required.groups()
    else:
        unbound = re.search(r"No values supplied by Gin or caller for arguments: \[(.+?)\]", text)
        place = re.search(r"In call to configurable '(.+?)'", text)
        if not (isinstance(error, TypeError) and unbound and place and "missing" in text.splitlines()[0]):
            return None
        name, missing = place.group(1), unbound.group(1)
    names = [part.strip(" '\"") for part in missing.split(",")]
    return without_value(name, names)


def without_value(name: str, parameters: Sequence[str]) -> UserError:
    """The error of parameters of the configurable `name` that nothing gives a value."""
    listed = ", ".join(f"{name}.{parameter}" for parameter in parameters)
    return UserError(f'{listed} has no value: set it in a gin file or with --gin_param="{name}.{parameters[0]} = ..."')
