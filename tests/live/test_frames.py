"""What a tab may say on its socket: next to nothing, and whatever it says harms nobody else."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import requests
import websocket

from overseer.live.socket_writer import MAX_RECEIVED_BYTES
from overseer.web.websocket import MAX_FRAME
from tests.live.test_live import new_room
from tests.support.server import Server
from tests.support.tab import Tab

OpenTab = Callable[..., Tab]
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, masked: bool = True, length: int | None = None) -> bytes:
    """A frame as a client sends it, or as none should."""
    size = len(data) if length is None else length
    head = bytes([opcode | (0x80 if fin else 0)])
    flag = 0x80 if masked else 0
    if size < 126:
        head += bytes([flag | size])
    elif size < 65536:
        head += bytes([flag | 126]) + struct.pack("!H", size)
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", size)
    return head + (b"\0\0\0\0" if masked else b"") + data


FLOODS = {
    "texts": frame(TEXT, b"x"),
    "empty texts": frame(TEXT),
    "bytes": frame(BINARY, b"x" * 100),
    "pings": frame(PING, b"x" * 125),
    "empty pings": frame(PING),
    "pongs": frame(PONG),
    "pieces of nothing": frame(TEXT, fin=False) + frame(0, fin=False) * 1000,
    "pieces": frame(TEXT, b"x", fin=False) + frame(0, b"x", fin=False) * 1000,
}
BREACHES = {
    "too long": frame(TEXT, b"x" * (MAX_FRAME + 1)),
    "too long in pieces": frame(TEXT, b"x" * 3000, fin=False) + frame(0, b"x" * 3000),
    "said to be endless": frame(TEXT, b"x" * 5000, length=2**62),
    "said to be negative": frame(TEXT, b"x" * 5000, length=2**64 - 1),
    "unmasked": frame(TEXT, b"x", masked=False),
    "no UTF-8": frame(TEXT, b"\xff\xfe"),
    "an unknown kind": frame(3, b"x"),
    "reserved bits": frame(TEXT | 0x70, b"x"),
    "a long ping": frame(PING, b"x" * 126),
    "a ping in pieces": frame(PING, b"x", fin=False),
    "a piece of nothing begun": frame(0, b"x"),
    "a message within a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"),
    "a close that says nonsense": frame(CLOSE, b"\x00\x01\xff"),
    "a close of one byte": frame(CLOSE, b"x"),
    "half a frame and the end": frame(TEXT, b"x" * 50, length=100) + b"\0" * 20_000,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10,
    "noise": os.urandom(20_000),
}


def said_to_the_end(tab: Tab, words: bytes, times: int = 1) -> None:
    """Say it, as often as it is heard; the server ends the connection, and not for the sake of peace."""
    with suppress(OSError):
        for _ in range(times):
            tab.socket.sock.sendall(words)
    with suppress(OSError, websocket.WebSocketException):
        while True:
            opcode, _ = tab.socket.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return


@pytest.fixture
def watched(server: Server, tab: OpenTab) -> Iterator[Callable[[], None]]:
    """Says that another tab sees what happens, still."""
    room_id = new_room(server)
    other = tab(room_id)

    def well() -> None:
        requests.post(f"{server.url}/rooms/{room_id}/messages", {"text": "Hello"}, headers={"Prefer": "wait=60"})
        other.read_until("Hello")

    yield well
    well()
    assert "Traceback" not in "".join(server.log)
    assert int(memory(server)) < 300_000, "it kept what it was told"


def memory(server: Server) -> str:
    with open(f"/proc/{server.pid}/status") as status:
        return next(line.split()[1] for line in status if line.startswith("VmRSS"))


def test_a_breach_ends_its_own_connection(tab: OpenTab, watched: Callable[[], None]) -> None:
    """Whatever the protocol forbids, and whatever is too long, is the end of that tab alone."""
    for words in BREACHES.values():
        said_to_the_end(tab(), words)
    watched()


def test_a_flood_ends_its_own_connection(tab: OpenTab, watched: Callable[[], None]) -> None:
    """As fast as can be, and without reading: others see what happens meanwhile."""
    tabs = [tab() for _ in FLOODS]
    threads = [
        threading.Thread(target=said_to_the_end, args=(one, words * 1000, 100_000), daemon=True)
        for one, words in zip(tabs, FLOODS.values(), strict=True)
    ]
    for thread in threads:
        thread.start()
    watched()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it was listened to for ever"


def test_a_tab_may_say_as_much_as_it_needs(tab: OpenTab) -> None:
    """It may answer hours of pings at once, and is answered when it asks."""
    one = tab()
    one.read_until('hx-target="#rooms"')
    one.socket.sock.sendall(frame(PONG) * 500 + frame(PING, b"there?"))
    while (heard := one.socket.recv_data_frame(control_frame=True))[0] != websocket.ABNF.OPCODE_PONG:
        continue
    assert heard[1].data == b"there?"
    assert len(frame(PONG)) * 500 < MAX_RECEIVED_BYTES
