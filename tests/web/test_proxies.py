"""What a proxy may say, and who may say it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from overseer import create_app
from overseer.config import access
from tests.web.test_views import new_room, parsed

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "chat.example",
    "X-Forwarded-Prefix": "/chat",
}
HTTPS = {"Origin": "https://chat.example"}


@pytest.fixture
def behind(instance: Path) -> Iterator[Flask]:
    """The app behind proxies on this machine and in 10.0.0.0/8, as chat.example."""
    settings = {
        "OVERSEER_PASSWORD": "password",
        "OVERSEER_HOSTS": "chat.example",
        "OVERSEER_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8 ::1",
    }
    app = create_app(instance, access=access(settings), check_password=lambda _, tried: tried == "password")
    app.extensions["overseer"].open()
    yield app
    app.extensions["overseer"].close()
    app.extensions["door"].sessions.close()


def tried_by(app: Flask) -> list[str]:
    """Which clients are remembered for having tried a password."""
    return list(app.extensions["door"].tries._paid)


def test_a_trusted_proxy_says_who_asks_and_how(behind: Flask) -> None:
    """Address, scheme, name and prefix: for the cookie, for every address on the page, and for the origin."""
    client = behind.test_client()
    answer = client.post("/login", data={"password": "password"}, headers={**FORWARDED, **HTTPS})
    assert answer.status_code == 303 and answer.headers["Location"] == "/chat/"
    assert "Secure" in answer.headers["Set-Cookie"] and "Path=/chat" in answer.headers["Set-Cookie"]
    auth = {"Authorization": "Bearer password"}
    made = client.post("/rooms", headers={**FORWARDED, **HTTPS, **auth})
    assert made.status_code == 201 and made.headers["Location"].startswith("/chat/rooms/")
    page = parsed(client.get(made.headers["Location"].removeprefix("/chat"), headers={**FORWARDED, **auth}).text)
    assert all((link["href"] or "#")[0] == "#" or (link["href"] or "").startswith("/chat/") for link in page.every("a"))
    for origin in ("http://chat.example", "https://chat.example:8443", "https://localhost"):
        assert client.post("/rooms", headers={**FORWARDED, **auth, "Origin": origin}).status_code == 403, origin


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.1", "", "::2", "::ffff:192.0.2.1"])
def test_nobody_else_is_believed(behind: Flask, peer: str) -> None:
    """Neither the host nor the address, the scheme or the prefix."""
    client = behind.test_client()
    wrong = {"Authorization": "Bearer wrong"}
    overrides = {"REMOTE_ADDR": peer}
    assert client.get("/rooms", headers={**FORWARDED, **wrong}, environ_overrides=overrides).status_code == 401
    assert tried_by(behind) == [peer.removeprefix("::ffff:") if peer != "::2" else "::/64"]
    answer = client.post("/login", data={"password": "password"}, headers=FORWARDED, environ_overrides=overrides)
    assert answer.headers["Location"] == "/" and "Secure" not in answer.headers["Set-Cookie"]
    evil = {**FORWARDED, "Host": "evil.example"}
    assert client.get("/rooms", headers=evil, environ_overrides=overrides).status_code == 403


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9, 10.1.2.3, 10.9.9.9", "203.0.113.9"),
        ("10.1.2.3, 10.9.9.9", "10.1.2.3"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("junk", "junk"),
        ('"1.2.3.4, 203.0.113.9', "203.0.113.9"),
        ('127.0.0.1, ", 203.0.113.9, 10.1.2.3', "203.0.113.9"),
        ("1.2.3.4, , 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:5555", "203.0.113.9"),
        ("[2001:db8:1:2:3::4]:77", "2001:db8:1:2::/64"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(behind: Flask, forwarded: str, client: str) -> None:
    """What it says itself of where it comes from stands before that, and counts for nothing."""
    headers = {**FORWARDED, "X-Forwarded-For": forwarded, "Authorization": "Bearer wrong"}
    assert behind.test_client().get("/rooms", headers=headers).status_code == 401
    assert tried_by(behind) == [client]


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "https://evil.example", "/a b", "/\\evil", '/"x', "x", "/a/" * 9, "/%2f"]
)
def test_a_prefix_that_is_no_path_is_none(behind: Flask, prefix: str) -> None:
    """A proxy may pass on what a client says."""
    headers = {**FORWARDED, "X-Forwarded-Prefix": prefix, "Authorization": "Bearer password"}
    made = behind.test_client().post("/rooms", headers={**headers, **HTTPS})
    assert made.headers["Location"].startswith("/rooms/")


def test_many_prefixes_take_bounded_memory(behind: Flask) -> None:
    """What is kept for one is dropped for another."""
    client = behind.test_client()
    for n in range(40):
        headers = {**FORWARDED, "X-Forwarded-Prefix": f"/p{n}", "Authorization": "Bearer password"}
        assert client.get("/rooms", headers=headers).status_code == 200
    assert behind.extensions["fragments"].cache_info().currsize <= 16


def test_without_trusted_proxies_nothing_is_believed(client: FlaskClient) -> None:
    """That is the default, also on this machine."""
    room_id = new_room(client)
    page = client.get(f"/rooms/{room_id}", headers=FORWARDED)
    assert page.status_code == 200 and "/chat/" not in page.text
    assert client.post("/rooms", headers={**FORWARDED, **HTTPS}).status_code == 403


def test_a_proxy_that_asks_for_the_password_itself_needs_none_here(instance: Path) -> None:
    """It is on this machine, and so is let in; a client that comes past it is not."""
    settings = {"OVERSEER_HOSTS": "chat.example", "OVERSEER_TRUSTED_PROXIES": "127.0.0.1"}
    app = create_app(instance, access=access(settings))
    client = app.test_client()
    assert client.get("/rooms", headers=FORWARDED).status_code == 200
    past = client.get("/rooms", headers={"Host": "chat.example"}, environ_overrides={"REMOTE_ADDR": "203.0.113.9"})
    assert past.status_code == 403
    app.extensions["overseer"].close()
