"""HTTP for a servable: its paths, the limits of a request, errors as one line of json, and a clean end."""

from __future__ import annotations

import errno
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tfdet import __version__
from tfdet.errors import UserError
from tfdet.report.page import render
from tfdet.serve.rest import RequestError, status
from tfdet.serve.servable import LEAST_SCORE, Servable
from tfdet.text import one_line

MAX_CONNECTIONS = 32
"""At once; a further one is told to come again."""
SILENCE = 30.0
"""Seconds that a client may be silent."""
_BLOCK = 1 << 16
_PATIENCE = 10.0  # seconds for requests that are being answered at the end
_MODEL = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:\w+|/metadata)?")
_logger = logging.getLogger("tfdet")


class _Refused(Exception):
    def __init__(self, code: HTTPStatus, message: str):
        super().__init__(message)
        self.code = code


class DetectionServer(ThreadingHTTPServer):
    """Serves one model.

    Args:
        servable: the model.
        host: the address to listen on.
        port: 0 takes a free one.
        max_upload: most bytes of a request.
        say: is told a line for every request; None: silent.

    Raises:
        UserError: the port is taken, or the address is not of this machine.
    """

    daemon_threads, block_on_close = True, False
    request_queue_size = MAX_CONNECTIONS

    def __init__(
        self, servable: Servable, host: str, port: int, max_upload: int, say: Callable[[str], Any] | None = None
    ):
        self.servable, self.max_upload, self.say = servable, max_upload, say or (lambda line: None)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._active, self._counting = 0, threading.Lock()
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(_cannot_listen(error, host, port)) from None

    @property
    def address(self) -> str:
        """Of the page."""
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, as long as there are few."""
        if not self._places.acquire(blocking=False):
            body = b'{"error": "too many requests at once"}'
            head = f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: {len(body)}\r\n"
            try:
                request.settimeout(1)
                request.sendall(head.encode() + b"Content-Type: application/json\r\nConnection: close\r\n\r\n" + body)
            except OSError:
                pass
            self.shutdown_request(request)
            return
        with self._counting:
            self._active += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._counting:
                self._active -= 1
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no fault; anything else is logged here and told nobody."""
        if not isinstance(sys.exc_info()[1], OSError):
            _logger.exception("a connection of %s", client_address[0])

    def close(self) -> None:
        """Takes no more requests, and waits for those that are being answered."""
        self.server_close()
        end = time.monotonic() + _PATIENCE
        while self._active and time.monotonic() < end:
            time.sleep(0.05)


def _cannot_listen(error: Exception, host: str, port: int) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"port {port} of {host} is taken: give another --port, or 0 for a free one"
    if number == errno.EACCES:
        return f"port {port} of {host} is for the system's own programs: give --port from 1024 up"
    return f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}"


class _Handler(BaseHTTPRequestHandler):
    server: DetectionServer
    protocol_version = "HTTP/1.1"  # of 1.0 curl waits a second before it sends a photo
    server_version, sys_version = f"tfdet/{__version__}", ""
    timeout = SILENCE

    def do_GET(self):
        self._answer(self._get)

    def do_HEAD(self):
        self._answer(self._get)

    def do_POST(self):
        self._answer(self._post)

    def _answer(self, method: Callable[[str, dict], tuple[str, bytes]]) -> None:
        begun = time.perf_counter()
        self.close_connection = True
        code, kind = HTTPStatus.OK, "application/json"
        try:
            parts = urlsplit(self.path)
            kind, body = method(parts.path, {name: values[-1] for name, values in parse_qs(parts.query).items()})
        except _Refused as error:
            code, body = error.code, _json({"error": str(error)})
        except RequestError as error:
            code, body = HTTPStatus.BAD_REQUEST, _json({"error": str(error)})
        except OSError:  # the client went away, or is silent
            return
        except Exception:
            _logger.exception("answering %s", one_line(self.path[:200]))
            code, body = HTTPStatus.INTERNAL_SERVER_ERROR, _json({"error": "the server failed; its log says why"})
        self._send(code, kind, body)
        seconds = time.perf_counter() - begun
        what = one_line(f"{self.command} {self.path[:44]}")
        self.server.say(f"{self.client_address[0]} {what} {int(code)} {seconds:.2f} s")

    def _send(self, code: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _get(self, path: str, query: dict) -> tuple[str, bytes]:
        servable = self.server.servable
        if path == "/":
            return "text/html; charset=utf-8", _page(self.server).encode("utf-8", "backslashreplace")
        if path == "/healthz":
            return "application/json", _json({"status": "ok"})
        method = self._method_of_model(path)
        if method in (None, ""):
            return "application/json", _json(status(servable.version))
        if method == "/metadata":
            return "application/json", _json(_metadata(servable))
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} takes POST")

    def _post(self, path: str, query: dict) -> tuple[str, bytes]:
        body = self._body()
        if path == "/detect":
            return "application/json", _json(self._detected(body, query))
        if self._method_of_model(path) == ":predict":
            return "application/json", _json(self.server.servable.predict(body))
        raise _Refused(HTTPStatus.NOT_FOUND, f"Malformed request: POST {path[:100]}")

    def _detected(self, body: bytes, query: dict) -> dict:
        try:
            score = float(query["score"]) if "score" in query else None
        except ValueError:
            score = -1.0
        if score is not None and not 0 <= score <= 1:
            raise RequestError("score must be from 0 to 1")
        return self.server.servable.detect(body, score, query.get("picture") == "1")

    def _method_of_model(self, path: str) -> str | None:
        """What is asked of the model: ":predict", "/metadata" or None."""
        servable = self.server.servable
        match = _MODEL.fullmatch(path)
        if match is None:
            raise _Refused(HTTPStatus.NOT_FOUND, f"Malformed request: {self.command} {path[:100]}")
        name, version, method = match.groups()
        if name != servable.name or version not in (None, servable.version):
            asked = f"Latest({name[:60]})" if version is None else f"Specific({name[:60]}, {version})"
            raise _Refused(HTTPStatus.NOT_FOUND, f"Servable not found for request: {asked}")
        return method

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 15:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length")
        size, limit = int(length), self.server.max_upload
        if size > limit:
            # A browser shows the answer only when it could send all; a little more than the limit is read away.
            asks = "100-continue" in self.headers.get("Expect", "").lower()
            left, end = 0 if asks else min(size, 4 * limit), time.monotonic() + SILENCE
            while left > 0 and time.monotonic() < end and (block := self.rfile.read(min(left, _BLOCK))):
                left -= len(block)
            what = f"{size / 1e6:.1f} MB are more than the {limit / 1e6:g} MB that are taken (--max_upload)"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionResetError("the request ended too early")
        return body

    def handle_expect_100(self) -> bool:
        """A client that asks before it sends is told at once that it is too much."""
        length = self.headers.get("Content-Length", "")
        if length.isdecimal() and int(length[:16]) > self.server.max_upload:
            return True  # `_body` refuses
        return super().handle_expect_100()

    def log_message(self, format: str, *args: Any) -> None:
        """`_answer` says it."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Of what is no HTTP, or a method that is not there."""
        self.close_connection = True
        self._send(HTTPStatus(code), "application/json", _json({"error": message or HTTPStatus(code).phrase}))


def _json(content: Any) -> bytes:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def _metadata(servable: Servable) -> dict:
    return {
        "model_spec": {"name": servable.name, "signature_name": "", "version": servable.version},
        "metadata": {"about": servable.about, "classes": servable.classes},
    }


def _page(server: DetectionServer) -> str:
    servable = server.servable
    return render(
        "serve.html",
        name=servable.name,
        about=servable.about,
        classes=servable.classes,
        threshold=servable.thresholds.default,
        by_class=bool(servable.thresholds.by_class),
        least=LEAST_SCORE,
        max_upload=server.max_upload,
        address=server.address,
    )
