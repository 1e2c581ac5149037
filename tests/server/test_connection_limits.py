"""Limits on the number of tabs, in total and per client."""

from __future__ import annotations

import pytest
import requests
import websocket

from overseer.server.connection_limits import ConnectionLimits, Limits
from tests.support import raw
from tests.support.server import Server, StartServer
from tests.support.tab import Tab
from tests.support.waiting import until

REMOTE = "192.0.2.1"


def test_connection_over_the_total_is_refused_until_one_is_released() -> None:
    """Loopback addresses have no limit of their own, but count towards the total."""
    limits = ConnectionLimits(Limits(total=4, per_client=1))
    clients = [limits.acquire(address) for address in ("127.0.0.1", "127.0.0.1", REMOTE, "::1")]
    assert None not in clients
    assert [limits.acquire(address) for address in ("127.0.0.1", "192.0.2.2")] == [None, None]
    limits.release(clients[0] or "")
    assert limits.acquire("::ffff:127.0.0.1") is not None


@pytest.mark.parametrize(
    ("one", "same_client", "other"),
    [
        (REMOTE, f"::ffff:{REMOTE}", "::ffff:192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ("unix", "unix", "another"),
    ],
)
def test_client_over_its_limit_is_refused_and_others_are_not(one: str, same_client: str, other: str) -> None:
    limits = ConnectionLimits(Limits(per_client=2))
    assert limits.acquire(one) and (last := limits.acquire(same_client))
    assert limits.acquire(one) is None and limits.acquire(same_client) is None
    assert limits.acquire(other)
    limits.release(last)
    assert limits.acquire(one)


@pytest.fixture
def small(start_server: StartServer) -> Server:
    """A server for three tabs."""
    return start_server(OVERSEER_MAX_TABS="3")


HANDSHAKE = {**raw.HANDSHAKE, "Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"}
BAD_HANDSHAKES = [
    *({key: value for key, value in HANDSHAKE.items() if key != left_out} for left_out in HANDSHAKE),
    {**HANDSHAKE, "Sec-WebSocket-Key": "short"},
    {**HANDSHAKE, "Upgrade": "h2c"},
    {**HANDSHAKE, "Connection": "close"},
]


def test_tab_over_the_total_is_refused_before_the_handshake(small: Server) -> None:
    """With 503 and a sentence. Pages still open. Refused handshakes do not count."""
    url = f"{small.url}/live"
    for origin in ("https://evil.example", f"http://127.0.0.1:{small.port + 1}", "null", "http://localhost.evil"):
        assert requests.get(url, headers={**HANDSHAKE, "Origin": origin}).status_code == 403, origin
    for headers in BAD_HANDSHAKES:
        assert requests.get(url, headers=headers).status_code == 400, headers
    tabs = [Tab(small.url) for _ in range(3)]
    for tab in tabs:
        tab.read_until('hx-target="#rooms"')
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        Tab(small.url)
    assert refused.value.status_code == 503 and b"Too many tabs" in (refused.value.resp_body or b"")
    assert requests.get(f"{small.url}/rooms").status_code == 200
    tabs.pop().close()

    def is_admitted() -> bool:
        try:
            tabs.append(Tab(small.url))
        except websocket.WebSocketBadStatusException:
            return False
        return True

    until(is_admitted)
    for tab in tabs:
        tab.close()


def test_websocket_extensions_are_declined(small: Server) -> None:
    """Nothing that a tab sends is decompressed. Invalid headers are ignored."""
    for offer in ("permessage-deflate", "permessage-deflate; client_max_window_bits=99"):
        tab = Tab(small.url, header={"Sec-WebSocket-Extensions": offer, "X": "\xff", "Y": "\x01"})
        tab.read_until('hx-target="#rooms"')
        assert "sec-websocket-extensions" not in tab.socket.headers
        tab.close()


def test_visitors_of_shares_have_half_of_each_limit() -> None:
    limits = ConnectionLimits(Limits(total=8, per_client=4))
    visits = [limits.acquire(REMOTE, is_visitor=True) for _ in range(3)]
    assert visits == [REMOTE, REMOTE, None], "half of those of one client"
    assert limits.acquire(REMOTE) and limits.acquire(REMOTE) and limits.acquire(REMOTE) is None
    assert [limits.acquire("127.0.0.1", is_visitor=True) for _ in range(3)] == ["127.0.0.1", "127.0.0.1", None]
    limits.release(REMOTE, is_visitor=True)
    assert limits.acquire("192.0.2.2", is_visitor=True) and limits.acquire("192.0.2.2", is_visitor=True) is None
    for _ in range(2):
        assert limits.acquire("192.0.2.3")
