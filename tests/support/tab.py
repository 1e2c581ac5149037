"""A tab as the server sees it: a WebSocket client that keeps what it was sent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import websocket

DEADLINE = 20.0
PARTIAL = re.compile(r'<hx-partial hx-target="#([^"]+)" hx-swap="([^"]+)">(.*?)</hx-partial>', re.S)


class Tab:
    """Connects to `/live`; `frames` is what came, in order."""

    def __init__(self, base: str, query: str = "", **options: Any) -> None:
        self.frames: list[str] = []
        self.close_code: int | None = None
        url = base.replace("http://", "ws://") + "/live" + (f"?{query}" if query else "")
        # The library validates UTF-8 byte by byte in Python; `read` decodes in any case.
        self.socket = websocket.create_connection(url, timeout=DEADLINE, skip_utf8_validation=True, **options)

    def read(self) -> str | None:
        """The next frame, or None when the server has closed."""
        opcode, data = self.socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self.close_code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
            return None
        assert opcode == websocket.ABNF.OPCODE_TEXT, opcode
        self.frames.append(data.decode())
        return self.frames[-1]

    def send(self, data: bytes) -> None:
        """Send bytes as they are, which need not be frames."""
        assert self.socket.sock is not None
        self.socket.sock.sendall(data)

    def read_until(self, wanted: Callable[[str], bool] | str) -> str:
        """Read on to the first frame that is `wanted`, or holds that text; returns it."""
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            frame = self.read()
            assert frame is not None, f"closed with {self.close_code}"
            if (wanted in frame) if isinstance(wanted, str) else wanted(frame):
                return frame
        raise AssertionError(f"{wanted!r} never came")

    def has(self, wanted: Callable[[str], bool] | str) -> str:
        """A frame that came already or is still to come: for what has no fixed place in the order."""
        for frame in reversed(self.frames):
            if (wanted in frame) if isinstance(wanted, str) else wanted(frame):
                return frame
        return self.read_until(wanted)

    def read_to_close(self) -> int | None:
        """Read what is left; returns the close code."""
        while self.read() is not None:
            continue
        return self.close_code

    def partials(self) -> list[tuple[str, str, str]]:
        """Everything that came, as (target id, swap, html)."""
        return [found for frame in self.frames for found in PARTIAL.findall(frame)]

    def close(self) -> None:
        self.socket.shutdown()  # type: ignore[no-untyped-call]
