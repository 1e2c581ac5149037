"""Every route with every header, query and body a client can send: never a 5xx, a logged exception or a forged header.

`SURFACE_EXAMPLES=20000 pytest tests/test_wsgi_surface.py` searches for longer than the suite does.
"""

from __future__ import annotations

import gzip
import io
import logging
import os
import re
import socket
import struct
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

from overseer import create_app
from overseer.config import access
from overseer.llm.choice import ModelSettings
from tests.support.model_server import NOBODY
from tests.support.server import Server
from tests.web.test_bad_input import FORM, MULTIPART, checked
from tests.web.test_views import parsed

EXAMPLES = int(os.environ.get("SURFACE_EXAMPLES", "200"))
PASSWORD = "password"
DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
HUGE_YEAR = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
HUGE_ZONE = "Mon, 01 Jan 2000 00:00:00 +99999999999999"
DEADLINE = 20.0
UNAVAILABLE = "Too many tabs are open"  # the one 503 that a client can cause here
MAX_SEGMENT = 3000
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
APPS = ("open", "locked", "behind", "behind locked")

# What parsers of addresses, numbers, dates, Base64, charsets and structured headers refuse. As in any WSGI environment
# each character stands for a byte; the server itself refuses NUL and line ends in a header.
HOSTILE = [
    "",
    " ",
    "[",
    "http://[",
    "//[",
    "http://[::1",
    "http://[::1]evil",
    "http://[v1.x]",
    "http://a:b",
    "http://localhost:99999999",
    "http://\u00b2\u00b2\u00b2",
    "http://a\u2100b".encode().decode("latin-1"),  # NFKC makes it "a/c"
    "/rooms?before=%ff&q=%ED%A0%80",
    "//evil.example/rooms",
    "\x7f\x1b[2J",
    "\x85\xa0",
    "\xff",
    "\xc3\xa9",
    "\xed\xa0\x80",
    "%",
    "%00",
    "%0d%0aX-Evil: 1",
    "%ED%A0%80%FF",
    '"',
    '"\\',
    "'",
    ",",
    ";",
    "=",
    ";=;*=;a*=x''%ff;a*0*=",
    "*",
    "9" * 5000,
    "-1",
    "\xb2",
    "1e999",
    "nan",
    "0x10",
    "a" * MAX_SEGMENT,
    "../" * 50,
    "\u0661".encode().decode("latin-1"),  # a digit, but not one of these
    "{{7*7}}",
    "=?utf-8?q?=ff?=",
    "<script>alert(1)</script>",
    "bytes=" + "9" * 5000 + "-",
    "bytes=0-0,5-1",
    "Basic \xff",
    "Basic ====",
    "Basic /w==",
    "Bearer \xff",
    "Digest username*=x''%ff, a=\"",
    HUGE_YEAR,
    HUGE_ZONE,
    "Mon, 99 Foo 0000 99:99:99 GMT",
    "text/plain;q=1e999, */*;q=nan",
    "text/plain; charset=no-such",
    "utf-7;q=\xb2",
]
NOISE = st.text(st.characters(max_codepoint=0xFF, exclude_characters="\0\r\n"), max_size=20)
HOSTILE_VALUES = st.sampled_from(HOSTILE) | NOISE

# Headers that anything in the server reads, with values that it takes.
HEADERS: dict[str, list[str]] = {
    "Host": ["localhost", "127.0.0.1:8000", "[::1]:80", "evil.example", "localhost:0"],
    "Referer": ["http://localhost/rooms?q=a", "/rooms", "http://localhost//evil.example"],
    "Origin": ["http://localhost", "https://localhost", "null", "http://evil.example"],
    "Cookie": ["a=b", "a", 'a="b\\"; c'],
    "Authorization": [f"Bearer {PASSWORD}", "Basic " + b64encode(f"me:{PASSWORD}".encode()).decode(), "Digest a=b"],
    "Accept": ["text/html", "text/markdown", "text/plain", "application/xhtml+xml", "*/*"],
    "Accept-Encoding": ["gzip", "identity;q=0"],
    "Range": ["bytes=0-10", "bytes=-5", "bytes=0-1,3-4", "lines=1-2"],
    "If-Range": [DATE, '"x"', 'W/"x"'],
    "If-None-Match": ['"x"', "*", 'W/"x", "y"'],
    "If-Match": ['"x"', "*"],
    "If-Modified-Since": [DATE, formatdate(0)],
    "If-Unmodified-Since": [DATE],
    "Prefer": ["wait=1", "respond-async, wait=1"],
    "Idempotency-Key": ["key"],
    "HX-Request": ["true"],
    "HX-Request-Type": ["partial", "full"],
    "HX-Current-URL": ["http://localhost/rooms/{room}"],
    "HX-History-Restore-Request": ["true"],
    "Sec-Fetch-Mode": ["navigate", "cors"],
    "Sec-Fetch-Site": ["none", "same-origin", "cross-site"],
    "X-Forwarded-For": ["203.0.113.9", "203.0.113.9, 127.0.0.1", "[2001:db8::1]:7"],
    "X-Forwarded-Host": ["chat.example", "chat.example:8443"],
    "X-Forwarded-Proto": ["https", "http, https"],
    "X-Forwarded-Prefix": ["/chat", "/a/b/"],
    "X-Forwarded-Port": ["443"],
    "Forwarded": ["for=203.0.113.9;host=chat.example"],
    "X-HTTP-Method-Override": ["DELETE"],
    "Transfer-Encoding": ["chunked"],
    "Expect": ["100-continue"],
    "Connection": ["keep-alive", "Upgrade"],
    "Upgrade": ["websocket", "h2c"],
    "Sec-WebSocket-Key": ["dGhlIHNhbXBsZSBub25jZQ=="],
    "Sec-WebSocket-Version": ["13", "8"],
    "Sec-WebSocket-Protocol": ["chat, a", "a"],
    "Sec-WebSocket-Extensions": ["permessage-deflate; client_max_window_bits=99"],
    "Accept-Language": ["en"],
    "Cache-Control": ["no-cache", "max-age=0"],
    "Date": [DATE],
    "Max-Forwards": ["0"],
    "Content-Encoding": ["gzip"],
    "Content-Range": ["bytes 0-1/2"],
}
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
QUERY_NAMES = ["q", "after", "before", "under", "next", "refresh", "room", "seen", "rooms", "v", "_plain", "x"]
FIELD_NAMES = ["name", "text", "key", "_method", "_plain", "model", "system_prompt", "temperature", "pinned"]
FIELD_NAMES += ["last", "resume", "password", "next", "x"]
VALUES = ["", "1", "9", "0.5", "a", "Hello", "PATCH", "DELETE", PASSWORD, "/rooms", "{room}", "1.1", "chat.example"]
CONTENT_TYPES = [FORM, MULTIPART, "application/json", "text/plain", f"{FORM}; charset=utf-16", "multipart/form-data"]
CONTENT_TYPES += [f"{FORM}; charset=no-such", "multipart/form-data; boundary=\xff", 'multipart/form-data; boundary="']
CONTENT_TYPES += [f"multipart/form-data; boundary={'x' * 300}", "multipart/form-data; boundary*=x''%ff", "multipart/x"]

PERHAPS_HOSTILE = st.sampled_from(VALUES) | st.sampled_from(VALUES) | HOSTILE_VALUES
HEADER_PAIRS = st.sampled_from(list(HEADERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(HEADERS[name]) | HOSTILE_VALUES)
)
PEERS = ["127.0.0.1"] * 9 + ["::1", "203.0.113.1", "", "junk"]
LENGTHS = [None] * 9 + ["0", "1", "99", "", "-1", "\xb2", "9" * 30, "9" * 5000]


def joined(names: list[str]) -> st.SearchStrategy[str]:
    """Strategy for a query or a form, in whatever encoding."""
    pairs = st.tuples(st.sampled_from(names), st.sampled_from(["=", "=", "=", ""]), PERHAPS_HOSTILE)
    return st.lists(pairs.map("".join), max_size=4).map("&".join) | NOISE


def multipart(fields: list[tuple[str, str]], head: str) -> bytes:
    """Return a form as multipart with another line `head` in each part."""
    parts = (f'--x\r\nContent-Disposition: form-data; name="{name}"{head}\r\n\r\n{value}\r\n' for name, value in fields)
    return "".join([*parts, "--x--\r\n"]).encode("latin-1")


MULTIPART_BODIES = st.builds(
    multipart,
    st.lists(st.tuples(st.sampled_from(FIELD_NAMES), PERHAPS_HOSTILE), max_size=4),
    st.sampled_from(["", "; filename=f", "\r\nContent-Type: text/plain; charset=no-such", "\r\nContent-Length: \xb2"])
    | HOSTILE_VALUES,
)
BODIES = st.one_of(
    joined(FIELD_NAMES).map(lambda text: (text.encode("latin-1"), FORM)),
    joined(FIELD_NAMES).map(lambda text: (text.encode("latin-1"), FORM)),
    MULTIPART_BODIES.map(lambda body: (body, MULTIPART)),
    st.tuples(st.sampled_from([b"", b"{}", b'{"text": "\\ud800"}', b"--x", b"\xff\xfe"]) | st.binary(max_size=30),
              st.sampled_from(CONTENT_TYPES) | HOSTILE_VALUES),
)  # fmt: skip


@dataclass
class Call:
    """A request as a WSGI server passes it on; `app` says to which of the apps."""

    app: str
    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str | None = None
    length: str | None = None
    peer: str = "127.0.0.1"
    logged_in: bool = True


@st.composite
def calls(draw: st.DrawFn, rules: list[Any]) -> Call:
    """Draw a request for one of the rules of the URL map."""
    rule = draw(st.sampled_from(rules))
    path = re.sub(r"<(?:[^>]+:)?(\w+)>", lambda found: draw(SEGMENTS[found[1]]), rule.rule)
    headers = dict(draw(st.lists(HEADER_PAIRS, max_size=4)))
    if rule.endpoint == "live" and draw(st.booleans()):
        headers = {**HANDSHAKE, **headers}
    body, content_type = draw(st.just((b"", None)) | BODIES)
    return Call(
        app=draw(st.sampled_from(APPS)),
        method=draw(st.sampled_from([*sorted(rule.methods) * 5, *METHODS])),
        path=draw(st.sampled_from([path] * 8 + [f"/{path}"]) | NOISE.map(lambda odd: f"/{odd}")),
        query=draw(st.just("") | joined(QUERY_NAMES)),
        headers=headers,
        body=body,
        content_type=content_type,
        length=draw(st.sampled_from(LENGTHS)),
        peer=draw(st.sampled_from(PEERS)),
        logged_in=draw(st.sampled_from([True, True, False])),
    )


HOSTILE_SEGMENTS = st.one_of(
    st.sampled_from([value.replace("?", "") for value in HOSTILE]),
    st.sampled_from(["\0", "a\nb", "\r\n", "..", "css", "0123456789ab", "9" * 18, "9" * 19]),
)
VALID_SEGMENTS = {
    "room_id": ["{room}"],
    "number": ["1", "2", "3"],
    "name": ["style.css", "app.js"],
    "filename": ["icon.svg", "style.css", "vendor/htmx-4.0.1.min.js"],
}
SEGMENTS = {
    variable: st.one_of(*[st.sampled_from(values)] * 8, HOSTILE_SEGMENTS) for variable, values in VALID_SEGMENTS.items()
}


class Surface:
    """The apps that are called, and what they wrote to the log."""

    def __init__(self, directory: Path) -> None:
        self.apps: dict[str, Flask] = {}
        self.records: list[logging.LogRecord] = []
        self._handler = logging.Handler()
        self._handler.emit = self.records.append  # type: ignore[method-assign]
        for name in APPS:
            environment = {"OVERSEER_PASSWORD": PASSWORD} if "locked" in name else {}
            if "behind" in name:
                environment |= {"OVERSEER_HOSTS": "chat.example", "OVERSEER_TRUSTED_PROXIES": "127.0.0.1"}
            app = create_app(
                directory / name,
                models=ModelSettings(ollama_url=NOBODY, offline_pace=0),
                access=access(environment),
                check_password=lambda _, tried: tried == PASSWORD,
            )
            app.extensions["overseer"].open()
            self.apps[name] = app
        logging.getLogger().addHandler(self._handler)

    def close(self) -> None:
        logging.getLogger().removeHandler(self._handler)
        for app in self.apps.values():
            app.extensions["hub"].close()
            app.extensions["overseer"].close()
            app.extensions["door"].sessions.close()

    def room(self, name: str) -> str:
        """Return the id of a room of that app, made if there is none."""
        overseer = self.apps[name].extensions["overseer"]
        rooms = overseer.rooms().rooms
        return rooms[0].id if rooms else overseer.create("Kitchen").id

    def environ(self, call: Call) -> dict[str, Any]:
        """Return the WSGI environment of a call."""
        room = self.room(call.app)

        def filled(text: str) -> str:
            return text.replace("{room}", room)

        environ: dict[str, Any] = {
            "REQUEST_METHOD": call.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": filled(call.path),
            "QUERY_STRING": filled(call.query),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": call.peer,
            "HTTP_HOST": "chat.example" if "behind" in call.app else "localhost",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(call.body.replace(b"{room}", room.encode())),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if call.logged_in and "locked" in call.app:
            sessions = self.apps[call.app].extensions["door"].sessions
            environ["HTTP_COOKIE"] = f"{sessions.cookie}={sessions.begin()[0]}"  # a call before may have logged out
        if call.content_type is not None:
            environ["CONTENT_TYPE"] = call.content_type
        if call.length is not None or call.body:
            environ["CONTENT_LENGTH"] = str(len(call.body)) if call.length is None else call.length
        for name, value in call.headers.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = filled(value)
        return environ

    def check(self, call: Call) -> int:
        """Send a request, check all that came of it, and return its status."""
        self.records.clear()
        environ = self.environ(call)
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            theirs.shutdown(socket.SHUT_WR)  # a tab that goes as soon as it is there
            environ["werkzeug.socket"] = ours
            chunks, status, headers = run_wsgi_app(self.apps[call.app].wsgi_app, environ, buffered=True)
            body = b"".join(chunks)
        code = int(status.split()[0])
        self.check_log()
        check_headers(headers)
        if headers.get("Content-Encoding") == "gzip" and body:
            body = gzip.decompress(body)
        text = body.decode(errors="strict" if code >= 400 else "replace")  # a range may end within a character
        assert code < 500 or code == 503 and UNAVAILABLE in text, (code, text)
        if code >= 400 and call.method != "HEAD":
            check_sentence(text)
        return code

    def check_log(self) -> None:
        """Check that nothing failed, and that no line has anything in it but visible characters."""
        for record in self.records:
            assert record.levelno < logging.ERROR and not record.exc_info, logging.Formatter().format(record)
            assert re.fullmatch(r"[\x20-\x7e]*", record.getMessage()), record


def check_headers(headers: Headers) -> None:
    """Check that no header of a response has a character that ends it or that is none."""
    for name, value in headers:
        assert re.fullmatch(r"[A-Za-z-]+", name) and re.fullmatch(r"[\x20-\x7e]*", value), (name, value)
        assert "evil" not in name.lower()
    assert not re.match(r"(\w+:)?[/\\]{2}(?!localhost|127\.0\.0\.1|\[::1\]|chat\.example)", headers.get("Location", ""))


def check_sentence(text: str) -> None:
    """Check that an error is a fragment or a page with a sentence."""
    page = parsed(text)
    if not page.has("html"):
        checked(page.one(id="error").one("p").text)
    elif page.has("main", class_="login"):
        page.one(id="password")
    else:
        checked(page.one(class_="open__sentence").text)


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surface]:
    """The apps, one for each way to be let in."""
    found = Surface(tmp_path_factory.mktemp("surface"))
    yield found
    found.close()


def test_any_request_is_answered_without_a_server_error(surface: Surface) -> None:
    """Any rule, method, header, query and body: a status below 500, a sentence, and nothing in the log but its line."""
    rules = list(surface.apps["open"].url_map.iter_rules())
    statuses: dict[int, int] = {}

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None)
    @given(calls(rules))
    def search(call: Call) -> None:
        code = surface.check(call)
        statuses[code] = statuses.get(code, 0) + 1

    search()
    print(dict(sorted(statuses.items())))


# Each of these was a 500, ended in an exception or had no sentence before it was found here.
FAULTS = {
    "a referrer that is no URL": (
        Call("locked", "GET", "/login", headers={"Referer": "http://["}, logged_in=False),
        200,
    ),
    "a query that is not UTF-8": (Call("open", "GET", "/rooms", query="q=\xff"), 200),
    "a query that is not UTF-8, for who is let in nowhere": (
        Call("locked", "GET", "/rooms", query="\xff", headers={"Sec-Fetch-Mode": "navigate"}, logged_in=False),
        401,
    ),
    "a redirect with a query that is not UTF-8": (Call("open", "GET", "//rooms//x", query="q=\xff"), 308),
    "credentials that are not ASCII": (
        Call("locked", "GET", "/rooms", headers={"Authorization": "Basic \xff"}, logged_in=False),
        401,
    ),
    "a date beyond the calendar": (
        Call("open", "GET", "/static/icon.svg", headers={"If-Modified-Since": HUGE_YEAR}),
        200,
    ),
    "a time zone beyond the world": (
        Call("open", "GET", "/static/icon.svg", headers={"If-Modified-Since": HUGE_ZONE}),
        200,
    ),
    "a file of another version": (Call("open", "GET", "/static/icon.svg", headers={"If-Match": '"x"'}), 412),
    "a range of a huge date": (
        Call("open", "GET", "/static/icon.svg", headers={"Range": "bytes=0-9", "If-Range": HUGE_ZONE}),
        206,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_value_that_a_parser_refuses_is_treated_as_absent(surface: Surface, name: str) -> None:
    """What cannot be parsed has no effect: no condition, no log-in, no page to return to."""
    call, status = FAULTS[name]
    assert surface.check(call) == status


def test_scheme_from_a_proxy_that_is_not_http_is_ignored(surface: Surface) -> None:
    """A trusted proxy may pass on what a client says; only the last of a list counts."""
    for said, secure in (
        ("https", True),
        ("http, HTTPS", True),
        ("https, http", False),
        ("javascript", False),
        ("", False),
    ):
        headers = {"X-Forwarded-Proto": said}
        call = Call("behind locked", "POST", "/login", headers=headers, body=b"password=password", content_type=FORM)
        app = surface.apps[call.app]
        _, status, answered = run_wsgi_app(app.wsgi_app, surface.environ(call), buffered=True)
        assert status.startswith("303") and ("Secure" in answered["Set-Cookie"]) == secure, said
        call = Call("behind locked", "GET", "//rooms//x", headers=headers)
        _, _, answered = run_wsgi_app(app.wsgi_app, surface.environ(call), buffered=True)
        assert answered["Location"] == f"http{'s' if secure else ''}://chat.example/rooms/x", said


# The same by real sockets


def said(server: Server, *requests: bytes) -> list[int]:
    """Send requests on connections of their own, and return the statuses."""
    statuses = []
    for request in requests:
        with closing(socket.create_connection(("127.0.0.1", server.port), DEADLINE)) as connection:
            connection.sendall(request)
            head = connection.makefile("rb").readline()
            assert re.match(rb"HTTP/1\.1 \d{3} ", head), (request, head)
            statuses.append(int(head.split()[1]))
    return statuses


def request_with(path: str, headers: dict[str, str]) -> bytes:
    """Return a GET request as bytes."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def test_hostile_header_over_a_real_socket_is_no_server_error(server: Server) -> None:
    """Every header with some of the hostile values, for a page, a static file, a log-in and a handshake."""
    pages = ("/rooms", "/login", "/static/icon.svg")
    requests = []
    for at, name in enumerate(HEADERS):
        for value in HOSTILE[at % 7 :: 7]:
            base = {"Host": "127.0.0.1", "Connection": "close", "Range": "bytes=0-9"}
            requests.append(request_with(pages[len(requests) % 3], {**base, name: value}))
            requests.append(request_with("/live", {"Host": "127.0.0.1", **HANDSHAKE, name: value}))
    requests += [request_with("/rooms?q=\xff", {"Host": "127.0.0.1"}), request_with("/live", HANDSHAKE)]
    statuses = said(server, *requests)
    server.stop()
    log = "".join(server.log)
    assert "Traceback" not in log, log[log.index("Traceback") :]
    wrong = [(status, one) for status, one in zip(statuses, requests, strict=True) if status >= 500]
    assert not wrong
    assert {101, 200, 206, 303, 400, 403} <= set(statuses)


def test_connection_that_is_reset_during_a_handshake_leaves_no_traceback(server: Server) -> None:
    """The library writes its answer to a socket that is not there any more; that is the client's doing."""
    for _ in range(10):
        with closing(socket.create_connection(("127.0.0.1", server.port), DEADLINE)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(request_with("/live", {"Host": "127.0.0.1", **HANDSHAKE}))
    assert said(server, request_with("/healthz", {"Host": "127.0.0.1"})) == [200]
    server.stop()
    assert any("GET /live" in line for line in server.log)
    assert "Traceback" not in "".join(server.log)
