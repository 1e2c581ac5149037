"""The write side of a tab's socket, on real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage
from wsproto.frame_protocol import FrameProtocol

from overseer.domain.errors import StorageUnavailable
from overseer.live import socket_writer
from overseer.live.hub import Hub
from overseer.live.socket_writer import MAX_RECEIVED_BYTES, TOO_MUCH_RECEIVED, TOO_SLOW, SocketWriter, text_frame
from tests.support.waiting import DEADLINE, until

SERVER = FrameProtocol(client=False, extensions=[])


class FakeWebSocket:
    def __init__(self, sock: socket.socket) -> None:
        self.sock: object = sock
        self.connected = True
        self.event = threading.Event()


class Pair:
    """A socket writer with a small buffer, and the peer of its socket."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.peer.settimeout(DEADLINE)
        self.ready = threading.Event()
        self.ws = FakeWebSocket(ours)
        self.writer = SocketWriter(self.ws, on_ready=self.ready.set)

    def read_all(self) -> tuple[list[str], int | None]:
        """Return every message up to the end, and the close code."""
        client = Connection(ConnectionType.CLIENT)
        messages, pieces, code = [], [], None
        while data := self.peer.recv(65536):
            client.receive_data(data)
            for event in client.events():
                if isinstance(event, TextMessage):
                    pieces.append(event.data)
                    if event.message_finished:
                        messages.append("".join(pieces))
                        pieces.clear()
                elif isinstance(event, CloseConnection):
                    code = event.code
        assert not pieces
        return messages, code


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.writer.close()
    pair.peer.close()


def test_text_frame_is_that_of_the_library() -> None:
    for html in ("", "<p>ü</p>", "x" * 125, "x" * 126, "x" * 65_535, "x" * 65_536, "x" * 200_000):
        assert text_frame(html) == bytes(SERVER.send_data(html, fin=True))
        assert text_frame(html)[0] == 0x81


def test_frame_larger_than_the_buffer_arrives_whole(pair: Pair) -> None:
    """The sender does not wait. Control frames stay between frames, and pongs are dropped rather than queued."""
    big = "x" * 3_000_000
    pair.writer.send(text_frame(big))
    assert not pair.writer.is_ready()
    pair.writer.send(bytes(SERVER.ping()))
    unsent = len(pair.writer._unsent)
    for _ in range(1000):
        pair.writer.send(bytes(SERVER.pong(b"x" * 100)))
    assert len(pair.writer._unsent) <= unsent
    pair.writer.send(text_frame("after"))
    pair.writer.close_with(1012, "restart")
    assert pair.read_all() == ([big, "after"], 1012)


def test_writer_that_has_caught_up_is_ready(pair: Pair) -> None:
    pair.writer.send(text_frame("y" * 1_000_000))
    assert not pair.writer.is_ready() and not pair.ready.is_set()
    reader = threading.Thread(target=pair.read_all, daemon=True)
    reader.start()
    assert pair.ready.wait(DEADLINE)
    assert pair.writer.is_ready()
    pair.writer.close_with(1012)
    reader.join(DEADLINE)


def test_peer_that_stalls_is_closed_with_1013(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it reads after all, it finds whole frames and the close code."""
    monkeypatch.setattr(socket_writer, "STALL_SECONDS", 0.1)
    big = "z" * 1_000_000
    pair.writer.send(text_frame(big))
    until(lambda: pair.writer._closing)
    assert pair.read_all() == ([big], TOO_SLOW)
    pair.writer.send(text_frame("never sent"))
    assert pair.ready.wait(DEADLINE)


def test_peer_that_never_reads_is_disconnected(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The view and the library's reader are woken, and nothing is kept."""
    monkeypatch.setattr(socket_writer, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(socket_writer, "LINGER_SECONDS", 0.05)
    pair.writer.send(text_frame("z" * 1_000_000))
    assert pair.ws.event.wait(DEADLINE)
    assert not pair.ws.connected and not pair.writer._unsent


def test_peer_that_is_gone_ends_the_writer(pair: Pair) -> None:
    pair.peer.close()
    pair.writer.send(text_frame("hello"))
    assert pair.ws.event.wait(DEADLINE)
    assert not pair.ws.connected and not pair.writer.is_ready()


def test_peer_that_sends_too_much_is_closed_with_1008(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds for a window of time."""
    monkeypatch.setattr(socket_writer, "RECEIVE_WINDOW_SECONDS", -1.0)
    for _ in range(2 * MAX_RECEIVED_BYTES // 1024):
        pair.peer.sendall(b"x" * 1024)
        assert len(pair.writer.recv(1024)) == 1024
    monkeypatch.setattr(socket_writer, "RECEIVE_WINDOW_SECONDS", 600.0)
    pair.peer.sendall(b"x" * (MAX_RECEIVED_BYTES - 1024))
    assert pair.writer.recv(MAX_RECEIVED_BYTES) != b""
    pair.peer.sendall(b"x")
    assert pair.writer.recv(1024) == b""
    assert pair.read_all() == ([], TOO_MUCH_RECEIVED)


class UnreadableRenderer:
    """Renders for a tab when nothing can be read any more."""

    def list_frame(self, *_: object, **__: object) -> bytes:
        raise StorageUnavailable("The server is shutting down. Try again in a moment.")


def test_tab_that_cannot_be_rendered_is_told_to_reconnect(caplog: pytest.LogCaptureFixture) -> None:
    """With 1012 and a line in the log, because an unreadable list is not a fault of the server."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(DEADLINE)
    hub = Hub(lambda prefix: UnreadableRenderer())  # type: ignore[arg-type, return-value]
    hub.join(FakeWebSocket(ours), None, "", room_revision="", list_revision="")
    frame = theirs.recv(200)
    hub.close()
    ours.close()
    theirs.close()
    assert int.from_bytes(frame[2:4], "big") == 1012
    assert "cannot serve a tab: The server is shutting down" in caplog.text and "Traceback" not in caplog.text
