"""Clients in a process of their own: `python -m tests.bench.senders PORT SECONDS ROOM...`, one for each room.

Each posts one message after the other. A room is an id or the path of a room; `-` stands for requests to `/healthz`,
which store nothing. The process prints the number of complete 201 responses a second.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.bench.caller import PART, length, request

WARM_UP_SECONDS = 0.5
NOWHERE = "-"


def acknowledged(port: int, seconds: float, rooms: Sequence[str]) -> float:
    """Run the process. Return the acknowledged messages a second."""
    command = [sys.executable, "-m", "tests.bench.senders", str(port), str(seconds), *rooms]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


class Sender:
    """A connection that posts into one room."""

    def __init__(self, port: int, room: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if room == NOWHERE:
            self._request, self._wanted = request(port, "GET", "/healthz"), b"HTTP/1.1 200 "
        else:
            self._request = request(
                port,
                "POST",
                f"{room if room.startswith('/') else f'/rooms/{room}'}/messages",
                {"text": "Who eats voles?"},
                PART,
            )
            self._wanted = b"HTTP/1.1 201 "
        self._received = b""

    def send(self) -> None:
        """Send a message."""
        self.sock.sendall(self._request)

    def receive(self) -> bool:
        """Receive some bytes. Return whether the message is acknowledged."""
        data = self.sock.recv(1 << 18)
        assert data, "the server closed a connection"
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        if b"\r\n\r\n" not in self._received or len(body) < length(head):
            return False
        assert head.startswith(self._wanted), head
        self._received = b""
        return True


def main(port: int, seconds: float, rooms: Sequence[str]) -> None:
    """Send for `seconds`."""
    poll = select.epoll()
    senders = {one.sock.fileno(): one for one in (Sender(port, room) for room in rooms)}
    for descriptor, one in senders.items():
        poll.register(descriptor, select.EPOLLIN)
        one.send()
    began = time.monotonic() + WARM_UP_SECONDS
    until, count = began + seconds, 0
    while (now := time.monotonic()) < until:
        for descriptor, _ in poll.poll(1.0):
            one = senders[descriptor]
            if one.receive():
                count += now >= began
                one.send()
    print(count / seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
