"""Requests as RFC 9110 and RFC 9112 have them, and as they do not, as bytes to the real server."""

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
CLOSE = "Connection: close\r\n"


def check(server: Server, call: Call, wanted: dict[str, int], *also: str) -> None:
    """Each of the requests has this one answer, and those of `also` after it; then the connection ends."""
    callers = {words: call(server).say(words, *also) for words in wanted}
    for caller in callers.values():
        caller.socket.shutdown(socket.SHUT_WR)
    heard = {words: caller.answers() for words, caller in callers.items()}
    assert heard == {words: [status] for words, status in wanted.items()}
    assert "Traceback" not in "".join(server.log)


def start(line: str, headers: str = HOST) -> str:
    return f"{line}\r\n{headers}{CLOSE}\r\n"


def test_request_line_is_parsed_strictly(server: Server, call: Call) -> None:
    """Exactly one space, methods and version in capitals, a target without white space; curl sends an ü as it is."""
    wanted = {
        start("GET /healthz HTTP/1.1"): 200,
        start("\r\nGET /healthz HTTP/1.1"): 200,
        start("GET /healthz HTTP/1.0"): 200,
        start("GET /healthz HTTP/1.2"): 200,
        start("GET /healthz HTTP/1.9"): 200,
        start("GET /rooms?q=\xc3\xbc HTTP/1.1"): 200,
        start("GET /\xfc HTTP/1.1"): 404,
    }
    bad = [
        *("GET  /healthz HTTP/1.1", " GET /healthz HTTP/1.1", "GET /healthz  HTTP/1.1", "GET /healthz HTTP/1.1 "),
        *("GET\t/healthz HTTP/1.1", "GET\x0b/healthz HTTP/1.1", "GET\x85/healthz HTTP/1.1", "GET\xa0/healthz HTTP/1.1"),
        *("GET /heal\0thz HTTP/1.1", "GET /heal\x7fthz HTTP/1.1", "GET /healthz#x HTTP/1.1"),
        *("GET /healthz", "GET", "GET /healthz HTTP/1", "GET /healthz HTTP/1.1.1", "GET /healthz HTTP/1.10"),
        *("GET /healthz http/1.1", "GET /healthz HTTP/01.1", "GET /healthz HTTP/-1.1", "GET /healthz HTTPS/1.1"),
        *("GET /healthz HTTP/1.1\r", "GET /healthz\rHTTP/1.1", "\r\n\r\nGET /healthz HTTP/1.1"),
        *(" \r\nGET /healthz HTTP/1.1", "G(T /healthz HTTP/1.1", "\x1b[2J /healthz HTTP/1.1"),
    ]
    check(server, call, wanted | {start(line): 400 for line in bad})


def test_unknown_method_is_501_and_unknown_version_505(server: Server, call: Call) -> None:
    """A method in small letters is another one, and does nothing."""
    methods = ("get", "Get", "post", "PROPFIND", "CONNECT", "X" * 200)
    versions = ("0.9", "2.0", "3.0", "9.9")
    wanted = {start(f"{method} /healthz HTTP/1.1"): 501 for method in methods}
    check(server, call, wanted | {start(f"GET /healthz HTTP/{version}"): 505 for version in versions})
    check(server, call, {start("TRACE /healthz HTTP/1.1"): 405, start("PUT /healthz HTTP/1.1"): 405})


def test_request_has_one_valid_host(server: Server, call: Call) -> None:
    """None, two or nonsense is 400, but HTTP/1.0 needs none; a valid one that is not ours is 403."""
    good = ("127.0.0.1", "LOCALHOST:80", "127.0.0.1:", "[::1]", "[::1]:8000", " \t127.0.0.1\t ")
    bad = ("", " ", "a b", "127.0.0.1/x", "user@127.0.0.1", "127.0.0.1:80:80", "127.0.0.1:x", "[::1", "::1", "[x]")
    more = ("127.0.0.1, 127.0.0.1", "%zz", "127.0.0.1?x", "127.0.0.1#x", "\xfc", "127.0.0.1\\x", "<x>", "127.0.0.1:-1")
    lines = {f"Host: {host}\r\n": 400 for host in bad + more if host != "127.0.0.1, 127.0.0.1"}
    lines |= {"": 400, HOST + HOST: 400, HOST + "Host: evil.example\r\n": 400, "host: evil.example\r\n": 403}
    lines |= {f"Host: {host}\r\n": 200 for host in good}
    check(server, call, {start("GET /healthz HTTP/1.1", line): status for line, status in lines.items()})
    check(server, call, {start("GET /healthz HTTP/1.0", ""): 200, start("GET /healthz HTTP/1.0", HOST + HOST): 400})


def test_target_in_absolute_form_replaces_host(server: Server, call: Call) -> None:
    """Its authority is the one that is checked; in other forms a target is for CONNECT, OPTIONS or nobody."""
    evil = "Host: evil.example\r\n"
    wanted = {
        start("GET http://127.0.0.1/healthz HTTP/1.1"): 200,
        start("GET HTTP://localhost:8000/healthz?x=y HTTP/1.1", evil): 200,
        start("GET https://127.0.0.1/healthz HTTP/1.1", evil): 200,
        start("GET http://127.0.0.1 HTTP/1.1"): 200,
        start("GET http://127.0.0.1?q=x HTTP/1.1"): 200,
        start("GET http://127.0.0.1/healthz HTTP/1.0", ""): 200,
        start("GET http://evil.example/healthz HTTP/1.1"): 403,
        start("GET https://evil.example/healthz HTTP/1.1"): 403,
        start("GET http://127.0.0.1/healthz HTTP/1.1", ""): 400,
        start("GET http://127.0.0.1/healthz HTTP/1.1", HOST + evil): 400,
        start("GET http://evil.example@127.0.0.1/healthz HTTP/1.1"): 400,
        start("GET http:///healthz HTTP/1.1"): 400,
        start("GET http:/healthz HTTP/1.1"): 400,
        start("GET ftp://127.0.0.1/healthz HTTP/1.1"): 400,
        start("GET 127.0.0.1:80 HTTP/1.1"): 400,
        start("GET healthz HTTP/1.1"): 400,
        start("GET * HTTP/1.1"): 400,
        start("OPTIONS * HTTP/1.1"): 204,
        start("OPTIONS http://127.0.0.1 HTTP/1.1"): 204,
        start("OPTIONS * HTTP/1.1", ""): 400,
    }
    check(server, call, wanted)


def test_redirect_for_an_absolute_target_names_its_authority(server: Server, call: Call) -> None:
    """And an origin is compared with it, whatever Host says."""
    ours = post("http://localhost/rooms", "Origin: http://localhost\r\nContent-Length: 6\r\n", "name=x")
    theirs = post("http://localhost/rooms", "Origin: http://127.0.0.1\r\nContent-Length: 6\r\n", "name=x")
    check(server, call, {ours: 201, theirs: 403})


def test_header_that_breaks_the_syntax_is_400(server: Server, call: Call) -> None:
    """Names are tokens, values have no NUL, CR or LF, and no line continues another; a mere LF ends a line."""
    odd = ["X : y", " X: y", "X", ": y", "X\0: y", "X: \0", "X: a\rb", "X: y\r\n z", "X\xe9: y", "X y: z", '"X": y']
    wanted = {get(headers=f"{line}\r\n"): 400 for line in odd}
    check(server, call, wanted | {get().replace("\r\n", "\n"): 200, get(headers="X: \xfc\t\x01\r\nY:\r\n"): 200})


def test_transfer_coding_that_is_not_known_is_501(server: Server, call: Call) -> None:
    """One that does not end in chunked, and any in HTTP/1.0, is 400: nobody could say where the body ends."""
    end = "0\r\n\r\n"
    wanted = {
        post("/rooms", "Transfer-Encoding: gzip, chunked\r\n", end): 501,
        post("/rooms", "Transfer-Encoding: identity\r\n", end): 400,
        post("/rooms", "Transfer-Encoding: \r\n", end): 400,
        post("/rooms", "Transfer-Encoding: CHUNKED \r\n", "6\r\nname=x\r\n" + end): 201,
        post("/rooms", "Transfer-Encoding: chunked\r\n", end).replace("HTTP/1.1", "HTTP/1.0"): 400,
        post("/rooms", "Content-Length: 6 \r\n", "name=x"): 201,
        post("/rooms", "Content-Length: 0x6\r\n", "name=x"): 400,
    }
    check(server, call, wanted)


CHUNKS = {
    "ffffffffffffffff\r\n": 400,
    "7fffffffffffffff\r\n": 400,
    f"{MAX_CHUNK + 1:x}\r\n": 400,
    "f" * 5000 + "\r\n": 400,
    "-6\r\nname=x\r\n0\r\n\r\n": 400,
    "+6\r\nname=x\r\n0\r\n\r\n": 400,
    "0x6\r\nname=x\r\n0\r\n\r\n": 400,
    "0_6\r\nname=x\r\n0\r\n\r\n": 400,
    " 6\r\nname=x\r\n0\r\n\r\n": 400,
    "6 \r\nname=x\r\n0\r\n\r\n": 400,
    "\r\nname=x\r\n0\r\n\r\n": 400,
    ";x\r\nname=x\r\n0\r\n\r\n": 400,
    "6\nname=x\r\n0\r\n\r\n": 400,
    "6\r\nname=x\n0\r\n\r\n": 400,
    "6\r\nname=xy\r\n0\r\n\r\n": 400,
    "6\r\nname=x0\r\n\r\n": 400,
    "6;\r\nname=x\r\n0\r\n\r\n": 400,
    "6;x\ny\r\nname=x\r\n0\r\n\r\n": 400,
    "6;x=\0\r\nname=x\r\n0\r\n\r\n": 400,
    '6;x="y\r\nname=x\r\n0\r\n\r\n': 400,
    "6;" + "x" * 20_000 + "\r\nname=x\r\n0\r\n\r\n": 400,
    "1;x=" + "y" * 8000 + "\r\nn\r\n" + "1;x=" + "y" * 9000 + "\r\nn\r\n0\r\n\r\n": 400,
    "6\r\nname=x\r\n0\r\nTrailer : x\r\n\r\n": 400,
    "6\r\nname=x\r\n0\r\n x\r\n\r\n": 400,
    "6\r\nname=x\r\n0\r\n" + "X: y\r\n" * 91 + "\r\n": 400,
    f"6\r\nname=x\r\n0\r\nX: {'y' * 33_000}\r\n\r\n": 400,
    '6 ; x = "a \\" b" ;y=z\r\nname=x\r\n0\r\n\r\n': 201,
    "06\r\nname=x\r\n000\r\nX: y\r\n\r\n": 201,
    "0000000000000000000006\r\nname=x\r\n0\r\n\r\n": 201,
    "5\r\nname=\r\nA\r\n0123456789\r\n0;end\r\n\r\n": 201,
}


def test_chunk_that_breaks_the_syntax_is_400_at_once(server: Server, call: Call) -> None:
    """The client does not say that it has ended: nobody waits for a chunk that no body can hold."""
    body = {post("/rooms", "Transfer-Encoding: chunked\r\n", chunks, close=False): n for chunks, n in CHUNKS.items()}
    callers = {words: call(server).say(words) for words, status in body.items() if status == 400}
    assert {words: caller.answers() for words, caller in callers.items()} == dict.fromkeys(callers, [400])
    for words, status in body.items():
        if status == 201:
            assert call(server).say(words, get()).answers() == [201, 200], words
    assert "Traceback" not in "".join(server.log)


def test_response_to_head_has_no_body(server: Server, call: Call) -> None:
    """Neither that of a page, a file or an error, nor that of a request which is refused."""
    requests = [get(path, "Accept-Encoding: gzip\r\n", close=False) for path in ("/", "/healthz", "/nothing", "/rooms")]
    head = [request.replace("GET", "HEAD", 1) for request in requests]
    heard = call(server).say(*head, get()).hear()
    assert re.fullmatch(r"(HTTP/1\.1 \d+ [^\0]*?\r\n\r\n){5}ok", heard) and "<" not in heard
    refused = call(server).say("HEAD / HTTP/1.1\r\n\r\n").hear()
    assert refused.startswith("HTTP/1.1 400 ") and refused.endswith("\r\n\r\n")


def test_end_of_a_connection_is_announced(server: Server, call: Call) -> None:
    """`Connection` is a list, in whatever case; an answer says whether the connection goes on."""
    for option in ("close", "Close", "keep-alive, close", "x,close ,y", "close\r\nConnection: keep-alive"):
        heard = call(server).say(get(headers=f"Connection: {option}\r\n", close=False), get()).hear()
        assert heard.count("HTTP/1.1 200") == 1 and "\r\nConnection: close\r\n" in heard, option
    kept = get(headers="Connection: X, Keep-Alive\r\n", close=False).replace("HTTP/1.1", "HTTP/1.0")
    heard = call(server).say(kept, get()).hear()
    assert heard.count("HTTP/1.1 200") == 2 and "\r\nConnection: keep-alive\r\n" in heard


def test_100_continue_in_any_case_is_an_expectation(server: Server, call: Call) -> None:
    """One that comes with HTTP/1.0 is none."""
    headers = "Expect: 100-Continue\r\nContent-Length: 6\r\n"
    assert call(server).say(post("/rooms", headers, "name=x")).answers() == [100, 201]
    old = post("/rooms", headers, "name=x").replace("HTTP/1.1", "HTTP/1.0")
    assert call(server).say(old).answers() == [201]


def test_early_answer_reaches_a_client_that_still_sends(server: Server, call: Call) -> None:
    """What is in the air behind a refusal does not reset the connection before it was read."""
    for words in ("GET / HTTP/9.9\r\n\r\n", post("/rooms", "Transfer-Encoding: chunked\r\n", "zz\r\n", close=False)):
        assert call(server).say(words, "x" * 3_000_000).answers() in ([400], [505])


PIECES = [
    *(b"GET", b"POST", b"HEAD", b" ", b"/", b"/rooms", b"*", b"http://127.0.0.1/", b"HTTP/1.1", b"HTTP/1.0", b"\r\n"),
    *(b"\n", b"\r", b"Host: 127.0.0.1\r\n", b"Host:", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Connection: close\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"\r\n\r\n", b"0\r\n\r\n"),
    *(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"POST /rooms HTTP/1.1\r\nHost: 127.0.0.1\r\n"),
    *(b"4\r\nabcd\r\n", b"\0", b"\xff", b":", b";x=y", b"ffffffffffffffff"),
]


def joined(pieces: Iterable[bytes]) -> bytes:
    return b"".join(pieces)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(words=st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=14).map(joined))
def test_any_bytes_are_answered_by_http_or_a_close(server: Server, words: bytes) -> None:
    """Never by a fault of ours, a traceback in the log, or silence."""
    caller = Caller(server)
    try:
        caller.say(words).socket.shutdown(socket.SHUT_WR)
        heard = caller.hear()
    finally:
        caller.close()
    assert heard == "" or re.match(r"HTTP/1\.1 [1-4]\d\d |HTTP/1\.1 50[15] ", heard), heard
    assert " 500 " not in heard and "Traceback" not in "".join(server.log)


@given(st.binary(max_size=40))
def test_parsers_raise_nothing_but_bad_request(line: bytes) -> None:
    """Whatever the line."""
    for parse in (parse_field, parse_chunk_head):
        try:
            parse(line)
        except BadRequest as error:
            assert error.status == 400


def test_long_lines_are_parsed_in_linear_time() -> None:
    """Neither blanks nor extensions without end are looked at again and again: each of these would take minutes."""
    blanks = b" " * 32_000
    assert parse_field(b"X:" + blanks + b"y" + blanks + b"y\r\n")[1].endswith(b"y")
    for line in (b"1" + blanks + b"\r\n", b"1" + b";x" * 16_000 + b"!\0\r\n", b'1;x="' + b'\\"' * 16_000 + b"\r\n"):
        with pytest.raises(BadRequest):
            parse_chunk_head(line)
