"""A model that fails is not an HTTP error: each way ends in a state with a sentence, what was said, and a Retry."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from overseer import create_app
from overseer.llm.choice import ModelSettings
from overseer.llm.openai import Timeouts
from overseer.rooms import turn
from overseer.rooms.overseer import Overseer
from tests.support.client import ask, ended, new_room
from tests.support.client import wait_for_message as until
from tests.support.html import Element, parsed, root
from tests.support.model_server import (
    NOBODY,
    ModelServer,
    Reply,
    answer,
    end,
    event,
    held,
    reasoning,
    silent,
    text,
    tool_call,
)

DEADLINE = 10.0
KEY = "sk-proj-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ"
JSON = {"Content-Type": "application/json"}


@contextmanager
def chat(instance: Path, **settings: object) -> Iterator[Flask]:
    """The app with these model settings."""
    app = create_app(instance, models=ModelSettings(**settings))  # type: ignore[arg-type]
    app.extensions["overseer"].open()
    yield app
    app.extensions["overseer"].close()


def reply_to(client: FlaskClient, words: str = "Hello", *, room_id: str | None = None) -> Element:
    """The answer to a question, when its turn has ended: the same in the response, alone and on the page."""
    room_id = room_id or new_room(client)
    response = ask(client, room_id, words)
    reply = parsed(response.text).every("article")[-1]
    alone = client.get(f"/rooms/{room_id}/messages/{(reply['id'] or '').removeprefix('message-')}")
    assert alone.status_code == 200 and alone.text in response.text
    page = client.get(f"/rooms/{room_id}")
    assert page.status_code == 200 and alone.text in page.text
    return reply


def trouble(reply: Element) -> tuple[str | None, str]:
    """The state of an answer that went wrong and its sentence; a Retry is beside it, and nothing is busy."""
    footer = reply.one("footer")
    assert reply["aria-busy"] is None
    assert footer.one("form")["hx-post"] == footer.one("form")["action"]
    assert [button.text for button in footer.every("button")][-1:] == ["Retry"]
    sentence = footer.one("span").text
    assert re.fullmatch(r"\S.{6,}[.…]?", sentence)
    assert not re.search(r"Traceback|File \"|Exception|object at 0x|<class", sentence)
    return reply["data-state"], sentence


def words(reply: Element) -> str:
    return reply.one(class_="message__body").text


# Every ending is a state with a sentence


def test_a_server_that_is_not_there_is_a_failed_answer(instance: Path) -> None:
    """Nobody listens: the sentence says where, and to start it."""
    with chat(instance, base_url=NOBODY, name="x") as app:
        state, sentence = trouble(reply_to(app.test_client()))
    assert state == "failed"
    assert "Could not connect to http://127.0.0.1:9/v1" in sentence and "Retry" in sentence


@pytest.mark.parametrize("name", ["x", ""])
@pytest.mark.parametrize(
    "address", ["no address", "http://", "ftp://localhost/v1", "http://[::1", "http://127.0.0.1:99999/v1"]
)
def test_an_address_that_is_none_is_a_failed_answer(instance: Path, address: str, name: str) -> None:
    """A mistyped OPENAI_BASE_URL breaks no page: the answer says which setting is wrong."""
    with chat(instance, base_url=address, name=name) as app:
        state, sentence = trouble(reply_to(app.test_client()))
    assert state == "failed" and "OPENAI_BASE_URL" in sentence


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (401, JSON, b'{"error": {"message": "Incorrect API key."}}', ["401", "OPENAI_API_KEY", "Incorrect API key."]),
        (403, JSON, b'{"error": "No."}', ["403", "OPENAI_API_KEY", "No."]),
        (404, JSON, b'{"error": {"message": "model \'x\' not found"}}', ["404", "OPENAI_MODEL", "model 'x' not found"]),
        (429, {**JSON, "Retry-After": "7"}, b'{"error": {"message": "Slow down."}}', ["429", "Wait 7 s", "Slow down."]),
        (429, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}, b"", ["429", "Wait", "Retry"]),
        (429, {}, b"", ["429", "Wait a moment, then Retry."]),
        (500, JSON, b'{"error": {"message": "CUDA out of memory"}}', ["500", "Retry", "CUDA out of memory"]),
        (503, {"Content-Type": "text/html"}, b"<html><h1>Bad gateway</h1></html>", ["503", "Retry"]),
        (400, JSON, b'{"error": {"message": "no such voice"}}', ["400", "no such voice"]),
        (302, {"Location": "http://127.0.0.1:9/elsewhere"}, b"", ["302", "OPENAI_BASE_URL"]),
        (204, {}, b"", ["204"]),
    ],
)  # fmt: skip
def test_a_refusal_is_a_failed_answer(
    client: FlaskClient,
    model_server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    headers: dict[str, str],
    body: bytes,
    said: list[str],
) -> None:
    """Each status has its own sentence, with what to do and the server's own words; markup of a proxy is left out."""
    monkeypatch.setattr(turn, "BUSY_WAITS", ())
    model_server.will(Reply(body, status=status, headers=headers))
    reply = reply_to(client)
    state, sentence = trouble(reply)
    assert state == "failed" and words(reply) == ""
    assert [wanted for wanted in said if wanted not in sentence] == []
    assert "<h1>" not in sentence
    assert len(model_server.requests) == 1


def test_an_answer_that_is_cut_off_is_interrupted_and_kept(client: FlaskClient, model_server: ModelServer) -> None:
    """A connection that ends in mid-answer leaves what had come, and says that there should be more."""
    model_server.will(Reply(reasoning("Hm, hm."), text("Half an "), text("ans")))
    reply = reply_to(client)
    state, sentence = trouble(reply)
    assert state == "interrupted" and "in the middle" in sentence
    assert reply.one(class_="part--text").text == "Half an ans"
    assert "Hm, hm." in reply.one(class_="part--reasoning").text


def test_an_answer_that_is_cut_off_within_an_event_is_interrupted(
    client: FlaskClient, model_server: ModelServer
) -> None:
    """What had come whole is kept, and half an event is not shown."""
    model_server.will(Reply(text("Half an ans"), text("wer")[:20]))
    reply = reply_to(client)
    assert trouble(reply)[0] in ("interrupted", "failed") and words(reply) == "Half an ans"


NOT_AN_ANSWER: list[tuple[bytes, str]] = [
    (b"<!doctype html><h1>It works!</h1>", "OPENAI_BASE_URL"),
    (b'{"choices": [{"message": {"content": "not streamed"}}]}', "OPENAI_BASE_URL"),
    (b"", "OPENAI_BASE_URL"),
    (b": keep-alive\n\n" * 5, "OPENAI_BASE_URL"),
    (b"data: {broken\n\n", "broken JSON"),
    (b"data: \xff\xfe\xfd\n\n", "UTF-8"),
    (bytes(range(256)) * 20, "Retry"),
    (b"data: " + b"x" * 1_100_000, "without end"),
    (event({"error": {"message": "The model has crashed."}}), "The model has crashed."),
    (event({"error": "Out of memory"}), "Out of memory"),
]


@pytest.mark.parametrize(("junk", "said"), NOT_AN_ANSWER, ids=lambda value: value if isinstance(value, str) else "")
def test_junk_is_a_failed_answer_that_keeps_what_was_said(
    client: FlaskClient, model_server: ModelServer, junk: bytes, said: str
) -> None:
    """Whatever a server sends instead of an answer ends the turn with a sentence; after good words those are kept."""
    model_server.will(Reply(junk), Reply(text("So far so good. "), junk))
    state, sentence = trouble(reply_to(client))
    assert state == "failed" and (said in sentence or "OPENAI_BASE_URL" in sentence)
    reply = reply_to(client)
    assert trouble(reply)[0] in ("failed", "interrupted") and words(reply) == "So far so good."


def test_an_answer_without_words_is_a_failed_answer(client: FlaskClient, model_server: ModelServer) -> None:
    """A model that ends in order but has said nothing is told from one that answered."""
    model_server.will(Reply(end()))
    state, sentence = trouble(reply_to(client))
    assert state == "failed" and "said nothing" in sentence


ODD_EVENTS: list[object] = [
    {"choices": []},
    {"choices": None},
    {"choices": [None]},
    {"choices": [{}]},
    {"choices": [{"delta": None}]},
    {"choices": [{"delta": {"content": None}}]},
    {"choices": [{"delta": {"content": 7, "reasoning": ["x"], "tool_calls": "x"}}]},
    {"usage": {"total_tokens": 3}},
]


def test_odd_events_do_not_disturb_an_answer(client: FlaskClient, model_server: ModelServer) -> None:
    """What has no words for us is passed over; the words around it are the answer."""
    between = [chunk for odd in ODD_EVENTS for chunk in (event(odd), text(" and"))]
    model_server.will(Reply(text("One"), *between, text(" so on."), end()))
    reply = reply_to(client)
    assert (reply["data-state"], words(reply)) == ("complete", "One" + " and" * len(ODD_EVENTS) + " so on.")


def test_a_tool_call_that_is_none_does_not_disturb_an_answer(client: FlaskClient, model_server: ModelServer) -> None:
    """Pieces of a call that name no tool are a call that cannot be used, and the model goes on."""
    odd = event({"choices": [{"delta": {"tool_calls": [None, 7, {}]}}]})
    model_server.will(Reply(text("Good "), odd, end()), answer("day."))
    reply = reply_to(client)
    assert reply["data-state"] == "complete"
    assert [part.text for part in reply.every(class_="part--text")] == ["Good", "day."]


def test_half_of_a_surrogate_pair_is_no_end(client: FlaskClient, model_server: ModelServer) -> None:
    """Servers that cut an emoji in two between events send what no file can hold; the answer goes on around it."""
    smile = ['"\\ud83d"', '"\\ude00"']
    halves = [b'data: {"choices": [{"delta": {"content": %s}}]}\n\n' % half.encode() for half in smile]
    model_server.will(Reply(text("Good "), *halves, text(" day."), end()))
    room_id = new_room(client)
    response = client.post(f"/rooms/{room_id}/messages", data={"text": "Hello"}, headers={"Prefer": "wait=60"})
    client.delete(f"/rooms/{room_id}/turn")
    assert response.status_code == 201
    reply = parsed(client.get(f"/rooms/{room_id}").text).one(id="message-2")
    assert reply["data-state"] == "complete"
    assert words(reply).startswith("Good ") and words(reply).endswith("day.")


def test_half_of_a_surrogate_pair_for_a_tool_spoils_no_page(client: FlaskClient, model_server: ModelServer) -> None:
    """The arguments of a tool call are a model's words too: whatever they are, the room can be opened."""
    model_server.will(Reply(tool_call("roll_\ud83d", '{"sides": "\ud83d"}'), end("tool_calls")), answer("Done."))
    room_id = new_room(client)
    client.post(f"/rooms/{room_id}/messages", data={"text": "Hello"}, headers={"Prefer": "wait=60"})
    assert client.get(f"/rooms/{room_id}").status_code == 200
    client.delete(f"/rooms/{room_id}/turn")
    assert client.get(f"/rooms/{room_id}").status_code == 200
    assert client.get(f"/rooms/{room_id}/messages/2").status_code == 200


def test_controls_in_an_answer_reach_no_page(client: FlaskClient, model_server: ModelServer) -> None:
    """NULs and escape codes of a model are not put into a page."""
    model_server.will(Reply(reasoning("H\0m"), text("Good\0 \x1b[31mday\x07."), end()))
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    shown = client.get(f"/rooms/{room_id}")
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", shown.data)


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("launch_rockets", "{}", "no tool named"),
        ("roll_dice", '{"sides": 0}', "2 to 1000"),
        ("roll_dice", '{"sides": ', "not valid JSON"),
        ("roll_dice", "[6]", "must be a JSON object"),
        ("roll_dice", '{"colour": "red"}', "colour"),
        ("roll_dice", "[" * 100_000, ""),
        ("", "{}", "no tool named"),
    ],
)
def test_a_tool_that_cannot_be_used_is_told_to_the_model(
    client: FlaskClient, model_server: ModelServer, name: str, arguments: str, result: str
) -> None:
    """The call is shown as failed with its reason, the model reads that, and the answer goes on."""
    model_server.will(Reply(tool_call(name, arguments), end("tool_calls")), answer("Never mind."))
    reply = reply_to(client)
    assert reply["data-state"] == "complete"
    call = reply.one("details", class_="part--tool")
    assert call["data-state"] == "failed" and result in call.text
    assert reply.one(class_="part--text").text == "Never mind."
    assert result in model_server.requests[1]["messages"][-1]["content"]


def test_a_model_that_only_uses_tools_comes_to_an_end(client: FlaskClient, model_server: ModelServer) -> None:
    """After five steps the turn fails with a sentence, and the calls are there."""
    model_server.otherwise = lambda body: Reply(tool_call("roll_dice", "{}"), end("tool_calls"))
    reply = reply_to(client)
    state, sentence = trouble(reply)
    assert state == "failed" and "5 times" in sentence
    assert len(model_server.requests) == 5 and len(reply.every("details", class_="part--tool")) == 5


def test_trouble_after_a_tool_keeps_what_the_tool_said(client: FlaskClient, model_server: ModelServer) -> None:
    """A second step that fails takes nothing away from the first."""
    model_server.will(
        Reply(text("Rolling."), tool_call("roll_dice", '{"sides": 2}'), end("tool_calls")),
        Reply(b"", status=500),
    )
    reply = reply_to(client)
    assert trouble(reply)[0] == "failed"
    assert reply.one(class_="part--text").text == "Rolling."
    assert reply.one("details", class_="part--tool")["data-state"] == "done"


def test_a_server_that_says_nothing_is_a_failed_answer(instance: Path, model_server: ModelServer) -> None:
    """Without a first byte in time the turn ends, and the connection with it."""
    nothing = model_server.will(silent())
    with chat(instance, base_url=model_server.url, name="x", timeouts=Timeouts(first=0.3, gap=0.3)) as app:
        state, sentence = trouble(reply_to(app.test_client()))
        assert nothing.closed.wait(DEADLINE)
    assert state == "failed" and "0.3 s" in sentence and "Retry" in sentence


def test_a_server_that_falls_silent_interrupts_its_answer(instance: Path, model_server: ModelServer) -> None:
    """Silence in mid-answer ends the turn; what was said is kept, and the connection is closed."""
    said = "Half an ans"
    reply = model_server.will(held(text(said)))
    with chat(instance, base_url=model_server.url, name="x", timeouts=Timeouts(first=DEADLINE, gap=0.3)) as app:
        shown = reply_to(app.test_client())
        assert reply.closed.wait(DEADLINE)
    state, sentence = trouble(shown)
    assert state == "interrupted" and "silent" in sentence and "0.3 s" in sentence
    assert words(shown) == said


def test_a_slow_answer_is_no_silence(instance: Path, model_server: ModelServer) -> None:
    """An answer may take far longer than the patience, as long as no gap does."""
    reply = model_server.will(held())
    timeouts = Timeouts(first=DEADLINE, gap=3.0)
    with chat(instance, base_url=model_server.url, name="x", timeouts=timeouts) as app:
        client, overseer = app.test_client(), app.extensions["overseer"]
        room_id = new_room(client)
        ask(client, room_id, "Hello", wait=False)
        began, said = time.monotonic(), 0
        while time.monotonic() - began < 1.2 * timeouts.gap:
            reply.say(text("word "))
            said += 1
            until(overseer, room_id, 2, lambda message: message.text.count("word") == said)  # noqa: B023
            reply.closed.wait(0.1)
        reply.say(end())
        reply.hang_up()
        assert until(overseer, room_id, 2, ended).state == "complete"


# Retry


@pytest.mark.parametrize(
    ("status", "chunks"),
    [
        (500, []),
        (200, [text("Half an ans")]),
        (200, [b"data: {broken\n\n"]),
        (200, [reasoning("Hm."), tool_call("roll_dice", "{}")]),
    ],
    ids=["refused", "cut off", "junk", "cut off before a tool"],
)
def test_retry_answers_after_trouble(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer, status: int, chunks: list[bytes]
) -> None:
    """The same question is asked again, without what went wrong, and its answer takes the place of the broken one."""
    room_id = new_room(client)
    model_server.will(answer("Before."), Reply(*chunks, status=status), answer("Good day."))
    ask(client, room_id, "First")
    retry = reply_to(client, "Second", room_id=room_id).one("form", class_="message__again")
    response = client.post(retry["action"] or "")
    assert (response.status_code, response.headers["Location"]) == (201, f"/rooms/{room_id}/messages/4")
    until(overseer, room_id, 4, ended)
    shown = root(client.get(f"/rooms/{room_id}/messages/4").text)
    assert (shown["data-state"], words(shown)) == ("complete", "Good day.") and not shown.has("button", name="resume")
    asked = [[one["content"] for one in request["messages"]] for request in model_server.requests]
    assert asked[2] == asked[1] == ["First", "Before.", "Second"]
    assert reply_to(client, "Third", room_id=room_id)["data-state"] == "complete"


def test_a_failed_answer_does_not_stop_the_next_question(client: FlaskClient, model_server: ModelServer) -> None:
    """The room goes on after trouble, also without a Retry, and so does a question that already waits."""
    room_id = new_room(client)
    first = model_server.will(held(text("Half")))
    ask(client, room_id, "First", wait=False)
    assert first.begun.wait(DEADLINE)
    first.hang_up()
    assert words(reply_to(client, "Second", room_id=room_id)) == "All right."
    assert parsed(client.get(f"/rooms/{room_id}/messages/2").text).one("article")["data-state"] == "interrupted"


# Stop


def test_stop_closes_a_silent_connection_at_once(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Before the first byte of an answer, Stop reaches the model's server, and the next question is answered."""
    room_id = new_room(client)
    nothing = model_server.will(silent())
    ask(client, room_id, "Hello", wait=False)
    assert nothing.begun.wait(DEADLINE)
    stopped = client.delete(f"/rooms/{room_id}/turn")
    assert nothing.closed.wait(DEADLINE)
    state, sentence = trouble(parsed(stopped.text).one(id="message-2"))
    assert (stopped.status_code, state, sentence) == (200, "stopped", "Stopped.")
    assert words(reply_to(client, "Again", room_id=room_id)) == "All right."


def test_stop_closes_a_stream_at_once(client: FlaskClient, overseer: Overseer, model_server: ModelServer) -> None:
    """In mid-answer too; what was said is kept, and nothing that comes later is added."""
    room_id = new_room(client)
    reply = model_server.will(held(text("Half an ans")))
    ask(client, room_id, "Hello", wait=False)
    until(overseer, room_id, 2, lambda message: message.text == "Half an ans")
    stopped = client.delete(f"/rooms/{room_id}/turn")
    assert reply.closed.wait(DEADLINE)
    reply.say(text("wer"), end())
    shown = parsed(stopped.text).one(id="message-2")
    assert trouble(shown)[0] == "stopped" and words(shown) == "Half an ans"
    assert words(reply_to(client, "Again", room_id=room_id)) == "All right."
    kept = root(client.get(f"/rooms/{room_id}/messages/2").text)
    assert kept["data-state"] == "stopped" and words(kept) == "Half an ans"


def test_stop_ends_the_questions_that_wait_too(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Nothing begins by itself after a Stop; the last one can be retried."""
    room_id = new_room(client)
    model_server.will(held(text("One")))
    for question in ("First", "Second", "Third"):
        ask(client, room_id, question, wait=False)
    until(overseer, room_id, 2, lambda message: message.text == "One")
    stopped = parsed(client.delete(f"/rooms/{room_id}/turn").text)
    assert [trouble(one)[0] for one in stopped.every("article", data_role="assistant")] == ["stopped"] * 3
    assert len(model_server.requests) == 1
    assert client.post(f"/rooms/{room_id}/turn").status_code == 201
    assert until(overseer, room_id, 6, ended).text == "All right."


@pytest.mark.parametrize("path", ["", "/messages"], ids=["delete", "clear"])
def test_deleting_and_clearing_close_the_connection_too(
    client: FlaskClient, model_server: ModelServer, path: str
) -> None:
    """A room whose answer nobody can read any more keeps no model busy."""
    room_id = new_room(client)
    nothing = model_server.will(silent())
    ask(client, room_id, "Hello", wait=False)
    assert nothing.begun.wait(DEADLINE)
    assert client.delete(f"/rooms/{room_id}{path}").status_code == 200
    assert nothing.closed.wait(DEADLINE)


def test_stop_while_connecting_does_not_wait(instance: Path) -> None:
    """A server that accepts no connection holds up neither the Stop nor the next question's Stop."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler = [socket.create_connection(listener.getsockname()) for _ in range(1)]
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with chat(instance, base_url=url, name="x") as app:
            client = app.test_client()
            room_id = new_room(client)
            for number in (2, 4):
                ask(client, room_id, "Hello", wait=False)
                began = time.monotonic()
                stopped = parsed(client.delete(f"/rooms/{room_id}/turn").text)
                assert time.monotonic() - began < 5
                assert trouble(stopped.one(id=f"message-{number}"))[0] == "stopped"
        for one in filler:
            one.close()


# The key


SAID_WITH_KEY: list[tuple[int, bytes]] = [
    (401, b'{"error": {"message": "Incorrect API key provided: %s."}}'),
    (500, b"Bearer %s is no key"),
    (500, b"x" * 270 + b"%s" + b"x" * 100),
    (418, b'{"error": "%s"}'),
    (200, b'data: {"error": {"message": "Bad key %s"}}\n\n'),
    (200, b'data: {"choices": [{"delta": {"content": "Half"}}]}\n\ndata: {"error": "%s"}\n\n'),
    (200, b'data: {"key": "%s" broken\n\n'),
    (200, b'data: {"this is a line that is quite long": "%s" broken\n\n'),
]


def test_the_api_key_is_shown_nowhere(
    instance: Path, model_server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that echoes the key finds it, or a part that would do, in no page, no file and no log."""
    caplog.set_level("DEBUG")
    shown: dict[str, str] = {}
    with chat(instance, base_url=model_server.url, api_key=KEY, name="x") as app:
        client = app.test_client()
        for status, said in SAID_WITH_KEY:
            model_server.will(Reply(said % KEY.encode(), status=status))
            assert trouble(reply_to(client))[0] == "failed"
            shown[str(said)] = client.get("/", follow_redirects=True).text
    assert {headers["Authorization"] for headers in model_server.headers} == {f"Bearer {KEY}"}
    stored = {path.name: path.read_bytes().decode("latin-1") for path in instance.rglob("*") if path.is_file()}
    places = {**shown, **stored, "log": caplog.text}
    assert [where for where, told in places.items() if KEY[:20] in told] == []


def test_a_password_in_the_address_is_shown_nowhere(instance: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The sentence names the server without the user and the password that reach it."""
    caplog.set_level("DEBUG")
    with chat(instance, base_url="http://anna:hush-hush@127.0.0.1:9/v1", name="x") as app:
        client = app.test_client()
        state, sentence = trouble(reply_to(client))
        shown = client.get("/", follow_redirects=True).text
    assert state == "failed" and "http://127.0.0.1:9/v1" in sentence
    assert "hush-hush" not in shown + caplog.text
