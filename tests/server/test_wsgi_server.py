"""Connections, by real sockets on the real server: what is too large is refused, and who is slow costs only itself."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from overseer.application import MAX_BODY
from overseer.server.wsgi_server import MAX_HEADER_LINES, MAX_HEADERS, Timeouts
from tests.support.model_server import ModelServer
from tests.support.raw import Caller, get, post
from tests.support.server import Server
from tests.support.server_pool import ServerPool
from tests.support.tab import DEADLINE, Tab

MAX_LINE = 8192  # bytes of a request line; gevent's
HASTY = Timeouts(headers=1, idle=1, body=1, stall=1, drain=1, linger=1, crowded=1)


def short_timeouts(instance: Path, model_server: ModelServer, server_pool: ServerPool, **differs: float) -> Server:
    """The server with less patience, and perhaps fewer descriptors."""
    hasty = {name: getattr(HASTY, name) for name in HASTY.__slots__}
    environment = {
        "OPENAI_BASE_URL": model_server.url,
        "OPENAI_MODEL": "stand-in",
        "IMPATIENT": json.dumps({**hasty, **differs}),
    }
    return Server(
        instance, environment=environment, program=("-m", "tests.support.short_timeouts"), server_pool=server_pool
    ).start()


@pytest.fixture
def hasty(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    server = short_timeouts(instance, model_server, server_pool)
    yield server
    server.stop()


def well(server: Server) -> bool:
    return requests.get(f"{server.url}/healthz", timeout=DEADLINE).text == "ok"


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 3 * DEADLINE
    while not so():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.02)


# Size


def test_an_address_has_at_most_8_kb(server: Server, call: Callable[..., Caller]) -> None:
    """A request line of so many bytes is taken; a longer one is 414."""
    rest = len("GET /healthz?q= HTTP/1.1\r\n")
    assert call(server).say(get("/healthz?q=" + "x" * (MAX_LINE - 1 - rest))).answers() == [200]
    assert call(server).say(get("/healthz?q=" + "x" * (MAX_LINE - rest))).answers() == [414]
    assert call(server).say("GET /" + "x" * 300_000).answers() == [414]


def test_there_are_at_most_90_headers_and_32_kb_of_them(server: Server, call: Callable[..., Caller]) -> None:
    """So many are taken; one more, or one byte more, is 431, however it is spread."""
    two = len(get()) - len("GET /healthz HTTP/1.1\r\n")
    assert call(server).say(get(headers="X: y\r\n" * (MAX_HEADER_LINES - 2))).answers() == [200]
    assert call(server).say(get(headers="X: y\r\n" * (MAX_HEADER_LINES - 1))).answers() == [431]
    assert call(server).say(get(headers=f"X: {'y' * (MAX_HEADERS - two - 5)}\r\n")).answers() == [200]
    assert call(server).say(get(headers=f"X: {'y' * (MAX_HEADERS - two - 4)}\r\n")).answers() == [431]
    assert call(server).say("GET / HTTP/1.1\r\nX: " + "y" * 300_000).answers() == [431]
    assert call(server).say("GET / HTTP/1.1\r\n" + "X: y\r\n" * 50_000).answers() == [431]


LIES = [
    "Content-Length: -1",
    "Content-Length: +5",
    "Content-Length: 5_0",
    "Content-Length: five",
    "Content-Length: ",
    "Content-Length: 5, 5",
    "Content-Length: 99999999999999999999",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding:\x0bchunked",
    "X\xe9: y\r\nContent-Length: 5",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Content-Length : 5",
    "Transfer-Encoding : chunked",
    "X: y\r\n Content-Length: 5",
    "X\r\nContent-Length: 5",
    "X: y\rContent-Length: 5",
    "X: y\0\r\nContent-Length: 5",
]


def test_a_length_that_may_be_a_lie_is_refused(server: Server, call: Callable[..., Caller]) -> None:
    """Where two readers could see two ends of a request, it is 400 and the end of the connection."""
    smuggled = "0\r\n\r\n" + get()
    callers = {headers: call(server).say(post("/rooms", headers + "\r\n", smuggled, close=False)) for headers in LIES}
    assert {headers: caller.answers() for headers, caller in callers.items()} == dict.fromkeys(LIES, [400])


def test_what_is_no_http_is_told_so(server: Server, call: Callable[..., Caller]) -> None:
    """TLS, NULs, other versions and nonsense: a refusal, the end, no trace in the log."""
    odd = ("\x1b[2J" + get(), "\x16\x03\x01\x02\r\n")
    for junk in ("\r\n\r\n", "junk\r\n\r\n", "\0" * 9000, "GET / HTTP/9.9\r\n\r\n", *odd):
        assert call(server).say(junk).answers() in ([400], [414], [505]), junk
    assert well(server)
    assert "Traceback" not in "".join(server.log) and "\x1b" not in "".join(server.log)


def test_a_body_in_chunks_is_a_body(server: Server, call: Callable[..., Caller]) -> None:
    """It needs no length, and another request may follow it."""
    chunks = "3\r\nnam\r\n9;x=y\r\ne=Kitchen\r\n0\r\nTrailer: x\r\n\r\n"
    both = post("/rooms", "Transfer-Encoding: chunked\r\n", chunks, close=False), get()
    heard = call(server).say(*both).hear()
    assert "Kitchen" in heard and [int(one) for one in re.findall(r"HTTP/1\.1 (\d+)", heard)] == [201, 200]


def test_a_body_in_chunks_has_its_bound_too(server: Server, call: Callable[..., Caller]) -> None:
    """What is over it is 413, however small the pieces; what is no chunk is 400."""
    caller = call(server).say(post("/rooms", "Transfer-Encoding: chunked\r\n"), "5\r\nname=\r\n")
    with suppress(ConnectionError):
        caller.say(*itertools.repeat("10000\r\n" + "x" * 65536 + "\r\n", MAX_BODY // 65536 + 1), "0\r\n\r\n")
    assert caller.answers() == [413]
    assert call(server).say(
        post("/rooms", "Transfer-Encoding: chunked\r\n"), "zz\r\nname=x\r\n0\r\n\r\n"
    ).answers() == [400]


def test_a_body_of_ten_megabytes_is_answered_for_all_that(server: Server, call: Callable[..., Caller]) -> None:
    """Who has sent it all hears 413, and may go on asking."""
    much = call(server).say(post("/rooms", "Content-Length: 10000000\r\n", close=False), "x" * 10_000_000, get())
    assert much.answers() == [413, 200]


def test_100_continue_is_said_to_what_may_come(server: Server, call: Callable[..., Caller]) -> None:
    """Who asks is told to go on, or, with too much to send, that it need not."""
    caller = call(server).say(post("/rooms", "Expect: 100-continue\r\nContent-Length: 6\r\n"))
    assert caller.socket.recv(1000).startswith(b"HTTP/1.1 100 Continue")
    assert caller.say("name=x").answers() == [201]
    assert call(server).say(
        post("/rooms", f"Expect: 100-continue\r\nContent-Length: {MAX_BODY + 1}\r\n")
    ).answers() == [413]


# Time


def test_one_byte_at_a_time_is_too_slow_and_delays_nobody(hasty: Server, call: Callable[..., Caller]) -> None:
    """In the address, the headers or the body: it is let go while it still speaks, and others are served meanwhile."""
    for words in ("GET /" + "x" * 200, "GET / HTTP/1.1\r\n" + "X: y\r\n" * 30):
        caller, ended = call(hasty), False
        for letter in words:
            caller.say(letter)
            caller.socket.settimeout(0.1)
            try:
                said = caller.socket.recv(1000)
            except TimeoutError:
                assert well(hasty)
                continue
            except ConnectionResetError:
                said = b""
            assert said == b"" or said.startswith(b"HTTP/1.1 408")
            ended = True
            break
        assert ended
    caller = call(hasty).say(post("/rooms", "Content-Length: 100000\r\n"), "name=")
    caller.socket.settimeout(0.1)
    for _ in range(200):
        try:
            caller.say("x")
            assert caller.socket.recv(1000).startswith(b"HTTP/1.1 400")
            break
        except TimeoutError:
            assert well(hasty)
    else:
        raise AssertionError("it was waited for to the end")


SILENCES = {
    "": [],
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n": [408],
    get(close=False): [200],
    post("/rooms", "Content-Length: 50\r\n", "name=", close=False): [400],
    post("/rooms", "Expect: 100-continue\r\nContent-Length: 50\r\n", close=False): [100, 400],
    post("/rooms", "Transfer-Encoding: chunked\r\n", "5\r\nname=", close=False): [400],
    post("/rooms", "Transfer-Encoding: chunked\r\n", "0\r\nTrailer: ", close=False): [400],
    post("/nowhere", "Content-Length: 5000000000\r\n", "x", close=False): [413],
}


def test_a_connection_that_says_nothing_more_is_let_go(hasty: Server, call: Callable[..., Caller]) -> None:
    """Before, within and after a request."""
    callers = {words: call(hasty).say(words) for words in SILENCES}
    assert well(hasty)
    assert {words: caller.answers() for words, caller in callers.items()} == SILENCES
    assert "Traceback" not in "".join(hasty.log)


def test_trailers_without_end_are_not_read_for_ever(hasty: Server, call: Callable[..., Caller]) -> None:
    """The bytes come as fast as can be; others are served, and it ends."""
    caller = call(hasty).say(post("/rooms", "Transfer-Encoding: chunked\r\n", "0\r\n"))
    with suppress(ConnectionError):
        for _ in range(1_000_000):
            caller.say("Trailer: x\r\n" * 5000)
            assert well(hasty)
        raise AssertionError("it was read to the end")


def test_who_never_reads_is_let_go(hasty: Server, call: Callable[..., Caller]) -> None:
    """Answers that nobody takes do not keep the server, nor a descriptor of it."""
    url = requests.post(f"{hasty.url}/rooms").headers["Location"]
    requests.post(f"{hasty.url}{url}/messages", {"text": "x" * 200_000}, headers={"Prefer": "wait=60"})
    until(lambda: well(hasty))
    before = descriptors(hasty)
    for _ in range(5):
        call(hasty, buffer=4096).say(get(url, close=False) * 100)
    until(lambda: descriptors(hasty) >= before + 3)
    until(lambda: descriptors(hasty) <= before)
    assert well(hasty)
    assert "Traceback" not in "".join(hasty.log)


@pytest.mark.parametrize("headers", ["", "Expect: 100-continue\r\nContent-Length: 0\r\n"], ids=["plain", "continue"])
def test_who_asks_without_a_pause_lets_others_go_first(
    server: Server, call: Callable[..., Caller], headers: str
) -> None:
    """Thousands of requests in one go, their answers read as they come: somebody else's is answered among them."""
    caller, many, answered, enough = call(server), 20_000, [0], threading.Event()

    def read() -> None:
        with suppress(OSError):
            while (data := caller.socket.recv(65536)) and not enough.is_set():
                answered[0] += data.count(b"HTTP/1.1 200")

    def write() -> None:
        with suppress(OSError):
            for _ in range(many // 100):
                caller.say(get(headers=headers, close=False) * 100)

    threads = [threading.Thread(target=run, daemon=True) for run in (read, write)]
    for thread in threads:
        thread.start()
    until(lambda: answered[0] > 10)
    for _ in range(3):
        assert well(server)
    assert answered[0] < many
    enough.set()
    caller.socket.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(DEADLINE)


# Number


def test_one_client_with_many_connections_keeps_nobody_out(
    instance: Path, model_server: ModelServer, server_pool: ServerPool, call: Callable[..., Caller]
) -> None:
    """It has a third of all, and is told so; others come in, and so does it when it has let some go."""
    server = short_timeouts(
        instance, model_server, server_pool, descriptors=400, headers=600.0, idle=600.0, strangers=True
    )
    try:
        many = [call(server, source="127.0.0.2") for _ in range(600)]
        assert call(server, source="127.0.0.2").answers() in ([503], [])
        assert call(server, source="127.0.0.3").say(get()).answers() == [200]
        assert well(server) and descriptors(server) < 200
        for one in many:
            one.close()
        until(lambda: call(server, source="127.0.0.2").say(get()).answers() == [200])
    finally:
        server.stop()
    assert "Traceback" not in "".join(server.log)


def test_more_connections_than_descriptors_are_refused_and_rooms_go_on(
    instance: Path, model_server: ModelServer, server_pool: ServerPool, call: Callable[..., Caller]
) -> None:
    """Hundreds that say nothing, under a limit of 400: who was there goes on, who comes is told, then all is well."""
    server = short_timeouts(instance, model_server, server_pool, descriptors=400, headers=600.0, idle=600.0)
    try:
        with requests.Session() as session:
            url = session.post(f"{server.url}/rooms").headers["Location"]
            tab = Tab(server.url, f"room={url.rsplit('/', 1)[-1]}")
            tab.read_until('hx-target="#messages"')
            idle = [call(server) for _ in range(600)]
            refused = call(server).say(get()).answers()
            assert refused in ([503], [])
            assert descriptors(server) < 400
            for _ in range(3):
                wait = {"Prefer": "wait=60"}
                assert session.post(f"{server.url}{url}/messages", {"text": "Hello"}, headers=wait).status_code == 201
            tab.read_until(lambda frame: 'id="message-6"' in frame and 'data-state="complete"' in frame)
            assert session.post(f"{server.url}/rooms").status_code == 201
            for one in idle:
                one.close()
            until(lambda: call(server).say(get()).answers() == [200])
            tab.close()
    finally:
        server.stop()
    assert "Traceback" not in "".join(server.log)
    assert sum("too many connections" in line for line in server.log) == 1
