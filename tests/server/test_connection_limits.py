"""How many tabs there may be, in all and of one client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import websocket

from overseer.config import ConfigError, tab_limits
from overseer.server.connection_limits import ConnectionLimits, Limits
from tests.support.model_server import ModelServer
from tests.support.server import Server
from tests.support.server_pool import ServerPool
from tests.support.tab import DEADLINE, Tab

AWAY = "192.0.2.1"


def test_there_are_so_many_seats() -> None:
    """With the last one given nobody gets one, until one is given back."""
    limits = ConnectionLimits(Limits(total=3, per_client=3))
    given = [limits.acquire(address) for address in ("127.0.0.1", AWAY, "2001:db8::1")]
    assert None not in given
    assert [limits.acquire(address) for address in ("127.0.0.1", AWAY)] == [None, None]
    limits.release(given[0] or "")
    assert limits.acquire("::1") is not None


@pytest.mark.parametrize(
    ("mine", "also_mine", "others"),
    [
        (AWAY, AWAY, "192.0.2.2"),
        (AWAY, f"::ffff:{AWAY}", "::ffff:192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ("unix", "unix", "another"),
    ],
)
def test_one_client_has_so_many(mine: str, also_mine: str, others: str) -> None:
    """However it is written, and with IPv6 whichever of its addresses; the others have theirs."""
    limits = ConnectionLimits(Limits(per_client=2))
    assert limits.acquire(mine) and (last := limits.acquire(also_mine))
    assert limits.acquire(mine) is None and limits.acquire(also_mine) is None
    assert limits.acquire(others)
    limits.release(last)
    assert limits.acquire(mine)


@pytest.mark.parametrize("here", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_have_them_all(here: str) -> None:
    """A proxy on it speaks for everyone."""
    limits = ConnectionLimits(Limits(total=5, per_client=1))
    assert [limits.acquire(here) is not None for _ in range(6)] == [True] * 5 + [False]


def test_it_is_set_by_the_environment() -> None:
    """Unset means ten thousand, and two hundred each."""
    assert tab_limits({}) == Limits() == Limits(total=10_000, per_client=200)
    assert tab_limits({"OVERSEER_MAX_TABS": "20,000", "OVERSEER_MAX_TABS_EACH": "50"}) == Limits(20_000, 50)
    with pytest.raises(ConfigError, match="OVERSEER_MAX_TABS=0 "):
        tab_limits({"OVERSEER_MAX_TABS": "0"})


@pytest.fixture
def small(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    """A server with three seats."""
    environment = {"OPENAI_BASE_URL": model_server.url, "OVERSEER_MAX_TABS": "3"}
    server = Server(instance, environment=environment, server_pool=server_pool).start()
    yield server
    server.stop()


def test_a_tab_without_a_seat_is_told_before_it_is_connected(small: Server) -> None:
    """503 with a sentence; a page still opens; and when one has gone, it is let in."""
    tabs = [Tab(small.url) for _ in range(3)]
    for tab in tabs:
        tab.read_until('hx-target="#rooms"')
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        Tab(small.url)
    assert refused.value.status_code == 503 and b"Too many tabs" in (refused.value.resp_body or b"")
    assert requests.get(f"{small.url}/rooms").status_code == 200
    tabs.pop().close()
    until = time.monotonic() + DEADLINE
    while len(tabs) < 3:
        try:
            tabs.append(Tab(small.url))
        except websocket.WebSocketBadStatusException:
            assert time.monotonic() < until, "its seat was never given back"
    for tab in tabs:
        tab.close()


GOOD = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "WebSocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
BAD = [
    *({key: value for key, value in GOOD.items() if key != left_out} for left_out in GOOD),
    {**GOOD, "Sec-WebSocket-Key": "short"},
    {**GOOD, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==, x"},
    {**GOOD, "Upgrade": "h2c"},
    {**GOOD, "Connection": "close"},
]


def test_who_is_refused_takes_no_seat(small: Server) -> None:
    """Neither another site's page nor what is no handshake, however often; and each is told."""
    for _ in range(4):
        assert requests.get(f"{small.url}/live", headers={**GOOD, "Origin": "https://evil.example"}).status_code == 403
    for headers in BAD:
        assert requests.get(f"{small.url}/live", headers=headers).status_code == 400, headers
    tabs = [Tab(small.url) for _ in range(3)]
    for tab in tabs:
        tab.read_until('hx-target="#rooms"')
        tab.close()
    assert "Traceback" not in "".join(small.log)


def test_nothing_that_a_tab_says_is_unpacked(small: Server) -> None:
    """What it offers is not taken, junk among its headers harms nothing."""
    for offer in ("permessage-deflate", "permessage-deflate; client_max_window_bits=99"):
        tab = Tab(small.url, header={"Sec-WebSocket-Extensions": offer, "X": "\xff", "Y": "\x01"})
        tab.read_until('hx-target="#rooms"')
        assert "sec-websocket-extensions" not in tab.socket.headers
        tab.close()
    assert "Traceback" not in "".join(small.log)
