"""Live push, over the real server and real sockets."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import websocket

from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text, tool_call
from tests.support.server import Server
from tests.support.server_pool import ServerPool
from tests.support.tab import DEADLINE, Tab

OpenTab = Callable[..., Tab]


def new_room(server: Server) -> str:
    return requests.post(f"{server.url}/rooms").headers["Location"].rsplit("/", 1)[-1]


def ask(server: Server, room_id: str, words: str) -> requests.Response:
    response = requests.post(f"{server.url}/rooms/{room_id}/messages", {"text": words})
    assert response.status_code == 201, response.text
    return response


def fragment(server: Server, path: str) -> str:
    return requests.get(server.url + path).text


def ended(frame: str, number: int = 2) -> bool:
    """Whether an answer, the first if nothing is said, has reached its end."""
    return re.search(rf'<article id="message-{number}"[^>]*data-state="complete"', frame) is not None


def test_a_connect_brings_a_tab_fully_up_to_date(server: Server, tab: OpenTab) -> None:
    """Without a place, the list and the room come whole, as the same bytes a reload shows."""
    room_id = new_room(server)
    ask(server, room_id, "Hello")
    requests.post(f"{server.url}/rooms/{room_id}/messages", {"text": "Again"}, headers={"Prefer": "wait=60"})
    one = tab(room_id)
    one.read_until('hx-target="#messages"')
    page = fragment(server, f"/rooms/{room_id}")
    pushed = {target: html for target, _, html in one.partials()}
    assert set(pushed) == {"rooms", "rooms-place", "model", "header", "messages"}
    assert pushed["header"] in page
    assert pushed["messages"] in page
    assert pushed["messages"] == fragment(server, f"/rooms/{room_id}/messages")
    row = re.search(rf'<li id="room-{room_id}".*?</li>', pushed["rooms"], re.S)
    assert row is not None and 'aria-current="page"' in row[0] and row[0] in page


def test_a_tab_that_shows_the_newest_is_sent_nothing(server: Server, tab: OpenTab) -> None:
    """The page's own socket address says how new the page is; what it hears first is what happens next."""
    room_id = new_room(server)
    page = fragment(server, f"/rooms/{room_id}")
    seen = re.search(r"seen=([\w.]+)", page)
    place = re.search(r'data-place="([\w.]+)"', page)
    assert seen is not None and place is not None
    one = tab(room_id, f"&seen={seen[1]}&rooms={place[1]}")
    ask(server, room_id, "Hello")
    first = one.read()
    assert first is not None and 'hx-target="#after-0"' in first or 'id="rooms-place"' in first
    assert not [target for target, swap, _ in one.partials() if (target, swap) == ("rooms", "outerMorph")]
    assert not [target for target, _, _ in one.partials() if target == "messages"]


def test_every_tab_sees_question_reasoning_tools_and_words(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """A second tab on the room, and the list of a tab elsewhere, hear of everything as it comes."""
    room_id, other = new_room(server), new_room(server)
    here, there, elsewhere = tab(room_id), tab(room_id), tab(other)
    elsewhere.read_until('hx-target="#messages"')
    first = model_server.will(held(reasoning("Let me think")))
    second = held(text("You rolled "))
    model_server.will(second)
    ask(server, room_id, "Roll a die")
    for one in (here, there):
        one.read_until("Roll a die")
        one.read_until("Let me think")
    first.say(tool_call("roll_dice", '{"sides": 2}'), end("tool_calls"))
    first.hang_up()
    for one in (here, there):
        one.read_until("You rolled")
        assert one.has('data-state="done"')
    elsewhere.read_until(lambda frame: f'id="room-{room_id}"' in frame and 'data-state="answering"' in frame)
    second.say(text("a number."), end())
    second.hang_up()
    for one in (here, there):
        one.read_until(ended)
    elsewhere.read_until(lambda frame: f'id="room-{room_id}"' in frame and 'data-state="idle"' in frame)
    assert not [frame for frame in elsewhere.frames if 'id="message-' in frame]


def test_what_is_pushed_at_the_end_is_what_a_reload_shows(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """Page, response and push agree, byte for byte."""
    room_id = new_room(server)
    one = tab(room_id)
    one.read_until('hx-target="#messages"')
    model_server.will(answer("# Title\n\n", "- a\n- b\n\n", "```python\nprint(1)\n```\n", "\ndone"))
    response = ask(server, room_id, "Write")
    final = re.search(r'<article id="message-2".*?</article>', one.read_until(ended), re.S)
    assert final is not None
    whole = final[0]
    page = fragment(server, f"/rooms/{room_id}")
    assert whole in page and whole in fragment(server, f"/rooms/{room_id}/messages")
    assert whole == fragment(server, f"/rooms/{room_id}/messages/2").rstrip()
    question = fragment(server, f"/rooms/{room_id}/messages/1")
    assert question in page and question in response.text
    assert any(question in frame for frame in one.frames)
    one.has(lambda frame: 'data-messages="2"' in frame and 'data-state="idle"' in frame)
    row = [html for _, _, html in one.partials() if html.startswith(f'<li id="room-{room_id}"')][-1]
    assert row in page


@pytest.fixture
def nameless(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    """The real server, which is not told what its model is called."""
    model_server.may_list.clear()
    server = Server(instance, environment={"OPENAI_BASE_URL": model_server.url}, server_pool=server_pool).start()
    yield server
    model_server.may_list.set()
    server.stop()


def test_the_name_of_the_model_reaches_every_tab_when_it_is_known(nameless: Server, model_server: ModelServer) -> None:
    """No page waits for it: until then the model is called after its address. The rest is as a reload shows it."""
    model_server.models = ["owl"]
    unnamed = f"model at 127.0.0.1:{model_server.port}"
    rooms = [new_room(nameless), new_room(nameless)]
    page = fragment(nameless, f"/rooms/{rooms[0]}")
    assert f'aria-label="Model and settings: {unnamed}"' in page and f"<strong>{unnamed}</strong>" in page
    tabs = [Tab(nameless.url, f"room={room}") for room in rooms] + [Tab(nameless.url)]
    for one in tabs:
        one.read_until(f"<strong>{unnamed}</strong>")
    for one in tabs[:2]:
        one.has(f"Model and settings: {unnamed}")
    model_server.may_list.set()
    for one in tabs:
        pushed = one.read_until("<strong>owl</strong>")
        assert 'hx-target="#model"' in pushed
    for one, room in zip(tabs, rooms, strict=False):
        one.has("Model and settings: owl")
        header = [html for target, _, html in one.partials() if target == "header"][-1]
        assert header in fragment(nameless, f"/rooms/{room}")
    for one in tabs:
        one.close()


def test_an_answer_is_labelled_with_the_name_that_only_its_turn_found_out(
    nameless: Server, model_server: ModelServer
) -> None:
    """From its first word on, and the header of another room with it."""
    model_server.models = ["owl"]
    room_id, other = new_room(nameless), new_room(nameless)
    here, there = Tab(nameless.url, f"room={room_id}"), Tab(nameless.url, f"room={other}")
    reply = model_server.will(held(text("Hoo")))
    ask(nameless, room_id, "Who?")
    model_server.may_list.set()
    assert 'aria-label="owl"' in here.read_until("Hoo")
    there.read_until("Model and settings: owl")
    reply.say(end())
    reply.hang_up()
    assert 'aria-label="owl"' in here.read_until(ended)
    here.close()
    there.close()


def test_what_was_left_out_is_told_in_every_tab_and_after_a_reload(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """Also while the answer grows, in the export, and to curl."""
    note = "Without tools: the server refused them."
    room_id = new_room(server)
    here, there = tab(room_id), tab(room_id)
    refused = b'{"error": {"message": "Unknown parameter: \'tools\'.", "code": "unknown_parameter", "param": "tools"}}'
    model_server.will(Reply(refused, status=400, headers={"Content-Type": "application/json"}))
    reply = model_server.will(held(text("Greetings")))
    ask(server, room_id, "Hello")
    for one in (here, there):
        assert f'<p class="message__note">{note}</p>' in one.read_until("Greetings")
    reply.say(end())
    reply.hang_up()
    for one in (here, there):
        assert note in one.read_until(ended)
    assert note in fragment(server, f"/rooms/{room_id}")
    url = f"{server.url}/rooms/{room_id}/messages"
    assert f"\n*{note}*\n" in requests.get(url, headers={"Accept": "text/markdown"}).text
    said = requests.post(url, {"text": "Again"}, headers={"Accept": "text/plain"}).text
    assert said == f"All right.\n\n[{note}]\n"


def test_finished_blocks_are_sent_once(server: Server, tab: OpenTab, model_server: ModelServer) -> None:
    """The bytes for a long answer grow with its length, not with its square."""
    room_id = new_room(server)
    one = tab(room_id)
    one.read_until('hx-target="#messages"')
    reply = model_server.will(held())
    ask(server, room_id, "Go on")
    for n in range(60):
        reply.say(text(f"\n\nParagraph number {n} has its own few words."))
        one.read_until(f"number {n} ")
    finished = [html for target, swap, html in one.partials() if (target, swap) == ("part-2-0-done", "beforeend")]
    for n in range(59):
        assert sum(f"number {n} has" in html for html in finished) == 1
    opened = [html for target, _, html in one.partials() if target == "part-2-0-open"]
    assert 0 < max(map(len, opened)) < 2 * min(map(len, opened))
    reply.say(end())
    reply.hang_up()
    one.read_until(ended)


def test_a_tab_that_comes_in_mid_answer_sees_it_from_its_beginning(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """Joining is catching up, and then growing with the others."""
    room_id = new_room(server)
    reply = model_server.will(held(text("The beginning.\n\n")))
    early = tab(room_id)
    ask(server, room_id, "Tell me")
    early.read_until("The beginning.")
    late = tab(room_id)
    assert "The beginning." in late.read_until('hx-target="#messages"')
    reply.say(text("The middle.\n\n"), text("The end."))
    for one in (early, late):
        one.read_until("The end.")
    shown = fragment(server, f"/rooms/{room_id}")
    assert "The beginning." in shown and "The end." in shown and 'aria-busy="true"' in shown
    reply.hang_up()


def test_rename_clear_and_delete_reach_a_tab_in_the_room(server: Server, tab: OpenTab) -> None:
    """What happens to a room is seen by those who stand in it; after its end they are told not to come back."""
    room_id = new_room(server)
    requests.post(f"{server.url}/rooms/{room_id}/messages", {"text": "Hi"}, headers={"Prefer": "wait=60"})
    one = tab(room_id)
    one.read_until('id="message-2"')
    requests.patch(f"{server.url}/rooms/{room_id}", {"name": "Kitchen <b>"})
    assert "Kitchen &lt;b&gt;" in one.read_until('id="header"')
    requests.delete(f"{server.url}/rooms/{room_id}/messages")
    assert "<article" not in one.read_until('hx-target="#messages"')
    requests.delete(f"{server.url}/rooms/{room_id}")
    one.read_until("was deleted")
    assert one.read_to_close() == 4404


def test_a_room_that_is_gone_closes_with_4404(tab: OpenTab) -> None:
    """A tab that comes back to a deleted or made-up room is told, once."""
    one = tab("0123456789ab")
    one.read_until("was deleted")
    assert one.read_to_close() == 4404


def test_a_foreign_page_may_not_listen(server: Server, tab: OpenTab) -> None:
    """The handshake of another origin is refused; that of our own page is not."""
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for origin in ("https://evil.example", f"http://127.0.0.1:{server.port + 1}", "null"):
        assert requests.get(f"{server.url}/live", headers={**handshake, "Origin": origin}).status_code == 403
    assert tab(origin=server.url).read_until('hx-target="#rooms"')


def test_what_a_tab_says_is_ignored_and_too_much_of_it_ends_it(server: Server, tab: OpenTab) -> None:
    """The socket takes no commands."""
    room_id = new_room(server)
    one = tab(room_id)
    one.read_until('hx-target="#messages"')
    one.socket.send("<hx-partial>")
    ask(server, room_id, "Still there?")
    one.read_until("Still there?")
    one.socket.send("x" * 10_000)
    assert one.read_to_close() == 1009


def test_a_slow_tab_delays_nobody_and_its_stream_stays_whole(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """Some read nothing while megabytes pass; another is on time; then each slow one finds every frame whole."""
    room_id = new_room(server)
    # Four, each of which would be waited for by 5 s: that is more than a busy machine takes by itself.
    slow = [tab(room_id, sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),)) for _ in range(4)]
    fast = tab(room_id)
    fast.read_until('hx-target="#messages"')
    worst = 0.0
    for number in range(2, 22, 2):
        reply = model_server.will(held())
        ask(server, room_id, "Much")
        for n in range(4):
            began = time.monotonic()
            reply.say(text(f"mark{number}-{n} " + "x" * 90_000 + "\n\n"))
            fast.read_until(f"mark{number}-{n} ")
            worst = max(worst, time.monotonic() - began)
        reply.say(end())
        reply.hang_up()
        fast.read_until(lambda frame, number=number: ended(frame, number))
    assert worst < 15, f"a token took {worst:.1f} s because of the slow tabs"
    for one in slow:
        # It was given up or caught up; whichever, what it reads is a sequence of whole frames.
        with suppress(websocket.WebSocketConnectionClosedException, ConnectionError):  # hung up on after 30 s more
            while (frame := one.read()) is not None:
                assert frame.startswith("<hx-partial") and frame.endswith("</hx-partial>")
                if ended(frame, 20):
                    break
            else:
                assert one.close_code == 1013


def test_a_token_after_quiet_leaves_at_once_and_a_flood_is_coalesced(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """At most sixty sends a second, however fast the model is."""
    room_id = new_room(server)
    one = tab(room_id)
    one.read_until('hx-target="#messages"')
    reply = model_server.will(held())
    ask(server, room_id, "Flood")
    one.read_until("Flood")
    began, already = time.monotonic(), len(one.frames)
    for n in range(3000):
        reply.say(text(f"w{n} "))
    reply.say(text("last-word"))
    one.read_until("last-word")
    took = time.monotonic() - began
    growth = [frame for frame in one.frames[already:] if "part-2-0" in frame]
    assert len(growth) <= 60 * took + 3
    reply.hang_up()


def test_a_restart_sends_tabs_away_to_come_back(server: Server, tab: OpenTab, model_server: ModelServer) -> None:
    """SIGTERM ends turns as interrupted and closes tabs with 1012; what was said is there afterwards."""
    room_id = new_room(server)
    one = tab(room_id)
    model_server.will(held(text("Half an ans")))
    ask(server, room_id, "Tell")
    one.read_until("Half an ans")
    server.restart()
    assert one.read_to_close() == 1012
    again = tab(room_id)
    shown = again.read_until('hx-target="#messages"')
    assert "Half an ans" in shown and 'data-state="interrupted"' in shown and "Retry" in shown


def test_a_retry_under_a_tab_that_was_away_does_not_lock_it_out(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """It comes back with an old place: parts that are no more are not asked for."""
    room_id = new_room(server)
    seen = re.search(r"seen=([\w.]+)", fragment(server, f"/rooms/{room_id}"))
    assert seen is not None
    one = tab(room_id)
    first = model_server.will(Reply(reasoning("Hm"), tool_call("roll_dice", "{}"), end("tool_calls")))
    second = model_server.will(held(text("So")))
    ask(server, room_id, "Roll")
    one.read_until("So")
    assert first.begun.is_set() and second.begun.wait(DEADLINE)
    requests.delete(f"{server.url}/rooms/{room_id}/turn")
    third = model_server.will(held(text("Short")))
    requests.post(f"{server.url}/rooms/{room_id}/turn")
    one.read_until("Short")
    again = tab(room_id, f"&seen={seen[1]}")
    again.read_until("Short")
    third.hang_up()
    again.read_until('data-state="interrupted"')


def test_a_room_that_cannot_be_read_says_so_to_its_tabs(server: Server, tab: OpenTab) -> None:
    """They stay connected, and the list goes on."""
    room_id = new_room(server)
    server.stop()
    (server.instance / "facets" / f"room-{room_id}.sqlite").write_bytes(b"junk" * 4096)
    server.start()
    one = tab(room_id)
    assert "damaged" in one.read_until('hx-target="#messages"')
    other = new_room(server)
    one.read_until(f'id="room-{other}"')
    assert "Traceback" not in "".join(server.log)
