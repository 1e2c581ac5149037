"""Many tabs in a process of its own, which measure latencies: `python -m tests.bench.tabs PORT ROOM...`.

It prints `ready` when every tab is up to date, and JSON when the answer in each tab's room has ended.
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

TIMEOUT_SECONDS = 120.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
STAMP = re.compile(rb"T(\d{18})")
ENDED = re.compile(rb'id="message-2"[^>]*data-state="(?!waiting|streaming)')
PING, PONG = b"\x89\x00", b"\x8a\x80" + bytes(4)  # empty ones
FRAME_END = b"</hx-partial>"
MAX_MATCH_BYTES = 300  # longer than any match of the patterns


@dataclass(frozen=True, slots=True)
class Seen:
    """Measurements: sorted latencies of tokens (ms), tokens by tab, and all bytes and reads."""

    late: list[float]
    tokens: list[int]
    bytes: int
    reads: int
    last_at: float


class Watch:
    """The process with `each` tabs on each of the rooms."""

    def __init__(self, port: int, rooms: Sequence[str], *, each: int) -> None:
        command = [sys.executable, "-m", "tests.bench.tabs", str(port), *[room for room in rooms for _ in range(each)]]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._stdout = self._process.stdout
        assert self._stdout.readline() == "ready\n"

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._stdout.close()

    def seen(self) -> Seen:
        """Wait for the end of every answer. Return the measurements."""
        with self._stdout:
            found: dict[str, Any] = json.loads(self._stdout.readline())
        self._process.wait(TIMEOUT_SECONDS)
        return Seen(**found)


class Tab:
    """A WebSocket that is read without parsing frames."""

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
        """Receive some bytes, and record the latencies of new tokens in them."""
        data = self.sock.recv(1 << 20)
        now = time.monotonic_ns()
        if not data:
            raise AssertionError("the server closed a tab")
        if PING in data:
            self.sock.sendall(PONG)
        self.reads += 1
        self.bytes += len(data)
        data = self.tail + data
        self.tail = data[-MAX_MATCH_BYTES:]
        for found in STAMP.findall(data):
            if (stamp := int(found)) > self.newest:
                late.append((now - stamp) / 1e6)
                self.newest = stamp
                self.tokens += 1
        self._ending = self._ending or (b'id="message-2"' in data and ENDED.search(data) is not None)
        self.ended = self.ended or (self._ending and data.endswith(FRAME_END))


def main(port: int, rooms: Sequence[str]) -> None:
    """Read until the answer of every tab has ended."""
    late: list[float] = []
    poll = select.epoll()
    tabs: dict[int, Tab] = {}
    for room in rooms:
        tab = Tab(port, room)
        while b'hx-target="#messages"' not in tab.tail:  # the first frames bring it up to date
            tab.tail += tab.sock.recv(1 << 20)
        tab.tail = b""
        tabs[tab.sock.fileno()] = tab
        poll.register(tab.sock.fileno(), select.EPOLLIN)
    print("ready", flush=True)
    until = time.monotonic() + TIMEOUT_SECONDS
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
    # A sample of the latencies is enough for percentiles.
    step = max(1, len(found.late) // 20_000)
    print(json.dumps({**{name: getattr(found, name) for name in Seen.__slots__}, "late": found.late[::step]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
