"""Every route with hostile headers, queries and bodies: no 5xx, no logged exception, no forged header or log line.

`SURFACE_EXAMPLES=20000 pytest tests/web/test_wsgi_surface.py` searches for longer than the suite does.
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
from overseer.web.extensions import access_policy, hub, overseer
from tests.support.html import parsed
from tests.support.model_server import NOBODY
from tests.support.raw import HANDSHAKE
from tests.support.server import DEADLINE, Server
from tests.web.test_bad_input import FORM, MULTIPART, checked

EXAMPLES = int(os.environ.get("SURFACE_EXAMPLES", "50"))
PASSWORD = "password"
DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
HUGE_YEAR = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
ICON = "/static/icon.svg"
HUGE_ZONE = "Mon, 01 Jan 2000 00:00:00 +99999999999999"
TOO_MANY_TABS = "Too many tabs are open"  # the only 503 that a client can cause here
MAX_SEGMENT_CHARS = 3000
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
APPS = ("open", "locked", "proxied", "proxied locked")

# Values that parsers of URLs, numbers, dates, Base64, charsets and structured headers reject. Each character is a byte,
# as in any WSGI environment. The server itself rejects NUL and line ends in a header.
HOSTILE = [
    *("", " ", "[", "http://[", "//[", "http://[::1]evil", "http://[v1.x]", "http://a:b", "http://localhost:99999999"),
    "http://\u00b2\u00b2\u00b2",
    "http://a\u2100b".encode().decode("latin-1"),  # NFKC makes it "a/c"
    "/rooms?before=%ff&q=%ED%A0%80",
    "//evil.example/rooms",
    *("\x7f\x1b[2J", "\x85\xa0", "\xff", "\xc3\xa9", "\xed\xa0\x80"),
    *("%", "%00", "%0d%0aX-Evil: 1", "%ED%A0%80%FF"),
    *('"', '"\\', "'", ",", ";", "=", ";=;*=;a*=x''%ff;a*0*=", "*"),
    *("9" * 5000, "-1", "\xb2", "1e999", "nan", "0x10", "\u0661".encode().decode("latin-1")),
    *("a" * MAX_SEGMENT_CHARS, "../" * 50, "{{7*7}}", "=?utf-8?q?=ff?=", "<script>alert(1)</script>"),
    *("bytes=" + "9" * 5000 + "-", "bytes=0-0,5-1"),
    *("Basic \xff", "Basic ====", "Basic /w==", "Bearer \xff", "Digest username*=x''%ff, a=\""),
    *(HUGE_YEAR, HUGE_ZONE, "Mon, 99 Foo 0000 99:99:99 GMT"),
    *("text/plain;q=1e999, */*;q=nan", "text/plain; charset=no-such", "utf-7;q=\xb2"),
]
NOISE = st.text(st.characters(max_codepoint=0xFF, exclude_characters="\0\r\n"), max_size=20)
HOSTILE_VALUES = st.sampled_from(HOSTILE) | NOISE

# The headers that something in the server reads, with valid values.
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
QUERY_NAMES = ["q", "after", "before", "under", "next", "refresh", "room", "seen", "rooms", "share", "v", "_plain", "x"]
FIELD_NAMES = ["name", "text", "key", "_method", "_plain", "model", "system_prompt", "temperature", "pinned"]
FIELD_NAMES += ["last", "resume", "password", "next", "x"]
VALUES = [
    "",
    "1",
    "9",
    "0.5",
    "a",
    "Hello",
    "PATCH",
    "DELETE",
    PASSWORD,
    "/rooms",
    "{room}",
    "{share}",
    "1.1",
    "chat.example",
]
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
    """Return a strategy for a query or a form, in any encoding."""
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
    """A request as a WSGI server passes it to one of the apps."""

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
    "extension": ["md", "json", "jsonl", "sqlite", "html"],
    "session_id": ["0", "00000000"],
    "sha256": ["0", "0" * 64],
    "address": ["{share}", "{share}", "{room}" + "A" * 32],
    "name": ["style.css", "app.js"],
    "filename": ["icon.svg", "style.css", "vendor/htmx-4.0.1.min.js"],
}
SEGMENTS = {
    variable: st.one_of(*[st.sampled_from(values)] * 8, HOSTILE_SEGMENTS) for variable, values in VALID_SEGMENTS.items()
}


class Surface:
    """The apps that are called, and the records that they log."""

    def __init__(self, directory: Path) -> None:
        self.apps: dict[str, Flask] = {}
        self.records: list[logging.LogRecord] = []
        self.tokens: dict[str, str] = {}
        self._handler = logging.Handler()
        self._handler.emit = self.records.append  # type: ignore[method-assign, assignment]
        for name in APPS:
            environment = {"OVERSEER_PASSWORD": PASSWORD} if "locked" in name else {}
            if "proxied" in name:
                environment |= {"OVERSEER_HOSTS": "chat.example", "OVERSEER_TRUSTED_PROXIES": "127.0.0.1"}
            app = create_app(
                directory / name,
                models=ModelSettings(ollama_url=NOBODY, offline_pace=0),
                access=access(environment),
                check_password=lambda _, tried: tried == PASSWORD,
            )
            overseer(app).open()
            self.apps[name] = app
        logging.getLogger().addHandler(self._handler)

    def close(self) -> None:
        logging.getLogger().removeHandler(self._handler)
        for app in self.apps.values():
            hub(app).close()
            overseer(app).close()

    def room(self, name: str) -> str:
        """Return the id of a room of that app, created if there is none."""
        rooms = overseer(self.apps[name]).rooms().rooms
        return rooms[0].id if rooms else overseer(self.apps[name]).create("Kitchen").id

    def share(self, name: str) -> str:
        """Return the address of a live share of that room, made if there is none."""
        room = overseer(self.apps[name]).room(self.room(name))
        return next((one.address for one in room.shares() if one.live), None) or room.share(None, seconds=None).address

    def environ(self, call: Call) -> dict[str, Any]:
        """Return the WSGI environment of a call."""
        room, share = self.room(call.app), self.share(call.app)

        def filled(text: str) -> str:
            return text.replace("{room}", room).replace("{share}", share)

        environ: dict[str, Any] = {
            "REQUEST_METHOD": call.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": filled(call.path),
            "QUERY_STRING": filled(call.query),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": call.peer,
            "HTTP_HOST": "chat.example" if "proxied" in call.app else "localhost",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(call.body.replace(b"{room}", room.encode())),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if call.logged_in and "locked" in call.app:
            sessions = access_policy(self.apps[call.app]).sessions
            if not sessions.find(self.tokens.get(call.app, "")):  # an earlier call may have logged out
                self.tokens[call.app], _ = sessions.create("", "")
            environ["HTTP_COOKIE"] = f"{sessions.cookie_name}={self.tokens[call.app]}"
        if call.content_type is not None:
            environ["CONTENT_TYPE"] = call.content_type
        if call.length is not None or call.body:
            environ["CONTENT_LENGTH"] = str(len(call.body)) if call.length is None else call.length
        for name, value in call.headers.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = filled(value)
        return environ

    def check(self, call: Call) -> int:
        """Send a request, check the response and the log, and return the status."""
        self.records.clear()
        environ = self.environ(call)
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            theirs.shutdown(socket.SHUT_WR)  # a tab that closes at once
            environ["werkzeug.socket"] = ours
            chunks, status, headers = run_wsgi_app(self.apps[call.app].wsgi_app, environ, buffered=True)
            body = b"".join(chunks)
        code = int(status.split()[0])
        self.check_log()
        check_headers(headers)
        if headers.get("Content-Encoding") == "gzip" and body:
            body = gzip.decompress(body)
        text = body.decode(errors="strict" if code >= 400 else "replace")  # a range may end within a character
        assert code < 500 or code == 503 and TOO_MANY_TABS in text, (code, text)
        if code >= 400 and call.method != "HEAD":
            check_sentence(text)
        return code

    def check_log(self) -> None:
        """Check that nothing failed, and that every record is visible ASCII."""
        for record in self.records:
            assert record.levelno < logging.ERROR and not record.exc_info, logging.Formatter().format(record)
            assert re.fullmatch(r"[\x20-\x7e]*", record.getMessage()), record


def check_headers(headers: Headers) -> None:
    """Check that no header contains a line end or another control character."""
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
    """The apps, one for each kind of access control."""
    found = Surface(tmp_path_factory.mktemp("surface"))
    yield found
    found.close()


def test_no_request_causes_a_server_error(surface: Surface) -> None:
    """Any rule, method, header, query and body: a status below 500, a sentence, and one clean line in the log."""
    rules = list(surface.apps["open"].url_map.iter_rules())

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None)
    @given(calls(rules))
    def search(call: Call) -> None:
        surface.check(call)

    search()


# Faults that were found here.
FAULTS = {
    "a referrer that is not a URL": (
        Call("locked", "GET", "/login", headers={"Referer": "http://["}, logged_in=False),
        200,
    ),
    "a query that is not UTF-8": (Call("open", "GET", "/rooms", query="q=\xff"), 200),
    "a query that is not UTF-8, without a log-in": (
        Call("locked", "GET", "/rooms", query="\xff", headers={"Sec-Fetch-Mode": "navigate"}, logged_in=False),
        401,
    ),
    "a redirect with a query that is not UTF-8": (Call("open", "GET", "//rooms//x", query="q=\xff"), 308),
    "credentials that are not ASCII": (
        Call("locked", "GET", "/rooms", headers={"Authorization": "Basic \xff"}, logged_in=False),
        401,
    ),
    "a year beyond the calendar": (Call("open", "GET", ICON, headers={"If-Modified-Since": HUGE_YEAR}), 200),
    "a time zone beyond the world": (Call("open", "GET", ICON, headers={"If-Modified-Since": HUGE_ZONE}), 200),
    "another version of a file": (Call("open", "GET", ICON, headers={"If-Match": '"x"'}), 412),
    "a range with a huge date": (
        Call("open", "GET", ICON, headers={"Range": "bytes=0-9", "If-Range": HUGE_ZONE}),
        206,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_value_that_a_parser_rejects_is_ignored(surface: Surface, name: str) -> None:
    call, status = FAULTS[name]
    assert surface.check(call) == status


def test_forwarded_scheme_that_is_not_http_is_ignored(surface: Surface) -> None:
    """A trusted proxy may pass on what a client sends; only the last scheme of a list counts."""
    for scheme, secure in (("http, HTTPS", True), ("https, http", False), ("javascript", False), ("", False)):
        headers = {"X-Forwarded-Proto": scheme}
        call = Call("proxied locked", "POST", "/login", headers=headers, body=b"password=password", content_type=FORM)
        app = surface.apps[call.app]
        _, status, received = run_wsgi_app(app.wsgi_app, surface.environ(call), buffered=True)
        assert status.startswith("303") and ("Secure" in received["Set-Cookie"]) == secure, scheme
        call = Call("proxied locked", "GET", "//rooms//x", headers=headers)
        _, _, received = run_wsgi_app(app.wsgi_app, surface.environ(call), buffered=True)
        assert received["Location"] == f"http{'s' if secure else ''}://chat.example/rooms/x", scheme


# Over real connections


def statuses_of(server: Server, *requests: bytes) -> list[int]:
    """Send each request on a connection of its own, and return the statuses."""
    statuses = []
    for request in requests:
        with closing(socket.create_connection(("127.0.0.1", server.port), DEADLINE)) as connection:
            connection.sendall(request)
            line = connection.makefile("rb").readline()
            assert re.match(rb"HTTP/1\.1 \d{3} ", line), (request, line)
            statuses.append(int(line.split()[1]))
    return statuses


def request_with(path: str, headers: dict[str, str]) -> bytes:
    """Return a GET request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def test_hostile_headers_and_resets_over_real_connections_cause_no_server_error(server: Server) -> None:
    """Every header with some hostile values, for a page, a log-in, a static file and a handshake."""
    for _ in range(10):  # the handshake is answered on a connection that is reset
        with closing(socket.create_connection(("127.0.0.1", server.port), DEADLINE)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(request_with("/live", {"Host": "127.0.0.1", **HANDSHAKE}))
    pages = ("/rooms", "/login", ICON)
    requests: list[bytes] = []
    for index, name in enumerate(HEADERS):
        for value in HOSTILE[index % 14 :: 14]:
            base = {"Host": "127.0.0.1", "Connection": "close", "Range": "bytes=0-9"}
            requests.append(request_with(pages[len(requests) // 2 % 3], {**base, name: value}))
            requests.append(request_with("/live", {"Host": "127.0.0.1", **HANDSHAKE, name: value}))
    requests += [request_with("/rooms?q=\xff", {"Host": "127.0.0.1"}), request_with("/live", HANDSHAKE)]
    statuses = statuses_of(server, *requests)
    server.stop()
    assert "GET /live" in "".join(server.log)
    assert not [(status, one) for status, one in zip(statuses, requests, strict=True) if status >= 500]
    assert {101, 200, 206, 303, 400, 403} <= set(statuses)
