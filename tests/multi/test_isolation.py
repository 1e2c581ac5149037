"""Nobody sees what belongs to another Overseer: every route of one, with all credentials of another."""

from __future__ import annotations

import base64
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import pytest
import requests
import websocket
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from overseer.multi.directory import Directory
from overseer.multi.instances import Instances
from overseer.render.assets import ENDPOINTS
from overseer.web.extensions import served
from tests.multi.conftest import bearer, fast_hash, start
from tests.support.client import HTMX, NAVIGATION
from tests.support.model_server import ModelServer, answer
from tests.support.server import StartServer
from tests.support.tab import Tab
from tests.support.waiting import until

SECRET = "quicksilver"
OPEN = {"login.show_login", "login.create_login", "rooms.healthz", *ENDPOINTS}
VISITOR = {"shares.show_share", "shares.show_shared_file"}


def log_in(client: FlaskClient, name: str) -> str:
    """Log in with a browser. Return the Set-Cookie header."""
    response = client.post(f"/o/{name}/login", data={"password": name})
    assert response.status_code == 303 and response.headers["Location"] == f"/o/{name}/"
    return response.headers["Set-Cookie"]


@pytest.fixture
def room_id(client: FlaskClient, model_server: ModelServer) -> str:
    """A room of alpha about a secret."""
    model_server.will(answer(f"The {SECRET} is here."))
    made = client.post("/o/alpha/rooms", data={"name": SECRET}, headers=bearer("alpha"))
    headers = {**bearer("alpha"), "Prefer": "wait=20"}
    asked = client.post(f"{made.headers['Location']}/messages", data={"text": f"Where is {SECRET}?"}, headers=headers)
    assert asked.status_code == 201 and asked.headers["Location"].startswith("/o/alpha/rooms/")
    return made.headers["Location"][-12:]


def test_session_is_of_one_overseer(client: FlaskClient) -> None:
    cookies = [log_in(client, name) for name in ("alpha", "beta")]
    assert ["Path=/o/alpha;" in cookies[0] + ";", "Path=/o/beta;" in cookies[1] + ";"] == [True, True]
    assert cookies[0].split("=")[0] != cookies[1].split("=")[0]
    for name in ("alpha", "beta"):
        sessions = client.get(f"/o/{name}/sessions")
        assert sessions.status_code == 200 and sessions.text.count("<li") == 1
    client.post("/o/alpha/logout")
    assert client.get("/o/alpha/rooms").status_code == 401 and client.get("/o/beta/rooms").status_code == 200


def path_of(app: Flask, rule: Rule, room_id: str) -> str:
    """Return a path of a route of alpha that would show the secret."""
    values = {
        "room_id": room_id,
        "number": 1,
        "extension": "json",
        "session_id": "0" * 16,
        "sha256": "0" * 64,
        "import_id": "0" * 12,
        "filename": "store.js",
        "name": "style.css",
        "address": f"{room_id}{'A' * 32}",
    }
    adapter = app.url_map.bind("localhost", script_name="/o/alpha")
    return adapter.build(rule.endpoint, {name: values[name] for name in rule.arguments}).removeprefix("ws://localhost")


def without_limit(client: FlaskClient, instances: Instances) -> None:
    """Let passwords of alpha be tried as often as one likes."""
    client.get("/o/alpha/login")
    limiter = instances._entries["alpha"].instance.access_policy.rate_limiter
    limiter._burst = limiter._total_burst = 10**6


def test_no_route_lets_another_overseer_in(app: Flask, client: FlaskClient, instances: Instances, room_id: str) -> None:
    """Neither its password nor its cookie, under whatever name."""
    without_limit(client, instances)
    alpha_cookie, beta_cookie = (log_in(client, name).partition(";")[0] for name in ("alpha", "beta"))
    renamed = f"{alpha_cookie.partition('=')[0]}={beta_cookie.partition('=')[2]}"
    browser = app.test_client(use_cookies=False)
    path = f"/o/alpha/rooms/{room_id}"
    for own in (bearer("alpha"), {"Cookie": alpha_cookie}):
        assert SECRET in browser.get(path, headers=own).text, "the right credentials are let in"
    attempts: list[dict[str, str]] = [
        {},
        bearer("beta"),
        bearer("admin"),
        {"Authorization": "Basic " + base64.b64encode(b"x:beta").decode()},
        {"Cookie": beta_cookie},
        {"Cookie": renamed},
    ]
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or {"GET"}) - {"OPTIONS"}:
            for credentials in attempts:
                for kind in ({}, NAVIGATION, HTMX):
                    headers = {**credentials, **kind}
                    response = browser.open(path_of(app, rule, room_id), method=method, headers=headers)
                    assert SECRET not in response.text, (rule, method, credentials)
                    expected = 404 if rule.endpoint in VISITOR else 401
                    assert rule.endpoint in OPEN or response.status_code == expected, (
                        rule,
                        method,
                        response.status_code,
                    )
    assert SECRET in browser.get(path, headers=bearer("alpha")).text


def test_room_of_one_overseer_is_not_in_another(client: FlaskClient, room_id: str) -> None:
    for path in (
        f"/rooms/{room_id}",
        f"/rooms/{room_id}/messages",
        f"/rooms/{room_id}/messages/1",
        f"/rooms/{room_id}?at=1",
    ):
        assert client.get(f"/o/alpha{path}", headers=bearer("alpha")).status_code == 200
        assert client.get(f"/o/beta{path}", headers=bearer("beta")).status_code == 404
    until(lambda: room_id in client.get(f"/o/alpha/search?q={SECRET}", headers=bearer("alpha")).text)
    for path in ("/rooms", f"/rooms?q={SECRET}", f"/palette?q={SECRET}", f"/search?q={SECRET}", "/"):
        text = client.get(f"/o/beta{path}", headers=bearer("beta")).text
        assert room_id not in text and "The quicksilver" not in text


def test_same_key_makes_a_room_in_each(client: FlaskClient) -> None:
    found = set()
    for name in ("alpha", "beta"):
        headers = {**bearer(name), "Idempotency-Key": "once", "Prefer": "wait=20"}
        made = client.post(f"/o/{name}/messages", data={"text": f"I am {name}"}, headers=headers)
        assert made.status_code == 201
        for other in ("alpha", "beta"):
            assert (f"I am {other}" in client.get(f"/o/{name}/", headers=bearer(name), follow_redirects=True).text) == (
                other == name
            )
        found.add(made.headers["Location"].split("/")[2])
    assert found == {"alpha", "beta"}


def test_path_of_one_overseer_leads_to_no_other(client: FlaskClient, room_id: str) -> None:
    for path in (
        "/o/beta/../alpha/rooms",
        "/o/beta/%2e%2e/alpha/rooms",
        "/o/beta//o/alpha/rooms",
        "/o/beta/o/alpha/rooms",
    ):
        response = client.get(path, headers=bearer("beta"))
        assert response.status_code in (308, 404) and SECRET not in response.text


def test_tab_sees_only_its_overseer(start_server: StartServer, directory: Directory) -> None:
    server = start_server(OVERSEER_MULTI="1", OVERSEER_PASSWORD=fast_hash("admin"))
    for name in ("gamma", "delta"):
        directory.add(name, "")
    rooms = {}
    for name in ("gamma", "delta"):
        made = requests.post(f"{server.url}/o/{name}/rooms", {"name": f"Room of {name}"}, timeout=20)
        rooms[name] = made.headers["Location"][-12:]
    with pytest.raises(websocket.WebSocketBadStatusException, match="401"):
        Tab(f"{server.url}/o/alpha", "")
    with closing(Tab(f"{server.url}/o/gamma", f"room={rooms['gamma']}")) as tab:
        tab.read_until('hx-target="#messages"')
        messages = f"{server.url}/o/{{0}}/rooms/{{1}}/messages"
        requests.post(messages.format("delta", rooms["delta"]), {"text": "For delta"}, timeout=20).raise_for_status()
        requests.post(messages.format("gamma", rooms["gamma"]), {"text": "For gamma"}, timeout=20).raise_for_status()
        tab.read_until("For gamma")
        assert not any("delta" in frame for frame in tab.frames)
        assert f'href="/o/gamma/rooms/{rooms["gamma"]}"' in "".join(tab.frames)
    with closing(Tab(f"{server.url}/o/delta", f"room={rooms['gamma']}")) as tab:
        assert "For gamma" not in tab.read_until('hx-target="#messages"')


def test_addresses_are_below_the_prefix_of_a_proxy(
    instance: Path, directory: Directory, model_server: ModelServer
) -> None:
    app = start(instance, model_server, proxies=(ip_network("127.0.0.1"),))
    client = app.test_client()
    prefix = {"X-Forwarded-Prefix": "/chat", "X-Forwarded-Host": "localhost"}
    made = client.post("/o/alpha/rooms", data={"name": "Cellar"}, headers={**bearer("alpha"), **prefix})
    assert made.headers["Location"].startswith("/chat/o/alpha/rooms/")
    logged_in = client.post("/o/alpha/login", data={"password": "alpha"}, headers=prefix)
    assert "Path=/chat/o/alpha;" in logged_in.headers["Set-Cookie"] + ";"
    assert client.get("/o/alpha", headers=prefix).headers["Location"] == "/chat/o/alpha/"
    front = client.get("/", headers={**prefix, **NAVIGATION}).text
    assert 'action="/chat/o"' in front and 'href="/chat/static/' in front
    served(app).close()
