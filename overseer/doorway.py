"""The doorway: connections as they come in, how many there may be, and how large and how slow what they say.

A client that is slow, silent, endless or legion costs only itself: it waits in a greenlet of its own, is let go after a
while, and lets others go first. Refusals from here are plain words: nobody knows yet who asks, or for what.
"""

from __future__ import annotations

import io
import logging
import os
import re
import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPMessage
from typing import TYPE_CHECKING, Any

from gevent import Timeout, sleep
from gevent.pywsgi import Input, WSGIHandler, WSGIServer, headers_factory

from overseer.access import client_of
from overseer.seats import House, Seats

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

MAX_HEADERS = 32_768  # bytes of all headers together; the line before them has at most 8,192
MAX_HEADER_LINES = 90
METHOD = re.compile("[A-Za-z-]{1,40}")
HEADER = re.compile(rb"[^\0-\x20\x7f:]+:[^\0\r\n]*\r?\n")  # not continued on the next, which is long gone
RATE = 10_000  # bytes of a body a second, when its first minute has passed
SLICE = 65_536  # bytes of an answer for which `stall` seconds are waited
DRAIN = 20_000_000  # bytes that were sent in vain and are read nevertheless, so that the answer is, too
RESERVE = 256  # descriptors that are kept for rooms and their models
SHARE = 3  # of all connections there may be, one client may have one in so many
BREATH = 0.005  # seconds of reading before others may run
WARN_AGAIN = 60.0

SENTENCES = {
    400: "This is no request that can be understood.",
    408: "The request took too long to come.",
    414: "The address is too long.",
    431: "The request has too many headers, or too long ones.",
    503: "Too many connections are open. Close some tabs, or try again in a moment.",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for which a connection is waited."""

    headers: float = 30.0  # for a whole request but its body,
    idle: float = 75.0  # for the next request on a connection,
    body: float = 60.0  # for a body, and one more for each RATE bytes that came,
    stall: float = 60.0  # for a byte in the midst of something, and for SLICE bytes of an answer to be taken,
    drain: float = 5.0  # for what was sent in vain,
    crowded: float = 2.0  # and for a request that will be refused


class Refused(ValueError):
    """A request that goes no further than here."""

    def __init__(self, status: int) -> None:
        super().__init__(SENTENCES[status])
        self.status = status


class Late(TimeoutError):
    """What was waited for has not come in time."""


class Wire(io.RawIOBase):
    """What a client says. One that speaks without a pause lets others go first."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock  # by this name the socket's library finds it
        self._breathed = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        now = time.monotonic()
        if now - self._breathed > BREATH:
            sleep(0)
            self._breathed = time.monotonic()
        return int(self._sock.recv_into(buffer))


class Body(Input):  # type: ignore[misc]
    """A request's body, which has to come in time. `left` says that some of it was never read."""

    __slots__ = ("_patience", "_taken", "_until", "left")

    def __init__(self, given: Input, patience: Patience) -> None:
        super().__init__(given.rfile, given.content_length, given.socket, given.chunked_input)
        self._patience = patience
        self._until = time.monotonic() + patience.body
        self._taken = 0
        self.left = False

    def read(self, length: int | None = None) -> bytes:
        return self._in_time(super().read, length)

    def readline(self, size: int | None = None) -> bytes:
        return self._in_time(super().readline, size)

    def _in_time(self, read: Callable[[int | None], bytes], length: int | None) -> bytes:
        left = self._until + self._taken / RATE - time.monotonic()
        if left <= 0:
            raise Late
        with Timeout(left, Late):
            data = read(length)
        self._taken += len(data)
        return data

    def _discard(self) -> None:
        """Read what nobody wanted, if that is not much: else the answer might be lost with it."""
        if not self.chunked_input and self.position >= (self.content_length or 0):
            return
        self.left = True
        if self.socket is not None or self._chunked_input_error:
            return  # who waits for "100 Continue" has sent nothing; and after nonsense nothing has a place
        with suppress(OSError), Timeout(self._patience.drain, Late):
            for _ in range(DRAIN // SLICE):
                if not super().read(SLICE):
                    self.left = False
                    return


class Visit(WSGIHandler):  # type: ignore[misc]
    """One connection and the requests on it."""

    server: Doorway
    wsgi_input: Any

    def __init__(self, sock: Any, address: tuple[str, int], server: Doorway) -> None:
        super().__init__(sock, address, server, io.BufferedReader(Wire(sock), 8192))
        self._patience = server.patience
        self._crowded = server.crowded(sock.fileno())
        self._asked = False
        self._hurry = Timeout(None)
        sock.settimeout(self._patience.stall)

    def handle_one_request(self) -> bool | None:
        """Answer one request; whether there may be another on this connection."""
        try:
            if self._asked and not self._asks_again():
                return None
            self._asked = True
            seconds = self._patience.crowded if self._crowded else self._patience.headers
            self._hurry = Timeout.start_new(seconds, Late)
            result = super().handle_one_request()
        except Late:
            return None  # it has not said a word
        finally:
            self._hurry.close()
        if isinstance(result, tuple):
            self._refuse(int(result[0]))
            return None
        return result  # type: ignore[no-any-return]

    def read_request(self, raw_requestline: str) -> bool:
        """Take in the headers. Raises what `_handle_client_error` answers."""
        super().read_request(raw_requestline)
        self._hurry.close()
        if not METHOD.fullmatch(self.command):
            raise Refused(400)  # it would be in the log, and a terminal may obey it
        # A tab takes a second descriptor.
        if self._crowded or (self._connection_upgrade_requested() and self.server.crowded(self._next_descriptor())):
            self.server.warn()
            raise Refused(503)
        return True

    def MessageClass(self, rfile: io.BufferedReader, _: int) -> HTTPMessage:
        """The headers, of which there are not too many, and which say clearly where the request ends."""
        lines: list[bytes] = []
        size = 0
        while not lines or lines[-1] not in (b"\r\n", b"\n"):
            lines.append(rfile.readline(MAX_HEADERS + 1))
            size += len(lines[-1])
            if size > MAX_HEADERS or len(lines) > MAX_HEADER_LINES + 1:
                raise Refused(431)
            if not (HEADER.fullmatch(lines[-1]) or lines[-1] in (b"\r\n", b"\n")):
                raise Refused(400)  # it went away, or means something else to another reader
        headers: HTTPMessage = headers_factory(io.BytesIO(b"".join(lines)))
        lengths, codings = headers.get_all("content-length", []), headers.get_all("transfer-encoding", [])
        plain = all(re.fullmatch("[0-9]{1,18}", length) for length in lengths)
        if not plain or len({*lengths}) > 1 or codings and (lengths or [one.lower() for one in codings] != ["chunked"]):
            raise Refused(400)
        return headers

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        given: Input = self.wsgi_input
        self.wsgi_input = Body(given, self._patience)
        if environ["wsgi.input"] is given:
            environ["wsgi.input"] = self.wsgi_input
        return environ

    def handle_one_response(self) -> None:
        super().handle_one_response()
        if self.wsgi_input.left:
            self.close_connection = True

    def _asks_again(self) -> bool:
        # Who asks without a pause would keep everyone else from being answered.
        sleep(0)
        try:
            with Timeout(self._patience.idle, Late):
                return bool(self.rfile.peek(1))
        except OSError:
            return False

    def _next_descriptor(self) -> int:
        try:
            number = os.dup(self.socket.fileno())
        except OSError:
            return self.server.room
        os.close(number)
        return number

    def _handle_client_error(self, error: Exception) -> tuple[int, bytes]:
        status = 408 if isinstance(error, TimeoutError) else error.status if isinstance(error, Refused) else 400
        log.info("refused: %s", HTTPStatus(status).phrase)
        return status, b""

    def _refuse(self, status: int) -> None:
        """Say why, and listen for a moment to what is still coming: a close would take the words away."""
        with suppress(OSError), Timeout(self._patience.drain, Late):
            self.socket.sendall(refusal(status))
            self.socket.shutdown(socket.SHUT_WR)
            for _ in range(DRAIN // SLICE):
                if not self.rfile.read1(SLICE):
                    return

    def _sendall(self, data: bytes | bytearray) -> None:
        """Send it for as long as it is being read."""
        rest = memoryview(data)
        try:
            while rest:
                super()._sendall(rest[:SLICE])
                rest = rest[SLICE:]
        except TimeoutError as error:
            raise BrokenPipeError(self.ignored_socket_errors[0], "nobody reads") from error


class Doorway(WSGIServer):  # type: ignore[misc]
    """The server. Descriptors are given out from below, so a connection's own number says how many are in use."""

    handler_class = Visit
    patience = Patience()

    def __init__(self, listener: socket.socket, app: WSGIApplication) -> None:
        super().__init__(listener, app, log=None, error_log=logging.getLogger("gevent"))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._reserve = min(RESERVE, limit // 2)
        self.room = limit - self._reserve
        self._seats = Seats(House(all=limit, each=self.room // SHARE))
        self._warned = -WARN_AGAIN

    def crowded(self, descriptor: int) -> bool:
        """Whether so many descriptors are in use that a connection has to be refused."""
        return descriptor >= self.room

    def warn(self) -> None:
        """Tell the log, once a minute."""
        if time.monotonic() - self._warned >= WARN_AGAIN:
            self._warned = time.monotonic()
            log.warning("too many connections: the system allows %s open files; see ulimit -n", self.room)

    def handle(self, sock: Any, address: tuple[str, int]) -> None:
        """Serve a connection to its end."""
        try:
            super().handle(sock, address)
        finally:
            self._seats.give_back(client_of(address[0]))

    def do_handle(self, sock: Any, address: tuple[str, int]) -> None:
        if sock.fileno() < self.room + self._reserve // 4:
            if self._seats.take(address[0]) is not None:
                super().do_handle(sock, address)
                return
        else:
            self.warn()
        # Not even time to read what it wants.
        with suppress(OSError):
            sock._sock.send(refusal(503), socket.MSG_DONTWAIT)
        sock.close()


def refusal(status: int) -> bytes:
    """A whole answer that says why there is no other."""
    words = SENTENCES.get(status, SENTENCES[400]).encode() + b"\n"
    again = "Retry-After: 5\r\n" if status == 503 else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n{again}"
        f"Connection: close\r\nContent-Length: {len(words)}\r\n\r\n"
    )
    return head.encode() + words
