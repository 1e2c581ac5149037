"""Behind a real nginx with the README's configuration: what works, and that nothing passes it by."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.live.test_frames import CLOSE, frame
from tests.support.model_server import ModelServer
from tests.support.nginx import Nginx
from tests.support.raw import Caller, handshake, post
from tests.support.server import Server
from tests.support.server_pool import ServerPool
from tests.support.tab import DEADLINE, Tab

NAME, PASSWORD = "chat.example", "correct horse battery"
LOG_IN = {"Host": NAME, "Authorization": f"Bearer {PASSWORD}"}
BYE = frame(CLOSE, b"\x03\xe8")


@pytest.fixture
def guarded(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    """The server with a password, which trusts a proxy on this machine."""
    environment = {
        "OPENAI_BASE_URL": model_server.url,
        "OPENAI_MODEL": "stand-in",
        "OVERSEER_PASSWORD": PASSWORD,
        "OVERSEER_HOSTS": NAME,
        "OVERSEER_TRUSTED_PROXIES": "127.0.0.1",
    }
    server = Server(instance, environment=environment, server_pool=server_pool).start()
    yield server
    server.stop()


@pytest.fixture
def nginx(guarded: Server, tmp_path: Path) -> Iterator[Nginx]:
    proxy = Nginx(guarded.url, tmp_path / "nginx")
    yield proxy
    proxy.stop()


def wrong_log_in(client: int) -> str:
    """A log-in by somebody who says to come from elsewhere."""
    body = "password=wrong"
    headers = f"X-Forwarded-For: 203.0.113.{client}\r\nContent-Length: {len(body)}\r\n"
    return post("/login", headers, body, close=False).replace("127.0.0.1", NAME, 1)


def tries_left(nginx: Nginx) -> int:
    """How many wrong log-ins through the proxy are answered before one is told to wait."""
    for n in range(10):
        headers = {"Host": NAME, "X-Forwarded-For": f"203.0.113.{n}"}
        answer = requests.post(f"{nginx.url}/login", {"password": "wrong"}, headers=headers, timeout=DEADLINE)
        if answer.status_code == 429:
            return n
        assert answer.status_code == 401
    return 10


def test_forged_x_forwarded_for_through_nginx_is_not_believed(nginx: Nginx) -> None:
    """nginx puts its own in its place, so that wrong log-ins from rotating addresses are those of one client."""
    assert tries_left(nginx) == 5


@pytest.mark.parametrize("at_once", [True, False], ids=["with the close frame", "after the close frame"])
def test_requests_in_a_closed_tunnel_through_nginx_reach_nobody(
    nginx: Nginx, call: Callable[..., Caller], at_once: bool
) -> None:
    """nginx tunnels what follows the handshake. After the close frame there is no answer, and no log-in was tried."""
    caller = call(nginx)
    caller.say(handshake("/chat/live", f"Authorization: Bearer {PASSWORD}\r\n", host=NAME))
    heard = caller.hear_until(b"rooms")
    attack = "".join(map(wrong_log_in, range(9)))
    if at_once:
        caller.say(BYE + attack.encode())
    else:
        heard += caller.say(BYE).hear_until(BYE[-2:])
        with suppress(ConnectionError):
            caller.say(attack)
    heard += caller.hear().encode("latin-1")
    assert heard.count(b"HTTP/1.1") == 1 and b"\x88\x02\x03\xe8" in heard
    assert tries_left(nginx) == 5


def test_refused_handshake_through_nginx_opens_no_tunnel(nginx: Nginx, call: Callable[..., Caller]) -> None:
    """What is sent behind it is answered by nginx, or not at all."""
    caller = call(nginx).say(handshake("/chat/live", host=NAME))
    assert b"401" in caller.hear_until(b"</div>")
    with suppress(ConnectionError):
        caller.say(*map(wrong_log_in, range(9)))
        caller.socket.shutdown(socket.SHUT_WR)
    assert " 401 " not in caller.hear()
    assert tries_left(nginx) == 5


def test_tab_through_nginx_is_pushed_what_happens_under_its_prefix(nginx: Nginx) -> None:
    """Each address in it has the prefix; a close through the proxy is answered, and the connection closed, at once."""
    made = requests.post(f"{nginx.url}/rooms", headers=LOG_IN, timeout=DEADLINE)
    assert made.status_code == 201 and made.headers["Location"].startswith("/chat/rooms/")
    room_id = made.headers["Location"].rsplit("/", 1)[-1]
    headers = [f"Authorization: {LOG_IN['Authorization']}"]
    tab = Tab(nginx.url, f"room={room_id}", host=NAME, header=headers, suppress_origin=True)
    assert f'"/chat/rooms/{room_id}"' in tab.read_until('hx-target="#rooms"')
    said = requests.post(
        f"{nginx.url}/rooms/{room_id}/messages", {"text": "Hello there"}, headers=LOG_IN, timeout=DEADLINE
    )
    assert said.status_code == 201
    tab.has("Hello there")
    tab.socket.send_close()
    assert tab.read_to_close() == 1000
    assert tab.socket.sock.recv(1) == b""
    tab.close()
