"""The write side of one tab's socket: whole frames, in order, and nobody waits for a slow reader."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from wsproto.frame_protocol import CloseReason, FrameProtocol

STALLED = 5.0  # seconds without a byte accepted, before a tab counts as too slow
MAX_HEARD = 16_384  # bytes that a tab may say
HEARD_AGAIN = 60.0  # in so many seconds; it has nothing to say but that it is there
LINGER = 30.0  # seconds that a tab which was too slow still has to fetch what it was sent, and the reason

TOO_SLOW = CloseReason.TRY_AGAIN_LATER  # 1013
TOO_LOUD = CloseReason.POLICY_VIOLATION  # 1008
RESTART = CloseReason.SERVICE_RESTART  # 1012
LOGGED_OUT = 4401
GONE = 4404

WHOLE_TEXT = 0x81
PONG = bytes(FrameProtocol(client=False, extensions=[]).pong()[:1])


class WebSocket(Protocol):
    """What is used of simple-websocket's Server."""

    sock: Any
    connected: bool
    event: Any


class SocketWriter:
    """Stands in for the socket of a simple-websocket, whose own `send` neither locks nor writes everything.

    What the kernel does not take at once is finished by a thread of its own. Meanwhile the outlet is not free: whoever
    asks first sends no more frames, so that each sender has at most one batch waiting. It calls `free` when it has
    caught up. Several threads may send; each batch of frames stays whole.
    """

    def __init__(self, ws: WebSocket, *, free: Callable[[], None]) -> None:
        self._ws = ws
        self._sock: socket.socket = ws.sock
        self._free = free
        self._lock = threading.RLock()
        self._rest = b""
        self._ending = False
        self._draining = False
        self._heard = 0
        self._heard_since = time.monotonic()
        ws.sock = self

    # For the hub

    def is_free(self) -> bool:
        """Whether the kernel has taken all that was sent, so that more may be sent. If not, `free` is called later.

        Asked under the lock: while another thread is writing, there may be something left only for a moment, and then
        `free` would not be called.
        """
        with self._lock:
            return not self._rest and not self._ending

    def end(self, code: int, reason: str = "") -> None:
        """Say good-bye with a close code; nothing is sent after that."""
        with self._lock:
            if not self._ending:
                self.send(close_frame(code, reason))
                self._ending = True
                if not self._rest:
                    self._finish()

    def send(self, data: bytes) -> int:
        """Send whole frames: what the kernel takes at once, and the rest as soon as it takes more."""
        with self._lock:
            # A pong to who reads nothing would only wait, and one who pings for ever has it grow.
            if not self._ending and not (self._rest and data[:1] == PONG):
                self._rest += data
                if not self._draining:
                    self._write()
                if self._rest and not self._draining:
                    self._draining = True
                    threading.Thread(target=self._drain, name="drain", daemon=True).start()
        return len(data)

    # For simple-websocket, which reads, and answers pings

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        now = time.monotonic()
        if now - self._heard_since > HEARD_AGAIN:
            self._heard, self._heard_since = 0, now
        self._heard += len(data)
        if self._heard > MAX_HEARD:
            self.end(TOO_LOUD, "too much was said")
            return b""  # as if it had gone
        return data

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    # In call order

    def _write(self) -> int:
        """Give the kernel what it takes without waiting; returns how much that was."""
        try:
            # gevent's own send would wait; the socket inside it does not. A plain one obeys the flag.
            sent = getattr(self._sock, "_sock", self._sock).send(self._rest, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            self._rest = b""
            self._give_up()
            return 0
        self._rest = self._rest[sent:]
        return int(sent)

    def _drain(self) -> None:
        """Finish what the kernel did not take, for as long as the reader makes progress."""
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(self._sock, selectors.EVENT_WRITE)
            except (ValueError, OSError):
                return  # closed meanwhile
            while self._push_on(selector):
                continue
        self._free()

    def _push_on(self, selector: selectors.BaseSelector) -> bool:
        """Write once more when the kernel takes something; whether there is more to do."""
        began = time.monotonic()
        writable = bool(self._rest) and selector.select(LINGER if self._ending else STALLED)
        with self._lock:
            if not self._rest:
                self._draining = False  # under the lock: what comes later is written by who sends it
                if self._ending:
                    self._finish()
                return False
            if writable and (self._write() or time.monotonic() - began < STALLED):
                return True
            if self._ending:
                self._rest = b""
                self._give_up()
            else:
                # The frame that is half sent has to be finished, or the reason could not be read.
                self._rest += close_frame(TOO_SLOW, "too slow")
                self._ending = True
            return True

    def _finish(self) -> None:
        """Nothing more will be said. The peer answers or goes, and the library's reader sees either."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def _give_up(self) -> None:
        """The peer is gone, or never reads: wake the reader and the view, which close the socket."""
        self._ending = True
        self._ws.connected = False
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._ws.event.set()


def text_frame(html: str) -> bytes:
    """One WebSocket text frame, the same bytes for every tab; never compressed, so no tab needs its own.

    Made here since it is made for each token: RFC 6455, section 5.2, unmasked as a server's are.
    """
    payload = html.encode()
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", WHOLE_TEXT, size) + payload
    return struct.pack("!BBH" if size < 1 << 16 else "!BBQ", WHOLE_TEXT, 126 if size < 1 << 16 else 127, size) + payload


def close_frame(code: int, reason: str) -> bytes:
    """A WebSocket close frame."""
    return bytes(FrameProtocol(client=False, extensions=[]).close(code, reason))
