"""The door: every route and the socket, by everyone who might come. And what a log-in is good for, and until when."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import websocket
from flask import Flask
from flask.testing import FlaskClient
from overseer.web.sessions import Sessions
from werkzeug.test import TestResponse

from overseer import create_app
from overseer.domain.addresses import Access
from overseer.llm.choice import ModelSettings
from overseer.web.auth import OPEN, AccessPolicy
from overseer.web.password import hashed
from tests.support.model_server import ModelServer
from tests.support.server import Server
from tests.support.server_pool import ServerPool
from tests.support.tab import Tab
from tests.web.test_views import HTMX, PLAIN, new_room, parsed, root

PASSWORD = "correct horse battery"
BROWSER = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
OPEN_PATHS = {"/login", "/healthz"}


@pytest.fixture
def locked(instance: Path, model_server: ModelServer) -> Iterator[Flask]:
    """The app with a password, and a clock that stands still between two tries."""
    models = ModelSettings(base_url=model_server.url, name="stand-in")
    access = Access(password=PASSWORD, hosts=frozenset({"localhost"}))
    # The slow check is for the tests with a real server.
    app = create_app(instance, models=models, access=access, check_password=lambda _, tried: tried == PASSWORD)
    now = [0.0]
    app.extensions["door"].tries._clock = lambda: now[0]
    app.extensions["clock"] = now
    app.extensions["overseer"].open()
    yield app
    app.extensions["overseer"].close()
    app.extensions["door"].sessions.close()


def basic(password: str, user: str = "me") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(password: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {password}"}


def log_in(client: FlaskClient, password: str = PASSWORD, **form: str) -> TestResponse:
    return client.post("/login", data={"password": password, **form})


def cookie(client: FlaskClient) -> str:
    """The name and value of the one cookie there is."""
    (found,) = client._cookies.values()  # werkzeug's client tells of one by its name only
    return f"{found.key}={found.value}"


@dataclass(frozen=True)
class Visitor:
    """Somebody who comes, with these headers."""

    name: str
    headers: dict[str, str]
    check_password: bool


def visitors(app: Flask) -> list[Visitor]:
    """Everybody who might come."""
    one, other = app.test_client(), app.test_client()
    log_in(one), log_in(other)
    ours, ended = cookie(one), cookie(other)
    other.post("/logout")
    name, token = ours.split("=", 1)
    expired, _ = Sessions(Path(app.extensions["door"].sessions._directory), PASSWORD, lasts=0).begin()
    elsewhere, _ = Sessions(Path(app.instance_path) / "none" / app.name, PASSWORD).begin()
    return [
        Visitor("nobody", {}, False),
        Visitor("a browser", BROWSER, False),
        Visitor("an empty password", basic(""), False),
        Visitor("a wrong password", basic("wrong"), False),
        Visitor("the password as the user", basic("", PASSWORD), False),
        Visitor("a wrong token", bearer("wrong"), False),
        Visitor("half a header", {"Authorization": "Basic"}, False),
        Visitor("junk in the header", {"Authorization": "Basic %%%"}, False),
        Visitor("another scheme", {"Authorization": f"Digest {PASSWORD}"}, False),
        Visitor("the password as the cookie", {"Cookie": f"{name}={PASSWORD}"}, False),
        Visitor(
            "a cookie with another end", {"Cookie": f"{name}={token[:-2]}{'AA' if token[-2:] != 'AA' else 'BB'}"}, False
        ),
        Visitor("a cookie with another beginning", {"Cookie": f"{name}=A{token[1:]}"}, False),
        Visitor("an unsigned cookie", {"Cookie": f"{name}={token.rsplit('.', 1)[0]}"}, False),
        Visitor("an empty cookie", {"Cookie": f"{name}="}, False),
        Visitor("a cookie of another name", {"Cookie": f"session={token}"}, False),
        Visitor("a log-in that was ended", {"Cookie": ended}, False),
        Visitor("a log-in that expired", {"Cookie": f"{name}={expired}"}, False),
        Visitor("a log-in of another server", {"Cookie": f"{name}={elsewhere}"}, False),
        Visitor("a log-in", {"Cookie": ours}, True),
        Visitor("a log-in after what another port has set", {"Cookie": f"{name}=junk; {name}=; {ours}"}, True),
        Visitor("the password", basic(PASSWORD), True),
        Visitor("the password, of nobody", basic(PASSWORD, ""), True),
        Visitor("the password as a token", bearer(PASSWORD), True),
    ]


def routes(app: Flask, room_id: str) -> list[tuple[str, str, str]]:
    """Method, path and endpoint of everything that can be asked for, and of what cannot."""
    found = []
    values = {"room_id": room_id, "number": 1, "filename": "icon.svg", "name": "style.css"}
    urls = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        path = "/live" if rule.websocket else urls.build(rule.endpoint, {key: values[key] for key in rule.arguments})
        found += [(method, path, rule.endpoint) for method in sorted(rule.methods or {"GET"})]
    return [*found, ("GET", "/nowhere", ""), ("POST", "/nowhere", ""), ("PUT", f"/rooms/{room_id}", "")]


def test_nobody_comes_in_by_any_route(locked: Flask, tmp_path: Path) -> None:
    """The URL map, each method of each rule, by everybody: only who shows the password or a log-in is let in."""
    locked.instance_path = str(tmp_path)
    room_id = locked.extensions["overseer"].create("Secret plans").id
    before = [room.name for room in locked.extensions["overseer"].rooms().rooms]
    tried = 0
    for visitor in visitors(locked):
        for method, path, endpoint in routes(locked, room_id):
            if visitor.check_password and (method in ("DELETE", "POST") or path == "/live"):
                continue  # what it does is tested elsewhere
            locked.extensions["clock"][0] += 1000
            client = locked.test_client(use_cookies=False)
            headers = {**visitor.headers, **({"Upgrade": "websocket"} if path == "/live" else {})}
            with client.open(path, method=method, headers=headers) as response:
                tried += 1
                words = response.text if response.mimetype == "text/html" else ""
                assert ("Secret plans" in words) <= visitor.check_password, (visitor.name, method, path)
                if visitor.check_password or endpoint in OPEN:
                    assert response.status_code != 401 or path == "/login", (visitor.name, method, path)
                else:
                    assert response.status_code == 401, (visitor.name, method, path)
                    assert "Set-Cookie" not in response.headers
    assert tried > 500
    assert [room.name for room in locked.extensions["overseer"].rooms().rooms] == before


def test_what_is_open_is_the_way_in_and_nothing_else(locked: Flask) -> None:
    """Five endpoints: a new route is shut until somebody says otherwise here."""
    assert {"login.show_login", "login.create_login", "static", "joined", "rooms.healthz"} == OPEN
    assert {rule.endpoint for rule in locked.url_map.iter_rules()} >= OPEN


def test_a_disguised_verb_is_no_way_in(locked: Flask) -> None:
    """_method in a form to an open address reaches nothing behind the door."""
    room_id = locked.extensions["overseer"].create("Secret plans").id
    client = locked.test_client()
    for path in ("/login", "/healthz", f"/rooms/{room_id}", "/static/icon.svg"):
        for verb in ("DELETE", "PATCH"):
            response = client.post(path, data={"_method": verb, "name": "Evil", **PLAIN})
            assert response.status_code in (401, 404, 405), path
    assert [room.name for room in locked.extensions["overseer"].rooms().rooms] == ["Secret plans"]


@pytest.mark.parametrize(
    ("method", "path", "form", "status"),
    [
        ("GET", "/static/nothing", None, 404),
        ("GET", "/static/nothing?_plain=1", None, 404),
        ("POST", "/login", {"_method": "DELETE", "password": "x"}, 405),
        ("POST", "/login", {"password": "x" * 20_000}, 413),
        ("POST", "/login", "not a form", 400),
    ],
)
def test_an_error_at_an_open_address_tells_nothing_of_what_is_inside(
    locked: Flask, method: str, path: str, form: object, status: int
) -> None:
    """Its page has no list of rooms, whoever asks for it in the way of a browser."""
    room_id = locked.extensions["overseer"].create("Secret plans").id
    answer = locked.test_client().open(path, method=method, data=form, headers=BROWSER)
    assert answer.status_code == status and answer.text.startswith("<!doctype html>")
    assert "Secret plans" not in answer.text and room_id not in answer.text


def test_without_a_password_only_this_machine_is_answered(client: FlaskClient) -> None:
    """However the server came to listen elsewhere."""
    for peer in ("192.168.1.5", "10.0.0.1", "::ffff:192.168.1.5", "2001:db8::1", "", "unix:"):
        response = client.get("/rooms", environ_overrides={"REMOTE_ADDR": peer})
        assert response.status_code == 403 and "no password" in response.text, peer
    for peer in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert client.get("/rooms", environ_overrides={"REMOTE_ADDR": peer}).status_code == 200, peer


# The answers of the door


def test_curl_is_asked_for_the_password_and_a_browser_is_shown_where(locked: Flask) -> None:
    """A challenge for what speaks Basic; a browser would open a window of its own for it, so it gets the page."""
    client = locked.test_client()
    curl = client.get("/rooms")
    assert curl.headers["WWW-Authenticate"] == 'Basic realm="Overseer chat"'
    assert "Log in" in root(curl.text).one(id="error").text
    for headers in (BROWSER, {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}):
        page = client.get("/rooms?q=x", headers=headers)
        assert (
            page.text.startswith("<!doctype html>")
            and page.status_code == 401
            and "WWW-Authenticate" not in page.headers
        )
        assert parsed(page.text).one("input", name="next")["value"] == "/rooms?q=x"
    part = client.post(
        "/rooms/0123456789ab/messages", data={"text": "Hello"}, headers={**HTMX, "Sec-Fetch-Mode": "cors"}
    )
    assert part.status_code == 401 and "WWW-Authenticate" not in part.headers
    assert root(part.text).one("a")["href"] == "/login?next=/rooms/0123456789ab"


def test_a_form_that_comes_too_late_shows_what_was_typed(locked: Flask) -> None:
    """A browser without scripts, whose log-in has ended: the words are on the page that asks for the password."""
    page = locked.test_client().post(
        "/rooms/0123456789ab/messages", data={"text": "Long <words>", **PLAIN}, headers=BROWSER
    )
    assert page.status_code == 401
    assert parsed(page.text).one("textarea").text.strip() == "Long <words>"
    assert parsed(page.text).one("input", name="next")["value"] == "/rooms/0123456789ab"


def test_the_cookie_is_for_the_server_alone(locked: Flask) -> None:
    """No script reads it, no other site sends it, and over TLS it goes by nothing else."""
    client = locked.test_client()
    plain = log_in(client).headers["Set-Cookie"]
    assert "HttpOnly" in plain and "SameSite=Strict" in plain and "Path=/" in plain and "Secure" not in plain
    safe = client.post("/login", data={"password": PASSWORD}, base_url="https://localhost").headers["Set-Cookie"]
    assert "Secure" in safe
    below = client.post("/login", data={"password": PASSWORD}, base_url="http://localhost/chat")
    assert "Path=/chat" in below.headers["Set-Cookie"] and below.headers["Location"] == "/chat/"


def test_a_log_in_leads_to_our_own_pages_only(locked: Flask) -> None:
    """Whatever `next` says."""
    room_id = "0123456789ab"
    for wanted, leads in (
        (f"/rooms/{room_id}", f"/rooms/{room_id}"),
        (f"/rooms/{room_id}?before=7&_method=DELETE&at=1", f"/rooms/{room_id}?before=7"),
        ("/rooms?q=a%26b", "/rooms?q=a%26b"),
        (f"/rooms/{room_id}/messages/3", f"/rooms/{room_id}/messages/3"),
    ):
        assert log_in(locked.test_client(), next=wanted).headers["Location"] == leads
    for wanted in (
        *("", "//evil.example", "https://evil.example/", "/\\evil.example", "/\t/evil.example", "javascript:alert(1)"),
        *(
            "/login",
            "/logout",
            "/nowhere",
            f"//evil.example/rooms/{room_id}",
            "http://[",
            "/rooms/../..",
            "\x00",
            "/live",
        ),
    ):
        leads = log_in(locked.test_client(), next=wanted).headers["Location"]
        assert leads in ("/", f"/rooms/{room_id}"), wanted


def test_who_follows_a_link_to_us_is_led_on_to_our_own_pages_only(locked: Flask) -> None:
    """The page that asks again, as ours, for what another site's link named: below the prefix, and never elsewhere."""
    foreign = {**BROWSER, "Sec-Fetch-Site": "cross-site"}
    room_id = "0123456789ab"
    for path, leads in (
        ("/", "/chat/"),
        (f"/rooms/{room_id}?before=7", f"/chat/rooms/{room_id}?before=7"),
        (f"/rooms/{room_id}/messages/3", f"/chat/rooms/{room_id}/messages/3"),
        ("/rooms?q=a%26b", "/chat/rooms?q=a%26b"),
        *(
            (f"/{odd}evil.example/x", "")
            for odd in ("%5C", "%09/", "%0A/", "%2F", "%2F%5C", "rooms/%5C%5C/", "nowhere")
        ),
    ):
        page = locked.test_client().get(path, base_url="http://localhost/chat", headers=foreign)
        assert page.status_code == 401, path
        refresh = parsed(page.text).every("meta", **{"http-equiv": "refresh"})
        assert [tag["content"] for tag in refresh] == ([f"0; url={leads}"] if leads else []), path


def test_who_is_in_already_is_not_asked_again(locked: Flask) -> None:
    """Nor is anybody where there is no password."""
    client = locked.test_client()
    log_in(client)
    assert client.get("/login?next=/rooms").headers["Location"] == "/rooms"


def test_without_a_password_there_is_no_log_in(client: FlaskClient) -> None:
    """Its address leads to the rooms, and no page offers to log out."""
    new_room(client)
    assert client.get("/login").headers["Location"] == "/"
    assert client.post("/login", data={"password": "x"}).headers["Location"] == "/"
    assert client.post("/logout").status_code == 303
    assert "log-out" not in client.get("/", follow_redirects=True).text
    assert "Log out" not in client.get("/palette").text


# How often


def test_a_password_is_tried_five_times_and_then_waited_for(locked: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """In every way alike, also with the right one; the seconds are said; and then there is one more try."""
    client, now = locked.test_client(), locked.extensions["clock"]
    with caplog.at_level(logging.WARNING):
        assert [log_in(client, "wrong").status_code for _ in range(3)] == [401] * 3
        assert [client.get("/rooms", headers=basic("wrong")).status_code for _ in range(2)] == [401] * 2
    assert caplog.text.count("a wrong password from 127.0.0.1") == 5
    for refused in (
        log_in(client),
        client.get("/rooms", headers=basic(PASSWORD)),
        client.get("/rooms", headers=bearer("x")),
    ):
        assert refused.status_code == 429 and refused.headers["Retry-After"] == "30"
        assert "Wait 30 s" in refused.text
    other = client.get("/rooms", headers=basic(PASSWORD), environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert other.status_code == 200
    now[0] += 30
    assert log_in(client, "wrong").status_code == 401
    now[0] += 30
    assert log_in(client).status_code == 303
    assert client.get("/rooms").status_code == 200


def test_the_right_password_costs_no_tries_and_is_checked_once(instance: Path) -> None:
    """A script that sends it with every request waits for the slow check only once."""
    checked: list[str] = []

    def check(_: str, tried: str) -> bool:
        checked.append(tried)
        return tried == PASSWORD

    app = create_app(instance, access=Access(password=PASSWORD, hosts=frozenset({"localhost"})), check_password=check)
    client = app.test_client()
    assert {client.get("/rooms", headers=basic(PASSWORD)).status_code for _ in range(50)} == {200}
    assert checked == [PASSWORD]
    app.extensions["overseer"].close()


def test_many_who_come_at_once_with_the_password_are_all_let_in(guarded: Server) -> None:
    """Before it was checked for the first time: none of them is a try too many."""
    together = threading.Barrier(12)
    answered: list[int] = []

    def come() -> None:
        together.wait()
        answered.append(requests.get(f"{guarded.url}/rooms", auth=("", PASSWORD), timeout=60).status_code)

    threads = [threading.Thread(target=come) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answered == [200] * 12


def test_who_asks_to_log_in_comes_back_to_where_they_were(locked: Flask) -> None:
    """A tab whose log-in has ended leads to the log-in by a link that says nothing of where it is."""
    page = locked.test_client().get("/login", headers={"Referer": "http://localhost/rooms/0123456789ab?before=7"})
    assert parsed(page.text).one("input", name="next")["value"] == "/rooms/0123456789ab"


def test_a_log_in_form_is_small(locked: Flask) -> None:
    """Who is not let in does not send megabytes."""
    client = locked.test_client()
    assert log_in(client, "x" * 15_000).status_code == 401
    assert log_in(client, "x" * 17_000).status_code == 413


# The real server


@pytest.fixture
def guarded(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    """A server with a password."""
    settings = {"OPENAI_BASE_URL": model_server.url, "OVERSEER_PASSWORD": PASSWORD}
    server = Server(instance, environment=settings, server_pool=server_pool).start()
    yield server
    server.stop()


def check_password(server: Server) -> str:
    """Log in; returns the cookie."""
    answer = requests.post(f"{server.url}/login", {"password": PASSWORD}, allow_redirects=False, timeout=20)
    assert answer.status_code == 303
    return "; ".join(f"{one.name}={one.value}" for one in answer.cookies)


def test_the_socket_is_shut_before_the_handshake_is_answered(guarded: Server) -> None:
    """Nobody listens without a log-in, nor from another site with one."""
    ours = check_password(guarded)
    for options, status in (
        ({}, 401),
        ({"cookie": f"{ours}x"}, 401),
        ({"header": basic("wrong")}, 401),
        ({"cookie": ours, "origin": "http://evil.example"}, 403),
        ({"cookie": ours, "header": {"Sec-Fetch-Site": "cross-site"}, "origin": guarded.url}, 403),
    ):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            Tab(guarded.url, **options)
        assert refused.value.status_code == status, options
    for options in ({"cookie": ours, "origin": guarded.url}, {"header": basic(PASSWORD)}, {"header": bearer(PASSWORD)}):
        tab = Tab(guarded.url, suppress_origin="origin" not in options, **options)
        tab.read_until('hx-target="#rooms"')
        tab.close()


def test_a_log_out_sends_the_tabs_of_that_log_in_away_for_good(guarded: Server) -> None:
    """They are told, with a close code that is not come back from; others stay. It holds over a restart."""
    one, other = {"Cookie": check_password(guarded)}, {"Cookie": check_password(guarded)}
    tabs = [Tab(guarded.url, cookie=ours["Cookie"], origin=guarded.url) for ours in (one, other)]
    for tab in tabs:
        tab.read_until('hx-target="#rooms"')
    left = requests.post(f"{guarded.url}/logout", headers=one, allow_redirects=False, timeout=20)
    assert left.status_code == 303
    assert "You are logged out" in tabs[0].read_until('hx-target="#error"')
    assert tabs[0].read_to_close() == 4401
    assert requests.get(f"{guarded.url}/rooms", headers=one, timeout=20).status_code == 401
    assert requests.post(f"{guarded.url}/rooms", headers=other, timeout=20).status_code == 201
    tabs[1].read_until("room-")
    for tab in tabs:
        tab.close()
    guarded.restart()
    assert requests.get(f"{guarded.url}/rooms", headers=one, timeout=20).status_code == 401
    assert requests.get(f"{guarded.url}/rooms", headers=other, timeout=20).status_code == 200


def test_a_tab_is_sent_away_when_its_log_in_expires(
    instance: Path, model_server: ModelServer, server_pool: ServerPool
) -> None:
    """What was open then does not stay open for ever."""
    environment = {"OPENAI_BASE_URL": model_server.url, "OVERSEER_PASSWORD": PASSWORD}
    server = Server(instance, environment=environment, server_pool=server_pool).start()
    try:
        sessions = Sessions(instance, PASSWORD, lasts=2)
        name, (token, session) = sessions.cookie, sessions.begin()
        sessions.close()
        tab = Tab(server.url, cookie=f"{name}={token}", origin=server.url)
        tab.read_until('hx-target="#error"')
        assert tab.read_to_close() == 4401
        tab.close()
        assert time.time() >= session.until
    finally:
        server.stop()


def test_the_secret_is_for_the_owner_alone_and_another_password_ends_all_log_ins(
    instance: Path, model_server: ModelServer, server_pool: ServerPool
) -> None:
    """0600 from its first moment; the password is in no file; a changed one lets no old cookie in."""
    ours = ""
    for password, status in ((PASSWORD, 200), (hashed(PASSWORD), 401)):
        environment = {"OPENAI_BASE_URL": model_server.url, "OVERSEER_PASSWORD": password}
        server = Server(instance, environment=environment, server_pool=server_pool).start()
        try:
            ours = ours or check_password(server)
            assert requests.get(f"{server.url}/rooms", headers={"Cookie": ours}, timeout=20).status_code == status
            assert requests.get(f"{server.url}/rooms", auth=("", PASSWORD), timeout=20).status_code == 200
        finally:
            server.stop()
    assert (instance / "secret").stat().st_mode & 0o777 == 0o600
    assert not any(PASSWORD.encode() in path.read_bytes() for path in instance.rglob("*") if path.is_file())


def test_a_door_has_one_decision(locked: Flask) -> None:
    """It is asked before anything else looks at the request, and by nobody but the app."""
    asked = [
        ask for ask in locked.before_request_funcs[None] if getattr(ask, "__self__", None).__class__ is AccessPolicy
    ]
    assert len(asked) == 1
    assert locked.before_request_funcs[None].index(asked[0]) <= 1
    assert not [name for name, ask in locked.before_request_funcs.items() if name is not None and ask]
