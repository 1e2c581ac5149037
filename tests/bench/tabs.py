"""Many tabs in a process of its own, which note how late each token came: `python -m tests.bench.tabs PORT ROOM...`.

It prints `ready` when every tab is up to date, and, when each has seen its room's answer end, what it saw as JSON.
"""

from __future__ import annotations

import json
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

SECONDS = 120.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
STAMP = re.compile(rb"T(\d{18})")
ENDED = re.compile(rb'id="message-2"[^>]*data-state="(?!waiting|streaming)')
PING, PONG = b"\x89\x00", b"\x8a\x80" + bytes(4)  # empty ones
FRAME_END = b"</hx-partial>"
LOOK_BACK = 300  # bytes, longer than what is looked for


@dataclass(frozen=True, slots=True)
class Seen:
    """What the tabs saw: how late (ms, sorted) they got each token, how many of them a tab got, and bytes and reads."""

    late: list[float]
    tokens: list[int]
    bytes: int
    reads: int
    last_at: float


class Watch:
    """A process with so many tabs on each of these rooms."""

    def __init__(self, port: int, rooms: Sequence[str], *, each: int) -> None:
        command = [sys.executable, "-m", "tests.bench.tabs", str(port), *[room for room in rooms for _ in range(each)]]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._said = self._process.stdout
        assert self._said.readline() == "ready\n"

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """They go, whatever they have seen."""
        self._process.kill()
        self._process.wait()
        self._said.close()

    def seen(self) -> Seen:
        """What they saw, when every answer has ended."""
        with self._said:
            found: dict[str, Any] = json.loads(self._said.readline())
        self._process.wait(SECONDS)
        return Seen(**found)


class Tab:
    """One WebSocket, read without taking its frames apart."""

    def __init__(self, port: int, room: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.sendall(
            f"GET /live?room={room} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode()
        )
        self.tail = b""
        self.newest = 0
        self.tokens = self.bytes = self.reads = 0
        self._ending = self.ended = False

    def read(self, late: list[float]) -> None:
        """Take what there is, and note how late the tokens in it are that were not seen before."""
        data = self.sock.recv(1 << 20)
        now = time.monotonic_ns()
        if not data:
            raise AssertionError("the server closed a tab")
        if PING in data:
            self.sock.sendall(PONG)
        self.reads += 1
        self.bytes += len(data)
        data = self.tail + data
        self.tail = data[-LOOK_BACK:]
        for found in STAMP.findall(data):
            if (stamp := int(found)) > self.newest:
                late.append((now - stamp) / 1e6)
                self.newest = stamp
                self.tokens += 1
        self._ending = self._ending or (b'id="message-2"' in data and ENDED.search(data) is not None)
        self.ended = self.ended or (self._ending and data.endswith(FRAME_END))


def main(port: int, rooms: Sequence[str]) -> None:
    """Watch until every tab has seen its answer's end."""
    late: list[float] = []
    poll = select.epoll()
    tabs: dict[int, Tab] = {}
    for room in rooms:
        tab = Tab(port, room)
        while b'hx-target="#messages"' not in tab.tail:  # what comes first brings it up to date
            tab.tail += tab.sock.recv(1 << 20)
        tab.tail = b""
        tabs[tab.sock.fileno()] = tab
        poll.register(tab.sock.fileno(), select.EPOLLIN)
    print("ready", flush=True)
    until = time.monotonic() + SECONDS
    left = len(tabs)
    while left and time.monotonic() < until:
        for descriptor, _ in poll.poll(1.0):
            tab = tabs[descriptor]
            was = tab.ended
            tab.read(late)
            left -= tab.ended and not was
    found = Seen(
        sorted(late),
        [tab.tokens for tab in tabs.values()],
        sum(tab.bytes for tab in tabs.values()),
        sum(tab.reads for tab in tabs.values()),
        time.monotonic(),
    )
    # A percentile of so many is the same to three digits when every hundredth is told.
    step = max(1, len(found.late) // 20_000)
    print(json.dumps({**{name: getattr(found, name) for name in Seen.__slots__}, "late": found.late[::step]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
