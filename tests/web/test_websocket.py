"""What ends a WebSocket ends its TCP connection: nothing that follows is served as HTTP (RFC 6455, section 7.1.1)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.support.frames import CLOSE, PONG, TEXT, frame
from tests.support.model_server import ModelServer, answer
from tests.support.raw import Caller, get, handshake, post
from tests.support.rooms import new_room
from tests.support.server import Server, descriptors, is_well, short_timeouts
from tests.support.server_pool import ServerPool
from tests.support.waiting import until

Call = Callable[..., Caller]
BYE = frame(CLOSE, b"\x03\xe8")


def close_of(code: int) -> bytes:
    """The payload of a close frame begins so."""
    return struct.pack("!H", code)


def connected(caller: Caller, path: str = "/live") -> Caller:
    """The same, when the handshake is done and the first frame has come."""
    caller.say(handshake(path)).hear_until(b'hx-target="#rooms"')
    return caller


ENDINGS = {
    "a close": (BYE, close_of(1000)),
    "a close without a code": (frame(CLOSE), b"\x88\x00"),
    "a close of another version of the client": (frame(CLOSE, close_of(4999) + b"gone"), close_of(4999)),
    "a frame that is too large": (frame(TEXT, b"x" * 5000), close_of(1009)),
    "a breach of the protocol": (frame(TEXT, b"x", masked=False), close_of(1002)),
    "HTTP instead of frames": (get().encode(), close_of(1002)),
    "too many frames": (frame(PONG) * 4000, close_of(1008)),
}


@pytest.mark.parametrize(("words", "code"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "after"])
def test_connection_after_the_socket_ended_serves_no_http(
    server: Server, call: Call, words: bytes, code: bytes, at_once: bool
) -> None:
    """The client reads the close frame and then the end, whether its request comes with the last frame or behind it."""
    caller = connected(call(server))
    if at_once:
        caller.say(words + get().encode())
        heard = caller.hear()
    else:
        heard = caller.say(words).hear_until(code).decode("latin-1")
        with suppress(ConnectionError):
            caller.say(get())
        heard += caller.hear()
    assert "HTTP/1.1" not in heard
    assert code in heard.encode("latin-1")
    assert "Traceback" not in "".join(server.log)


def test_closed_socket_gives_its_descriptors_back(server: Server, call: Call) -> None:
    """Also when the client keeps its side open, or vanishes with a reset."""
    before = descriptors(server)
    silent = [connected(call(server)) for _ in range(3)]
    lost = [connected(call(server)) for _ in range(3)]
    for caller in silent:
        caller.say(BYE).hear()
    for caller in lost:
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
    until(lambda: descriptors(server) <= before)
    assert "Traceback" not in "".join(server.log)


def test_socket_that_the_server_closes_serves_no_http(server: Server, call: Call) -> None:
    """4404 for a room that is gone, then 1012 when the server stops: answered by the client or not, that was it."""
    room_id = new_room(server)
    polite, rude = (connected(call(server), f"/live?room={room_id}") for _ in range(2))
    waits = connected(call(server))
    requests.delete(f"{server.url}/rooms/{room_id}")
    for caller, words in ((polite, BYE), (rude, b"")):
        heard = caller.hear_until(close_of(4404)).decode("latin-1")
        with suppress(ConnectionError):
            caller.say(words + get().encode())
        assert "HTTP/1.1" not in heard + caller.hear()
    server.stop()
    assert close_of(1012) in waits.hear().encode("latin-1")


def test_peer_that_answers_no_ping_is_closed(
    instance: Path, model_server: ModelServer, server_pool: ServerPool, call: Call
) -> None:
    """With 1008, and the connection with it."""
    server = short_timeouts(instance, model_server, server_pool, ping=0.2)
    try:
        heard = connected(call(server)).hear()
        assert close_of(1008) in heard.encode("latin-1") and "HTTP/1.1" not in heard
    finally:
        server.stop()


def test_fault_of_the_server_in_a_socket_closes_it_with_1011(
    instance: Path, model_server: ModelServer, server_pool: ServerPool, call: Call
) -> None:
    """It is in the log; no page of an error is written into the WebSocket."""
    server = short_timeouts(instance, model_server, server_pool, broken_hub=True)
    try:
        heard = call(server).say(handshake()).hear()
        assert heard.count("HTTP/1.1") == 1 and "<" not in heard
        assert close_of(1011) in heard.encode("latin-1")
        assert is_well(server)
    finally:
        server.stop()
    assert "a fault in the hub" in "".join(server.log)


REFUSED = {
    400: handshake().replace("Sec-WebSocket-Key: d", "Sec-WebSocket-Key: "),
    403: handshake(headers="Origin: http://evil.example\r\n"),
    426: handshake(version="8"),
}


@pytest.mark.parametrize(("status", "request_"), REFUSED.items(), ids=REFUSED)
def test_refused_handshake_ends_the_connection(server: Server, call: Call, status: int, request_: str) -> None:
    """It says so, and what follows, which may be frames or requests, is not read."""
    heard = call(server).say(request_).hear()
    assert heard.startswith(f"HTTP/1.1 {status} ")
    assert ("Connection: upgrade, close" if status == 426 else "Connection: close") in heard
    caller = call(server).say(request_)
    caller.hear_until(b"</div>")
    with suppress(ConnectionError):
        caller.say(get())
    assert caller.hear() == ""


def test_refused_log_in_and_lack_of_room_end_the_connection(
    instance: Path, model_server: ModelServer, server_pool: ServerPool, call: Call
) -> None:
    """401 and 503, too."""
    environment = {"OPENAI_BASE_URL": model_server.url, "OVERSEER_PASSWORD": "password", "OVERSEER_MAX_TABS": "1"}
    server = Server(instance, environment=environment, server_pool=server_pool).start()
    try:
        assert call(server).say(handshake()).answers() == [401]
        log_in = "Authorization: Bearer password\r\n"
        call(server).say(handshake(headers=log_in)).hear_until(b'hx-target="#rooms"')
        assert call(server).say(handshake(headers=log_in)).answers() == [503]
    finally:
        server.stop()


def test_another_websocket_version_is_426_and_told_which_is_spoken(server: Server, call: Call) -> None:
    """With the headers of RFC 6455, section 4.4, and RFC 9110, section 15.5.22."""
    for version in ("8", "12", "14", "130", "13, 8", "x"):
        heard = call(server).say(handshake(version=version)).hear()
        assert heard.startswith("HTTP/1.1 426 "), version
        assert "\r\nSec-WebSocket-Version: 13\r\n" in heard and "\r\nUpgrade: websocket\r\n" in heard


def test_bytes_behind_a_handshake_are_not_taken_for_http(server: Server, call: Call) -> None:
    """A client has to wait for the answer. One that does not is refused, once; so is a handshake with a body."""
    for words in (get(), frame(TEXT, b"x").decode("latin-1"), BYE.decode("latin-1") + get()):
        assert call(server).say(handshake() + words).answers() == [400], words
    for header in ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"):
        assert call(server).say(handshake(headers=header)).answers() == [400], header
    heard = call(server).say(handshake(headers="Expect: 100-continue\r\n")).hear_until(b"rooms")
    assert heard.startswith(b"HTTP/1.1 101")


def test_request_for_another_protocol_is_the_last_on_its_connection(server: Server, call: Call) -> None:
    """h2c, and a WebSocket where there is none, are ignored; CONNECT and HTTP/1.0 open no tunnel either."""
    form = "Content-Length: 6\r\n"
    h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    for words, status in (
        (get(headers=h2c, close=False), 200),
        (post("/rooms", h2c + form, "name=x", close=False), 201),
        (post("/rooms", "Upgrade: foo\r\nConnection: upgrade\r\n" + form, "name=x", close=False), 201),
        ("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", 501),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (handshake().replace("HTTP/1.1", "HTTP/1.0"), 400),
        (handshake("/healthz"), 400),
    ):
        caller = call(server).say(words)
        heard = caller.hear()
        assert heard.startswith(f"HTTP/1.1 {status} ") and "Connection: close" in heard, words
        assert call(server).say(words + get()).answers() in ([status], [400]), words


def test_connection_upgrade_without_an_upgrade_is_a_plain_request(server: Server, call: Call) -> None:
    """Its body is a body, and what follows is the next request."""
    headers = "Connection: Upgrade\r\nContent-Length: 6\r\n"
    assert call(server).say(post("/rooms", headers, "name=x", close=False) + get()).answers() == [201, 200]
    assert call(server).say(post("/rooms", "Connection: Upgrade\r\n", close=False) + get()).answers() == [201, 200]


def test_http_1_0_stream_ends_with_its_connection(server: Server, model_server: ModelServer, call: Call) -> None:
    """Nothing else says where it ends, whatever was asked for."""
    model_server.will(answer("Hello there"))
    room_id = new_room(server)
    said = post(f"/rooms/{room_id}/messages", "Accept: text/plain\r\nContent-Length: 7\r\n", "text=Hi", close=False)
    said = said.replace("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n")
    heard = call(server).say(said).hear()
    assert "Hello there" in heard and "Connection: close" in heard and "chunked" not in heard
    assert heard.startswith("HTTP/1.1 201"), "and nobody is told 100 Continue"
