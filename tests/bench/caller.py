"""An HTTP client with little overhead: one persistent connection, without a library."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlencode

TIMEOUT_SECONDS = 120.0
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
LOCATION = re.compile(rb"\r\nlocation: *(\S+)", re.I)
PART = {"HX-Request": "true", "HX-Request-Type": "partial"}  # htmx requests a fragment


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and the milliseconds until its last byte."""

    status: int
    head: bytes
    body: bytes
    ms: float

    @property
    def location(self) -> str:
        """The Location header."""
        found = LOCATION.search(self.head)
        assert found is not None, self.head
        return found[1].decode()


class Caller:
    """A context manager for the connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def call(
        self, method: str, path: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request and return the response, which must be a success."""
        data = request(self._port, method, path, form, headers)
        began = time.perf_counter()
        self._socket.sendall(data)
        head, size, rest = b"", -1, b""
        while len(rest) != size:
            got = self._socket.recv(1 << 18)
            assert got, f"{method} {path} was not answered"
            rest += got
            if size < 0 and b"\r\n\r\n" in rest:
                head, _, rest = rest.partition(b"\r\n\r\n")
                size = length(head)
        took = time.perf_counter() - began
        status = int(head[9:12])
        assert 200 <= status < 300, f"{method} {path}: {head.decode()}"
        return Answer(status, head, rest, 1000 * took)


def request(
    port: int, method: str, path: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> bytes:
    """Return the bytes of a request."""
    body = urlencode(form).encode() if form is not None else b""
    lines = {"Host": f"127.0.0.1:{port}", "Accept": "text/html", "Accept-Encoding": "gzip", **(headers or {})}
    if form is not None:
        lines |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def length(head: bytes) -> int:
    """Return the content length in the head of a response."""
    found = CONTENT_LENGTH.search(head)
    assert found is not None, head
    return int(found[1])
