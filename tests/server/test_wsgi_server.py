"""Limits on the size, time and number of connections and requests, over real sockets."""

from __future__ import annotations

import itertools
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import requests

from overseer.application import MAX_BODY
from overseer.server.wsgi_server import MAX_HEADER_LINES, MAX_HEADERS_BYTES
from tests.support.raw import Caller, get, post
from tests.support.server import Server, StartServer, descriptors, is_healthy
from tests.support.tab import DEADLINE, Tab
from tests.support.waiting import until

Call = Callable[..., Caller]
MAX_LINE = 8192  # bytes of a request line; gevent's limit
CHUNKED = "Transfer-Encoding: chunked\r\n"


@pytest.fixture
def impatient(start_server: StartServer) -> Server:
    return start_server(altered={"timeouts": {}})


def test_request_line_over_8_kb_is_414(shared_server: Server, call: Call) -> None:
    rest = len("GET /healthz?q= HTTP/1.1\r\n")
    assert call(shared_server).send(get("/healthz?q=" + "x" * (MAX_LINE - 1 - rest))).answers() == [200]
    assert call(shared_server).send(get("/healthz?q=" + "x" * (MAX_LINE - rest))).answers() == [414]


def test_headers_over_90_lines_or_32_kb_are_431(shared_server: Server, call: Call) -> None:
    size = MAX_HEADERS_BYTES - (len(get()) - len("GET /healthz HTTP/1.1\r\n")) - len("X: \r\n")
    for headers, status in (
        ("X: y\r\n" * (MAX_HEADER_LINES - 2), 200),
        ("X: y\r\n" * (MAX_HEADER_LINES - 1), 431),
        (f"X: {'y' * size}\r\n", 200),
        (f"X: {'y' * (size + 1)}\r\n", 431),
    ):
        assert call(shared_server).send(get(headers=headers)).answers() == [status]
    assert call(shared_server).send("GET / HTTP/1.1\r\nX: " + "y" * 300_000).answers() == [431]


def test_body_over_the_limit_is_413(shared_server: Server, call: Call) -> None:
    """A client that sends all of a body gets the response. A body that was read completely keeps the connection."""
    large = post("/rooms", "Content-Length: 10000000\r\n", close=False)
    assert call(shared_server).send(large, "x" * 10_000_000, get()).answers() == [413, 200]
    caller = call(shared_server).send(post("/rooms", CHUNKED), "5\r\nname=\r\n")
    with suppress(ConnectionError):
        caller.send(*itertools.repeat("10000\r\n" + "x" * 65536 + "\r\n", MAX_BODY // 65536 + 1), "0\r\n\r\n")
    assert caller.answers() == [413]
    expecting = post("/rooms", f"Expect: 100-continue\r\nContent-Length: {MAX_BODY + 1}\r\n")
    assert call(shared_server).send(expecting).answers() == [413]


def test_client_that_sends_one_byte_at_a_time_is_disconnected(impatient: Server, call: Call) -> None:
    """In the request line, the headers or the body. Other clients are served meanwhile."""
    callers = {
        call(impatient): itertools.chain("GET /", itertools.repeat("x")),
        call(impatient).send("GET / HTTP/1.1\r\n"): itertools.cycle("X: y\r\n"),
        call(impatient).send(post("/rooms", "Content-Length: 100000\r\n")): itertools.repeat("x"),
    }
    open_sockets = {caller.socket: bytes_ for caller, bytes_ in callers.items()}
    received = []
    while open_sockets:
        for sock, bytes_ in open_sockets.items():
            with suppress(ConnectionError):
                sock.send(next(bytes_).encode())
        for sock in select.select(list(open_sockets), [], [], 0.05)[0]:
            received.append(sock.recv(1000)[:12])
            del open_sockets[sock]
        assert is_healthy(impatient)
    assert sorted(received) == [b"", b"HTTP/1.1 400", b"HTTP/1.1 408"], "a request line gets no response"


SILENT = {
    "": [],
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n": [408],
    get(close=False): [200],
    post("/rooms", "Content-Length: 50\r\n", "name=", close=False): [400],
    post("/rooms", "Expect: 100-continue\r\nContent-Length: 50\r\n", close=False): [100, 400],
    post("/rooms", CHUNKED, "5\r\nname=", close=False): [400],
    post("/nowhere", "Content-Length: 5000000000\r\n", "x", close=False): [413],
}


def test_client_that_falls_silent_is_disconnected(impatient: Server, call: Call) -> None:
    """Before, within and after a request."""
    callers = {words: call(impatient).send(words) for words in SILENT}
    assert is_healthy(impatient)
    assert {words: caller.answers() for words, caller in callers.items()} == SILENT


def test_client_that_never_reads_is_disconnected(impatient: Server, call: Call) -> None:
    page = next(line.split('"')[1] for line in requests.get(impatient.url).text.split("<script src=")[1:])
    assert is_healthy(impatient)
    before = descriptors(impatient)
    for _ in range(5):
        call(impatient, buffer=4096).send(get(page, close=False) * 100)
    until(lambda: descriptors(impatient) >= before + 3)
    until(lambda: descriptors(impatient) <= before)
    assert is_healthy(impatient)


def test_client_that_pipelines_requests_does_not_starve_others(shared_server: Server, call: Call) -> None:
    """While thousands of its requests are answered, requests of others are answered, too."""
    caller, sent, answered, enough = call(shared_server), 20_000, [0], threading.Event()

    def read() -> None:
        with suppress(OSError):
            while (data := caller.socket.recv(65536)) and not enough.is_set():
                answered[0] += data.count(b"HTTP/1.1 200")

    def write() -> None:
        with suppress(OSError):
            for _ in range(sent // 100):
                caller.send(get(close=False) * 100)

    threads = [threading.Thread(target=run, daemon=True) for run in (read, write)]
    for thread in threads:
        thread.start()
    until(lambda: answered[0] > 10)
    for _ in range(3):
        assert is_healthy(shared_server)
    assert answered[0] < sent
    enough.set()
    caller.socket.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(DEADLINE)


def test_connections_over_the_limits_are_503_and_rooms_stay_usable(start_server: StartServer, call: Call) -> None:
    """One client gets a third of the connections, other clients the rest. Tabs and rooms go on working."""
    timeouts = {"header_seconds": 600.0, "idle_seconds": 600.0}
    server = start_server(altered={"timeouts": timeouts, "descriptors": {"limit": 400}, "limit_loopback": {}})

    def is_served(source: str) -> bool:
        answers = call(server, source=source).send(get()).answers()
        assert answers in ([200], [503], []), "a refused connection may be reset"
        return answers == [200]

    with requests.Session() as session:
        room = session.post(f"{server.url}/rooms").headers["Location"]
        tab = Tab(server.url, f"room={room.rsplit('/', 1)[-1]}")
        tab.read_until('hx-target="#messages"')
        idle = [call(server, source="127.0.0.2") for _ in range(40)]
        until(lambda: not is_served("127.0.0.2"))
        assert is_served("127.0.0.3")
        idle += [call(server, source="127.0.0.1") for _ in range(400)]
        until(lambda: not is_served("127.0.0.3"))
        assert descriptors(server) < 400
        asked = session.post(f"{server.url}{room}/messages", {"text": "Hello"}, headers={"Prefer": "wait=60"})
        assert asked.status_code == 201
        tab.read_until(lambda frame: 'id="message-2"' in frame and 'data-state="complete"' in frame)
        assert session.post(f"{server.url}/rooms").status_code == 201
        for one in idle:
            one.close()
        until(lambda: is_served("127.0.0.2"))
        tab.close()
    server.stop()
    assert sum("too many connections" in line for line in server.log) == 1
