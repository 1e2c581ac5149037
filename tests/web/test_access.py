"""Access control: every route and the WebSocket, by every kind of client; logging in and out; the list of log-ins."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer import create_app
from overseer.domain.addresses import Access
from overseer.storage.sessions import SessionStorage
from overseer.web.extensions import access_policy, overseer
from overseer.web.password import hashed
from tests.support.client import HTMX, PLAIN, new_room
from tests.support.html import parsed, root
from tests.support.server import Server, StartServer
from tests.support.tab import Tab

PASSWORD = "correct horse battery"
FAST_HASH = f"scrypt:1:1:1$salt${'0' * 128}"  # saves hashing; `check_password` ignores it
BROWSER = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
ROOM_ID = "0123456789ab"


@pytest.fixture
def clock() -> list[float]:
    """The time of the rate limiter."""
    return [0.0]


@pytest.fixture
def locked(instance: Path, clock: list[float]) -> Iterator[Flask]:
    """The app with a password, which is compared without the slow hash."""
    access = Access(password=FAST_HASH, hosts=frozenset({"localhost"}))
    app = create_app(instance, access=access, check_password=lambda _, given: given == PASSWORD)
    access_policy(app).rate_limiter._clock = lambda: clock[0]
    overseer(app).open()
    yield app
    overseer(app).close()
    storage(app).close()


def storage(app: Flask) -> SessionStorage:
    sessions = access_policy(app).sessions
    assert isinstance(sessions, SessionStorage)
    return sessions


def basic(password: str, user: str = "me") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(password: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {password}"}


def log_in(client: FlaskClient, password: str = PASSWORD, **form: str) -> TestResponse:
    return client.post("/login", data={"password": password, **form})


def cookie(app: Flask) -> str:
    """Log in; return the cookie."""
    return log_in(app.test_client()).headers["Set-Cookie"].partition(";")[0]


def credentials(app: Flask, directory: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return headers that authorize a request, and headers that do not."""
    valid, ended = cookie(app), cookie(app)
    app.test_client(use_cookies=False).post("/logout", headers={"Cookie": ended})
    name, token = valid.split("=", 1)
    elsewhere = SessionStorage(directory / "elsewhere", PASSWORD)
    other_token, _ = elsewhere.create("", "")
    elsewhere.close()
    storage(app)._lifetime_seconds = 0
    expired = cookie(app)
    wrong_cookies = [f"{name}={PASSWORD}", f"{name}={token[:-1]}", f"{name}=", f"session={token}", f"{name}={token}x"]
    accepted = [{"Cookie": valid}, {"Cookie": f"{name}=junk; {name}=; {valid}"}, basic(PASSWORD), bearer(PASSWORD)]
    rejected = [
        {},
        BROWSER,
        *(basic(""), basic("wrong"), basic("", PASSWORD), bearer("wrong")),
        *({"Authorization": value} for value in ("Basic", "Basic %%%", f"Digest {PASSWORD}")),
        *({"Cookie": value} for value in (*wrong_cookies, ended, expired, f"{name}={other_token}")),
    ]
    return accepted, rejected


OPEN_ENDPOINTS = {"login.show_login", "login.create_login", "static", "joined", "rooms.healthz"}
VISITOR_ENDPOINTS = {"shares.show_share", "shares.show_shared_file"}  # whose address is the credential


def routes(app: Flask, room_id: str) -> list[tuple[str, str, str]]:
    """Return method, path and endpoint of each rule, and of paths without one."""
    found = []
    values = {
        "room_id": room_id,
        "number": 1,
        "extension": "json",
        "sha256": "0" * 64,
        "import_id": "0" * 12,
        "filename": "icon.svg",
        "name": "style.css",
        "session_id": "0",
        "address": f"{room_id}{'A' * 32}",
    }
    urls = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        path = "/live" if rule.websocket else urls.build(rule.endpoint, {key: values[key] for key in rule.arguments})
        found += [(method, path, rule.endpoint) for method in sorted(rule.methods or {"GET"})]
    return [*found, ("GET", "/nowhere", ""), ("POST", "/nowhere", ""), ("PUT", f"/rooms/{room_id}", "")]


def test_every_route_requires_the_password_or_a_log_in(locked: Flask, clock: list[float], tmp_path: Path) -> None:
    """Every method of every rule, with every kind of credentials."""
    room_id = overseer(locked).create("Secret plans").id
    client = locked.test_client(use_cookies=False)
    accepted, rejected = credentials(locked, tmp_path)
    for headers in rejected:
        for method, path, endpoint in routes(locked, room_id):
            if method in ("HEAD", "OPTIONS") and headers:
                continue
            clock[0] += 1000
            upgrade = {"Upgrade": "websocket"} if path == "/live" else {}
            with client.open(path, method=method, headers={**headers, **upgrade}) as response:
                if endpoint in OPEN_ENDPOINTS:
                    assert response.status_code != 401 or path == "/login", (headers, method, path)
                elif endpoint in VISITOR_ENDPOINTS:
                    assert response.status_code == (200 if method == "OPTIONS" else 404), (headers, method, path)
                    assert b"Secret plans" not in response.data and "Set-Cookie" not in response.headers
                else:
                    assert response.status_code == 401, (headers, method, path)
                    assert "Set-Cookie" not in response.headers
                    assert b"Secret plans" not in response.data
    for headers in accepted:
        for path in (f"/rooms/{room_id}", "/sessions"):
            assert client.get(path, headers=headers).status_code == 200, headers
    assert [room.name for room in overseer(locked).rooms().rooms] == ["Secret plans"]


def test_address_of_a_share_opens_that_share_and_no_other_route(locked: Flask, clock: list[float]) -> None:
    """As the path, in the query, as a password and as a cookie. The page itself has no credential in it either."""
    room = overseer(locked).create("Secret plans")
    other = overseer(locked).create("Other plans")
    address = overseer(locked).room(room.id).share(None, seconds=None).address
    client = locked.test_client(use_cookies=False)
    page = client.get(f"/shares/{address}")
    assert page.status_code == 200 and "Secret plans" in page.text and "Set-Cookie" not in page.headers
    name = storage(locked).cookie_name
    attempts = [{}, bearer(address), basic(address), {"Cookie": f"{name}={address}"}]
    for room_id in (room.id, other.id):
        for method, path, endpoint in routes(locked, room_id):
            if endpoint in OPEN_ENDPOINTS | VISITOR_ENDPOINTS:
                continue
            for query in ("", f"?share={address}"):
                for headers in attempts:
                    clock[0] += 1000
                    if endpoint == "live" and query:
                        continue  # the socket of the share: see tests/live/test_shares.py
                    response = client.open(path + query, method=method, headers=headers)
                    assert response.status_code == 401, (method, path, query, headers)
                    assert b"plans" not in response.data
    for path in (f"/shares/{other.id}{address[12:]}", f"/shares/{address}/messages", f"/shares/{address}/files/../.."):
        assert client.get(path).status_code in (401, 404), path


def test_method_of_a_form_to_an_open_endpoint_reaches_no_other_route(locked: Flask) -> None:
    room_id = overseer(locked).create("Secret plans").id
    for path in ("/login", "/healthz", f"/rooms/{room_id}", "/static/icon.svg"):
        for method in ("DELETE", "PATCH"):
            response = locked.test_client().post(path, data={"_method": method, "name": "Evil", **PLAIN})
            assert response.status_code in (401, 404, 405), path
    assert [room.name for room in overseer(locked).rooms().rooms] == ["Secret plans"]


@pytest.mark.parametrize(
    ("method", "path", "form", "status"),
    [
        ("GET", "/static/nothing?_plain=1", None, 404),
        ("POST", "/login", {"_method": "DELETE", "password": "x"}, 405),
        ("POST", "/login", {"password": "x" * 20_000}, 413),
        ("POST", "/login", "not a form", 400),
    ],
)
def test_error_page_of_an_open_endpoint_lists_no_rooms(
    locked: Flask, method: str, path: str, form: Any, status: int
) -> None:
    room_id = overseer(locked).create("Secret plans").id
    response = locked.test_client().open(path, method=method, data=form, headers=BROWSER)
    assert response.status_code == status and response.text.startswith("<!doctype html>")
    assert "Secret plans" not in response.text and room_id not in response.text


def test_server_without_a_password_serves_this_machine_only(client: FlaskClient) -> None:
    for peer in ("192.168.1.5", "::ffff:192.168.1.5", "2001:db8::1", "", "unix:"):
        response = client.get("/rooms", environ_overrides={"REMOTE_ADDR": peer})
        assert response.status_code == 403 and "no password" in response.text, peer
    for peer in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert client.get("/rooms", environ_overrides={"REMOTE_ADDR": peer}).status_code == 200, peer


def test_server_without_a_password_has_no_log_ins(client: FlaskClient) -> None:
    new_room(client)
    assert client.get("/login").headers["Location"] == "/"
    assert client.post("/login", data={"password": "x"}).headers["Location"] == "/"
    assert client.post("/logout").status_code == 303
    assert "log-out" not in client.get("/", follow_redirects=True).text
    for response in (client.get("/sessions"), client.delete("/sessions/0")):
        assert response.status_code == 404 and "no password" in root(response.text).one("p").text


# Responses to requests without a log-in


def test_challenge_is_for_curl_and_a_log_in_page_for_browsers(locked: Flask) -> None:
    client = locked.test_client()
    curl = client.get("/rooms")
    assert curl.headers["WWW-Authenticate"] == 'Basic realm="Overseer chat"'
    assert "Log in" in root(curl.text).one(id="error").text
    for headers in (BROWSER, {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}):
        page = client.get("/rooms?q=x", headers=headers)
        assert page.status_code == 401 and "WWW-Authenticate" not in page.headers
        assert parsed(page.text).one("input", name="next")["value"] == "/rooms?q=x"
    path = f"/rooms/{ROOM_ID}/messages"
    fragment = client.post(path, data={"text": "Hello"}, headers={**HTMX, "Sec-Fetch-Mode": "cors"})
    assert fragment.status_code == 401 and "WWW-Authenticate" not in fragment.headers
    assert root(fragment.text).one("a")["href"] == f"/login?next=/rooms/{ROOM_ID}"


def test_form_that_is_sent_after_the_log_in_ended_shows_its_text_again(locked: Flask) -> None:
    form = {"text": "Long <words>", **PLAIN}
    page = locked.test_client().post(f"/rooms/{ROOM_ID}/messages", data=form, headers=BROWSER)
    assert page.status_code == 401
    assert parsed(page.text).one("textarea").text == "Long <words>"
    assert parsed(page.text).one("input", name="next")["value"] == f"/rooms/{ROOM_ID}"


def test_log_in_page_returns_to_the_referring_page(locked: Flask) -> None:
    page = locked.test_client().get("/login", headers={"Referer": f"http://localhost/rooms/{ROOM_ID}?before=7"})
    assert parsed(page.text).one("input", name="next")["value"] == f"/rooms/{ROOM_ID}"


@pytest.mark.parametrize(
    ("wanted", "location"),
    [
        (f"/rooms/{ROOM_ID}?before=7&_method=DELETE&all=1", f"/rooms/{ROOM_ID}?before=7"),
        ("/rooms?q=a%26b", "/rooms?q=a%26b"),
        (f"/rooms/{ROOM_ID}/messages/3", f"/rooms/{ROOM_ID}/messages/3"),
        ("/sessions", "/sessions"),
        *((other, "/") for other in ("", "/login", "/logout", "/nowhere", "/live", "/rooms/../..", "\x00", "http://[")),
        *((evil, "/") for evil in ("//evil.example", "https://evil.example/", "/\\evil.example", "/\t/evil.example")),
        (f"//evil.example/rooms/{ROOM_ID}", f"/rooms/{ROOM_ID}"),
    ],
)
def test_log_in_redirects_to_pages_of_this_app_only(locked: Flask, wanted: str, location: str) -> None:
    client = locked.test_client()
    assert log_in(client, next=wanted).headers["Location"] == location
    assert client.get("/login?next=/rooms").headers["Location"] == "/rooms", "already logged in"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/", "/chat/"),
        (f"/rooms/{ROOM_ID}?before=7", f"/chat/rooms/{ROOM_ID}?before=7"),
        *((f"/{odd}evil.example/x", "") for odd in ("%5C", "%09/", "%2F", "%2F%5C", "rooms/%5C%5C/")),
    ],
)
def test_link_from_another_site_is_reloaded_with_the_cookie(locked: Flask, path: str, location: str) -> None:
    """SameSite=Strict cookies are not sent with it, so the page reloads itself, at a URL of this app only."""
    headers = {**BROWSER, "Sec-Fetch-Site": "cross-site"}
    page = locked.test_client().get(path, base_url="http://localhost/chat", headers=headers)
    assert page.status_code == 401
    refresh = parsed(page.text).every("meta", **{"http-equiv": "refresh"})
    assert [tag["content"] for tag in refresh] == ([f"0; url={location}"] if location else [])


def test_log_in_form_is_limited_in_size(locked: Flask) -> None:
    assert log_in(locked.test_client(), "x" * 15_000).status_code == 401
    assert log_in(locked.test_client(), "x" * 17_000).status_code == 413


def test_cookie_is_http_only_strict_and_secure_over_tls(locked: Flask) -> None:
    client = locked.test_client()
    plain = log_in(client).headers["Set-Cookie"]
    assert "HttpOnly" in plain and "SameSite=Strict" in plain and "Path=/" in plain and "Secure" not in plain
    over_tls = client.post("/login", data={"password": PASSWORD}, base_url="https://localhost").headers["Set-Cookie"]
    assert "Secure" in over_tls
    prefixed = client.post("/login", data={"password": PASSWORD}, base_url="http://localhost/chat")
    assert "Path=/chat" in prefixed.headers["Set-Cookie"] and prefixed.headers["Location"] == "/chat/"


# Attempts


def test_password_attempts_are_limited_to_five_and_then_one_per_30_seconds(
    locked: Flask, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """By form and by header alike, for one client, and also with the right password."""
    client = locked.test_client()
    with caplog.at_level(logging.WARNING):
        assert [log_in(client, "wrong").status_code for _ in range(3)] == [401] * 3
        assert [client.get("/rooms", headers=basic("wrong")).status_code for _ in range(2)] == [401] * 2
    assert caplog.text.count("a wrong password from 127.0.0.1") == 5
    for response in (log_in(client), client.get("/rooms", headers=basic(PASSWORD))):
        assert response.status_code == 429 and response.headers["Retry-After"] == "30"
        assert "Try again in 30 seconds" in response.text
    other = client.get("/rooms", headers=basic(PASSWORD), environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert other.status_code == 200
    clock[0] += 30
    assert log_in(client).status_code == 303
    assert client.get("/rooms").status_code == 200


def test_right_password_uses_up_no_attempts_and_is_hashed_once(locked: Flask) -> None:
    checked: list[str] = []
    password = access_policy(locked).password
    assert password is not None

    def check(_: str, given: str) -> bool:
        checked.append(given)
        return True

    password._check = check
    client = locked.test_client()
    assert {client.get("/rooms", headers=basic(PASSWORD)).status_code for _ in range(20)} == {200}
    assert checked == [PASSWORD]


# The list of log-ins


def test_sessions_lists_the_live_log_ins_and_marks_the_own_one(locked: Flask) -> None:
    one, other = locked.test_client(), locked.test_client()
    one.post("/login", data={"password": PASSWORD}, headers={"User-Agent": "<b>Firefox</b> " + "x" * 200})
    other.post("/login", data={"password": PASSWORD}, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    listed = root(one.get("/sessions").text)
    assert (listed.tag, listed["id"]) == ("ul", "sessions")
    (own,) = (item for item in listed.every("li") if "this log-in" in item.text)
    assert "127.0.0.1" in own.text and "<b>Firefox</b>" in own.text and "x" * 120 not in own.text
    assert len(own.every("time")) == 2 and "192.0.2.7" in listed.text and len(listed.every("li")) == 2
    page = one.get("/sessions", headers=BROWSER)
    assert page.text.startswith("<!doctype html>") and len(parsed(page.text).one(id="sessions").every("li")) == 2


def test_session_that_is_ended_from_the_list_is_logged_out(locked: Flask) -> None:
    one, other = locked.test_client(), locked.test_client()
    log_in(one), log_in(other)
    own, foreign = sorted(root(one.get("/sessions").text).every("li"), key=lambda item: "this log-in" not in item.text)
    response = one.delete(f"/sessions/{(foreign['id'] or '').removeprefix('session-')}")
    assert response.status_code == 200 and [item["id"] for item in root(response.text).every("li")] == [own["id"]]
    assert other.get("/rooms").status_code == 401 and one.get("/rooms").status_code == 200
    unknown = one.delete("/sessions/0")
    assert unknown.status_code == 404 and "has already ended" in root(unknown.text).one("p").text
    form = own.one("form")
    fields = {field["name"] or "": field["value"] or "" for field in form.every("input")}
    plain = one.post(form["action"] or "", data=fields)
    assert plain.status_code == 303 and plain.headers["Location"] == "/sessions"
    assert "Expires=Thu, 01 Jan 1970" in plain.headers["Set-Cookie"]
    assert one.get("/sessions").status_code == 401


# The real server


@pytest.fixture
def guarded(start_server: StartServer) -> Server:
    """A server with a password."""
    return start_server(OVERSEER_PASSWORD=PASSWORD)


def server_cookie(server: Server) -> str:
    """Log in; return the cookie."""
    response = requests.post(f"{server.url}/login", {"password": PASSWORD}, allow_redirects=False, timeout=20)
    assert response.status_code == 303
    return "; ".join(f"{one.name}={one.value}" for one in response.cookies)


def status(server: Server, cookie: str) -> int:
    return requests.get(f"{server.url}/rooms", headers={"Cookie": cookie}, timeout=20).status_code


def open_tab(server: Server, **options: Any) -> Tab:
    """Open a tab that has received its first frame."""
    tab = Tab(server.url, suppress_origin="origin" not in options, **options)
    tab.read_until('hx-target="#rooms"')
    return tab


def test_right_password_from_many_clients_at_once_is_accepted(guarded: Server) -> None:
    """None of them counts as an attempt too many before the first check has ended."""
    barrier = threading.Barrier(12)
    statuses: list[int] = []

    def request() -> None:
        barrier.wait()
        statuses.append(requests.get(f"{guarded.url}/rooms", auth=("", PASSWORD), timeout=60).status_code)

    threads = [threading.Thread(target=request) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 12


def test_websocket_requires_a_log_in_of_the_same_origin(guarded: Server) -> None:
    own = server_cookie(guarded)
    rejected: list[tuple[dict[str, Any], int]] = [
        ({}, 401),
        ({"cookie": f"{own}x"}, 401),
        ({"header": basic("wrong")}, 401),
        ({"cookie": own, "origin": "http://evil.example"}, 403),
        ({"cookie": own, "header": {"Sec-Fetch-Site": "cross-site"}, "origin": guarded.url}, 403),
    ]
    for options, expected in rejected:
        with pytest.raises(websocket.WebSocketBadStatusException) as error:
            Tab(guarded.url, **options)
        assert error.value.status_code == expected, options
    accepted: list[dict[str, Any]] = [{"cookie": own, "origin": guarded.url}, {"header": bearer(PASSWORD)}]
    for options in accepted:
        open_tab(guarded, **options).close()


def test_log_out_closes_the_tabs_of_that_log_in_and_lasts_over_a_restart(guarded: Server, instance: Path) -> None:
    """By /logout and from the list of log-ins alike. Other log-ins stay, until the password is replaced by a hash."""
    cookies = [server_cookie(guarded) for _ in range(3)]
    tabs = [open_tab(guarded, cookie=one, origin=guarded.url) for one in cookies]
    options: dict[str, Any] = {"headers": {"Cookie": cookies[0]}, "allow_redirects": False, "timeout": 20}
    assert requests.post(f"{guarded.url}/logout", **options).status_code == 303
    options["headers"] = {"Cookie": cookies[1]}
    own = next(
        item
        for item in root(requests.get(f"{guarded.url}/sessions", **options).text).every("li")
        if "this log-in" in item.text
    )
    path = f"/sessions/{(own['id'] or '').removeprefix('session-')}"
    assert requests.delete(guarded.url + path, **options).status_code == 200
    for tab in tabs[:2]:
        assert "been logged out" in tab.read_until('hx-target="#error"')
        assert tab.read_to_close() == 4401
    assert requests.post(f"{guarded.url}/rooms", headers={"Cookie": cookies[2]}, timeout=20).status_code == 201
    tabs[2].read_until("room-")
    for tab in tabs:
        tab.close()
    guarded.restart()
    assert [status(guarded, one) for one in cookies] == [401, 401, 200]
    guarded.stop()
    guarded._environment["OVERSEER_PASSWORD"] = hashed(PASSWORD)
    guarded.start()
    assert status(guarded, cookies[2]) == 401, "another password ends all log-ins"
    assert requests.get(f"{guarded.url}/rooms", auth=("", PASSWORD), timeout=20).status_code == 200
    assert not any(PASSWORD.encode() in path.read_bytes() for path in instance.rglob("*") if path.is_file())


def test_tab_is_closed_when_its_log_in_expires(
    guarded: Server, instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overseer.storage.sessions.SCRYPT_COST", 2**15)  # as in the server
    with closing(SessionStorage(instance, PASSWORD, lifetime_seconds=5)) as sessions:
        name, (token, session) = sessions.cookie_name, sessions.create("", "")
    with closing(Tab(guarded.url, cookie=f"{name}={token}", origin=guarded.url)) as tab:
        tab.read_until('hx-target="#error"')
        assert tab.read_to_close() == 4401
    assert time.time() >= session.expires_at
