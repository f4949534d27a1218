"""A loopback HTTP server that misbehaves on order."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Serves `content` at every path. `script` holds what to do with the next requests; after it, all goes well.

    `ranges` and `requests` record what was asked for.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag: str | None = '"v1"'
        self.script: list[Behaviour] = []
        self.requests: list[str] = []
        self.ranges: list[str | None] = []
        self.release = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.ranges.append(self.headers.get("Range"))
        behaviour = self.server.script.pop(0) if self.server.script else serve
        behaviour(self)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def start(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.server.etag is not None:
            self.send_header("ETag", self.server.etag)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def serve(handler: Handler, sent: int | None = None) -> None:
    """Answer properly, with a part where one is asked for; cut the connection after `sent` bytes, if given."""
    content = handler.server.content
    match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if_range = handler.headers.get("If-Range")
    if match is None or (if_range is not None and if_range != handler.server.etag):
        handler.start(200, len(content))
        handler.wfile.write(content[:sent])
        return
    start = int(match[1])
    if start >= len(content):
        handler.start(416, 0, Content_Range=f"bytes */{len(content)}")
        return
    part = content[start:]
    handler.start(206, len(part), Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.wfile.write(part[:sent])


def cut_after(sent: int) -> Behaviour:
    return lambda handler: serve(handler, sent)


def without_ranges(handler: Handler) -> None:
    """The whole file, whatever part was asked for."""
    handler.start(200, len(handler.server.content))
    handler.wfile.write(handler.server.content)


def without_length(handler: Handler) -> None:
    handler.start(200, None)
    handler.wfile.write(handler.server.content)


def stall_after(sent: int) -> Behaviour:
    """Send so many bytes, and then nothing until the server is released."""

    def behaviour(handler: Handler) -> None:
        handler.start(200, len(handler.server.content))
        handler.wfile.write(handler.server.content[:sent])
        handler.wfile.flush()
        handler.server.release.wait(30)

    return behaviour


def trickle(handler: Handler) -> None:
    """Send a byte now and then, until the other side has had enough."""
    handler.start(200, len(handler.server.content))
    with suppress(OSError):
        for byte in handler.server.content:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            if handler.server.release.wait(0.05):
                return


def packed_as(encoding: str, content: bytes, sent: int | None = None) -> Behaviour:
    """Send `content` as something packed; cut the connection after `sent` bytes, if given."""

    def behaviour(handler: Handler) -> None:
        handler.start(200, len(content), Content_Encoding=encoding)
        handler.wfile.write(content[:sent])

    return behaviour


def redirect(handler: Handler) -> None:
    """Send back to where the request came to."""
    handler.start(302, 0, Location=handler.server.address + handler.path)


def redirect_to(address: str) -> Behaviour:
    return lambda handler: handler.start(302, 0, Location=address)


def answer(status: int, body: bytes = b"<html>sorry</html>") -> Behaviour:
    def behaviour(handler: Handler) -> None:
        handler.start(status, len(body))
        handler.wfile.write(body)

    return behaviour


def wrong_part(handler: Handler) -> None:
    """Another part than the one asked for."""
    content = handler.server.content
    handler.start(206, len(content), Content_Range=f"bytes 0-{len(content) - 1}/{len(content)}")
    handler.wfile.write(content)


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """A running server, stopped at the end."""
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
