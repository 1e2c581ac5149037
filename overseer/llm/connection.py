"""The connection to a model server: known from the moment it is open, so that it can be cut at any time."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from overseer.llm import ModelError

CHUNK = 65536
MAX_EVENT = 1_000_000  # bytes of one event,
MAX_LINES = 2000  # and lines of it, before a server counts as broken
MAX_INTERIM = 20  # times that it may say "100 Continue"
BREATH = 0.005  # seconds of reading before others may run


class AbortableConnection:
    """The one connection of a reply, known from the moment it is open, so that it can be cut at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._shut = False

    def connected(self, sock: socket.socket) -> None:
        with self._lock:
            self._sock = sock
            if self._shut:
                _shut_down(sock)

    def settimeout(self, seconds: float) -> None:
        if self._sock is not None:
            self._sock.settimeout(seconds)

    def shut_down(self) -> None:
        # Response.close() from another thread waits for the next byte; a shutdown does not.
        with self._lock:
            self._shut = True
            if self._sock is not None:
                _shut_down(self._sock)


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):  # the server was faster
        sock.shutdown(socket.SHUT_RDWR)


class _Response(http.client.HTTPResponse):
    """The standard library's, which would read "100 Continue" for ever, and let nobody else run meanwhile."""

    _interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise http.client.BadStatusLine("100 Continue, again and again")
        return super()._read_status()  # type: ignore[misc, no-any-return]


class _Adapter(HTTPAdapter):
    """Tells `line` of each socket as soon as it is connected, long before a response exists."""

    def __init__(self, line: AbortableConnection) -> None:
        self._line = line
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        line = self._line

        class Plain(HTTPConnection):
            response_class = _Response

            def connect(self) -> None:
                super().connect()
                line.connected(self.sock)

        class Tls(HTTPSConnection):
            response_class = _Response

            def connect(self) -> None:
                super().connect()
                line.connected(self.sock)

        plain = type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": Plain})
        tls = type("TlsPool", (HTTPSConnectionPool,), {"ConnectionCls": Tls})
        self.poolmanager.pool_classes_by_scheme = {"http": plain, "https": tls}


class Deadline:
    """Cuts a line after so many seconds, whatever it is waiting for; `passed` says that it did."""

    def __init__(self, line: AbortableConnection, seconds: float) -> None:
        self.passed = False
        self._line = line
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        self._line.shut_down()


def body(response: requests.Response) -> Iterator[bytes]:
    """The body as it arrives, in whole events; one that was cut off at the end is left out.

    (`iter_content` would hold small pieces back until more have come.) Raises ModelError for an event without end.
    """
    pieces: list[bytes] = []  # of the event that is coming
    length = lines = 0
    tail = b""
    breathed = time.monotonic()
    for chunk in iter(partial(response.raw.read1, CHUNK), b""):
        seen = tail + chunk
        end = max(seen.rfind(blank) + len(blank) if blank in seen else 0 for blank in (b"\n\n", b"\r\n\r\n", b"\r\r"))
        if end:
            cut = max(0, end - len(tail))
            yield b"".join([*pieces, chunk[:cut]])
            pieces, length, lines = [], 0, 0
            seen = chunk = chunk[cut:]
        pieces.append(chunk)
        tail = seen[-3:]
        length += len(chunk)
        lines += chunk.count(b"\n")
        if length > MAX_EVENT or lines > MAX_LINES:
            raise ModelError("The model server sent an event without end. Look at its log, then Retry.")
        # A server that sends without a pause would keep every other greenlet from running.
        if time.monotonic() - breathed > BREATH:
            time.sleep(0)
            breathed = time.monotonic()
    if _whole(rest := b"".join(pieces)):
        yield rest


def _whole(event: bytes) -> bool:
    """Whether an event that no blank line ended is there nevertheless."""
    data = event.strip().rpartition(b"data:")[2].strip()
    try:
        return data == b"[DONE]" or bool(json.loads(data))
    except (ValueError, RecursionError):
        return False


def session(line: AbortableConnection, *, local: bool) -> requests.Session:
    """A session whose connections `line` is told of."""
    made = requests.Session()
    # No proxy and no .netrc for a server on this machine; a remote one may need them.
    made.trust_env = not local
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Adapter(line))
    return made
