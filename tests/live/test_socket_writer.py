"""The write side of a tab's socket, on real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Request, TextMessage
from wsproto.frame_protocol import FrameProtocol

from overseer.live import socket_writer
from overseer.live.socket_writer import TOO_SLOW, SocketWriter, close_frame, text_frame

DEADLINE = 20.0


class Ws:
    """The little of simple-websocket's Server that an outlet touches."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock: object = sock
        self.connected = True
        self.event = threading.Event()


class Pair:
    """A socket writer, and the reading end of its socket."""

    def __init__(self) -> None:
        ours, self.reader = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.reader.settimeout(DEADLINE)
        self.ready = threading.Event()
        self.ws = Ws(ours)
        self.writer = SocketWriter(self.ws, on_ready=self.ready.set)

    def read_all(self) -> tuple[list[str], int | None]:
        """Every frame up to the end, and the close code."""
        client = WSConnection(ConnectionType.CLIENT)
        server = WSConnection(ConnectionType.SERVER)
        server.receive_data(client.send(Request(host="localhost", target="/")))
        for event in server.events():
            assert isinstance(event, Request)
            client.receive_data(server.send(AcceptConnection()))
        assert list(client.events())
        texts, parts, code = [], [], None
        while data := self.reader.recv(65536):
            client.receive_data(data)
            for event in client.events():
                if isinstance(event, Message):
                    assert isinstance(event, TextMessage)
                    parts.append(event.data)
                    if event.message_finished:
                        texts.append("".join(parts))
                        parts.clear()
                elif isinstance(event, CloseConnection):
                    code = event.code
        assert not parts
        return texts, code


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.writer.close()
    pair.reader.close()


def test_one_frame_is_the_same_bytes_for_every_tab() -> None:
    """It is a plain server frame, as the library that speaks the protocol makes it."""
    for html in ("", "<p>ü</p>", "x" * 125, "x" * 126, "ü" * 63, "x" * 65_535, "x" * 65_536, "x" * 200_000):
        assert text_frame(html) == bytes(FrameProtocol(client=False, extensions=[]).send_data(html, fin=True))
    assert text_frame("x")[0] == 0x81


def test_a_frame_larger_than_the_kernel_takes_arrives_whole(pair: Pair) -> None:
    """The sender does not wait, and control frames stay between frames."""
    big = "x" * 3_000_000
    pair.writer.send(text_frame(big))
    assert not pair.writer.is_ready()
    pair.writer.send(bytes(FrameProtocol(client=False, extensions=[]).ping()))
    pair.writer.send(text_frame("after"))
    pair.writer.close_with(1012, "restart")
    assert pair.read_all() == ([big, "after"], 1012)


def test_it_says_when_it_has_caught_up(pair: Pair) -> None:
    """Then it is free again."""
    pair.writer.send(text_frame("y" * 1_000_000))
    assert not pair.writer.is_ready() and not pair.ready.is_set()
    read = threading.Thread(target=pair.read_all, daemon=True)
    read.start()
    assert pair.ready.wait(DEADLINE)
    assert pair.writer.is_ready()
    pair.writer.close_with(1012)
    read.join(DEADLINE)


def test_a_reader_that_takes_nothing_is_told_1013(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after a while; when it reads after all, it finds whole frames and the reason."""
    monkeypatch.setattr(socket_writer, "STALL_SECONDS", 0.1)
    big = "z" * 1_000_000
    pair.writer.send(text_frame(big))
    given_up = threading.Event()
    monkeypatch.setattr(socket_writer, "close_frame", lambda *said: (given_up.set(), close_frame(*said))[1])
    assert given_up.wait(DEADLINE)
    assert pair.read_all() == ([big], TOO_SLOW)
    pair.writer.send(text_frame("never sent"))
    assert pair.ready.wait(DEADLINE)


def test_a_reader_that_never_comes_back_is_hung_up_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept for it for ever: the view and the library's reader are woken."""
    monkeypatch.setattr(socket_writer, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(socket_writer, "LINGER_SECONDS", 0.05)
    pair.writer.send(text_frame("z" * 1_000_000))
    assert pair.ws.event.wait(DEADLINE)
    assert not pair.ws.connected
    assert not pair.writer._unsent


def test_a_peer_that_is_gone_ends_it(pair: Pair) -> None:
    """Sending to it raises nothing."""
    pair.reader.close()
    pair.writer.send(text_frame("hello"))
    assert pair.ws.event.wait(DEADLINE)
    assert not pair.ws.connected and not pair.writer.is_ready()


def test_pings_of_who_reads_nothing_are_not_answered(pair: Pair) -> None:
    """Pongs would wait and grow; what was to be sent before arrives whole, and a later ping has its pong."""
    pong = bytes(FrameProtocol(client=False, extensions=[]).pong(b"x" * 100))
    big = "x" * 1_000_000
    pair.writer.send(text_frame(big))
    waiting = len(pair.writer._unsent)
    for _ in range(1000):
        pair.writer.send(pong)
    assert len(pair.writer._unsent) <= waiting
    pair.writer.close_with(1012, "restart")
    assert pair.read_all() == ([big], 1012)


def test_who_says_too_much_is_not_listened_to(pair: Pair) -> None:
    """So much is heard, and then the connection is over, with the reason."""
    heard = 0
    for _ in range(socket_writer.MAX_RECEIVED_BYTES // 1024):
        pair.reader.sendall(b"x" * 1024)
        heard += len(pair.writer.recv(1024))
    assert heard == socket_writer.MAX_RECEIVED_BYTES
    pair.reader.sendall(b"x")
    assert pair.writer.recv(1024) == b""
    assert pair.read_all() == ([], socket_writer.TOO_MUCH_RECEIVED)


def test_after_a_while_a_tab_may_speak_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it may say is so much in so many seconds."""
    monkeypatch.setattr(socket_writer, "RECEIVE_WINDOW_SECONDS", -1.0)
    for _ in range(2 * socket_writer.MAX_RECEIVED_BYTES // 1024):
        pair.reader.sendall(b"x" * 1024)
        assert pair.writer.recv(1024)
