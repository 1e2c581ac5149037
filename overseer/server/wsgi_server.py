"""The WSGI server: gevent's, with limits on the number, size and time of connections and requests, and strict parsing.

Each connection has a greenlet. A client that is slow or silent, sends without end or opens many connections affects
only itself. Errors at this level are plain text, because neither the client nor the page it wants is known yet.
"""

from __future__ import annotations

import io
import logging
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

MAX_HEADERS_BYTES = 32_768  # of all headers; gevent limits the request line to 8,192
MAX_HEADER_LINES = 90
MAX_CHUNK_LINE_BYTES = 16_384  # the size of a chunk and its extensions
MIN_BODY_BYTES_PER_SECOND = 50_000  # of a body that takes longer than `body_seconds`
PAUSE_BYTES = 250_000  # of a body, after which others go first
MAX_DISCARDED_BYTES = 20_000_000  # of an unwanted body, so that the client reads the response before a reset
SEND_BYTES = 65_536  # of a response, for which `stall_seconds` are allowed
BUFFER_BYTES = 8192
YIELD_INTERVAL_SECONDS = 0.005  # of reading, before other greenlets may run
RESERVED_DESCRIPTORS = 256  # for rooms and connections to models
DESCRIPTORS_PER_CONNECTION = 2  # a WebSocket duplicates its socket
MAX_CLIENT_SHARE = 1 / 3  # of all connections
WARNING_INTERVAL_SECONDS = 60.0

ERROR_TEXTS = {
    204: "",
    400: "Bad request.",
    408: "The request took too long.",
    414: "The URL is too long.",
    431: "The request headers are too long, or too many.",
    501: "This server does not support that method or transfer coding.",
    503: "Too many connections are open. Close some tabs, or try again in a moment.",
    505: "This server supports version 1 of HTTP only.",
}
ERROR_HEADERS = {
    204: f"Allow: {', '.join(sorted(http_syntax.METHODS))}\r\n",
    503: "Retry-After: 5\r\n",
}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the server waits for a client."""

    header_seconds: float = 30.0  # for the request line and all headers
    body_seconds: float = 300.0  # for a whole body
    idle_seconds: float = 75.0  # for the next request on a connection
    stall_seconds: float = 60.0  # for the next byte, and for the client to read SEND_BYTES
    linger_seconds: float = 5.0  # for the client to close its side after the last response


class DeadlineExceeded(TimeoutError):
    """The client took too long."""


class MalformedBody(OSError):
    """A chunked body breaks the syntax."""


class SocketStream(io.RawIOBase):
    """The read side of a connection. It lets other greenlets run while a client sends without a pause.

    `upgraded` is set when the application takes the socket for another protocol: simple-websocket reads it from the
    attribute `_sock`. After that, nothing on the connection is HTTP.
    """

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._yielded_at = time.monotonic()
        self._buffered_only = False
        self.upgraded = False

    @property
    def _sock(self) -> Any:
        self.upgraded = True
        return self._socket

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self._buffered_only:
            return None
        if time.monotonic() - self._yielded_at > YIELD_INTERVAL_SECONDS:
            sleep(0)
            self._yielded_at = time.monotonic()
        return int(self._socket.recv_into(buffer))

    def has_buffered(self, reader: io.BufferedReader) -> bool:
        """Return whether `reader`, which buffers this stream, holds bytes that are not consumed yet."""
        self._buffered_only = True
        try:
            return bool(reader.peek(1))
        finally:
            self._buffered_only = False


class BoundedInput(Input):  # type: ignore[misc]
    """The body of a request, with a deadline.

    `unread` is set when a part of the body remains on the connection, `malformed` when what follows on the connection
    cannot be parsed. The handler sets `last` when it will read no other request. Chunks are parsed here, because
    gevent's parser accepts chunks of any size and line ends within extensions.
    """

    chunk_length: int  # -1 before the first chunk, 0 after the last
    position: int  # in the chunk

    def __init__(
        self, rfile: io.BufferedReader, length: int | None, *, chunked: bool, timeouts: Timeouts, expecting: Any
    ) -> None:
        super().__init__(rfile, length, expecting, chunked)
        self._timeouts = timeouts
        self._deadline = time.monotonic() + timeouts.body_seconds + (length or 0) / MIN_BODY_BYTES_PER_SECOND
        self._unpaused = 0  # bytes that were read without a pause
        self.unread = False
        self.malformed = False
        self.last = False

    def read(self, length: int | None = None) -> bytes:
        return self._before_deadline(super().read, length)

    def readline(self, size: int | None = None) -> bytes:
        return self._before_deadline(super().readline, size)

    def _before_deadline(self, read: Callable[[int | None], bytes], length: int | None) -> bytes:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise DeadlineExceeded
        with Timeout(seconds, DeadlineExceeded):
            data = read(length)
        self._unpaused += len(data)
        if self._unpaused >= PAUSE_BYTES:  # what a fast client has sent is read without a switch to other greenlets
            self._unpaused = 0
            sleep(0)
        return data

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
            self.malformed = True
            raise MalformedBody from error
        return b"".join(pieces)

    def _in_chunk(self) -> bool:
        """Read up to the next byte of data. Return False at the end of the body."""
        if self.malformed:
            raise BadRequest(400)
        if self.chunk_length == 0 or 0 <= self.position < self.chunk_length:
            return self.chunk_length > 0
        if self.chunk_length > 0 and self.rfile.read(2) != b"\r\n":
            raise BadRequest(400)
        self.chunk_length = http_syntax.parse_chunk_head(self.rfile.readline(MAX_CHUNK_LINE_BYTES))
        self.position = 0
        if self.chunk_length == 0:
            read_fields(self.rfile)  # the trailers, which are ignored
        return self.chunk_length > 0

    def _discard(self) -> None:
        """Read the rest of the body, up to a limit. gevent calls this after each response."""
        if not self.chunked_input and self.position >= (self.content_length or 0):
            return
        self.unread = True
        # A client that waits for "100 Continue" has sent nothing.
        if self.socket is not None or self.malformed or self.last:
            return
        with suppress(OSError), Timeout(self._timeouts.linger_seconds, DeadlineExceeded):
            for _ in range(MAX_DISCARDED_BYTES // SEND_BYTES):
                if not super().read(SEND_BYTES):
                    self.unread = False
                    return


class BoundedHandler(WSGIHandler):  # type: ignore[misc]
    """One connection and the requests on it."""

    server: BoundedServer
    wsgi_input: BoundedInput | None
    response_headers: list[tuple[bytes, bytes]]

    def __init__(self, sock: Any, address: tuple[str, int], server: BoundedServer) -> None:
        self._stream = SocketStream(sock)
        super().__init__(sock, address, server, io.BufferedReader(self._stream, BUFFER_BYTES))
        self._timeouts = server.timeouts
        self._is_first = True
        self._header_timeout = Timeout(None)
        sock.settimeout(self._timeouts.stall_seconds)

    def handle_one_request(self) -> bool | None:
        """Respond to one request. Return True if another one may follow on this connection."""
        result: Any = None
        self.command = ""
        try:
            if self._is_first or self._has_next_request():
                self._is_first = False
                self._header_timeout = Timeout.start_new(self._timeouts.header_seconds, DeadlineExceeded)
                result = super().handle_one_request()
        except DeadlineExceeded:
            pass  # no request line came
        finally:
            self._header_timeout.close()
        if result is True:
            return True
        # gevent returns a tuple for a request that is refused before the application sees it.
        self._close(error_response(int(result[0]), head=self.command == "HEAD") if isinstance(result, tuple) else b"")
        return None

    def read_requestline(self) -> str:
        """Read the request line. Skip one empty line before it, because some clients send one after a body."""
        line: str = super().read_requestline()
        return super().read_requestline() if line in ("\r\n", "\n") else line

    def read_request(self, raw_requestline: str) -> bool:
        """Read and check the headers. Raises BadRequest."""
        line = http_syntax.parse_request_line(raw_requestline.encode("latin-1"))
        self.requestline = raw_requestline.rstrip()
        self.command, self.path, self.request_version = line.method, line.target, line.version
        self.headers = self.MessageClass(self.rfile, 0)
        self._header_timeout.close()
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
            del self.headers["upgrade"]  # HTTP/1.0 has no upgrade
        self.close_connection = self._is_last_request()
        if self._wants_websocket() and not self.content_length and self._stream.has_buffered(self.rfile):
            raise BadRequest(400)  # frames before the handshake is done, which the WebSocket would not see
        if line.target == "*":
            raise BadRequest(204)  # not an error: OPTIONS * is answered here
        return True

    def MessageClass(self, rfile: io.BufferedReader, _: int) -> HTTPMessage:
        """Read the headers. Raises BadRequest."""
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
        if self.wsgi_input.unread or self._stream.upgraded:
            self.close_connection = True

    def finalize_headers(self) -> None:
        """Set the Connection header to what the server does (RFC 9112, section 9.6)."""
        super().finalize_headers()
        assert self.wsgi_input is not None
        names = {name.lower() for name, _ in self.response_headers}
        if self.command == "HEAD":
            self.response_use_chunked = False
        elif not (self.response_use_chunked or b"content-length" in names or self.code in (204, 304)):
            self.close_connection = True  # this is the end of the body
        if self.wsgi_input.malformed:
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

    def _is_last_request(self) -> bool:
        options = http_syntax.options(self.headers.get_all("connection", []))
        is_kept = "close" not in options and (self.request_version != "HTTP/1.0" or "keep-alive" in options)
        # Bytes after a request for another protocol may belong to that protocol, even if the request is refused.
        return not is_kept or "upgrade" in self.headers

    def _wants_websocket(self) -> bool:
        return "websocket" in http_syntax.options(self.headers.get_all("upgrade", []))

    def _has_next_request(self) -> bool:
        sleep(0)  # a client that pipelines requests would keep all others waiting
        try:
            with Timeout(self._timeouts.idle_seconds, DeadlineExceeded):
                return bool(self.rfile.peek(1))
        except OSError:
            return False

    def _handle_client_error(self, error: Exception) -> tuple[int, bytes]:
        status = 408 if isinstance(error, TimeoutError) else error.status if isinstance(error, BadRequest) else 400
        log.info("refused: %s", HTTPStatus(status).phrase)
        return status, b""

    def _close(self, response: bytes) -> None:
        """Send a last response, if there is one, and close the connection so that the client can read all of it.

        Closing a socket with unread bytes resets the connection, which discards what the client has not read yet. So
        the server shuts down its side, reads for a while, and only then closes. The application's duplicate of a
        WebSocket's socket has a reader of its own, which the last shutdown ends.
        """
        with suppress(OSError), Timeout(self._timeouts.linger_seconds, DeadlineExceeded):
            if response:
                self.socket.sendall(response)
            self.socket.shutdown(socket.SHUT_WR)
            discarded = 0
            while discarded < MAX_DISCARDED_BYTES and (data := self.rfile.read1(SEND_BYTES)):
                discarded += len(data)
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def _sendall(self, data: bytes | bytearray) -> None:
        """Send `data`. Raises BrokenPipeError if the client stops reading."""
        if self._stream.upgraded:
            return  # an error page, which has no place in another protocol
        rest = memoryview(data)
        try:
            while rest:
                super()._sendall(rest[:SEND_BYTES])
                rest = rest[SEND_BYTES:]
        except TimeoutError as error:
            raise BrokenPipeError(self.ignored_socket_errors[0], "the client does not read") from error


class BoundedServer(WSGIServer):  # type: ignore[misc]
    """The server. It refuses connections beyond what the limit of open files allows."""

    handler_class = BoundedHandler
    timeouts = Timeouts()

    def __init__(self, listener: socket.socket, app: WSGIApplication) -> None:
        super().__init__(listener, app, log=None, error_log=logging.getLogger("gevent"))
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        total = (descriptors - min(RESERVED_DESCRIPTORS, descriptors // 2)) // DESCRIPTORS_PER_CONNECTION
        self._connections = ConnectionLimits(Limits(total=total, per_client=int(total * MAX_CLIENT_SHARE)))
        self._warned_at = -WARNING_INTERVAL_SECONDS

    def do_handle(self, sock: Any, address: tuple[str, int]) -> None:
        """Serve a new connection, or refuse it without reading its request."""
        if self._connections.acquire(address[0]) is not None:
            super().do_handle(sock, address)
            return
        self._warn()
        with suppress(OSError):
            sock._sock.send(error_response(503), socket.MSG_DONTWAIT)
        sock.close()

    def handle(self, sock: Any, address: tuple[str, int]) -> None:
        """Serve a connection to its end."""
        try:
            super().handle(sock, address)
        finally:
            self._connections.release(client_key(address[0]))

    def _warn(self) -> None:
        if time.monotonic() - self._warned_at >= WARNING_INTERVAL_SECONDS:
            self._warned_at = time.monotonic()
            limits = self._connections.limits
            text = "too many connections: %s are allowed, %s for one client; see ulimit -n"
            log.warning(text, limits.total, limits.per_client)


def read_fields(rfile: io.BufferedReader) -> list[tuple[bytes, bytes]]:
    """Read header or trailer lines up to the empty one. Raises BadRequest, with 431 if there are too many bytes."""
    fields: list[tuple[bytes, bytes]] = []
    size = 0
    while True:
        line = rfile.readline(MAX_HEADERS_BYTES + 1)
        size += len(line)
        if size > MAX_HEADERS_BYTES:
            raise BadRequest(431)
        if line in (b"\r\n", b"\n"):
            return fields
        if len(fields) == MAX_HEADER_LINES:
            raise BadRequest(431)
        fields.append(http_syntax.parse_field(line))


def error_response(status: int, *, head: bool = False) -> bytes:
    """Return a whole response with an error text. `head` omits the body."""
    body = f"{ERROR_TEXTS[status]}\n".encode() if ERROR_TEXTS[status] else b""
    content = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n" if body else ""
    headers = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{content}"
        f"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n{ERROR_HEADERS.get(status, '')}"
        f"Connection: close\r\n\r\n"
    )
    return headers.encode() + (b"" if head else body)
