"""The `tfdet` command: one subcommand for every module of this package.

A command is a module with `add_arguments(parser)` and `run(args) -> int`, whose docstring begins with the line that
`tfdet --help` shows; `TAKES_ADDRESSES` names the arguments that may be addresses of the web. Heavy imports stand
inside `run`, so that `--help` answers at once. Modules whose name begins with an underscore, and `flags`, are no
commands.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import errno
import importlib
import importlib.util
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import NoReturn

from tfdet import __version__
from tfdet.commands._help import HelpFormatter
from tfdet.commands.flags import DATA_FLAGS, VERBOSE, add_verbose
from tfdet.config import explain, original_exception
from tfdet.config.files import did_you_mean
from tfdet.errors import (
    EXIT_DIVERGED,
    EXIT_OK,
    EXIT_USER_ERROR,
    EXIT_WORKER_LOST,
    DivergedError,
    UserError,
    WorkerLostError,
)
from tfdet.files import check_local
from tfdet.interrupts import Terminated, terminated_by_exception
from tfdet.native_stderr import quiet_tensorflow
from tfdet.text import printable

EXIT_SIGNAL = 128  # and the number of the signal that ended a command that had nothing to save, as shells have it
EXIT_KEYBOARD = EXIT_SIGNAL + signal.SIGINT
_NOT_COMMANDS = ("flags",)
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
# TensorFlow writes files itself, and reports these by text alone.
_DISK_MESSAGES = ("No space left on device", "Disk quota exceeded", "Permission denied", "Read-only file system")


def command_names() -> list[str]:
    """The commands there are, sorted by name, found without importing them."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in names if not name.startswith("_") and name not in _NOT_COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `tfdet COMMAND ...`.

    Args:
      argv: the command's name and its arguments; default `sys.argv[1:]`.

    Returns:
      The exit code: the command's own, or one of tfdet/errors.py. Errors that a person can put right are one line
      on stderr; any other exception is left to Python, with its traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: _main(arguments), arguments)


def run_module(module: ModuleType, prog: str, argv: Sequence[str] | None = None) -> int:
    """Runs a module with `add_arguments` and `run` that is no command of `tfdet`: a tool of the source tree.

    Args:
      module: its docstring is the help.
      prog: what the help calls it.
      argv: its arguments; default `sys.argv[1:]`.

    Returns:
      The exit code, as of `main`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: _run(module, prog, arguments), arguments)


def _guarded(run: Callable[[], int], arguments: Sequence[str]) -> int:
    try:
        with contextlib.nullcontext() if VERBOSE in arguments else quiet_tensorflow(), terminated_by_exception():
            return run()
    except Terminated as error:
        print(f"tfdet: stopped by {error}", file=sys.stderr)
        return EXIT_SIGNAL + error.number
    except KeyboardInterrupt:
        print("tfdet: interrupted", file=sys.stderr)
        return EXIT_KEYBOARD
    except BrokenPipeError:  # `tfdet ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        print(f"tfdet: error: {printable(line)}", file=sys.stderr)
        return exit_code(error)


def exit_code(error: Exception) -> int:
    """The exit code of a command that an exception ended, which has a line for people."""
    if isinstance(error, WorkerLostError):
        return EXIT_WORKER_LOST
    return EXIT_DIVERGED if isinstance(error, DivergedError) else EXIT_USER_ERROR


def one_line(error: Exception) -> str | None:
    """What to tell a person about an exception.

    Args:
      error: what left a command.

    Returns:
      One line for a UserError, a parameter without a value, and a disk that is full, read-only or not permitted;
      None for anything else, which is a defect of the program.
    """
    original = original_exception(error)
    shown = original if isinstance(original, UserError) else explain(error)
    if shown is not None:
        text = " ".join(str(shown).split("\n"))
        unset = (flag for flag, parameter in DATA_FLAGS.items() if text.startswith(f"{parameter} has no value"))
        flag = next(unset, None)
        return f"{text}, or give --{flag}" if flag else text
    if isinstance(original, OSError) and original.errno in _DISK_ERRORS:
        paths = [str(path) for path in (original.filename, original.filename2) if path is not None]
        return f"{' -> '.join(paths) or 'writing a file'}: {original.strerror}. {_advice(original.strerror)}"
    if type(original).__module__.startswith("tensorflow"):
        for message in _DISK_MESSAGES:
            if message in str(original):
                return f"{str(original).splitlines()[0]} {_advice(message)}"
    return None


def _advice(message: str) -> str:
    if "space" in message or "quota" in message:
        return "Free some space, or choose another folder; the same command continues."
    return "Choose a folder that you may write to, or change its permissions."


def _main(arguments: list[str]) -> int:
    names = command_names()
    if not arguments or arguments[0].startswith("-"):
        _top_parser(names).parse_args(arguments)
        _top_parser(names).print_help()
        return EXIT_OK if arguments else EXIT_USER_ERROR
    name = arguments[0].replace("-", "_")
    if name not in names:
        raise UserError(f"no command {arguments[0]!r}.{did_you_mean(name, names)} Commands: {', '.join(names)}.")
    return _run(importlib.import_module(f"{__name__}.{name}"), f"tfdet {name}", arguments[1:])


def _run(module: ModuleType, prog: str, arguments: list[str]) -> int:
    # Keras reads this once, when it is first imported; a ~/.keras/keras.json may say something else.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    verbose = VERBOSE in arguments
    # Of TensorFlow's C++ part warnings and errors, but for those of `native_stderr`; or all.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "1")
    parser = _Parser(
        prog=prog,
        description=module.__doc__,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    add_verbose(parser)
    args, usage = parser.parse_args(arguments), parser.format_usage()
    for flag, value in vars(args).items():
        for text in () if flag in (*DATA_FLAGS, *getattr(module, "TAKES_ADDRESSES", ())) else _texts(value):
            check_local(text, f"--{flag}" if f"--{flag}" in usage else "")
    return module.run(args) or EXIT_OK


def _texts(value: object) -> Iterator[str]:
    """The texts that a flag was given, those in lists included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors, which repeat what was typed, do not steer a terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _top_parser(names: list[str]) -> argparse.ArgumentParser:
    width = max([len(name) for name in names], default=0)
    lines = "\n".join(f"  {name:<{width}}  {_summary(name)}" for name in names)
    parser = _Parser(
        prog="tfdet",
        usage="tfdet COMMAND [--help] [...]",
        description="Object detection on TensorFlow and Keras.",
        epilog=f"commands:\n{lines}\n\n`tfdet COMMAND --help` shows the flags of one.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tfdet {__version__}")
    return parser


def _summary(name: str) -> str:
    """The first line of a command's docstring, read from its source so that nothing is imported."""
    spec = importlib.util.find_spec(f"{__name__}.{name}")
    try:
        with open(spec.origin, encoding="utf-8") as file:
            text = ast.get_docstring(ast.parse(file.read())) or ""
    except (OSError, SyntaxError):
        return "(cannot be read)"
    return text.partition("\n")[0]
