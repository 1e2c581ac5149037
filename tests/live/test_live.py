"""Live push: what tabs are sent by the real server."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import requests

from overseer.storage.instance_lock import room_file
from tests.support.files import write_junk
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text, tool_call, usage
from tests.support.rooms import ask, ended, fetch, new_room
from tests.support.server import Server, StartServer
from tests.support.tab import DEADLINE, Tab

OpenTab = Callable[..., Tab]


def test_tab_without_a_revision_is_sent_everything(server: Server, tab: OpenTab) -> None:
    """The list and the room come as the same HTML as in a page."""
    room_id = new_room(server)
    ask(server, room_id, "Hello", wait=True)
    one = tab(room_id)
    one.read_until('hx-target="#messages"')
    page = fetch(server, f"/rooms/{room_id}")
    pushed = {target: html for target, _, html in one.partials()}
    assert set(pushed) == {"rooms", "rooms-place", "model", "header", "messages", "context"}
    assert pushed["header"] in page and pushed["messages"] in page
    assert pushed["messages"] == fetch(server, f"/rooms/{room_id}/messages")
    row = re.search(rf'<li id="room-{room_id}".*?</li>', pushed["rooms"], re.S)
    assert row is not None and 'aria-current="page"' in row[0] and row[0] in page


def test_tab_with_the_revisions_of_its_page_is_sent_only_what_follows(server: Server, tab: OpenTab) -> None:
    """A revision of another run of the server counts for nothing."""
    room_id = new_room(server)
    page = fetch(server, f"/rooms/{room_id}")
    room_revision = re.search(r"seen=([\w.]+)", page)
    list_revision = re.search(r'data-place="([\w.]+)"', page)
    assert room_revision is not None and list_revision is not None
    one = tab(room_id, f"&seen={room_revision[1]}&rooms={list_revision[1]}")
    tab(room_id, "&seen=00000000.99&rooms=junk").read_until('hx-target="#messages"')
    ask(server, room_id, "Hello")
    one.read_until('hx-target="#after-0"')
    assert ("rooms", "outerMorph") not in [(target, swap) for target, swap, _ in one.partials()]
    assert "messages" not in [target for target, _, _ in one.partials()]


def test_every_tab_is_sent_question_reasoning_tools_and_answer(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """Tabs on the room are sent everything, tabs elsewhere the row in the list."""
    room_id, other = new_room(server), new_room(server)
    here, there, elsewhere = tab(room_id), tab(room_id), tab(other)
    elsewhere.read_until('hx-target="#messages"')
    first, second = held(reasoning("Let me think")), held(text("You rolled "))
    model_server.will(first, second)
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


def test_text_that_turns_out_to_be_reasoning_is_pushed_as_such(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    room_id = new_room(server)
    one = tab(room_id)
    reply = model_server.will(held(text("They greet me.")))
    ask(server, room_id, "Hello")
    one.read_until("They greet me.")
    assert not any("part--reasoning" in frame for frame in one.frames)
    reply.say(text("</think>Good"))
    frame = one.read_until("part--reasoning")
    assert re.search(r'<details id="part-2-0"[^>]*reasoning.*They greet me', frame, re.S) and "think" not in frame
    reply.say(text(" day."), end())
    reply.hang_up()
    final = re.search(r'<article id="message-2".*?</article>', one.read_until(ended), re.S)
    assert final is not None and final[0] in fetch(server, f"/rooms/{room_id}")


def test_pushed_answer_is_the_same_html_as_in_page_and_response(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    room_id = new_room(server)
    one = tab(room_id)
    one.read_until('hx-target="#messages"')
    model_server.will(answer("# Title\n\n", "- a\n- b\n\n", "```python\nprint(1)\n```\n", "\ndone"))
    response = ask(server, room_id, "Write")
    final = re.search(r'<article id="message-2".*?</article>', one.read_until(ended), re.S)
    assert final is not None
    page = fetch(server, f"/rooms/{room_id}")
    assert final[0] in page and final[0] in fetch(server, f"/rooms/{room_id}/messages")
    assert final[0] == fetch(server, f"/rooms/{room_id}/messages/2").rstrip()
    question = fetch(server, f"/rooms/{room_id}/messages/1")
    assert question in page and question in response.text
    assert any(question in frame for frame in one.frames)
    one.has(lambda frame: 'data-messages="2"' in frame and 'data-state="idle"' in frame)
    row = [html for _, _, html in one.partials() if html.startswith(f'<li id="room-{room_id}"')][-1]
    assert row in page


def _matches(pattern: re.Pattern[str], frame: str) -> bool:
    return pattern.search(frame) is not None


def test_answers_side_by_side_grow_piece_by_piece_and_are_the_same_html_as_in_the_page(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    room_id = new_room(server)
    one = tab(room_id)
    one.read_until('hx-target="#messages"')
    replies = {name: held() for name in ("ant", "bee")}
    model_server.otherwise = lambda body: replies[body["model"]]
    url = f"{server.url}/rooms/{room_id}/messages"
    response = requests.post(url, {"text": "Who?", "model": ["ant", "bee"]}, timeout=DEADLINE)
    one.has('id="beside-1"')
    for name, reply in replies.items():
        reply.say(text(f"I am {name}"))
        one.has(f"I am {name}")
    beside = re.search(r'<section id="beside-1".*?</section>', response.text, re.S)
    assert beside is not None and any(beside[0] in frame for frame in one.frames)
    for number, name in ((3, "bee"), (2, "ant"), (3, "bee")):
        replies[name].say(text(f" and more {name}"))
        frame = one.read_until(f"and more {name}")
        assert f'hx-target="#part-{number}-0-open"' in frame and "<article" not in frame
    for reply in replies.values():
        reply.say(end())
        reply.hang_up()
    for number in (2, 3):
        pushed = re.compile(rf'<article id="message-{number}"[^>]*data-state="complete".*?</article>', re.S)
        found = pushed.search(one.has(partial(_matches, pushed)))
        assert found is not None
        assert found[0] in fetch(server, f"/rooms/{room_id}")
        assert found[0] == fetch(server, f"/rooms/{room_id}/messages/{number}").rstrip()


def test_context_meter_follows_each_answer_and_is_empty_in_a_cleared_room(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    room_id = new_room(server)
    one = tab(room_id)
    one.read_until('<p id="context" class="context"></p>')
    model_server.will(Reply(text("Yes."), usage(8000, 192), end()))
    ask(server, room_id, "Hello", wait=True)
    assert "25 %" in one.read_until("8,192 of 32,768 tokens")
    page = fetch(server, f"/rooms/{room_id}")
    assert [html for target, _, html in one.partials() if target == "context"][-1] in page
    requests.delete(f"{server.url}/rooms/{room_id}/messages")
    one.read_until('<p id="context" class="context"></p>')
    assert '<p id="context" class="context"></p>' in fetch(server, f"/rooms/{room_id}")


def test_context_meter_is_that_of_the_answer_that_is_gone_on_with(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    room_id = new_room(server)
    one = tab(room_id)
    replies = {"ant": held(text("Ant"), usage(100, 5)), "bee": held(text("Bee"), usage(20_000, 5))}
    model_server.otherwise = lambda body: replies[body["model"]]
    url = f"{server.url}/rooms/{room_id}/messages"
    requests.post(url, {"text": "Who?", "model": ["ant", "bee"]}, timeout=DEADLINE)
    for number, reply in enumerate(replies.values(), 2):
        reply.say(end())
        reply.hang_up()
        one.has(partial(_matches, re.compile(rf'id="message-{number}"[^>]*data-state="complete"')))
    meters = [html for target, _, html in one.partials() if target == "context" and "<meter" in html]
    assert meters and all("105 of" in html for html in meters)


@pytest.fixture
def nameless(start_server: StartServer, model_server: ModelServer) -> Iterator[Server]:
    """A server without OPENAI_MODEL, whose model server does not list its models yet."""
    model_server.may_list.clear()
    model_server.models = ["owl"]
    yield start_server(OPENAI_MODEL="")
    model_server.may_list.set()


def test_name_of_the_model_is_pushed_to_every_tab(nameless: Server, model_server: ModelServer) -> None:
    """No page waits for it: until then the model is called by its address. An answer has it from its first token on."""
    unnamed = f"model at 127.0.0.1:{model_server.port}"
    room_id, other = new_room(nameless), new_room(nameless)
    page = fetch(nameless, f"/rooms/{room_id}")
    assert f'aria-label="Model: {unnamed}"' in page and f"<strong>{unnamed}</strong>" in page
    here, there, nowhere = (Tab(nameless.url, query) for query in (f"room={room_id}", f"room={other}", ""))
    for one in (here, there, nowhere):
        one.read_until(f"<strong>{unnamed}</strong>")
    reply = model_server.will(held(text("Hoo")))
    ask(nameless, room_id, "Who?")
    model_server.may_list.set()
    assert 'aria-label="owl"' in here.read_until("Hoo")
    for one in (there, nowhere):
        assert 'hx-target="#model"' in one.has("<strong>owl</strong>")
    there.has("Model: owl")
    header = [html for target, _, html in there.partials() if target == "header"][-1]
    assert header in fetch(nameless, f"/rooms/{other}")
    reply.say(end())
    reply.hang_up()
    assert 'aria-label="owl"' in here.read_until(ended)
    for one in (here, there, nowhere):
        one.close()


def test_note_about_an_unsupported_parameter_is_shown_everywhere(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """While the answer streams, after it, in the page, in the export and in plain text."""
    note = "Without tools: the server refused them."
    room_id = new_room(server)
    one = tab(room_id)
    refused = b'{"error": {"message": "Unknown parameter: \'tools\'.", "code": "unknown_parameter", "param": "tools"}}'
    model_server.will(Reply(refused, status=400, headers={"Content-Type": "application/json"}))
    reply = model_server.will(held(text("Greetings")))
    ask(server, room_id, "Hello")
    assert f'<p class="message__note">{note}</p>' in one.read_until("Greetings")
    reply.say(end())
    reply.hang_up()
    assert note in one.read_until(ended)
    assert note in fetch(server, f"/rooms/{room_id}")
    url = f"{server.url}/rooms/{room_id}/messages"
    assert f"\n*{note}*\n" in requests.get(url, headers={"Accept": "text/markdown"}).text
    plain = requests.post(url, {"text": "Again"}, headers={"Accept": "text/plain"}).text
    assert plain == f"All right.\n\n[{note}]\n"


def test_tab_that_joins_mid_answer_is_sent_its_beginning(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
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
    page = fetch(server, f"/rooms/{room_id}")
    assert "The beginning." in page and "The end." in page and 'aria-busy="true"' in page
    reply.hang_up()


def test_rename_clear_and_delete_are_pushed(server: Server, tab: OpenTab) -> None:
    """A deleted or made-up room closes its tabs with 4404, so that they do not reconnect."""
    room_id = new_room(server)
    ask(server, room_id, "Hi", wait=True)
    one = tab(room_id)
    one.read_until('id="message-2"')
    requests.patch(f"{server.url}/rooms/{room_id}", {"name": "Kitchen <b>"})
    assert "Kitchen &lt;b&gt;" in one.read_until('id="header"')
    requests.delete(f"{server.url}/rooms/{room_id}/messages")
    assert "<article" not in one.read_until('hx-target="#messages"')
    requests.delete(f"{server.url}/rooms/{room_id}")
    for gone in (one, tab(room_id), tab("0123456789ab")):
        gone.read_until("was deleted")
        assert gone.read_to_close() == 4404


def test_slow_tab_delays_no_other_tab_and_is_sent_whole_frames(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    """Slow tabs are sent more than the kernel buffers. To wait for each of them would take longer than a tab waits."""
    room_id = new_room(server)
    for _ in range(24):
        ask(server, room_id, "x" * 200_000)
    slow = [tab(room_id, sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),)) for _ in range(5)]
    fast = tab(room_id)
    assert len(fast.read_until('hx-target="#messages"')) > 4_600_000
    reply = model_server.will(held())
    ask(server, room_id, "Go on")
    for n in range(20):
        reply.say(text(f"word{n} "))
        fast.read_until(f"word{n}")
    reply.say(end())
    reply.hang_up()
    fast.read_until(lambda frame: ended(frame, 50))
    last = slow[-1]
    while (frame := last.read()) is not None and not ended(frame, 50):
        assert frame.startswith("<hx-partial") and frame.endswith("</hx-partial>")
    assert frame is not None or last.close_code == 1013, "it caught up, or was closed as too slow"


def test_tokens_are_coalesced_into_sixty_frames_a_second(
    server: Server, tab: OpenTab, model_server: ModelServer
) -> None:
    room_id = new_room(server)
    one = tab(room_id)
    one.read_until('hx-target="#messages"')
    reply = model_server.will(held())
    ask(server, room_id, "Flood")
    one.read_until("Flood")
    began, already = time.monotonic(), len(one.frames)
    reply.say(*(text(f"w{n} ") for n in range(2000)), text("last-word"))
    one.read_until("last-word")
    seconds = time.monotonic() - began
    assert len([frame for frame in one.frames[already:] if "part-2-0" in frame]) <= 60 * seconds + 3
    reply.hang_up()


def test_retry_while_a_tab_was_away_lets_it_rejoin(server: Server, tab: OpenTab, model_server: ModelServer) -> None:
    """The changelog names parts that no longer exist."""
    room_id = new_room(server)
    revision = re.search(r"seen=([\w.]+)", fetch(server, f"/rooms/{room_id}"))
    assert revision is not None
    one = tab(room_id)
    model_server.will(Reply(reasoning("Hm"), tool_call("roll_dice", "{}"), end("tool_calls")))
    second = model_server.will(held(text("So")))
    ask(server, room_id, "Roll")
    one.read_until("So")
    assert second.begun.wait(DEADLINE)
    requests.delete(f"{server.url}/rooms/{room_id}/turn")
    third = model_server.will(held(text("Short")))
    requests.post(f"{server.url}/rooms/{room_id}/turn")
    one.read_until("Short")
    again = tab(room_id, f"&seen={revision[1]}")
    again.read_until("Short")
    third.hang_up()
    again.read_until('data-state="interrupted"')


def test_damaged_room_says_so_to_its_tabs(server: Server, tab: OpenTab) -> None:
    """They stay connected and are sent changes of the list."""
    room_id = new_room(server)
    server.stop()
    write_junk(room_file(server.instance, room_id))
    server.start()
    one = tab(room_id)
    assert "damaged" in one.read_until('hx-target="#messages"')
    other = new_room(server)
    one.read_until(f'id="room-{other}"')


def test_header_says_how_many_messages_are_in_other_versions(server: Server, tab: OpenTab) -> None:
    """Its confirmations name the number before they are deleted."""
    room_id = new_room(server)
    one = tab(room_id)
    one.read_until('hx-target="#header"')
    messages = f"{server.url}/rooms/{room_id}/messages"
    ask(server, room_id, "Hello?")
    several = {"text": "Which?", "model": ["ant", "bee", "cat"]}
    requests.post(messages, several, headers={"Prefer": "wait=20"}, timeout=20).raise_for_status()
    one.has("also the 2 in other versions")
    requests.patch(f"{messages}/3", {"text": "Who?"}, headers={"Prefer": "wait=20"}, timeout=20).raise_for_status()
    one.has("also the 4 in other versions")
    requests.delete(messages, timeout=20).raise_for_status()
    one.read_until(lambda frame: 'hx-target="#header"' in frame and "other versions" not in frame)
