"""A model that fails is not an HTTP error: the answer ends in a state with a sentence, and keeps what has arrived."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from overseer.llm import openai
from overseer.llm.choice import ModelSettings
from overseer.rooms.overseer import Overseer
from overseer.web.extensions import instance as instance_of
from tests.support.answers import ask, ended_answer, opened
from tests.support.model_server import (
    DEADLINE,
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
from tests.support.waiting import until

HALF = text("Half an ans")


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize(
    ("replies", "state", "reason", "kept"),
    [
        ([Reply(b'{"error": {"message": "Invalid key."}}', status=401)], "failed", "Invalid key.", ""),
        (
            [Reply(status=429, headers={"Retry-After": "600"})],
            "failed",
            "Rate limited (429). Wait 10 min, then Retry.",
            "",
        ),
        ([Reply(b"<html><h1>Bad gateway</h1></html>", status=503)], "failed", "The model server failed (503).", ""),
        ([Reply(b"<!doctype html><h1>It works!</h1>")], "failed", "OPENAI_BASE_URL", ""),
        ([Reply(end())], "failed", "", ""),
        ([Reply(HALF)], "interrupted", "Continue, or try again.", "Half an ans"),
        ([Reply(HALF, text("wer")[:20])], "interrupted", "Continue, or try again.", "Half an ans"),
        ([Reply(HALF, b"data: {broken\n\n")], "failed", "invalid JSON", "Half an ans"),
        ([Reply(HALF, b"data: " + b"x" * 1_100_000)], "failed", "without an end", "Half an ans"),
        ([Reply(HALF, event({"error": {"message": "It crashed."}}))], "failed", "It crashed.", "Half an ans"),
        ([Reply(HALF, tool_call("roll_dice", "{}"), end()), Reply(status=500)], "failed", "(500)", "Half an ans"),
    ],
)
def test_trouble_ends_the_answer_with_a_sentence_and_the_next_one_succeeds(
    client: FlaskClient,
    overseer: Overseer,
    model_server: ModelServer,
    replies: Sequence[Reply],
    state: str,
    reason: str,
    kept: str,
) -> None:
    room_id = overseer.create().id
    model_server.will(*replies)
    message = ask(overseer, room_id=room_id)
    assert (message.state, message.text) == (state, kept) and reason in message.reason
    assert len(model_server.requests) == len(replies)
    page = client.get(f"/rooms/{room_id}")
    assert page.status_code == 200 and f'data-state="{state}"' in page.text and "Retry" in page.text
    assert not re.search(r"<h1>(It works|Bad)|Traceback|object at 0x", page.text)
    number = overseer.room(room_id).retry()
    until(lambda: overseer.room(room_id).message(number).state == "complete")
    assert ended_answer(overseer, room_id, number).text == "All right."
    assert [one["content"] for one in model_server.requests[-1]["messages"]] == ["Hello?"]


def test_trouble_does_not_end_a_question_that_waits(overseer: Overseer, model_server: ModelServer) -> None:
    first = model_server.will(held(HALF))
    room_id = overseer.create().id
    overseer.room(room_id).ask("First")
    second = overseer.room(room_id).ask("Second")
    assert first.begun.wait(DEADLINE)
    first.hang_up()
    assert ended_answer(overseer, room_id, second.answer).text == "All right."
    assert overseer.room(room_id).message(2).state == "interrupted"


def test_characters_that_html_cannot_contain_are_replaced(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """In text, reasoning and tool calls. Surrogate halves between which there is other text are invalid, too."""
    halves = [event({"choices": [{"delta": {"content": half}}]}) for half in ("Good \ud83d", " and \ude00")]
    call = tool_call("roll_\ud83d\0", '{"sides": "\ud83d\\u0000"}')
    model_server.will(Reply(reasoning("H\0m"), *halves, text("\x1b[31m day\x07."), call, end()), answer("Done."))
    room_id = overseer.create().id
    message = ask(overseer, room_id=room_id)
    assert message.state == "complete" and message.text.startswith("Good ") and message.text.endswith("Done.")
    page = client.get(f"/rooms/{room_id}")
    assert page.status_code == 200 and not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", page.data)
    assert client.get(f"/rooms/{room_id}/messages/2").status_code == 200


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("path", ["/turn", "/messages", ""], ids=["stop", "clear", "delete"])
def test_stop_clear_and_delete_close_the_connection(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer, path: str, begun: bool
) -> None:
    """Before the first byte and within the answer. Stop keeps the text that has arrived."""
    room_id = overseer.create().id
    at_server = model_server.will(held(HALF) if begun else silent())
    overseer.room(room_id).ask("Hello?")
    assert at_server.begun.wait(DEADLINE)
    if begun:
        until(lambda: overseer.room(room_id).message(2).text == "Half an ans")
    assert client.delete(f"/rooms/{room_id}{path}").status_code == 200
    assert at_server.closed.wait(DEADLINE)
    if path == "/turn":
        message = overseer.room(room_id).message(2)
        assert (message.state, message.text) == ("stopped", "Half an ans" if begun else "")
        assert ask(overseer, "Again", room_id=room_id).text == "All right."


def test_stop_while_connecting_does_not_wait_for_the_connection(
    instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "CONNECT_SECONDS", 600.0)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        host, port = listener.getsockname()
        models = ModelSettings(f"http://{host}:{port}/v1", name="x")
        # The first connection fills the backlog, so that the system accepts no further one.
        with socket.create_connection((host, port)), opened(instance, models=models) as app:
            overseer: Overseer = instance_of(app).overseer
            room_id = overseer.create().id
            for number in (2, 4):
                overseer.room(room_id).ask("Hello?")
                stopping = threading.Thread(target=overseer.room(room_id).stop)
                stopping.start()
                stopping.join(DEADLINE)
                assert overseer.room(room_id).message(number).state == "stopped"
