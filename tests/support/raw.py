"""HTTP requests as bytes, on a socket of their own."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import Protocol

from tests.support.tab import DEADLINE

FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Listening(Protocol):
    """A server on a port of 127.0.0.1."""

    port: int


class Caller:
    """A client socket that sends any bytes. `buffer` is the size of its receive buffer, `source` its address."""

    def __init__(self, server: Listening, *, buffer: int = 0, source: str = "") -> None:
        self.socket = socket.socket()
        self.socket.bind((source, 0))
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(("127.0.0.1", server.port))

    def send(self, *words: str | bytes) -> Caller:
        """Send text or bytes."""
        for one in words:
            self.socket.sendall(one if isinstance(one, bytes) else one.encode("latin-1"))
        return self

    def receive_until(self, wanted: bytes) -> bytes:
        """Receive until `wanted` has come. Return everything up to then."""
        received = b""
        while wanted not in received:
            data = self.socket.recv(65536)
            assert data, received
            received += data
        return received

    def receive(self) -> str:
        """Receive until the server closes the connection."""
        received = b""
        with suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                received += data
        return received.decode("latin-1")

    def answers(self) -> list[int]:
        """Return the statuses of all responses, and check that each plain text is a sentence."""
        received = self.receive()
        for words in re.findall(
            r"Content-Type: text/plain; charset=utf-8\r\n.*?\r\n\r\n(.*?)(?=HTTP/1.1|\Z)", received, re.S
        ):
            assert re.fullmatch(r"[A-Z].{8,}\.\n|ok", words), words
        return [int(status) for status in re.findall(r"HTTP/1\.1 (\d+) ", received)]

    def close(self) -> None:
        self.socket.close()


def get(path: str = "/healthz", headers: str = "", *, close: bool = True) -> str:
    """Return a GET request. `close` asks the server to close the connection."""
    end = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{end}{headers}\r\n"


def post(path: str, headers: str, body: str = "", *, close: bool = True) -> str:
    """Return a POST request. `headers` has to say how long the body is."""
    return get(path, FORM + headers, close=close).replace("GET", "POST", 1) + body


def handshake(path: str = "/live", headers: str = "", *, host: str = "127.0.0.1", version: str = "13") -> str:
    """Return the request that opens a WebSocket."""
    lines = {"Host": host, **HANDSHAKE, "Sec-WebSocket-Version": version}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET {path} HTTP/1.1\r\n{head}{headers}\r\n"
