"""What a tab sends on its socket: it may send pongs, and anything else affects only its own connection."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import websocket

from overseer.live.socket_writer import MAX_RECEIVED_BYTES
from overseer.web.websocket import MAX_FRAME
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.support.rooms import ask, new_room
from tests.support.server import Server
from tests.support.tab import Tab

OpenTab = Callable[..., Tab]
PIECE = frame(CONTINUATION, b"x", fin=False)

FLOODS = {
    "text": frame(TEXT, b"x"),
    "empty text": frame(TEXT),
    "binary": frame(BINARY, b"x" * 100),
    "pings": frame(PING, b"x" * 125),
    "pongs": frame(PONG),
    "empty fragments": frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 1000,
    "fragments": frame(TEXT, b"x", fin=False) + PIECE * 1000,
}
VIOLATIONS = {
    "too long": frame(TEXT, b"x" * (MAX_FRAME + 1)),
    "too long in fragments": frame(TEXT, b"x" * 3000, fin=False) + frame(CONTINUATION, b"x" * 3000),
    "a length of 2**62": frame(TEXT, b"x" * 5000, length=2**62),
    "a negative length": frame(TEXT, b"x" * 5000, length=2**64 - 1),
    "unmasked": frame(TEXT, b"x", masked=False),
    "invalid UTF-8": frame(TEXT, b"\xff\xfe"),
    "an unknown opcode": frame(3, b"x"),
    "reserved bits": frame(TEXT | 0x70, b"x"),
    "a long ping": frame(PING, b"x" * 126),
    "a fragmented ping": frame(PING, b"x", fin=False),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "a message within a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"),
    "an invalid close code": frame(CLOSE, b"\x00\x01\xff"),
    "a close of one byte": frame(CLOSE, b"x"),
    "half a frame": frame(TEXT, b"x" * 50, length=100) + b"\0" * 20_000,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10,
    "random bytes": os.urandom(20_000),
}


def send_until_closed(tab: Tab, data: bytes, times: int = 1) -> None:
    """Send `data` repeatedly, and read until the server closes the connection."""
    with suppress(OSError):
        for _ in range(times):
            tab.send(data)
    with suppress(OSError, websocket.WebSocketException):
        while tab.socket.recv_data(control_frame=True)[0] != websocket.ABNF.OPCODE_CLOSE:
            continue


@pytest.fixture
def check_other_tab(server: Server, tab: OpenTab) -> Iterator[Callable[[], None]]:
    """Checks that another tab is still served."""
    room_id = new_room(server)
    other = tab(room_id)

    def check() -> None:
        ask(server, room_id, "Hello", wait=True)
        other.read_until("Hello")

    yield check
    check()
    with open(f"/proc/{server.pid}/status") as status:
        resident = next(line.split()[1] for line in status if line.startswith("VmRSS"))
    assert int(resident) < 300_000, "kilobytes: it kept what it received"


def test_protocol_violation_closes_its_own_connection(tab: OpenTab, check_other_tab: Callable[[], None]) -> None:
    for data in VIOLATIONS.values():
        send_until_closed(tab(), data)
    check_other_tab()


def test_flood_of_frames_closes_its_own_connection(tab: OpenTab, check_other_tab: Callable[[], None]) -> None:
    """The clients send as fast as they can and read nothing meanwhile."""
    threads = [
        threading.Thread(target=send_until_closed, args=(tab(), data * 1000, 100_000), daemon=True)
        for data in FLOODS.values()
    ]
    for thread in threads:
        thread.start()
    check_other_tab()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it was read to the end"


def test_tab_may_send_as_many_pongs_as_it_needs(tab: OpenTab) -> None:
    """Those of hours at once. A ping is answered."""
    one = tab()
    one.read_until('hx-target="#rooms"')
    one.send(frame(PONG) * 500 + frame(PING, b"there?"))
    while (received := one.socket.recv_data_frame(control_frame=True))[0] != websocket.ABNF.OPCODE_PONG:
        continue
    assert received[1].data == b"there?"
    assert len(frame(PONG)) * 500 < MAX_RECEIVED_BYTES
