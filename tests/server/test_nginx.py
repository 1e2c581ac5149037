"""The server behind a real nginx with the configuration in docs/operations.md."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import requests

from tests.support.frames import CLOSE, frame
from tests.support.nginx import Nginx
from tests.support.raw import Caller, handshake, post
from tests.support.server import StartServer
from tests.support.tab import DEADLINE, Tab

NAME, PASSWORD = "chat.example", "correct horse battery"
LOG_IN = {"Host": NAME, "Authorization": f"Bearer {PASSWORD}"}
CLOSE_FRAME = frame(CLOSE, b"\x03\xe8")
TRIES = 5  # wrong passwords of one client


@pytest.fixture
def nginx(start_server: StartServer, tmp_path: Path) -> Iterator[Nginx]:
    """nginx in front of a server with a password, which trusts a proxy on this machine."""
    server = start_server(OVERSEER_PASSWORD=PASSWORD, OVERSEER_HOSTS=NAME, OVERSEER_TRUSTED_PROXIES="127.0.0.1")
    proxy = Nginx(server.url, tmp_path / "nginx")
    yield proxy
    proxy.stop()


def wrong_log_in(client: int) -> str:
    """Return a log-in with a wrong password and a forged address."""
    body = "password=wrong"
    headers = f"X-Forwarded-For: 203.0.113.{client}\r\nContent-Length: {len(body)}\r\n"
    return post("/login", headers, body, close=False).replace("127.0.0.1", NAME, 1)


def tries_left(nginx: Nginx) -> int:
    """Return how many wrong passwords from rotating forged addresses are answered before the rate limit."""
    for n in range(2 * TRIES):
        headers = {"Host": NAME, "X-Forwarded-For": f"203.0.113.{n}"}
        answer = requests.post(f"{nginx.url}/login", {"password": "wrong"}, headers=headers, timeout=DEADLINE)
        if answer.status_code == 429:
            return n
        assert answer.status_code == 401
    return 2 * TRIES


def test_requests_in_a_tunnel_through_nginx_are_not_served(nginx: Nginx, call: Callable[..., Caller]) -> None:
    """nginx tunnels what follows a handshake. Neither a closed WebSocket nor a refused handshake lets requests through
    that nginx did not see, and nginx replaces X-Forwarded-For, so all wrong passwords count for one client."""
    attack = "".join(map(wrong_log_in, range(9)))
    for at_once in (True, False):
        caller = call(nginx)
        caller.send(handshake("/chat/live", f"Authorization: Bearer {PASSWORD}\r\n", host=NAME))
        received = caller.receive_until(b"rooms")
        if at_once:
            caller.send(CLOSE_FRAME + attack.encode())
        else:
            received += caller.send(CLOSE_FRAME).receive_until(CLOSE_FRAME[-2:])
            with suppress(ConnectionError):
                caller.send(attack)
        received += caller.receive().encode("latin-1")
        assert received.count(b"HTTP/1.1") == 1 and b"\x88\x02\x03\xe8" in received
    caller = call(nginx).send(handshake("/chat/live", host=NAME))
    assert b"401" in caller.receive_until(b"</div>")
    with suppress(ConnectionError):
        caller.send(attack)
        caller.socket.shutdown(socket.SHUT_WR)
    assert " 401 " not in caller.receive()
    assert tries_left(nginx) == TRIES


def test_tab_through_nginx_is_served_under_its_prefix(nginx: Nginx) -> None:
    """The close of the WebSocket closes the connection through the proxy."""
    made = requests.post(f"{nginx.url}/rooms", headers=LOG_IN, timeout=DEADLINE)
    assert made.status_code == 201 and made.headers["Location"].startswith("/chat/rooms/")
    room_id = made.headers["Location"].rsplit("/", 1)[-1]
    headers = [f"Authorization: {LOG_IN['Authorization']}"]
    with closing(Tab(nginx.url, f"room={room_id}", host=NAME, header=headers, suppress_origin=True)) as tab:
        assert f'"/chat/rooms/{room_id}"' in tab.read_until('hx-target="#rooms"')
        asked = requests.post(
            f"{nginx.url}/rooms/{room_id}/messages", {"text": "Hello there"}, headers=LOG_IN, timeout=DEADLINE
        )
        assert asked.status_code == 201
        tab.has("Hello there")
        tab.socket.send_close()
        assert tab.read_to_close() == 1000
        with suppress(ConnectionResetError):  # nginx resets the connection if bytes arrive after it has closed it
            assert tab.socket.sock is not None and tab.socket.sock.recv(1) == b""
