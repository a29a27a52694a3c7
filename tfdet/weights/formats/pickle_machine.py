"""Pickles read as data: a machine for pickle's opcodes that has no way to import or call anything.

`pickle.Unpickler` with a restricted `find_class` still calls what it lets through. Here a global is a name and nothing
more; the names that stand for arrays have handlers below, every other one that is called refuses the file.
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

    def set_state(self, state: Any) -> None:
        """Takes the state; ValueError where it makes no sense."""
        raise NotImplementedError


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

    Raises:
        UserError: the pickle is cut or damaged, or it calls or makes something that has no handler; then by name.
    """
    machine = _Machine(handlers, path, persistent, _size_of(file))
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return machine.pop()
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
"""Handlers may make so many times the file's size, and so many bytes, of data that is not in the file as it is."""


def _size_of(file: BoundedFile | io.BytesIO) -> int:
    return file.size if isinstance(file, BoundedFile) else len(file.getbuffer())


_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set}
_SCALARS = (str, bytes, int, float, bool, type(None))


def _key(value: Any) -> Any:
    # Hashing a tuple recurses in C without a limit; weights have names for keys.
    if not isinstance(value, _SCALARS):
        raise ValueError(f"a {type(value).__name__} as a key")
    return value


class _Machine:
    def __init__(self, handlers, path, persistent, size):
        self.handlers, self.path, self.persistent = handlers, path, persistent
        self.left = _MAX_COPIES * size + _COPIES_FREE
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
            push(frozenset(map(_key, self.since_mark())))
        elif name in ("APPEND", "APPENDS"):
            values = [self.pop()] if name == "APPEND" else self.since_mark()
            self.top(list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.since_mark()
            self.top(dict).update((_key(k), v) for k, v in zip(values[::2], values[1::2], strict=True))
        elif name == "ADDITEMS":
            values = self.since_mark()
            self.top(set).update(map(_key, values))
        elif name == "GLOBAL":
            push(Global(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            push(Global(f"{module}.{attribute}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, called = self.pop(), self.pop()
            push(self.call(called, arguments))
        elif name == "BUILD":
            self.build()
        elif name == "BINPERSID" and self.persistent is not None:
            push(self.persistent(self.pop()))
        else:  # INST, OBJ, NEWOBJ_EX, EXT*, buffers outside of the file
            named = argument.replace(" ", ".") if name == "INST" else next(
                (v.name for v in reversed(self.stack) if isinstance(v, Global)), f"opcode {name}"
            )  # fmt: skip
            raise self.refused(named)

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"items for a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def call(self, called: Any, arguments: Any) -> Any:
        if not isinstance(called, Global):
            raise ValueError(f"a call of a {type(called).__name__}")
        if called.name not in self.handlers:
            raise self.refused(called.name)
        if not isinstance(arguments, tuple):
            raise ValueError(f"arguments of {called.name}")
        return self.counted(self.handlers[called.name](*arguments))

    def counted(self, made: Any) -> Any:
        # A few bytes of a pickle can name the same long text again and again, each time for a copy of it.
        self.left -= len(made) if isinstance(made, bytes) else getattr(made, "copied_bytes", 0)
        if self.left < 0:
            raise ValueError("more data than the file holds")
        return made

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Buildable):
            target.set_state(state)
            self.counted(target)
        elif isinstance(target, Global):
            raise self.refused(target.name)
        elif not isinstance(target, dict):  # attributes of an OrderedDict, such as torch's _metadata, are not needed
            raise ValueError(f"state for a {type(target).__name__}")

    def refused(self, name: str) -> UserError:
        return UserError(
            f"{self.path}: refused: its pickle calls {name}, and a pickle that calls anything but arrays can run any "
            "code; save the tensors alone, for example as .safetensors or .npz"
        )
