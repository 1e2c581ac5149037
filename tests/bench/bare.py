"""The floor of the fan-out: gevent sockets that send the same bytes from the model to the same number of tabs.

`python -m tests.bench.bare MODEL-PORT FRAME-BYTES` prints its port. A request for `/go` with a script asks the model,
and each token is sent to each tab in a frame of FRAME-BYTES.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from urllib.parse import unquote

import gevent
from gevent import socket
from gevent.server import StreamServer

END = b'<article id="message-2" data-state="complete"></hx-partial>'
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Bare:
    """A context manager for the process."""

    def __init__(self, model: int, size: int) -> None:
        self._arguments = [str(model), str(size)]

    def __enter__(self) -> Bare:
        command = [sys.executable, "-m", "tests.bench.bare", *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.pid = self._process.pid
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def frame(payload: bytes) -> bytes:
    """Return a text frame of a server."""
    size = len(payload)
    return b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + payload


class FanOut:
    """Sends every token to all tabs in one greenlet."""

    def __init__(self, model: int, size: int) -> None:
        self._model = model
        self._size = size
        self._tabs: list[socket.socket] = []

    def accept(self, sock: socket.socket, address: object) -> None:
        """Serve a tab, or a request for `/go`."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = sock.recv(65536).split()[1].decode()
        if head.startswith("/go?"):
            self.stream(unquote(head[4:]))
            sock.sendall(b"done")
        else:
            sock.sendall(UPGRADE + frame(b'hx-target="#messages"'))
            self._tabs.append(sock)
            gevent.sleep(1000)

    def stream(self, script: str) -> None:
        """Ask the model, and send each of its events to each tab."""
        body = json.dumps({"messages": [{"role": "user", "content": script}]}).encode()
        with socket.create_connection(("127.0.0.1", self._model)) as model:
            model.sendall(b"POST /v1 HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            rest = b""
            while data := model.recv(65536):
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    data = frame(event.ljust(self._size)[: self._size])
                    for tab in self._tabs:
                        tab.send(data)
        for tab in self._tabs:
            tab.sendall(frame(END))


def main(model: int, size: int) -> None:
    """Serve until killed."""
    fan_out = FanOut(model, size)
    server = StreamServer(("127.0.0.1", 0), fan_out.accept, backlog=4096)
    server.start()
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
