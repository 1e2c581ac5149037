"""The connection to a model server. Its socket is known as soon as it is connected, so it can be closed at any time."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MAX_INTERIM_RESPONSES = 20  # such as "100 Continue"
QUEUE_POLL_SECONDS = 0.5
HANDSHAKE_TIMEOUT = "no TLS handshake in time"


class AbortableConnection:
    """The one connection of a reply. Any thread can shut it down, also before a response has begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._aborted = False

    def connected(self, sock: socket.socket) -> None:
        """Register the socket. Shut it down if `shut_down` was called before."""
        with self._lock:
            self._sock = sock
            if self._aborted:
                _shut_down(sock)

    def settimeout(self, seconds: float) -> None:
        """Set the timeout of the socket."""
        if self._sock is not None:
            self._sock.settimeout(seconds)

    def shut_down(self) -> None:
        """Shut the socket down, now or as soon as it is connected."""
        # Response.close() from another thread would wait for the next byte; a shutdown does not.
        with self._lock:
            self._aborted = True
            if self._sock is not None:
                _shut_down(self._sock)


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):  # the server has closed it already
        sock.shutdown(socket.SHUT_RDWR)


class _Response(http.client.HTTPResponse):
    """A response with a limit on interim responses: the base class reads "100 Continue" forever, without a yield."""

    _interim_responses = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._interim_responses += 1
        if self._interim_responses > MAX_INTERIM_RESPONSES:
            raise http.client.BadStatusLine("too many interim responses")
        return super()._read_status()  # type: ignore[misc, no-any-return]


class _Adapter(HTTPAdapter):
    """Registers each socket with `connection` when it is connected, before there is a response."""

    def __init__(self, connection: AbortableConnection) -> None:
        self._connection = connection
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        connection = self._connection

        class Plain(HTTPConnection):
            response_class = _Response

            def connect(self) -> None:
                super().connect()
                connection.connected(self.sock)

        class Tls(HTTPSConnection):
            response_class = _Response

            def connect(self) -> None:
                try:
                    super().connect()
                except TimeoutError:  # urllib3 would report a read timeout, as if the request had been sent
                    raise ssl.SSLError(HANDSHAKE_TIMEOUT) from None
                connection.connected(self.sock)

        plain = type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": Plain})
        tls = type("TlsPool", (HTTPSConnectionPool,), {"ConnectionCls": Tls})
        self.poolmanager.pool_classes_by_scheme = {"http": plain, "https": tls}


class Deadline:
    """Shuts a connection down after `seconds`, whatever it waits for. `passed` says whether it has done so."""

    def __init__(self, connection: AbortableConnection, seconds: float) -> None:
        self.passed = False
        self._connection = connection
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        self._connection.shut_down()


class FirstByteDeadline:
    """Shuts a connection down if nothing was received for `seconds`. `passed` says whether it has done so.

    The time in which `is_queued` returns true does not count: then the server is busy with another answer.
    """

    def __init__(self, connection: AbortableConnection, seconds: float, is_queued: Callable[[], bool]) -> None:
        self.passed = False
        self._connection = connection
        self._left = seconds
        self._is_queued = is_queued
        self._received = threading.Event()

    def __enter__(self) -> FirstByteDeadline:
        threading.Thread(target=self._watch, name="first-byte", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.received()

    def received(self) -> None:
        """End the deadline: the response has begun."""
        self._received.set()

    def _watch(self) -> None:
        at = time.monotonic()
        while not self._received.wait(min(self._left, QUEUE_POLL_SECONDS)):
            before, at = at, time.monotonic()
            if not self._is_queued():
                self._left -= at - before
            if self._left <= 0:
                self.passed = True
                self._connection.shut_down()
                return


def open_session(connection: AbortableConnection, *, local: bool) -> requests.Session:
    """Return a session that registers its sockets with `connection`."""
    session = requests.Session()
    # A server on this machine needs neither a proxy nor .netrc; a remote one may.
    session.trust_env = not local
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(connection))
    return session
