"""The socket of a live share, on the real server: what visitors are sent, and when their tabs are closed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
import requests
import websocket

from tests.support.model_server import ModelServer, answer, held, reasoning, text
from tests.support.rooms import ask, ended, fetch, new_room
from tests.support.server import Server, StartServer
from tests.support.tab import DEADLINE, Tab

OpenTab = Callable[..., Tab]


def share(server: Server, room_id: str, **form: str) -> str:
    """Share a room. Return the address of the share, without its path."""
    response = requests.post(f"{server.url}/rooms/{room_id}/shares", form, timeout=DEADLINE)
    assert response.status_code == 201, response.text
    return response.headers["Location"].removeprefix("/shares/")


def seen(page: str) -> str:
    found = re.search(r"seen=([\w.]+)", page)
    assert found is not None
    return found[1]


def status(server: Server, address: str) -> int:
    return requests.get(f"{server.url}/shares/{address}", timeout=DEADLINE).status_code


def test_visitor_is_sent_the_room_as_in_the_page_and_nothing_else(server: Server, tab: OpenTab) -> None:
    """Also if the query names another room."""
    room_id, other = new_room(server, "Kitchen"), new_room(server, "Cellar")
    ask(server, room_id, "Hello", wait=True)
    address = share(server, room_id, live="1")
    visitors = [tab(query=f"share={address}{more}") for more in ("", f"&room={other}", "&seen=junk&rooms=")]
    page = fetch(server, f"/shares/{address}")
    ask(server, other, "To the cellar", wait=True)
    requests.patch(f"{server.url}/rooms/{room_id}", {"name": "Garden"}, timeout=DEADLINE)
    for visitor in visitors:
        visitor.read_until("Garden")
        first = {target: html for target, _, html in reversed(visitor.partials())}
        assert first.keys() == {"header", "messages"}
        assert first["header"] in page and first["messages"] in page
        assert not any(
            "Cellar" in frame or "cellar" in frame or f"/rooms/{room_id}" in frame for frame in visitor.frames
        )


def test_visitor_sees_an_answer_grow_token_by_token(server: Server, tab: OpenTab, model_server: ModelServer) -> None:
    """As finished blocks and the open one; in the end the message is the same as in the page."""
    room_id = new_room(server)
    address = share(server, room_id, live="1")
    page = fetch(server, f"/shares/{address}")
    visitor, owner = tab(query=f"share={address}&seen={seen(page)}"), tab(room_id)
    reply = held(reasoning("Let me think"))
    model_server.will(reply)
    ask(server, room_id, "Go on")
    visitor.read_until("Go on")
    visitor.read_until("Let me think")
    reply.say(text("One.\n\nTwo"))
    visitor.read_until("Two")
    reply.say(text(" three"))
    growth = visitor.read_until("Two three")
    assert 'hx-target="#part-2-1-open"' in growth and "One." not in growth and "<article" not in growth
    reply.say(text("."), b"data: [DONE]\n\n")
    reply.hang_up()
    final = visitor.read_until(ended)
    owner.read_until(ended)
    article = re.search(r'<article id="message-2".*?</article>', final, re.S)
    assert article is not None and article[0] in fetch(server, f"/shares/{address}")
    for word in ("message__actions", "<form", "<button", "hx-delete", 'id="context"', "/rooms/"):
        assert not any(word in frame for frame in visitor.frames), word


def test_visitor_sees_the_version_that_the_owner_chooses(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    room_id = new_room(server)
    model_server.will(answer("First."), answer("Second."))
    ask(server, room_id, "Which?", wait=True)
    visitor = tab(query=f"share={share(server, room_id, live='1')}")
    visitor.read_until("First.")
    requests.post(f"{server.url}/rooms/{room_id}/turn", timeout=DEADLINE)
    visitor.read_until("Second.")
    requests.put(f"{server.url}/rooms/{room_id}/head", {"message": "2"}, timeout=DEADLINE)
    frame = visitor.read_until("First.")
    assert "Second." not in frame and "message__versions" not in frame


@pytest.mark.parametrize("how", ["revoke", "clear", "delete"])
def test_visitor_is_told_and_closed_when_the_share_ends(server: Server, tab: OpenTab, how: str) -> None:
    """Within a second. Tabs of another share of the room stay, unless that ends too; and so do those of the owner."""
    room_id = new_room(server)
    ask(server, room_id, "Hello", wait=True)
    address, other = share(server, room_id, live="1"), share(server, room_id, live="1")
    visitors, stays, owner = (
        [tab(query=f"share={address}") for _ in range(2)],
        tab(query=f"share={other}"),
        tab(room_id),
    )
    for one in (*visitors, stays, owner):
        one.read_until('hx-target="#messages"')
    path = {"revoke": "/shares/1", "clear": "/messages", "delete": ""}[how]
    requests.delete(f"{server.url}/rooms/{room_id}{path}", timeout=DEADLINE).raise_for_status()
    began = time.monotonic()
    for one in visitors if how == "revoke" else [*visitors, stays]:
        assert one.read_to_close() == 4404
        target, _, html = one.partials()[-1]
        assert target == "room" and "This share has ended." in html and "Hello" not in html
    assert status(server, address) == 404 and time.monotonic() - began < 1
    if how == "revoke":
        assert status(server, other) == 200
        ask(server, room_id, "Still there?")
        stays.read_until("Still there?")
    if how != "delete":
        ask(server, room_id, "And the owner?")
        owner.read_until("And the owner?")


def test_visitor_is_told_and_closed_when_the_share_expires(server: Server, tab: OpenTab) -> None:
    room_id = new_room(server)
    address = share(server, room_id, live="1", expires="2")
    visitor = tab(query=f"share={address}")
    began = time.monotonic()
    assert visitor.read_to_close() == 4404 and time.monotonic() - began < 3
    assert "This share has ended." in visitor.frames[-1] and status(server, address) == 404


def test_visitor_whose_share_ends_during_the_handshake_is_closed(start_server: StartServer) -> None:
    """The share is found, then revoked, and only then does the hub know the tab."""
    server = start_server(altered={"share_ends_at_join": {}})
    visitor = Tab(server.url, f"share={share(server, new_room(server), live='1')}")
    assert visitor.read_to_close() == 4404 and "This share has ended." in visitor.frames[-1]
    visitor.close()


def test_socket_without_a_valid_live_share_is_refused(start_server: StartServer) -> None:
    """A snapshot has no socket. On a server with a password, no other query opens one."""
    server = start_server(OVERSEER_PASSWORD="secret")
    auth = ("", "secret")
    room = requests.post(f"{server.url}/rooms", auth=auth, timeout=DEADLINE).headers["Location"]
    addresses = [
        requests.post(f"{server.url}{room}/shares", form, auth=auth, timeout=DEADLINE).headers["Location"][8:]
        for form in ({}, {"live": "1"})
    ]
    snapshot, live = addresses
    for query, expected in (
        (f"share={snapshot}", 404),
        (f"share={live[:-1]}A" if live[-1] != "A" else f"share={live[:-1]}B", 404),
        ("share=", 404),
        (f"share={'0' * 12}{live[12:]}", 404),
        (f"room={room[-12:]}", 401),
        (f"room={room[-12:]}&shares={live}", 401),
        ("", 401),
    ):
        with pytest.raises(websocket.WebSocketBadStatusException) as error:
            Tab(server.url, query)
        assert error.value.status_code == expected, query
    with pytest.raises(websocket.WebSocketBadStatusException) as error:
        Tab(server.url, f"share={live}", origin="http://evil.example")
    assert error.value.status_code == 403
    one = Tab(server.url, f"share={live}&room={room[-12:]}")
    one.read_until('hx-target="#messages"')
    one.close()


def test_visitors_leave_half_of_the_tabs_to_others(start_server: StartServer) -> None:
    server = start_server(OVERSEER_MAX_TABS="4")
    room_id = new_room(server)
    address = share(server, room_id, live="1")
    tabs = [Tab(server.url, f"share={address}") for _ in range(2)]
    with pytest.raises(websocket.WebSocketBadStatusException, match="503"):
        Tab(server.url, f"share={address}")
    tabs += [Tab(server.url, f"room={room_id}") for _ in range(2)]
    for one in tabs:
        one.read_until('hx-target="#messages"')
        one.close()


def test_share_outlasts_a_restart(server: Server) -> None:
    room_id = new_room(server)
    ask(server, room_id, "Hello", wait=True)
    snapshot, live = share(server, room_id), share(server, room_id, live="1")
    page = fetch(server, f"/shares/{snapshot}")
    server.restart()
    assert fetch(server, f"/shares/{snapshot}") == page and status(server, live) == 200
    visitor = Tab(server.url, f"share={live}")
    visitor.read_until("Hello")
    visitor.close()
