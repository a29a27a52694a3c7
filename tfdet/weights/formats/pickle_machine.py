"""Pickles read as data: a machine for pickle's opcodes that has no way to import or call anything.

`pickle.Unpickler` with a restricted `find_class` still calls what it lets through. Here a global is a name and nothing
more; the names that stand for arrays have handlers, for every other one that is called an object without content
stands, or the file is refused where it calls what only attacks do.
`pickletools.genops` of the standard library takes the opcodes apart.
"""

from __future__ import annotations

import io
import os
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tfdet.errors import UserError
from tfdet.weights.formats.file_bytes import broken


class Global(NamedTuple):
    """The name of a function or class. Nothing is imported for it."""

    name: str


class Buildable:
    """What a handler returns for an object whose state comes later."""

    nbytes = 0  # of what the state makes

    def set_state(self, state: Any) -> None:
        """Takes the state; ValueError where it makes no sense."""
        raise NotImplementedError


class Uncalled:
    """An object that something beside the weights would make, such as the arguments of a training: named, not made."""

    def __init__(self, name: str):
        self.name = name


Handler = Callable[..., Any]


class BoundedFile:
    """A file whose reads never ask for more than is there: a length in a broken file allocates nothing."""

    def __init__(self, file: BinaryIO):
        self._file = file
        position = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(position)

    def read(self, count: int) -> bytes:
        """At most `count` bytes."""
        return self._file.read(max(0, min(count, self.size - self._file.tell())))

    def readline(self) -> bytes:
        """A line."""
        return self._file.readline()

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def seek(self, position: int) -> int:
        """Goes to a position."""
        return self._file.seek(position)


def read_pickle(
    file: BoundedFile | io.BytesIO,
    handlers: Mapping[str, Handler],
    path: str | Path,
    kind: str,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle from the file's position, up to and with its STOP.

    Args:
        handlers: by the full name of a global, what stands for a call of it.
        path, kind: of the file, for errors.
        persistent: what stands for the object of a persistent id.

    Returns:
        The object. For what has no handler an `Uncalled` stands in it.

    Raises:
        UserError: the pickle is cut or damaged, of more steps than that of a network, or it calls by name what no
            checkpoint does: the operating system, the import of modules, evaluation of text.
    """
    machine = _Machine(handlers, path, persistent, _size_of(file))
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if opcode.name == "STOP":
                return machine.pop()
            if steps > _MAX_STEPS:
                raise broken(path, kind, f"its pickle has more than {_MAX_STEPS} steps")
            machine.step(opcode.name, argument)
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError) as error:
        raise broken(path, kind, f"its pickle: {str(error)[:200] or type(error).__name__}") from error
    except RecursionError as error:
        raise broken(path, kind, "its pickle is nested too deeply") from error
    raise broken(path, kind, "its pickle has no end")


_MARK = object()
_MAX_COPIES, _COPIES_FREE = 3, 1 << 20
"""What handlers are given and make may be so many times the file's size, and so many bytes."""
_MAX_STEPS = 2_000_000
"""A tensor takes some 30, a number in a list 1; a step takes a microsecond or two, and 200 bytes at most."""
_MAX_NAME = 1000  # characters of a global
_ENTRY_BYTES = 16  # what an entry of a list or table that a handler is given counts for

_COMMANDS = {
    "_pickle", "_posixsubprocess", "_thread", "_xxsubinterpreters", "asyncio", "bdb", "builtins", "__builtin__", "cgi",
    "code", "codeop", "commands", "concurrent", "ctypes", "_ctypes", "distutils", "dill", "cloudpickle", "ftplib", "gc",
    "http", "httplib", "imp", "importlib", "_frozen_importlib", "inspect", "io", "_io", "joblib", "marshal", "mmap",
    "multiprocessing", "nt", "operator", "_operator", "os", "pdb", "pickle", "pip", "pkgutil", "platform", "popen2",
    "posix", "posixpath", "profile", "pty", "pydoc", "requests", "runpy", "setuptools", "shelve", "shutil", "signal",
    "site", "smtplib", "socket", "_socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "test", "threading",
    "timeit", "trace", "types", "urllib", "urllib2", "venv", "webbrowser", "xmlrpc", "zipimport",
}  # fmt: skip
"""Packages whose functions a pickle calls to do something. Nothing is called in any case; a file that means to is not
read at all."""
_HARMLESS = {
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in (
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set",
        "slice", "str", "tuple", "type", "unicode", "long", "xrange",
    )
} | {"types.SimpleNamespace", "types.GenericAlias"}  # fmt: skip


def is_command(name: str) -> bool:
    """Whether a pickle that calls what has this name is an attack."""
    return name.split(".")[0] in _COMMANDS and name not in _HARMLESS


def refused(path: str | Path, name: str) -> UserError:
    """The error for a pickle that needs `name` to be called."""
    return UserError(
        f"{path}: refused: its pickle calls {name}, and a pickle that calls anything but arrays can run any "
        "code; save the tensors alone, for example as .safetensors or .npz"
    )


def _size_of(file: BoundedFile | io.BytesIO) -> int:
    return file.size if isinstance(file, BoundedFile) else len(file.getbuffer())


_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": list}  # of a set nothing is read
_SCALARS = (str, bytes, int, float, bool, type(None))


def _key(value: Any) -> Any:
    # Hashing a tuple recurses in C without a limit; weights have names for keys, and what else is a key is not read.
    return value if isinstance(value, _SCALARS) else Uncalled("a key")


def _global(*parts: Any) -> Global:
    # A few bytes of a pickle can name a long text, or a list of lists of lists, again and again.
    if not all(isinstance(part, str) and len(part) <= _MAX_NAME for part in parts):
        raise ValueError("the name of a global")
    return Global(".".join(parts))


class _Machine:
    def __init__(self, handlers, path, persistent, size):
        self.handlers, self.path, self.persistent = handlers, path, persistent
        self.left = _MAX_COPIES * size + _COPIES_FREE  # bytes
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark for a value")
        return value

    def since_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                values = self.stack[i + 1 :]
                del self.stack[i:]
                return values
        raise ValueError("no mark")

    def step(self, name: str, argument: Any) -> None:
        push = self.stack.append
        if name in _LITERALS:
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _EMPTY:
            push(_EMPTY[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            push(_MARK)
        elif name == "POP":
            self.stack.pop()
        elif name == "POP_MARK":
            self.since_mark()
        elif name == "DUP":
            push(self.stack[-1])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            push(self.memo[argument])
        else:
            self.compound(name, argument)

    def compound(self, name: str, argument: Any) -> None:
        push = self.stack.append
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            values = [self.pop() for _ in range(int(name[-1]))]
            push(tuple(reversed(values)))
        elif name == "TUPLE":
            push(tuple(self.since_mark()))
        elif name == "LIST":
            push(self.since_mark())
        elif name == "DICT":
            values = self.since_mark()
            push({_key(k): v for k, v in zip(values[::2], values[1::2], strict=True)})
        elif name == "FROZENSET":
            push(tuple(self.since_mark()))
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            values = [self.pop()] if name == "APPEND" else self.since_mark()
            if not isinstance(self.stack[-1], Uncalled):
                self.top(list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.since_mark()
            if not isinstance(self.stack[-1], Uncalled):
                self.top(dict).update((_key(k), v) for k, v in zip(values[::2], values[1::2], strict=True))
        elif name == "GLOBAL":
            push(_global(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            push(_global(module, attribute))
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            keywords = self.pop() if name == "NEWOBJ_EX" else None
            arguments, called = self.pop(), self.pop()
            push(self.call(called, arguments, keywords))
        elif name in ("INST", "OBJ"):
            arguments = self.since_mark()
            called = _global(argument.replace(" ", ".")) if name == "INST" else arguments.pop(0)
            push(self.call(called, tuple(arguments)))
        elif name == "BUILD":
            self.build()
        elif name == "BINPERSID" and self.persistent is not None:
            push(self.persistent(self.pop()))
        else:  # EXT*, buffers outside of the file
            raise refused(self.path, f"opcode {name}")

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"items for a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def call(self, called: Any, arguments: Any, keywords: Any = None) -> Any:
        if isinstance(called, Uncalled):
            return called
        if not isinstance(called, Global):
            raise ValueError(f"a call of a {type(called).__name__}")
        if not isinstance(arguments, tuple):
            raise ValueError(f"arguments of {called.name}")
        if called.name not in self.handlers:
            named = [called, *(part for part in arguments[:8] if isinstance(part, Global))]
            for part in named:  # functools.partial, copyreg and others call what they are given
                if is_command(part.name):
                    raise refused(self.path, part.name)
            return Uncalled(called.name)
        if keywords:
            raise ValueError(f"arguments of {called.name}")
        # A few bytes of a pickle can name the same long text or list again and again, each time for a copy of it.
        self.spend(_ENTRY_BYTES * sum(len(part) for part in arguments if isinstance(part, (list, tuple, dict))))
        made = self.handlers[called.name](*arguments)
        self.spend(len(made) if isinstance(made, bytes) else getattr(made, "nbytes", 0))
        return made

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError("more data than the file holds")

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Buildable):
            target.set_state(state)
            self.spend(target.nbytes)
        elif isinstance(target, Global):
            raise refused(self.path, target.name)
        elif not isinstance(target, (dict, Uncalled)):  # attributes of a table, such as _metadata, are not needed
            raise ValueError(f"state for a {type(target).__name__}")
