"""Hosts, origins, security headers, static files, and requests that must change nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer.application import MAX_BODY
from tests.support.client import HTMX, NAVIGATION, PLAIN, ask, is_page, new_room, rows
from tests.support.html import parsed, root
from tests.support.model_server import ModelServer, answer
from tests.support.server import Server

YEAR_SECONDS = 365 * 24 * 3600
FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://localhost@evil.example"},
    {"Origin": "localhost"},
    {"Origin": "http://[::1"},
    {"Origin": "http://[::1]evil"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]


def is_rejected(response: TestResponse) -> bool:
    """Whether a response is 403 with a sentence that says what to do."""
    return response.status_code == 403 and "Open" in root(response.text).one(id="error").one("p").text


def dump(instance: Path) -> dict[str, list[str]]:
    """Return everything that is stored, by file, without the search index, which is behind by some time."""
    stored = {}
    for path in sorted(set(instance.rglob("*.sqlite")) - {instance / "search.sqlite"}):
        with closing(sqlite3.connect(path)) as db:
            stored[path.name] = list(db.iterdump())
    return stored


# Hosts


def test_loopback_names_are_accepted_on_any_port(client: FlaskClient) -> None:
    for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]", "[::1]:8000", "LocalHost"):
        assert client.get("/rooms", headers={"Host": host}).status_code == 200, host
        assert client.post("/rooms", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 201, host


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost"),
        *("127.0.0.1@evil.example", "evil.example#localhost", "0.0.0.0", "192.168.1.5", "[::2]", "[::1", "2130706433"),
        *("", "a b", "localhost, evil.example"),
    ],
)
def test_other_host_name_is_rejected_and_shown_no_rooms(client: FlaskClient, host: str) -> None:
    """DNS rebinding: a page of another name that resolves to this machine can neither read nor change anything."""
    room_id = new_room(client, "Secret plans")
    for response in (
        client.post("/rooms", headers={"Host": host, "Origin": f"http://{host}"}),
        client.delete(f"/rooms/{room_id}", headers={"Host": host}),
        *(client.get(path, headers={"Host": host}) for path in ("/nowhere", "/healthz", "/static/icon.svg", "/live")),
    ):
        assert is_rejected(response)
    for path in ("/", "/?_plain=1", "/rooms?_plain=1", f"/rooms/{room_id}?_plain=1"):
        for headers in ({}, NAVIGATION):
            response = client.get(path, headers={**headers, "Host": host})
            assert response.status_code == 403
            assert "Secret plans" not in response.text and f"room-{room_id}" not in response.text
    assert rows(client.get("/rooms").text) == [room_id]


# Origins


def test_page_of_another_site_changes_nothing_but_may_link_here(client: FlaskClient, instance: Path) -> None:
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    before = dump(instance)
    unsafe = [("POST", "/rooms"), ("PATCH", "/rooms/{}"), ("DELETE", "/rooms/{}"), ("POST", "/rooms/{}/messages")]
    unsafe += [("DELETE", "/rooms/{}/messages"), ("PATCH", "/rooms/{}/messages/1")]
    unsafe += [("POST", "/rooms/{}/turn"), ("DELETE", "/rooms/{}/turn")]
    for headers in FOREIGN:
        for method, path in unsafe:
            path, form = path.format(room_id), {"name": "Evil", "text": "Evil"}
            assert is_rejected(client.open(path, method=method, data=form, headers=headers)), (headers, method, path)
            if method != "POST":
                overridden = client.post(path, data={**form, **PLAIN, "_method": method}, headers=headers)
                assert overridden.status_code == 403 and is_page(overridden), (headers, method, path)
        assert client.get(f"/rooms/{room_id}", headers={**headers, **NAVIGATION}).status_code == 200
    assert dump(instance) == before


def test_own_page_and_clients_without_an_origin_may_change_rooms(client: FlaskClient) -> None:
    own: list[dict[str, str]] = [{}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "none"}]
    for headers in [*own, {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}]:
        made = client.post("/rooms", headers=headers)
        assert made.status_code == 201, headers
        for method in ("PATCH", "DELETE"):
            changed = client.open(made.headers["Location"], method=method, data={"name": "Own"}, headers=headers)
            assert changed.status_code == 200, (headers, method)
    host = {"Host": "127.0.0.1:8000"}
    assert client.post("/rooms", headers={**host, "Origin": "http://127.0.0.1:8000"}).status_code == 201
    for origin in ("http://127.0.0.1:8001", "http://127.0.0.1", "http://localhost:8000", "http://[::1]:8000"):
        assert is_rejected(client.post("/rooms", headers={**host, "Origin": origin})), origin


# Headers


def every_response(client: FlaskClient, model_server: ModelServer) -> Iterator[TestResponse]:
    """One response of each kind."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    page = client.get(f"/rooms/{room_id}")
    static = parsed(page.text).every("link", rel="stylesheet")[0]["href"] or ""
    yield page
    yield client.get("/rooms?q=none", headers=NAVIGATION)
    yield client.get(f"/rooms/{room_id}/messages")
    yield client.get(f"/rooms/{room_id}", headers={**HTMX, "HX-Request-Type": "partial"})
    yield client.post("/rooms")
    yield client.post(f"/rooms/{room_id}", data={"_method": "PATCH", "name": "Name", **PLAIN})
    yield client.get("/healthz")
    model_server.will(answer("Good day."))
    yield client.post(f"/rooms/{room_id}/messages", data={"text": "Hello"}, headers={"Accept": "text/plain"})
    file = client.get(static)
    with file:
        yield file
    yield client.get(static, headers={"If-None-Match": file.headers["ETag"]})
    yield client.head(f"/rooms/{room_id}")
    yield client.options("/rooms")
    yield client.get("/rooms?after=junk")
    yield client.get("/", headers={"Host": "evil.example"})
    yield client.get("/nowhere")
    yield client.get("/nowhere", headers=NAVIGATION)
    yield client.get("/static/nothing.js")
    yield client.put("/rooms")
    yield client.post("/rooms", data={"name": "x" * MAX_BODY}, headers=HTMX)
    yield client.post("/rooms", data={"name": " "})


def test_every_response_has_the_security_headers_and_no_cookie(client: FlaskClient, model_server: ModelServer) -> None:
    statuses = set()
    for response in every_response(client, model_server):
        with response:
            headers = response.headers
            assert headers["Content-Security-Policy"], response.request.path
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["X-Frame-Options"] == "DENY"
            assert "camera=()" in headers["Permissions-Policy"]
            assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Set-Cookie" not in headers and "Access-Control-Allow-Origin" not in headers
            if response.mimetype == "text/html" and response.data:
                assert headers["Cache-Control"] == "no-store"
            statuses.add(response.status_code)
    assert {200, 201, 303, 304, 400, 403, 404, 405, 413, 422} == statuses


def test_content_security_policy_allows_own_files_only_and_pages_comply(client: FlaskClient) -> None:
    policy = client.get("/").headers["Content-Security-Policy"]
    directives = {name: sources for name, *sources in (part.split() for part in policy.split(";"))}
    assert directives["default-src"] == directives["base-uri"] == directives["frame-ancestors"] == ["'none'"]
    for name in ("script-src", "style-src", "img-src", "connect-src", "form-action"):
        assert directives[name] == ["'self'"], name
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    for path in (f"/rooms/{room_id}", "/rooms?q=none"):
        page = parsed(client.get(path, headers=NAVIGATION).text)
        assert all(script["src"] and not script.text for script in page.every("script"))
        assert not page.has("style") and not page.has("base") and not page.has("iframe")
        for one in page.all:
            assert not [name for name in one.attributes if name == "style" or name.startswith(("on", "hx-on"))], one.tag
            for name in ("src", "href", "action"):
                assert not urlsplit(one[name] or "").netloc, one[name]


# Static files


def test_static_files_have_a_version_in_their_url_and_are_cached_for_a_year(client: FlaskClient) -> None:
    page = parsed(client.get("/").text)
    urls = [one["src"] or "" for one in page.every("script")] + [one["href"] or "" for one in page.every("link")]
    assert len(urls) > 5
    for url in urls:
        assert len(urlsplit(url).query.removeprefix("v=")) >= 8, url
        with client.get(url) as response:
            assert response.status_code == 200, url
            assert response.cache_control.max_age == YEAR_SECONDS and response.cache_control.public, url
            assert not response.cache_control.no_cache and not response.cache_control.no_store, url


def test_static_route_serves_no_file_outside_and_no_folder(client: FlaskClient) -> None:
    outside = ["../app.py", "..%2Fapp.py", "%2e%2e/overseer/cli.py", "..\\app.py", "css/../../app.py", "/etc/passwd"]
    for path in (*outside, "css/", "css", "", "icon.svg%00.js"):
        response = client.get(f"/static/{path}", follow_redirects=True)
        with response:
            assert response.status_code == 404, path
            assert "import" not in response.text and "root:" not in response.text, path


# Reading


def test_get_head_and_options_change_nothing(client: FlaskClient, instance: Path) -> None:
    room_id = new_room(client, "Kitchen")
    ask(client, room_id, "Hello")
    before, files = dump(instance), {path.name for path in instance.rglob("*")}
    query = "?_method=DELETE&_plain=1&text=Evil&name=Evil&key=k&before=1&after=1"
    paths = ["/", "/rooms", "/healthz", "/nowhere"]
    paths += [f"/rooms/{room_id}{more}" for more in ("", "/messages", "/messages/1", "/messages/2", "/turn")]
    methods: list[Callable[..., TestResponse]] = [client.get, client.head, client.options]
    for read in methods:
        for path in paths:
            for headers in ({}, HTMX, {"X-HTTP-Method-Override": "DELETE"}):
                assert read(path + query, headers=headers).status_code < 500
    client.get(f"/rooms/{room_id}", data={"_method": "DELETE"})
    assert dump(instance) == before
    assert {path.name for path in instance.rglob("*")} == files


def test_server_process_checks_host_and_origin_and_has_no_debugger(instance: Path) -> None:
    server = Server(instance, environment={"FLASK_DEBUG": "1", "OLLAMA_HOST": "127.0.0.1:9"}).start()
    try:
        own, evil = requests.get(server.url), requests.get(server.url, headers={"Host": "evil.example"})
        assert (own.status_code, evil.status_code) == (200, 403)
        for response in (own, evil):
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "X-Powered-By" not in response.headers
        foreign = requests.post(f"{server.url}/rooms", headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert requests.post(f"{server.url}/rooms", headers={"Origin": server.url}).status_code == 201
        for path in ("/console", "/?__debugger__=yes&cmd=resource&f=debugger.js"):
            text = requests.get(server.url + path).text.lower()
            assert "debugger" not in text and "console" not in text
    finally:
        server.stop()
