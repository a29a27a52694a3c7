"""A web server on this machine whose faults a test chooses."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = b"".join(i.to_bytes(4, "big") for i in range(50_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Web:
    """What the server offers and how it behaves; changed by tests.

    Attributes:
        files: content by path.
        moved: the path to go to, by path.
        status: instead of 200.
        ranges: whether rests are given.
        honours_if_range: whether it gives the rest of the version that was asked for alone.
        tag: the ETag; None sends none.
        kind: the Content-Type.
        cuts: of the answers to come, after how many bytes each is cut; the connection ends.
        pause, after: seconds of silence after so many bytes.
        asked: (method, path, Range) of all requests.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {"/a.pth": CONTENT}
        self.moved: dict[str, str] = {}
        self.status, self.ranges, self.tag, self.kind = 200, True, '"v1"', "application/octet-stream"
        self.honours_if_range = True
        self.cuts: list[int] = []
        self.pause, self.after = 0.0, 0
        self.asked: list[tuple[str, str, str | None]] = []
        self.port = 0

    def address(self, path: str = "/a.pth") -> str:
        """Of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def gets(self) -> list[str | None]:
        """The `Range` of every GET."""
        return [asked for method, _, asked in self.asked if method == "GET"]


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self._answer(body=False)

        def do_GET(self):
            self._answer(body=True)

        def _answer(self, body: bool):
            asked = self.headers.get("Range")
            web.asked.append((self.command, self.path, asked))
            content, first = web.files.get(self.path), 0
            if self.path in web.moved:
                self.send_response(302)
                self.send_header("Location", web.moved[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if content is None or web.status != 200:
                self.send_error(404 if content is None else web.status)
                return
            same = self.headers.get("If-Range") in (None, web.tag) or not web.honours_if_range
            if asked and web.ranges and same:
                first = int(asked.removeprefix("bytes=").removesuffix("-"))
                if first >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content) - first))
            self.send_header("Content-Type", web.kind)
            if web.tag:
                self.send_header("ETag", web.tag)
            self.end_headers()
            if not body:
                return
            end = len(content)
            if web.cuts:
                end = min(end, first + web.cuts.pop(0))
                self.close_connection = True
            with contextlib.suppress(OSError):
                middle = min(end, first + web.after)
                self.wfile.write(content[first:middle])
                self.wfile.flush()
                if web.pause:
                    time.sleep(web.pause)
                self.wfile.write(content[middle:end])

        def log_message(self, *_):
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False

    def handle_error(self, *_):
        """A client that was killed or gave up is what tests are about."""


@contextlib.contextmanager
def serving() -> Iterator[Web]:
    """A server on a free port while entered."""
    web = Web()
    with _Server(("127.0.0.1", 0), _handler(web)) as server:
        web.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()
