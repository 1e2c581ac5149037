"""X-Forwarded headers: what a trusted proxy may say, and who is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from overseer import create_app
from overseer.config import access
from overseer.web.extensions import access_policy, overseer
from overseer.web.extensions import instance as instance_of
from tests.support.client import new_room
from tests.support.html import parsed

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "chat.example",
    "X-Forwarded-Prefix": "/chat",
}
HTTPS = {"Origin": "https://chat.example"}
PASSWORD = {"Authorization": "Bearer password"}
WRONG = {"Authorization": "Bearer wrong"}


@pytest.fixture
def proxied(instance: Path) -> Iterator[Flask]:
    """The app as chat.example, behind proxies on this machine and in 10.0.0.0/8."""
    settings = {
        "OVERSEER_PASSWORD": f"scrypt:1:1:1$salt${'0' * 128}",  # saves hashing; `check_password` ignores it
        "OVERSEER_HOSTS": "chat.example",
        "OVERSEER_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8 ::1",
    }
    app = create_app(instance, access=access(settings), check_password=lambda _, given: given == "password")
    yield app
    overseer(app).close()


def limited_clients(app: Flask) -> list[str]:
    """The clients that have tried a password."""
    return list(access_policy(app).rate_limiter._free_at)


def test_trusted_proxy_sets_address_scheme_host_and_prefix(proxied: Flask) -> None:
    client = proxied.test_client()
    response = client.post("/login", data={"password": "password"}, headers={**FORWARDED, **HTTPS})
    assert response.status_code == 303 and response.headers["Location"] == "/chat/"
    assert "Secure" in response.headers["Set-Cookie"] and "Path=/chat" in response.headers["Set-Cookie"]
    made = client.post("/rooms", headers={**FORWARDED, **HTTPS, **PASSWORD})
    assert made.status_code == 201 and made.headers["Location"].startswith("/chat/rooms/")
    page = parsed(client.get(made.headers["Location"].removeprefix("/chat"), headers={**FORWARDED, **PASSWORD}).text)
    assert all((link["href"] or "#").startswith(("#", "/chat/")) for link in page.every("a"))
    for origin in ("http://chat.example", "https://chat.example:8443", "https://localhost"):
        assert client.post("/rooms", headers={**FORWARDED, **PASSWORD, "Origin": origin}).status_code == 403, origin


@pytest.mark.parametrize(
    ("peer", "client"), [("192.0.2.1", "192.0.2.1"), ("", ""), ("::2", "::/64"), ("::ffff:192.0.2.1", "192.0.2.1")]
)
def test_forwarded_headers_of_other_peers_are_ignored(proxied: Flask, peer: str, client: str) -> None:
    http, peer_of = proxied.test_client(), {"REMOTE_ADDR": peer}
    assert http.get("/rooms", headers={**FORWARDED, **WRONG}, environ_overrides=peer_of).status_code == 401
    assert limited_clients(proxied) == [client]
    response = http.post("/login", data={"password": "password"}, headers=FORWARDED, environ_overrides=peer_of)
    assert response.headers["Location"] == "/" and "Secure" not in response.headers["Set-Cookie"]
    evil = {**FORWARDED, "Host": "evil.example"}
    assert http.get("/rooms", headers=evil, environ_overrides=peer_of).status_code == 403


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("1.2.3.4, 203.0.113.9", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9, 10.1.2.3, 10.9.9.9", "203.0.113.9"),
        ("10.1.2.3, 10.9.9.9", "10.1.2.3"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("junk", "junk"),
        ('127.0.0.1, ", 203.0.113.9, 10.1.2.3', "203.0.113.9"),
        ("1.2.3.4, , 203.0.113.9:5555", "203.0.113.9"),
        ("[2001:db8:1:2:3::4]:77", "2001:db8:1:2::/64"),
    ],
)
def test_client_is_the_last_address_that_is_not_a_proxy(proxied: Flask, forwarded: str, client: str) -> None:
    headers = {**FORWARDED, "X-Forwarded-For": forwarded, **WRONG}
    assert proxied.test_client().get("/rooms", headers=headers).status_code == 401
    assert limited_clients(proxied) == [client]


def test_forwarded_prefix_that_is_not_a_path_is_ignored(proxied: Flask) -> None:
    """A proxy may pass on what a client sends. The fragments of few prefixes are kept in memory."""
    client = proxied.test_client()
    headers = {**FORWARDED, **HTTPS, **PASSWORD}
    for prefix in ("//evil.example", "https://evil.example", "/a b", "/\\evil", '/"x', "/a/" * 9, "/%2f"):
        made = client.post("/rooms", headers={**headers, "X-Forwarded-Prefix": prefix})
        assert made.headers["Location"].startswith("/rooms/"), prefix
    for n in range(40):
        assert client.get("/rooms", headers={**headers, "X-Forwarded-Prefix": f"/p{n}"}).status_code == 200
    assert instance_of(proxied).fragments.cache_info().currsize <= 16  # type: ignore[attr-defined]


def test_forwarded_headers_without_trusted_proxies_are_ignored(client: FlaskClient) -> None:
    page = client.get(f"/rooms/{new_room(client)}", headers=FORWARDED)
    assert page.status_code == 200 and "/chat/" not in page.text
    assert client.post("/rooms", headers={**FORWARDED, **HTTPS}).status_code == 403


def test_proxy_of_a_server_without_a_password_is_served_and_other_clients_are_not(instance: Path) -> None:
    """Such a proxy asks for a password itself."""
    settings = {"OVERSEER_HOSTS": "chat.example", "OVERSEER_TRUSTED_PROXIES": "127.0.0.1"}
    app = create_app(instance, access=access(settings))
    client = app.test_client()
    assert client.get("/rooms", headers=FORWARDED).status_code == 200
    direct = client.get("/rooms", headers={"Host": "chat.example"}, environ_overrides={"REMOTE_ADDR": "203.0.113.9"})
    assert direct.status_code == 403
    overseer(app).close()
