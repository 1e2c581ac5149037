"""Who is let in, what a page may do, and what a reader may change: nothing."""

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
from overseer.rooms.overseer import Overseer
from tests.support.model_server import ModelServer, answer
from tests.support.server import Server
from tests.web.test_views import HTMX, PLAIN, ask, is_page, new_room, parsed, root, rows

NAVIGATION = {"Sec-Fetch-Mode": "navigate"}
YEAR = 365 * 24 * 3600


def refused(response: TestResponse) -> bool:
    """Whether it is 403 with a sentence that says what to do."""
    return response.status_code == 403 and "Open" in root(response.text).one(id="error").one("p").text


def dump(instance: Path) -> dict[str, list[str]]:
    """Everything that is stored, by file."""
    stored = {}
    for path in sorted(instance.rglob("*.sqlite")):
        with closing(sqlite3.connect(path)) as db:
            stored[path.name] = list(db.iterdump())
    return stored


# Hosts


OURS = ["localhost", "localhost:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000", "LocalHost"]
OTHERS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "notlocalhost",
    "127.0.0.1@evil.example",
    "evil.example#localhost",
    "0.0.0.0",
    "192.168.1.5",
    "127.0.0.2.nip.io",
    "[::2]",
    "[::1",
    "2130706433",
    "",
    "a b",
    "localhost, evil.example",
]


def test_the_names_of_this_machine_are_answered(client: FlaskClient) -> None:
    """Loopback is let in under each of its names, on any port."""
    for host in OURS:
        assert client.get("/rooms", headers={"Host": host}).status_code == 200, host
        assert client.post("/rooms", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 201, host


def test_another_name_for_this_machine_is_refused(client: FlaskClient) -> None:
    """DNS rebinding: a page of a name that was made to point here reads and changes nothing."""
    room_id = new_room(client)
    for host in OTHERS:
        for response in (
            client.get("/rooms", headers={"Host": host}),
            client.post("/rooms", headers={"Host": host, "Origin": f"http://{host}"}),
            client.delete(f"/rooms/{room_id}", headers={"Host": host}),
            client.get("/nowhere", headers={"Host": host}),
        ):
            assert refused(response) and room_id not in response.text, host
    assert rows(client.get("/rooms").text) == [room_id]


def test_static_files_and_health_are_for_this_host_too(client: FlaskClient) -> None:
    """No address is open to another name."""
    for path in ("/healthz", "/static/icon.svg", "/live"):
        assert refused(client.get(path, headers={"Host": "evil.example"}))


# Origins


UNSAFE: list[tuple[str, str]] = [
    ("POST", "/rooms"),
    ("PATCH", "/rooms/{}"),
    ("DELETE", "/rooms/{}"),
    ("POST", "/rooms/{}/messages"),
    ("DELETE", "/rooms/{}/messages"),
    ("PATCH", "/rooms/{}/messages/1"),
    ("POST", "/rooms/{}/turn"),
    ("DELETE", "/rooms/{}/turn"),
]
FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost@evil.example"},
    {"Origin": "localhost"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]


def test_another_sites_page_changes_nothing(client: FlaskClient, instance: Path) -> None:
    """Every unsafe method is refused to another origin, to a sandboxed page and to a sibling site."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    before = dump(instance)
    for headers in FOREIGN:
        for method, path in UNSAFE:
            path, form = path.format(room_id), {"name": "Evil", "text": "Evil"}
            assert refused(client.open(path, method=method, data=form, headers=headers)), (headers, method, path)
            if method != "POST":
                disguised = client.post(path, data={**form, **PLAIN, "_method": method}, headers=headers)
                assert disguised.status_code == 403 and is_page(disguised), (headers, method, path)
    assert dump(instance) == before


def test_an_origin_that_is_no_address_is_refused(client: FlaskClient) -> None:
    """What cannot be read as an origin is not ours."""
    for origin in ("http://[::1", "http://[localhost]", "http://[::1]evil"):
        assert refused(client.post("/rooms", headers={"Origin": origin})), origin


def test_our_own_page_and_what_is_no_browser_may(client: FlaskClient) -> None:
    """The same origin, a person's own doing and a client that says nothing of where it comes from are let in."""
    own: list[dict[str, str]] = [
        {},
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
    ]
    for headers in own:
        made = client.post("/rooms", headers=headers)
        assert made.status_code == 201, headers
        for method in ("PATCH", "DELETE"):
            changed = client.open(made.headers["Location"], method=method, data={"name": "Ours"}, headers=headers)
            assert changed.status_code == 200, (headers, method)


def test_the_origin_is_that_of_the_port_too(client: FlaskClient) -> None:
    """Another server on this machine is another site."""
    host = {"Host": "127.0.0.1:8000"}
    assert client.post("/rooms", headers={**host, "Origin": "http://127.0.0.1:8000"}).status_code == 201
    for origin in ("http://127.0.0.1:8001", "http://127.0.0.1", "http://localhost:8000", "http://[::1]:8000"):
        assert refused(client.post("/rooms", headers={**host, "Origin": origin}))


def test_a_link_from_elsewhere_opens_a_room(client: FlaskClient) -> None:
    """Reading is not refused to who comes from another site by a link."""
    room_id = new_room(client)
    for headers in FOREIGN:
        assert client.get(f"/rooms/{room_id}", headers={**headers, **NAVIGATION}).status_code == 200


# Headers


def every_answer(client: FlaskClient, model_server: ModelServer) -> Iterator[tuple[str, TestResponse]]:
    """One answer of each kind."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    page = client.get(f"/rooms/{room_id}")
    static = parsed(page.text).every("link", rel="stylesheet")[0]["href"] or ""
    yield "page", page
    yield "empty page", client.get("/rooms?q=none", headers=NAVIGATION)
    yield "fragment", client.get(f"/rooms/{room_id}/messages")
    yield "part", client.get(f"/rooms/{room_id}", headers={**HTMX, "HX-Request-Type": "partial"})
    yield "created", client.post("/rooms")
    yield "redirect", client.get("/")
    yield "form", client.post(f"/rooms/{room_id}", data={"_method": "PATCH", "name": "Name", **PLAIN})
    yield "text", client.get("/healthz")
    model_server.will(answer("Good day."))
    yield "stream", client.post(f"/rooms/{room_id}/messages", data={"text": "Hello"}, headers={"Accept": "text/plain"})
    kept = client.get(static)
    with kept:
        yield "static", kept
    yield "not modified", client.get(static, headers={"If-None-Match": kept.headers["ETag"]})
    yield "head", client.head(f"/rooms/{room_id}")
    yield "options", client.options("/rooms")
    yield "400", client.get("/rooms?after=junk")
    yield "403", client.get("/", headers={"Host": "evil.example"})
    yield "404", client.get("/nowhere")
    yield "404 page", client.get("/nowhere", headers=NAVIGATION)
    yield "404 static", client.get("/static/nothing.js")
    yield "405", client.put("/rooms")
    yield "413", client.post("/rooms", data={"name": "x" * MAX_BODY}, headers=HTMX)
    yield "422", client.post("/rooms", data={"name": " "})


def test_every_answer_is_protected(client: FlaskClient, model_server: ModelServer) -> None:
    """Pages, fragments, files, streams and errors all carry the policy, and none sets a cookie or names the server."""
    seen = []
    for kind, response in every_answer(client, model_server):
        with response:
            headers = response.headers
            assert headers["Content-Security-Policy"], kind
            assert headers["X-Content-Type-Options"] == "nosniff", kind
            assert headers["Referrer-Policy"] == "no-referrer", kind
            assert headers["X-Frame-Options"] == "DENY", kind
            assert "camera=()" in headers["Permissions-Policy"], kind
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin", kind
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin", kind
            assert "Set-Cookie" not in headers and "Access-Control-Allow-Origin" not in headers, kind
            if response.mimetype == "text/html" and response.data:
                assert headers["Cache-Control"] == "no-store", kind
            seen.append(response.status_code)
    assert {200, 201, 303, 304, 400, 403, 404, 405, 413, 422} == set(seen)


def test_the_policy_lets_a_page_run_nothing_but_our_own_scripts(client: FlaskClient) -> None:
    """Nothing is allowed that is not named; scripts, styles and connections are ours, and nobody may frame us."""
    policy = client.get("/").headers["Content-Security-Policy"]
    directives = {name: sources for name, *sources in (part.split() for part in policy.split(";"))}
    assert directives["default-src"] == ["'none'"]
    for name in ("script-src", "style-src", "img-src", "connect-src", "form-action"):
        assert directives[name] == ["'self'"], name
    assert directives["base-uri"] == directives["frame-ancestors"] == ["'none'"]
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy


def test_the_page_needs_nothing_that_the_policy_forbids(client: FlaskClient) -> None:
    """No inline script, style or handler, and nothing from another server."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    for path in (f"/rooms/{room_id}", "/rooms?q=none"):
        page = parsed(client.get(path, headers=NAVIGATION).text)
        for script in page.every("script"):
            assert script["src"] and not script.text
        assert not page.has("style") and not page.has("base") and not page.has("iframe")
        for one in page.all:
            assert not [name for name in one.attributes if name == "style" or name.startswith(("on", "hx-on"))], one.tag
            for name in ("src", "href", "action"):
                assert not urlsplit(one[name] or "").netloc, one[name]


# Static files


def test_static_files_are_kept_for_a_year_by_the_hash_of_their_content(client: FlaskClient) -> None:
    """Everything the page loads has `?v=` in its address, and may be kept by a browser without asking again."""
    page = parsed(client.get("/").text)
    loaded = [one["src"] or "" for one in page.every("script")] + [one["href"] or "" for one in page.every("link")]
    assert len(loaded) > 5
    for address in loaded:
        assert len(urlsplit(address).query.removeprefix("v=")) >= 8, address
        with client.get(address) as response:
            assert response.status_code == 200, address
            assert response.cache_control.max_age == YEAR and response.cache_control.public, address
            assert not response.cache_control.no_cache and not response.cache_control.no_store, address


def test_nothing_but_static_files_is_served(client: FlaskClient) -> None:
    """No way leads out of the folder, and no folder is listed."""
    out = ["../app.py", "..%2Fapp.py", "%2e%2e/overseer/views.py", "..\\app.py", "css/../../app.py", "/etc/passwd"]
    for path in (*out, "css/", "css", "", "icon.svg%00.js"):
        response = client.get(f"/static/{path}", follow_redirects=True)
        with response:
            assert response.status_code == 404, path
            assert "import" not in response.text and "root:" not in response.text, path


# Reading


def test_reading_changes_nothing(client: FlaskClient, overseer: Overseer, instance: Path) -> None:
    """No GET or HEAD, whatever it says, leaves a trace in what is stored, nor asks the model anything."""
    room_id = new_room(client, "Kitchen")
    ask(client, room_id, "Hello")
    before, files = dump(instance), {path.name for path in instance.rglob("*")}
    said = "?_method=DELETE&_plain=1&text=Evil&name=Evil&key=k&before=1&after=1"
    paths = ["/", "/rooms", "/healthz", "/search", "/nowhere"]
    paths += [f"/rooms/{room_id}{more}" for more in ("", "/messages", "/messages/1", "/messages/2", "/turn", "/fork")]
    open_with: list[Callable[..., TestResponse]] = [client.get, client.head, client.options]
    for read in open_with:
        for path in paths:
            for query in ("", said, "?q=kit"):
                for headers in ({}, HTMX, {"X-HTTP-Method-Override": "DELETE"}):
                    assert read(path + query, headers=headers).status_code < 500
    client.get(f"/rooms/{room_id}", data={"_method": "DELETE"})
    assert dump(instance) == before
    assert {path.name for path in instance.rglob("*")} == files


def test_the_real_server_is_guarded_as_well(server: Server) -> None:
    """What holds for the app holds for the process that people run, which says nothing of what it is made of."""
    own, evil = requests.get(server.url), requests.get(server.url, headers={"Host": "evil.example"})
    assert (own.status_code, evil.status_code) == (200, 403)
    for response in (own, evil):
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "X-Powered-By" not in response.headers
    foreign = requests.post(f"{server.url}/rooms", headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert requests.post(f"{server.url}/rooms", headers={"Origin": server.url}).status_code == 201


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Host": "evil.example", "Sec-Fetch-Mode": "navigate"}])
def test_who_is_not_let_in_is_not_told_which_rooms_there_are(client: FlaskClient, headers: dict[str, str]) -> None:
    """Neither on a fragment nor on a page: that is all a rebound name is after."""
    room = client.post("/rooms", data={"name": "Secret plans"}).headers["Location"].rsplit("/", 1)[-1]
    for path in ("/", "/?_plain=1", "/rooms?_plain=1", f"/rooms/{room}?_plain=1"):
        response = client.get(path, headers=headers)
        assert response.status_code == 403
        assert "Secret plans" not in response.text and f"room-{room}" not in response.text
