"""The end of a WebSocket ends its TCP connection: nothing after it is served as HTTP (RFC 6455, section 7.1.1)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
import requests

from tests.support.frames import CLOSE, PONG, TEXT, frame
from tests.support.model_server import ModelServer, answer
from tests.support.raw import Caller, get, handshake, post
from tests.support.rooms import new_room
from tests.support.server import Server, StartServer, descriptors, is_healthy
from tests.support.waiting import until

Call = Callable[..., Caller]
BYE = frame(CLOSE, b"\x03\xe8")


def close_of(code: int) -> bytes:
    """Return the start of the payload of a close frame."""
    return struct.pack("!H", code)


def connected(caller: Caller, path: str = "/live") -> Caller:
    """Complete the handshake, and receive the first frame."""
    caller.send(handshake(path)).receive_until(b'hx-target="#rooms"')
    return caller


ENDINGS = {
    "a close": (BYE, close_of(1000)),
    "a close without a code": (frame(CLOSE), b"\x88\x00"),
    "a frame that is too large": (frame(TEXT, b"x" * 5000), close_of(1009)),
    "a breach of the protocol": (frame(TEXT, b"x", masked=False), close_of(1002)),
    "HTTP instead of frames": (get().encode(), close_of(1002)),
    "too many frames": (frame(PONG) * 4000, close_of(1008)),
}


def test_connection_serves_no_http_after_the_socket_has_ended(server: Server, call: Call) -> None:
    """Whether a request comes with the last frame or after it."""
    for name, (sent, code) in ENDINGS.items():
        received = connected(call(server)).send(sent + get().encode()).receive()
        assert "HTTP/1.1" not in received and code in received.encode("latin-1"), name
        caller = connected(call(server))
        received = caller.send(sent).receive_until(code).decode("latin-1")
        with suppress(ConnectionError):
            caller.send(get())
        assert "HTTP/1.1" not in received + caller.receive(), name


def test_socket_that_is_closed_or_reset_frees_its_descriptors(server: Server, call: Call) -> None:
    """Also if the client keeps its side of the connection open."""
    # A thread opens the files of the search index after the start.
    until(lambda: requests.get(f"{server.url}/search?q=x", timeout=20).status_code == 200)
    before = descriptors(server)
    silent, lost = ([connected(call(server)) for _ in range(3)] for _ in range(2))
    for caller in silent:
        caller.send(BYE).receive()
    for caller in lost:
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
    until(lambda: descriptors(server) <= before)


def test_socket_that_the_server_closes_serves_no_http(server: Server, call: Call) -> None:
    """4404 for a room that was deleted, 1012 for a server that stops."""
    room_id = new_room(server)
    answering, silent = (connected(call(server), f"/live?room={room_id}") for _ in range(2))
    waiting = connected(call(server))
    requests.delete(f"{server.url}/rooms/{room_id}")
    for caller, sent in ((answering, BYE), (silent, b"")):
        received = caller.receive_until(close_of(4404)).decode("latin-1")
        with suppress(ConnectionError):
            caller.send(sent + get().encode())
        assert "HTTP/1.1" not in received + caller.receive()
    server.stop()
    assert close_of(1012) in waiting.receive().encode("latin-1")


def test_peer_that_answers_no_ping_is_closed_with_1008(start_server: StartServer, call: Call) -> None:
    server = start_server(altered={"timeouts": {}, "ping": {"seconds": 0.2}})
    received = connected(call(server)).receive()
    assert close_of(1008) in received.encode("latin-1") and "HTTP/1.1" not in received


def test_error_of_the_server_closes_the_socket_with_1011(start_server: StartServer, call: Call) -> None:
    """It is logged; no error page is written into the WebSocket."""
    server = start_server(altered={"broken_hub": {}})
    received = call(server).send(handshake()).receive()
    assert received.count("HTTP/1.1") == 1 and "<" not in received
    assert close_of(1011) in received.encode("latin-1")
    assert is_healthy(server)
    server.stop()
    assert "a fault in the hub" in "".join(server.log)
    server.log.clear()


REJECTED = {
    400: handshake().replace("Sec-WebSocket-Key: d", "Sec-WebSocket-Key: "),
    403: handshake(headers="Origin: http://evil.example\r\n"),
    426: handshake(version="8"),
}


@pytest.mark.parametrize(("status", "request_"), REJECTED.items(), ids=REJECTED)
def test_rejected_handshake_ends_the_connection(server: Server, call: Call, status: int, request_: str) -> None:
    received = call(server).send(request_).receive()
    assert received.startswith(f"HTTP/1.1 {status} ")
    assert ("Connection: upgrade, close" if status == 426 else "Connection: close") in received
    caller = call(server).send(request_)
    caller.receive_until(b"</div>")
    with suppress(ConnectionError):
        caller.send(get())
    assert caller.receive() == ""


def test_handshake_without_a_log_in_or_over_the_limit_ends_the_connection(
    start_server: StartServer, call: Call
) -> None:
    server = start_server(OVERSEER_PASSWORD="password", OVERSEER_MAX_TABS="1")
    assert call(server).send(handshake()).answers() == [401]
    authorized = handshake(headers="Authorization: Bearer password\r\n")
    call(server).send(authorized).receive_until(b'hx-target="#rooms"')
    assert call(server).send(authorized).answers() == [503]


def test_other_websocket_version_is_426_with_the_supported_one(server: Server, call: Call) -> None:
    """RFC 6455, section 4.4, and RFC 9110, section 15.5.22."""
    for version in ("8", "130", "13, 8", "x"):
        received = call(server).send(handshake(version=version)).receive()
        assert received.startswith("HTTP/1.1 426 "), version
        assert "\r\nSec-WebSocket-Version: 13\r\n" in received and "\r\nUpgrade: websocket\r\n" in received


def test_bytes_after_a_handshake_are_not_parsed_as_http(server: Server, call: Call) -> None:
    """A client must wait for the response. A handshake with a body is rejected, too."""
    for sent in (get(), BYE.decode("latin-1") + get()):
        assert call(server).send(handshake() + sent).answers() == [400], sent
    for header in ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"):
        assert call(server).send(handshake(headers=header)).answers() == [400], header
    received = call(server).send(handshake(headers="Expect: 100-continue\r\n")).receive_until(b"rooms")
    assert received.startswith(b"HTTP/1.1 101")


def test_request_for_another_protocol_is_the_last_on_its_connection(server: Server, call: Call) -> None:
    """h2c is ignored; CONNECT, HTTP/2 and HTTP/1.0 open no tunnel."""
    form = "Content-Length: 6\r\n"
    h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    for sent, status in (
        (get(headers=h2c, close=False), 200),
        (post("/rooms", h2c + form, "name=x", close=False), 201),
        ("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", 501),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (handshake().replace("HTTP/1.1", "HTTP/1.0"), 400),
        (handshake("/healthz"), 400),
    ):
        received = call(server).send(sent).receive()
        assert received.startswith(f"HTTP/1.1 {status} ") and "Connection: close" in received, sent
        assert call(server).send(sent + get()).answers() in ([status], [400]), sent
    without_upgrade = "Connection: Upgrade\r\n" + form
    assert call(server).send(post("/rooms", without_upgrade, "name=x", close=False) + get()).answers() == [201, 200]


def test_http_1_0_stream_ends_with_its_connection(server: Server, model_server: ModelServer, call: Call) -> None:
    model_server.will(answer("Hello there"))
    path = f"/rooms/{new_room(server)}/messages"
    sent = post(path, "Accept: text/plain\r\nContent-Length: 7\r\n", "text=Hi", close=False)
    sent = sent.replace("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n")
    received = call(server).send(sent).receive()
    assert received.startswith("HTTP/1.1 201"), "no 100 Continue for HTTP/1.0"
    assert "Hello there" in received and "Connection: close" in received and "chunked" not in received
