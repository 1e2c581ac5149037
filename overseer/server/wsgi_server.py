"""The doorway: connections as they come in, how many there may be, and how large and how slow what they say.

A client that is slow, silent, endless or legion costs only itself: it waits in a greenlet of its own, is let go after a
while, and lets others go first. Refusals from here are plain words: nobody knows yet who asks, or for what.
"""

from __future__ import annotations

import io
import logging
import os
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

from overseer.domain.addresses import client_key
from overseer.server import http_syntax
from overseer.server.connection_limits import ConnectionLimits, Limits
from overseer.server.http_syntax import BadRequest

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

MAX_HEADERS = 32_768  # bytes of all headers together; the line before them has at most 8,192
MAX_HEADER_LINES = 90
MAX_EXTENSIONS = 16_384  # bytes of a chunked body's extensions together
RATE = 10_000  # bytes of a body a second, when its first minute has passed
SLICE = 65_536  # bytes of an answer for which `stall` seconds are waited
DRAIN = 20_000_000  # bytes that were sent in vain and are read nevertheless, so that the answer is, too
RESERVE = 256  # descriptors that are kept for rooms and their models
SHARE = 3  # of all connections there may be, one client may have one in so many
BREATH = 0.005  # seconds of reading before others may run
WARN_AGAIN = 60.0

SENTENCES = {
    204: "",
    400: "This is no request that can be understood.",
    408: "The request took too long to come.",
    414: "The address is too long.",
    431: "The request has too many headers, or too long ones.",
    501: "This server does not know that method or transfer coding.",
    503: "Too many connections are open. Close some tabs, or try again in a moment.",
    505: "This server speaks version 1 of HTTP only.",
}
EXTRA = {
    204: f"Allow: {', '.join(sorted(http_syntax.METHODS))}\r\n",
    503: "Retry-After: 5\r\n",
}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for which a connection is waited."""

    headers: float = 30.0  # for a whole request but its body,
    idle: float = 75.0  # for the next request on a connection,
    body: float = 60.0  # for a body, and one more for each RATE bytes that came,
    stall: float = 60.0  # for a byte in the midst of something, and for SLICE bytes of an answer to be taken,
    drain: float = 5.0  # for what was sent in vain,
    linger: float = 2.0  # for the client to close, once the server has ended a connection,
    crowded: float = 2.0  # and for a request that will be refused


class Late(TimeoutError):
    """What was waited for has not come in time."""


class BrokenBody(OSError):
    """A chunked body breaks the syntax."""


class TimedSocket(io.RawIOBase):
    """What a client says. One that speaks without a pause lets others go first.

    `taken` says that the application took the socket for a protocol of its own: simple-websocket finds it as `_sock`.
    From then on nothing on the connection is HTTP any more.
    """

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._breathed = time.monotonic()
        self._buffered_only = False
        self.taken = False

    @property
    def _sock(self) -> Any:
        self.taken = True
        return self._socket

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self._buffered_only:
            return None
        now = time.monotonic()
        if now - self._breathed > BREATH:
            sleep(0)
            self._breathed = time.monotonic()
        return int(self._socket.recv_into(buffer))

    def has_buffered(self, reader: io.BufferedReader) -> bool:
        """Whether `reader`, which buffers this stream, holds bytes that are not yet consumed."""
        self._buffered_only = True
        try:
            return bool(reader.peek(1))
        finally:
            self._buffered_only = False


class BoundedInput(Input):  # type: ignore[misc]
    """A request's body, which has to come in time. `left` says that some of it was never read.

    `broken` says that what follows on the connection has no meaning, `last` that no other request is read from it.
    Chunks are parsed here: gevent's parser waits for chunks of any size, and takes line ends within extensions.
    """

    chunk_length: int  # -1 before the first chunk, 0 after the last
    position: int  # in the chunk

    def __init__(
        self, rfile: io.BufferedReader, length: int | None, *, chunked: bool, timeouts: Timeouts, expecting: Any
    ) -> None:
        super().__init__(rfile, length, expecting, chunked)
        self._timeouts = timeouts
        self._until = time.monotonic() + timeouts.body
        self._taken = 0
        self._extensions = 0
        self.left = False
        self.broken = False
        self.last = False

    def read(self, length: int | None = None) -> bytes:
        return self._in_time(super().read, length)

    def readline(self, size: int | None = None) -> bytes:
        return self._in_time(super().readline, size)

    def _chunked_read(self, length: int | None = None, use_readline: bool = False) -> bytes:
        self._send_100_continue()
        read = self.rfile.readline if use_readline else self.rfile.read
        pieces: list[bytes] = []
        try:
            while (length is None or length > 0) and self._in_chunk():
                rest = self.chunk_length - self.position
                piece = read(rest if length is None else min(rest, length))
                if not piece:
                    raise BadRequest(400)
                pieces.append(piece)
                self.position += len(piece)
                if length is not None:
                    length -= len(piece)
                if use_readline and piece.endswith(b"\n"):
                    break
        except BadRequest as error:
            self.broken = True
            raise BrokenBody from error
        return b"".join(pieces)

    def _in_chunk(self) -> bool:
        """Read up to the next byte of data; False at the end of the body."""
        if self.broken:
            raise BadRequest(400)
        if self.chunk_length == 0 or 0 <= self.position < self.chunk_length:
            return self.chunk_length > 0
        if self.chunk_length > 0 and self.rfile.read(2) != b"\r\n":
            raise BadRequest(400)
        head = self.rfile.readline(MAX_EXTENSIONS)
        self.chunk_length = http_syntax.parse_chunk_head(head)
        self.position = 0
        self._extensions += len(head) if b";" in head else 0
        if self._extensions > MAX_EXTENSIONS:
            raise BadRequest(400)
        if self.chunk_length == 0:
            read_fields(self.rfile)  # the trailers, which nobody needs
        return self.chunk_length > 0

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
        if self.socket is not None or self.broken or self.last:
            return  # who waits for "100 Continue" has sent nothing; and after nonsense nothing has a place
        with suppress(OSError), Timeout(self._timeouts.drain, Late):
            for _ in range(DRAIN // SLICE):
                if not super().read(SLICE):
                    self.left = False
                    return


class BoundedHandler(WSGIHandler):  # type: ignore[misc]
    """One connection and the requests on it."""

    server: BoundedServer
    wsgi_input: BoundedInput | None
    response_headers: list[tuple[bytes, bytes]]

    def __init__(self, sock: Any, address: tuple[str, int], server: BoundedServer) -> None:
        self._wire = TimedSocket(sock)
        super().__init__(sock, address, server, io.BufferedReader(self._wire, 8192))
        self._timeouts = server.timeouts
        self._crowded = server.crowded(sock.fileno())
        self._asked = False
        self._hurry = Timeout(None)
        sock.settimeout(self._timeouts.stall)

    def handle_one_request(self) -> bool | None:
        """Answer one request; return whether there may be another on this connection."""
        result: Any = None
        self.command = ""
        try:
            if not self._asked or self._asks_again():
                self._asked = True
                seconds = self._timeouts.crowded if self._crowded else self._timeouts.headers
                self._hurry = Timeout.start_new(seconds, Late)
                result = super().handle_one_request()
        except Late:
            pass  # it has not said a word
        finally:
            self._hurry.close()
        if result is True:
            return True
        if isinstance(result, tuple):
            self._end(refusal(int(result[0]), head=self.command == "HEAD"), self._timeouts.drain)
        else:
            unread = self.wsgi_input is not None and self.wsgi_input.left
            self._end(b"", self._timeouts.drain if unread else self._timeouts.linger)
        return None

    def read_requestline(self) -> str:
        """Read the request line, and before it an empty one, as a client may send after a body."""
        line: str = super().read_requestline()
        return super().read_requestline() if line in ("\r\n", "\n") else line

    def read_request(self, raw_requestline: str) -> bool:
        """Read the headers, and decide what is asked of whom. Raises BadRequest."""
        line = http_syntax.parse_request_line(raw_requestline.encode("latin-1"))
        self.requestline = raw_requestline.rstrip()
        self.command, self.path, self.request_version = line.method, line.target, line.version
        self.headers = self.MessageClass(self.rfile, 0)
        self._hurry.close()
        hosts, lengths = self.headers.get_all("host", []), self.headers.get_all("content-length", [])
        http_syntax.check_host(hosts, line.version)
        http_syntax.check_framing(lengths, self.headers.get_all("transfer-encoding", []), line.version)
        if authority := line.authority or "".join(hosts):
            del self.headers["host"]
            self.headers["Host"] = authority.removesuffix(":")
        self.content_length = int(lengths[0]) if lengths else None
        if self.content_length and line.method == "HEAD":
            raise BadRequest(400)
        if line.version == "HTTP/1.0":
            del self.headers["upgrade"]  # there is no upgrade from it
        wanted = http_syntax.options(self.headers.get_all("connection", []))
        keeps = "close" not in wanted and (line.version != "HTTP/1.0" or "keep-alive" in wanted)
        # What follows a request for another protocol may be meant in that: it is the last one, even if it is refused.
        self.close_connection = not keeps or "upgrade" in self.headers
        if self._asks_for_websocket() and not self.content_length and self._wire.has_buffered(self.rfile):
            raise BadRequest(400)  # said too early: the socket's reader would never see it
        if line.target == "*":
            raise BadRequest(204)
        # A tab takes a second descriptor.
        if self._crowded or (self._asks_for_websocket() and self.server.crowded(self._next_descriptor())):
            self.server.warn()
            raise BadRequest(503)
        return True

    def MessageClass(self, rfile: io.BufferedReader, _: int) -> HTTPMessage:
        """Read the headers, of which there are not too many. Raises BadRequest."""
        headers: HTTPMessage = headers_factory(io.BytesIO())
        for name, value in read_fields(rfile):
            headers[name.decode("ascii")] = value.decode("latin-1")
        return headers

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        expects = environ.get("HTTP_EXPECT", "").lower() == "100-continue" and self.request_version != "HTTP/1.0"
        self.wsgi_input = environ["wsgi.input"] = BoundedInput(
            self.rfile,
            self.content_length,
            chunked="transfer-encoding" in self.headers,
            timeouts=self._timeouts,
            expecting=self.socket if expects else None,
        )
        environ["wsgi.input_terminated"] = True
        return environ

    def handle_one_response(self) -> None:
        super().handle_one_response()
        assert self.wsgi_input is not None
        if self.wsgi_input.left or self._wire.taken:
            self.close_connection = True

    def finalize_headers(self) -> None:
        """Say whether the connection goes on, as the server does it (RFC 9112, section 9.6)."""
        super().finalize_headers()
        assert self.wsgi_input is not None
        names = {name.lower() for name, _ in self.response_headers}
        if self.command == "HEAD":
            self.response_use_chunked = False
        elif not (self.response_use_chunked or b"content-length" in names or self.code in (204, 304)):
            self.close_connection = True  # the end of the body
        if self.wsgi_input.broken:
            self.close_connection = True
        self.wsgi_input.last = self.close_connection
        options = [b"upgrade"] if b"upgrade" in names else []
        if self.close_connection:
            options.append(b"close")
        elif self.request_version == "HTTP/1.0":
            options.append(b"keep-alive")
        headers = [header for header in self.response_headers if header[0].lower() != b"connection"]
        self.response_headers = headers + ([(b"Connection", b", ".join(options))] if options else [])

    def _write(self, data: bytes) -> None:
        if self.command != "HEAD":
            super()._write(data)

    def _asks_for_websocket(self) -> bool:
        return "websocket" in http_syntax.options(self.headers.get_all("upgrade", []))

    def _asks_again(self) -> bool:
        # Who asks without a pause would keep everyone else from being answered.
        sleep(0)
        try:
            with Timeout(self._timeouts.idle, Late):
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
        status = 408 if isinstance(error, TimeoutError) else error.status if isinstance(error, BadRequest) else 400
        log.info("refused: %s", HTTPStatus(status).phrase)
        return status, b""

    def _end(self, words: bytes, seconds: float) -> None:
        """End the connection, with some last words, so that the client can read all that it was sent.

        A close with bytes unread is a reset, which takes away what is on its way: the client is waited for to close,
        and what it still sends is dropped. The socket of a WebSocket has a second descriptor and a reader of its own;
        shutting it down ends both.
        """
        with suppress(OSError), Timeout(seconds, Late):
            if words:
                self.socket.sendall(words)
            self.socket.shutdown(socket.SHUT_WR)
            dropped = 0
            while dropped < DRAIN and (data := self.rfile.read1(SLICE)):
                dropped += len(data)
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def _sendall(self, data: bytes | bytearray) -> None:
        """Send it for as long as it is being read."""
        if self._wire.taken:
            return  # an error's page, in the midst of another protocol
        rest = memoryview(data)
        try:
            while rest:
                super()._sendall(rest[:SLICE])
                rest = rest[SLICE:]
        except TimeoutError as error:
            raise BrokenPipeError(self.ignored_socket_errors[0], "nobody reads") from error


class BoundedServer(WSGIServer):  # type: ignore[misc]
    """The server. Descriptors are given out from below, so a connection's own number says how many are in use."""

    handler_class = BoundedHandler
    timeouts = Timeouts()

    def __init__(self, listener: socket.socket, app: WSGIApplication) -> None:
        super().__init__(listener, app, log=None, error_log=logging.getLogger("gevent"))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._reserve = min(RESERVE, limit // 2)
        self.room = limit - self._reserve
        self._connections = ConnectionLimits(Limits(total=limit, per_client=self.room // SHARE))
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
            self._connections.release(client_key(address[0]))

    def do_handle(self, sock: Any, address: tuple[str, int]) -> None:
        if sock.fileno() < self.room + self._reserve // 4:
            if self._connections.acquire(address[0]) is not None:
                super().do_handle(sock, address)
                return
        else:
            self.warn()
        # Not even time to read what it wants.
        with suppress(OSError):
            sock._sock.send(refusal(503), socket.MSG_DONTWAIT)
        sock.close()


def read_fields(rfile: io.BufferedReader) -> list[tuple[bytes, bytes]]:
    """Read header or trailer lines up to the empty one. Raises BadRequest, with 431 if there are too many bytes."""
    fields: list[tuple[bytes, bytes]] = []
    size = 0
    while True:
        line = rfile.readline(MAX_HEADERS + 1)
        size += len(line)
        if size > MAX_HEADERS:
            raise BadRequest(431)
        if line in (b"\r\n", b"\n"):
            return fields
        if len(fields) == MAX_HEADER_LINES:
            raise BadRequest(431)
        fields.append(http_syntax.parse_field(line))


def refusal(status: int, *, head: bool = False) -> bytes:
    """Return a whole response that says why there is no other; without its body as an answer to HEAD."""
    words = f"{SENTENCES[status]}\n".encode() if SENTENCES[status] else b""
    about = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(words)}\r\n" if words else ""
    start = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{about}"
        f"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n{EXTRA.get(status, '')}"
        f"Connection: close\r\n\r\n"
    )
    return start.encode() + (b"" if head else words)
