"""The write side of one tab's socket: whole frames, in order, without waiting for a slow reader."""

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

STALL_SECONDS = 5.0  # a tab that accepts no byte for so long is too slow
LINGER_SECONDS = 30.0  # then it has so long to read what was sent to it, and the close frame
MAX_RECEIVED_BYTES = 16_384  # a tab sends only pongs and the close frame,
RECEIVE_WINDOW_SECONDS = 60.0  # so it may not send more than that in a window

TOO_SLOW = CloseReason.TRY_AGAIN_LATER  # 1013
TOO_MUCH_RECEIVED = CloseReason.POLICY_VIOLATION  # 1008
RESTART = CloseReason.SERVICE_RESTART  # 1012
LOGGED_OUT = 4401
ROOM_GONE = 4404

TEXT_FIRST_BYTE = 0x81  # a text frame that is a whole message
PONG_FIRST_BYTE = bytes(FrameProtocol(client=False, extensions=[]).pong()[:1])


class WebSocket(Protocol):
    """The part of simple-websocket's Server that is used here."""

    sock: Any
    connected: bool
    event: Any


class SocketWriter:
    """Replaces the socket of a simple-websocket Server, whose own `send` neither locks nor writes everything.

    A thread writes what the kernel does not take at once. Until it has finished, the writer is not ready, and senders
    that check `is_ready` have at most one batch of frames waiting. Then the writer calls `on_ready`. Several threads
    may send; each batch stays whole.
    """

    def __init__(self, ws: WebSocket, *, on_ready: Callable[[], None]) -> None:
        self._ws = ws
        self._sock: socket.socket = ws.sock
        self._on_ready = on_ready
        self._lock = threading.RLock()
        self._unsent = b""
        self._closing = False
        self._draining = False
        self._received = 0
        self._window_start = time.monotonic()
        ws.sock = self

    # For the hub

    def is_ready(self) -> bool:
        """Return whether the kernel has taken everything that was sent. If not, `on_ready` is called later.

        The lock excludes a write that leaves something for a moment only, after which `on_ready` would not be called.
        """
        with self._lock:
            return not self._unsent and not self._closing

    def close_with(self, code: int, reason: str = "") -> None:
        """Send a close frame. Nothing is sent after it."""
        with self._lock:
            if not self._closing:
                self.send(close_frame(code, reason))
                self._closing = True
                if not self._unsent:
                    self._finish()

    def send(self, data: bytes) -> int:
        """Send whole frames: what the kernel takes now, and the rest as soon as it takes more."""
        with self._lock:
            # Pongs for a peer that pings and does not read would pile up.
            if not self._closing and not (self._unsent and data[:1] == PONG_FIRST_BYTE):
                self._unsent += data
                if not self._draining:
                    self._write()
                if self._unsent and not self._draining:
                    self._draining = True
                    threading.Thread(target=self._drain, name="drain", daemon=True).start()
        return len(data)

    # For simple-websocket, which reads, and answers pings

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        now = time.monotonic()
        if now - self._window_start > RECEIVE_WINDOW_SECONDS:
            self._received, self._window_start = 0, now
        self._received += len(data)
        if self._received > MAX_RECEIVED_BYTES:
            self.close_with(TOO_MUCH_RECEIVED, "too many bytes")
            return b""  # end of file
        return data

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    # In call order

    def _write(self) -> int:
        """Write what the kernel takes without waiting. Return the number of bytes."""
        try:
            # gevent's `send` waits; that of the socket inside it does not. A plain socket honours the flag.
            sent = getattr(self._sock, "_sock", self._sock).send(self._unsent, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            self._unsent = b""
            self._give_up()
            return 0
        self._unsent = self._unsent[sent:]
        return int(sent)

    def _drain(self) -> None:
        """Write the rest while the reader makes progress."""
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(self._sock, selectors.EVENT_WRITE)
            except (ValueError, OSError):
                return  # closed meanwhile
            while self._drain_once(selector):
                continue
        self._on_ready()

    def _drain_once(self, selector: selectors.BaseSelector) -> bool:
        """Write once, as soon as the kernel takes something. Return whether there is more to do."""
        began = time.monotonic()
        writable = bool(self._unsent) and selector.select(LINGER_SECONDS if self._closing else STALL_SECONDS)
        with self._lock:
            if not self._unsent:
                self._draining = False  # under the lock: a later `send` starts the next thread
                if self._closing:
                    self._finish()
                return False
            if writable and (self._write() or time.monotonic() - began < STALL_SECONDS):
                return True
            if self._closing:
                self._unsent = b""
                self._give_up()
            else:
                # The close frame follows the rest of the frame that is half sent, or the peer could not read it.
                self._unsent += close_frame(TOO_SLOW, "too slow")
                self._closing = True
            return True

    def _finish(self) -> None:
        """Shut down writing. The peer answers or disconnects, and the library's reader notices either."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def _give_up(self) -> None:
        """Disconnect a peer that is gone or never reads. The reader and the view wake up and close the socket."""
        self._closing = True
        self._ws.connected = False
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._ws.event.set()


def text_frame(html: str) -> bytes:
    """Return a WebSocket text frame (RFC 6455, section 5.2), unmasked and uncompressed: the same bytes for every tab.

    wsproto would take longer, and each token needs one.
    """
    payload = html.encode()
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", TEXT_FIRST_BYTE, size)
    elif size < 1 << 16:
        header = struct.pack("!BBH", TEXT_FIRST_BYTE, 126, size)
    else:
        header = struct.pack("!BBQ", TEXT_FIRST_BYTE, 127, size)
    return header + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return a WebSocket close frame."""
    return bytes(FrameProtocol(client=False, extensions=[]).close(code, reason))
