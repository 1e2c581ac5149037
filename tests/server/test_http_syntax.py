"""Valid and invalid requests by RFC 9110 and RFC 9112, as bytes to the real server."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer.server.http_syntax import MAX_CHUNK, BadRequest, parse_chunk_head, parse_field
from tests.support.raw import Caller, get, post
from tests.support.server import Server

Call = Callable[..., Caller]
HOST = "Host: 127.0.0.1\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"


def check(server: Server, call: Call, wanted: dict[str, int]) -> None:
    """Check that each request gets one response with this status, and then the connection ends."""
    callers = {words: call(server).send(words) for words in wanted}
    for caller in callers.values():
        caller.socket.shutdown(socket.SHUT_WR)
    received = {words: caller.answers() for words, caller in callers.items()}
    assert received == {words: [status] for words, status in wanted.items()}


def start(line: str, headers: str = HOST) -> str:
    return f"{line}\r\n{headers}Connection: close\r\n\r\n"


def test_request_line_that_breaks_the_syntax_is_rejected(shared_server: Server, call: Call) -> None:
    good = ["GET /healthz HTTP/1.1", "\r\nGET /healthz HTTP/1.1", "GET /healthz HTTP/1.0", "GET /healthz HTTP/1.9"]
    bad = [
        *("GET  /healthz HTTP/1.1", " GET /healthz HTTP/1.1", "GET /healthz HTTP/1.1 ", "GET\t/healthz HTTP/1.1"),
        *("GET\xa0/healthz HTTP/1.1", "GET /heal\0thz HTTP/1.1", "GET /healthz#x HTTP/1.1", "GET /healthz", "GET"),
        *("GET /healthz HTTP/1.10", "GET /healthz http/1.1", "GET /healthz HTTP/1.1\r", "GET /healthz\rHTTP/1.1"),
        *("\r\n\r\nGET /healthz HTTP/1.1", "\x1b[2J /healthz HTTP/1.1", "\x16\x03\x01\x02", "junk", "\0" * 9000),
    ]
    wanted = {start(line): 200 for line in [*good, "GET /rooms?q=\xc3\xbc HTTP/1.1"]} | dict.fromkeys(
        map(start, bad), 400
    )
    wanted[start("\0" * 9000)] = 414
    wanted |= {start(f"{method} /healthz HTTP/1.1"): 501 for method in ("get", "PROPFIND", "CONNECT", "X" * 200)}
    wanted |= {start(f"GET /healthz HTTP/{version}"): 505 for version in ("0.9", "2.0")}
    check(shared_server, call, wanted | {start("TRACE /healthz HTTP/1.1"): 405})
    assert "\x1b" not in "".join(shared_server.log)


def test_request_without_exactly_one_valid_host_is_rejected(shared_server: Server, call: Call) -> None:
    good = ("127.0.0.1", "LOCALHOST:80", "127.0.0.1:", "[::1]:8000", " \t127.0.0.1\t ")
    bad = ("", "a b", "127.0.0.1/x", "user@127.0.0.1", "127.0.0.1:80:80", "[::1", "::1", "%zz", "127.0.0.1?x", "\xfc")
    lines = {f"Host: {host}\r\n": 400 for host in bad} | {f"Host: {host}\r\n": 200 for host in good}
    lines |= {"": 400, HOST + HOST: 400, HOST + "Host: evil.example\r\n": 400, "host: evil.example\r\n": 403}
    wanted = {start("GET /healthz HTTP/1.1", line): status for line, status in lines.items()}
    wanted |= {start("GET /healthz HTTP/1.0", ""): 200, start("GET /healthz HTTP/1.0", HOST + HOST): 400}
    check(shared_server, call, wanted)


def test_target_in_absolute_form_replaces_host(shared_server: Server, call: Call) -> None:
    """The authority in the target is checked as host and as origin."""
    evil, length = "Host: evil.example\r\n", "Content-Length: 6\r\n"
    wanted = {
        start("GET HTTP://localhost:8000/healthz?x=y HTTP/1.1", evil): 200,
        start("GET http://127.0.0.1?q=x HTTP/1.1"): 200,
        start("GET http://127.0.0.1/healthz HTTP/1.0", ""): 200,
        start("GET http://evil.example/healthz HTTP/1.1"): 403,
        start("GET http://127.0.0.1/healthz HTTP/1.1", ""): 400,
        start("GET http://127.0.0.1/healthz HTTP/1.1", HOST + evil): 400,
        start("GET http://evil.example@127.0.0.1/healthz HTTP/1.1"): 400,
        start("GET http:///healthz HTTP/1.1"): 400,
        start("GET ftp://127.0.0.1/healthz HTTP/1.1"): 400,
        start("GET healthz HTTP/1.1"): 400,
        start("GET * HTTP/1.1"): 400,
        start("OPTIONS * HTTP/1.1"): 204,
        start("OPTIONS http://127.0.0.1 HTTP/1.1"): 204,
        post("http://localhost/rooms", f"Origin: http://localhost\r\n{length}", "name=x"): 201,
        post("http://localhost/rooms", f"Origin: http://127.0.0.1\r\n{length}", "name=x"): 403,
    }
    check(shared_server, call, wanted)


def test_header_that_breaks_the_syntax_is_rejected(shared_server: Server, call: Call) -> None:
    bad = ["X : y", " X: y", "X", ": y", "X: \0", "X: a\rb", "X: y\r\n z", "X\xe9: y", '"X": y']
    wanted = {get(headers=f"{line}\r\n"): 400 for line in bad}
    wanted |= {get().replace("\r\n", "\n"): 200, get(headers="X: \xfc\t\x01\r\nY:\r\n"): 200}
    check(shared_server, call, wanted)


AMBIGUOUS = [
    *("Content-Length: -1", "Content-Length: +5", "Content-Length: 5_0", "Content-Length: 0x5", "Content-Length: "),
    *("Content-Length: 5, 5", "Content-Length: 99999999999999999999", "Content-Length: 5\r\nContent-Length: 6"),
    *("Content-Length : 5", "X: y\r\n Content-Length: 5", "X\r\nContent-Length: 5", "X: y\rContent-Length: 5"),
    *("X: y\0\r\nContent-Length: 5", "X\xe9: y\r\nContent-Length: 5", "Transfer-Encoding : chunked"),
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    *("Transfer-Encoding: chunked, gzip", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding:\x0bchunked"),
    *("Transfer-Encoding: identity", "Transfer-Encoding: ", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
]


def test_body_length_that_is_ambiguous_is_rejected_and_ends_the_connection(shared_server: Server, call: Call) -> None:
    """The request that is smuggled into the body gets no response."""
    words = {headers: post("/rooms", headers + "\r\n", "0\r\n\r\n" + get(), close=False) for headers in AMBIGUOUS}
    callers = {headers: call(shared_server).send(one) for headers, one in words.items()}
    assert {headers: caller.answers() for headers, caller in callers.items()} == dict.fromkeys(AMBIGUOUS, [400])
    end = "0\r\n\r\n"
    wanted = {
        post("/rooms", "Transfer-Encoding: gzip, chunked\r\n", end): 501,
        post("/rooms", "Transfer-Encoding: CHUNKED \r\n", "6\r\nname=x\r\n" + end): 201,
        post("/rooms", CHUNKED, end).replace("HTTP/1.1", "HTTP/1.0"): 400,
        post("/rooms", "Content-Length: 6 \r\n", "name=x"): 201,
    }
    check(shared_server, call, wanted)


END = "\r\nname=x\r\n0\r\n\r\n"
BAD_CHUNKS = [
    *("ffffffffffffffff\r\n", f"{MAX_CHUNK + 1:x}\r\n", "f" * 5000 + "\r\n"),
    *(f"{size}{END}" for size in ("-6", "+6", "0x6", "0_6", " 6", "6 ", "", ";x", "zz")),
    *(f"6{extension}{END}" for extension in (";", ";x\ny", ";x=\0", ';x="y', ";" + "x" * 20_000)),
    *("6\nname=x\r\n0\r\n\r\n", "6\r\nname=x\n0\r\n\r\n", "6\r\nname=xy\r\n0\r\n\r\n", "6\r\nname=x0\r\n\r\n"),
    *("6\r\nname=x\r\n0\r\nTrailer : x\r\n\r\n", "6\r\nname=x\r\n0\r\n x\r\n\r\n"),
    *("6\r\nname=x\r\n0\r\n" + "X: y\r\n" * 91 + "\r\n", f"6\r\nname=x\r\n0\r\nX: {'y' * 33_000}\r\n\r\n"),
]
GOOD_CHUNKS = [
    '6 ; x = "a \\" b" ;y=z\r\nname=x\r\n0\r\n\r\n',
    "0000000000000000000006\r\nname=x\r\n000\r\nX: y\r\n\r\n",
    "5\r\nname=\r\nA\r\n0123456789\r\n0;end\r\n\r\n",
]


def test_chunk_that_breaks_the_syntax_is_rejected_at_once(shared_server: Server, call: Call) -> None:
    """The server does not wait for the end of a chunk that is too large. A request may follow a valid body."""
    callers = {words: call(shared_server).send(post("/rooms", CHUNKED, words, close=False)) for words in BAD_CHUNKS}
    assert {words: caller.answers() for words, caller in callers.items()} == dict.fromkeys(callers, [400])
    for words in GOOD_CHUNKS:
        assert call(shared_server).send(post("/rooms", CHUNKED, words, close=False), get()).answers() == [201, 200]


def test_response_to_head_has_no_body(shared_server: Server, call: Call) -> None:
    """Neither has the response to a request that is rejected."""
    requests = [get(path, "Accept-Encoding: gzip\r\n", close=False) for path in ("/", "/healthz", "/nothing", "/rooms")]
    head = [request.replace("GET", "HEAD", 1) for request in requests]
    received = call(shared_server).send(*head, get()).receive()
    assert re.fullmatch(r"(HTTP/1\.1 \d+ [^\0]*?\r\n\r\n){5}ok", received) and "<" not in received
    rejected = call(shared_server).send("HEAD / HTTP/1.1\r\n\r\n").receive()
    assert rejected.startswith("HTTP/1.1 400 ") and rejected.endswith("\r\n\r\n")


def test_connection_header_says_whether_the_connection_goes_on(shared_server: Server, call: Call) -> None:
    for option in ("Close", "keep-alive, close", "x,close ,y", "close\r\nConnection: keep-alive"):
        received = call(shared_server).send(get(headers=f"Connection: {option}\r\n", close=False), get()).receive()
        assert received.count("HTTP/1.1 200") == 1 and "\r\nConnection: close\r\n" in received, option
    kept = get(headers="Connection: X, Keep-Alive\r\n", close=False).replace("HTTP/1.1", "HTTP/1.0")
    received = call(shared_server).send(kept, get()).receive()
    assert received.count("HTTP/1.1 200") == 2 and "\r\nConnection: keep-alive\r\n" in received


def test_100_continue_is_sent_to_a_client_that_expects_it(shared_server: Server, call: Call) -> None:
    """HTTP/1.0 has no expectations."""
    headers = "Expect: 100-Continue\r\nContent-Length: 6\r\n"
    caller = call(shared_server).send(post("/rooms", headers))
    assert caller.socket.recv(1000).startswith(b"HTTP/1.1 100 Continue")
    assert caller.send("name=x").answers() == [201]
    old = post("/rooms", headers, "name=x").replace("HTTP/1.1", "HTTP/1.0")
    assert call(shared_server).send(old).answers() == [201]


def test_early_response_reaches_a_client_that_still_sends(shared_server: Server, call: Call) -> None:
    """Unread bytes do not reset the connection before the client has read the response."""
    for words in ("GET / HTTP/9.9\r\n\r\n", post("/rooms", CHUNKED, "zz\r\n", close=False)):
        assert call(shared_server).send(words, "x" * 3_000_000).answers() in ([400], [505])


PIECES = [
    *(b"GET", b"POST", b"HEAD", b" ", b"/", b"/rooms", b"*", b"http://127.0.0.1/", b"HTTP/1.1", b"HTTP/1.0", b"\r\n"),
    *(b"\n", b"\r", b"Host: 127.0.0.1\r\n", b"Host:", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Connection: close\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"\r\n\r\n", b"0\r\n\r\n"),
    *(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"POST /rooms HTTP/1.1\r\nHost: 127.0.0.1\r\n"),
    *(b"4\r\nabcd\r\n", b"\0", b"\xff", b":", b";x=y", b"ffffffffffffffff"),
]


def joined(pieces: Iterable[bytes]) -> bytes:
    return b"".join(pieces)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(words=st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=14).map(joined))
def test_any_bytes_get_an_http_response_or_a_close(shared_server: Server, words: bytes) -> None:
    caller = Caller(shared_server)
    try:
        caller.send(words).socket.shutdown(socket.SHUT_WR)
        received = caller.receive()
    finally:
        caller.close()
    assert received == "" or re.match(r"HTTP/1\.1 [1-4]\d\d |HTTP/1\.1 50[15] ", received), received
    assert " 500 " not in received


@given(st.binary(max_size=40))
def test_parsers_raise_only_bad_request(line: bytes) -> None:
    for parse in (parse_field, parse_chunk_head):
        try:
            parse(line)
        except BadRequest as error:
            assert error.status == 400


def test_parsers_take_linear_time_for_long_lines() -> None:
    """With backtracking, each of these would take minutes."""
    blanks = b" " * 32_000
    assert parse_field(b"X:" + blanks + b"y" + blanks + b"y\r\n")[1].endswith(b"y")
    for line in (b"1" + blanks + b"\r\n", b"1" + b";x" * 16_000 + b"!\0\r\n", b'1;x="' + b'\\"' * 16_000 + b"\r\n"):
        with pytest.raises(BadRequest):
            parse_chunk_head(line)
