"""Messages between workers: JSON and arrays of numbers, nothing that is executed."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

_LENGTH = struct.Struct(">Q")
_MOST_TEXT = 1 << 30  # bytes of the JSON of one message; detections of an evaluation are the longest
_MOST_NUMBERS = 1 << 36  # bytes of the arrays of one message
_CHUNK = 1 << 20


class Message(NamedTuple):
    """What one worker says to another.

    Attributes:
        kind: what it is, such as "beat".
        key: which of several.
        value: anything that JSON has.
        arrays: numbers by name.
    """

    kind: str
    key: str = ""
    value: Any = None
    arrays: Mapping[str, np.ndarray] = {}


class Wire:
    """A connection to another worker. One thread receives; any may send.

    Args:
        connection: a connected socket; the wire closes it.

    Attributes:
        heard: `time.monotonic()` when the last byte came.
    """

    def __init__(self, connection: socket.socket):
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._sending = threading.Lock()
        self.heard = time.monotonic()

    def send(self, message: Message) -> None:
        """Sends a message; `OSError` where the connection is gone."""
        with self._sending:
            self._send(message)

    def send_if_free(self, message: Message) -> None:
        """Sends a short message, or nothing where another thread sends at the moment: then the other side hears that.

        Errors are left to the thread that receives.
        """
        if self._sending.acquire(blocking=False):
            try:
                self._send(message)
            except OSError:
                pass
            finally:
                self._sending.release()

    def receive(self) -> Message:
        """The next message.

        Raises:
            OSError: the connection is gone, `ConnectionError` also where it ended.
            ValueError: what came is no message.
        """
        text = self._bytes(self._length(_MOST_TEXT))
        content = json.loads(text.decode())
        arrays, left = {}, _MOST_NUMBERS
        for name, kind, shape in content["arrays"]:
            dtype = np.dtype(str(kind))
            if dtype.hasobject or any(int(size) < 0 for size in shape):
                raise ValueError(f"{name!r} is no array of numbers")
            length = dtype.itemsize * int(np.prod([int(size) for size in shape], dtype=object))
            left -= length
            if left < 0:
                raise ValueError("too many numbers in one message")
            arrays[str(name)] = np.frombuffer(self._bytes(length), dtype).reshape(shape)
        return Message(str(content["kind"]), str(content["key"]), content["value"], arrays)

    def close(self) -> None:
        """Ends the connection, also for a thread that waits for it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def _send(self, message: Message) -> None:
        arrays: dict[str, np.ndarray] = {
            name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in message.arrays.items()
        }
        described = [(name, array.dtype.str, list(array.shape)) for name, array in arrays.items()]
        text = json.dumps({**message._asdict(), "arrays": described}).encode()
        self._socket.sendall(_LENGTH.pack(len(text)) + text)
        for array in arrays.values():
            if array.size:
                self._socket.sendall(array.reshape(-1).data.cast("B"))

    def _length(self, most: int) -> int:
        (length,) = _LENGTH.unpack(self._bytes(_LENGTH.size))
        if length > most:
            raise ValueError(f"a message of {length} bytes")
        return length

    def _bytes(self, count: int) -> bytearray:
        content = bytearray(count)
        view, done = memoryview(content), 0
        while done < count:
            got = self._socket.recv_into(view[done : done + _CHUNK])
            if not got:
                raise ConnectionError("the connection ended")
            self.heard = time.monotonic()
            done += got
        return content
