"""The routes of settings, models, the edit form, resumed answers and the transcript."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from overseer import create_app
from overseer.domain.settings import MAX_SYSTEM_PROMPT_CHARS
from overseer.llm.choice import ModelSettings
from overseer.rooms.overseer import Overseer
from overseer.web.extensions import overseer as overseer_of
from tests.support.client import NAVIGATION, PLAIN, WAIT, ask
from tests.support.client import new_room as create
from tests.support.html import parsed
from tests.support.model_server import (
    DEADLINE,
    NOBODY,
    ModelServer,
    Reply,
    answer,
    end,
    held,
    reasoning,
    text,
    tool_call,
    usage,
)
from tests.support.waiting import join_turn_threads, until


def new_room(client: FlaskClient) -> str:
    """Make a room; return its path."""
    return f"/rooms/{create(client, 'Kitchen')}"


def ask_in(client: FlaskClient, room: str, question: str) -> str:
    """Ask a question; return the fragment of the exchange after the answer."""
    return ask(client, room.removeprefix("/rooms/"), question).text


def test_settings_are_changed_one_by_one_and_used_for_the_next_question(
    client: FlaskClient, model_server: ModelServer
) -> None:
    room = new_room(client)
    for form in ({"model": " owl-7b "}, {"temperature": "0.5"}, {"system_prompt": "Be\r\nbrief."}):
        response = client.patch(room, data=form)
        assert response.status_code == 200 and response.text.startswith('<header id="header"')
    assert "Kitchen" in response.text and 'value="owl-7b"' in response.text and 'value="0.5"' in response.text
    assert "owl-7b" in ask_in(client, room, "Hello")
    body = model_server.requests[-1]
    assert (body["model"], body["temperature"]) == ("owl-7b", 0.5)
    assert body["messages"][0] == {"role": "system", "content": "Be\nbrief."}
    client.patch(room, data={"model": "", "temperature": "", "system_prompt": ""})
    ask_in(client, room, "Hello again")
    body = model_server.requests[-1]
    assert body["model"] == "stand-in" and "temperature" not in body
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    both = client.patch(room, data={"name": "Owls", "temperature": "1"}).text
    assert "Owls" in both and 'value="1.0"' in both and "Owls" in client.get("/rooms").text
    plain = client.post(room, data={"_method": "PATCH", "model": "owl", **PLAIN})
    assert (plain.status_code, plain.headers["Location"]) == (303, room)
    assert 'value="owl"' in client.get(room).text


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"name": "Other", "temperature": "hot"}, 422),
        ({"name": "Other", "temperature": "2.1"}, 422),
        ({"name": "Other", "model": 300 * "x"}, 422),
        ({"name": "Other", "system_prompt": (MAX_SYSTEM_PROMPT_CHARS + 1) * "x"}, 413),
        ({"name": " ", "model": "x"}, 422),
        ({"colour": "red"}, 422),
    ],
)
def test_settings_form_with_an_invalid_value_changes_nothing(
    client: FlaskClient, overseer: Overseer, form: dict[str, str], status: int
) -> None:
    room = new_room(client)
    before = overseer.room(room[-12:]).settings(), overseer.record(room[-12:]).name
    response = client.patch(room, data=form)
    assert response.status_code == status and 'id="error"' in response.text
    assert (overseer.room(room[-12:]).settings(), overseer.record(room[-12:]).name) == before


def test_models_are_listed_and_cached_until_a_refresh(client: FlaskClient, model_server: ModelServer) -> None:
    model_server.models = ["a", '"><b>b']
    listed = client.get("/models").text
    assert "<li>a</li>" in listed and "2 models" in listed and "<b>" not in listed
    model_server.models = ["c"]
    assert client.get("/models").text == listed
    assert "<li>c</li>" in client.get("/models?refresh=1").text


def test_models_of_a_room_can_be_searched_and_the_chosen_one_is_marked(
    client: FlaskClient, model_server: ModelServer
) -> None:
    """The default comes first, and a name that the server does not list can be chosen too."""
    model_server.models = ["llama3:8b", "qwen3:14b", "qwen3:4b"]
    room = new_room(client)

    def listed(q: str = "") -> list[tuple[str | None, str, bool]]:
        fragment = parsed(client.get("/models", query_string={"room": room[-12:], "q": q}).text)
        buttons = [button for button in fragment.every("button") if button["name"] == "model"]
        return [(one["value"], " ".join(one.text.split()), one["aria-current"] == "true") for one in buttons]

    names = [(name, name, False) for name in model_server.models]
    assert listed() == [("", "Default · stand-in", True), *names]
    assert listed("QWEN") == [*names[1:], ("QWEN", "QWEN not listed by the server", False)]
    assert listed("qwen3:4b") == names[2:]
    model_server.models = ["gpt-4o-mini", "gpt-4o"]
    assert client.get("/models?refresh=1").status_code == 200
    assert listed("GPT-4O")[0] == ("gpt-4o", "gpt-4o", False), "Enter chooses the first"
    model_server.models = ["llama3:8b", "qwen3:14b", "qwen3:4b"]
    assert client.get("/models?refresh=1").status_code == 200
    assert client.patch(room, data={"model": "my-own"}).status_code == 200
    assert listed() == [("", "Default · stand-in", False), ("my-own", "my-own not listed by the server", True), *names]
    assert client.get("/models", query_string={"room": "0123456789ab"}).status_code == 404


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (ModelSettings(base_url=NOBODY), "Could not connect"),
        (ModelSettings(ollama_url=NOBODY), "No model server is connected."),
    ],
)
def test_models_without_a_server_are_an_explanation(instance: Path, models: ModelSettings, sentence: str) -> None:
    app = create_app(instance, models=models)
    response = app.test_client().get("/models")
    assert response.status_code == 200 and sentence in response.text
    overseer_of(app).close()


def test_edit_form_contains_the_question(client: FlaskClient) -> None:
    room = new_room(client)
    for question in ("One?", "Two?", "Three?"):
        ask_in(client, room, question)
    form = client.get(f"{room}/messages/1/edit").text
    assert form.startswith('<form id="editing"') and "One?" in form
    page = client.get(f"{room}/messages/1/edit", headers=NAVIGATION).text
    assert page.startswith("<!doctype html>") and 'name="_plain" value="1"' in page
    for number in (2, 7):
        assert client.get(f"{room}/messages/{number}/edit").status_code == 404


def test_resume_continues_an_interrupted_answer_only(client: FlaskClient, model_server: ModelServer) -> None:
    room = new_room(client)
    empty = client.post(f"{room}/turn", data={"resume": "1"})
    assert empty.status_code == 409 and 'id="error"' in empty.text
    model_server.will(Reply(text("Once upon"), end("length")), answer(" a time."))
    assert "length limit" in ask_in(client, room, "A story")
    assert client.post(f"{room}/turn", data={"resume": "true"}).status_code == 400
    assert "Once upon" in client.get(f"{room}/messages/2").text, "it is not taken for a retry"
    response = client.post(f"{room}/turn", data={"resume": "1"}, headers=WAIT)
    assert response.status_code == 201 and response.headers["Location"] == f"{room}/messages/2"
    ask_in(client, room, "And?")  # it waits for the answer before it
    assert "Once upon a time." in client.get(f"{room}/messages/2").text
    assert client.post(f"{room}/turn", data={"resume": "1"}).status_code == 409


def test_transcript_is_markdown_of_the_whole_room(client: FlaskClient, model_server: ModelServer) -> None:
    """All pages of messages; reasoning is quoted, tool calls are in brackets, and failures are named."""
    room, headers = new_room(client), {"Accept": "text/markdown"}
    client.patch(room, data={"name": "Owls & more"})
    assert client.get(f"{room}/messages", headers=headers).text == "# Owls & more\n"
    assert client.get("/rooms/000000000000/messages", headers=headers).status_code == 404
    model_server.will(
        Reply(reasoning("Hm.\nDice."), tool_call("roll_dice", '{"sides": 2}'), end("tool_calls")),
        answer("It is **one**."),
        Reply(text("Half an")),
    )
    ask_in(client, room, "Roll")
    ask_in(client, room, "Go on")
    for n in range(25):
        ask_in(client, room, f"Question {n}")
    response = client.get(f"{room}/messages", headers=headers)
    assert response.mimetype == "text/markdown" and response.headers["Vary"] == "Accept"
    transcript = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "NOW", response.text)
    assert transcript.startswith(
        '# Owls & more\n\n## You, NOW\n\nRoll\n\n## stand-in, NOW\n\n> Hm.\n> Dice.\n\n[roll_dice {"sides": 2} → '
    )
    assert "It is **one**.\n\n## You, NOW\n\nGo on\n\n## stand-in, NOW\n\nHalf an\n\n*interrupted: " in transcript
    assert re.findall(r"Question (\d+)", transcript) == [str(n) for n in range(25)]
    assert transcript.count("\n## ") == 54


def test_answer_shows_its_token_counts(client: FlaskClient, model_server: ModelServer) -> None:
    """The counts of the server for all steps, or an estimate."""
    room = new_room(client)
    step = Reply(tool_call("roll_dice", "{}"), usage(1000, 10), end("tool_calls"))
    model_server.will(step, Reply(text("One."), usage(2000, 5), end()), answer("About that."))
    assert "3,000 in, 15 out" in ask_in(client, room, "Roll")
    assert re.search(r"≈ \d+ in, ≈ \d+ out", ask_in(client, room, "And how much?"))
    assert "message__usage" not in client.get(f"{room}/messages/1").text


def test_limits_are_read_from_the_environment(
    instance: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "OPENAI_BASE_URL": model_server.url,
        "OPENAI_MODEL": "stand-in",
        "OVERSEER_MAX_ANSWER_CHARS": "10",
        "OVERSEER_FIRST_BYTE_SECONDS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    app = create_app(instance)
    client = app.test_client()
    room = new_room(client)
    model_server.will(answer("12345", "67890", "more"), held())
    limited = ask_in(client, room, "Much")
    assert "1234567890" in limited and "more" not in limited and "10 characters" in limited
    assert 'data-state="failed"' in ask_in(client, room, "Anybody?")
    overseer_of(app).close()


def test_stop_ends_one_answer_or_all_and_a_queued_question_is_removed(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    room_id = create(client)
    replies = [model_server.will(held(text(words))) for words in ("First", "Third")]
    for words in ("One", "Two", "Three"):
        ask(client, room_id, words, wait=False)
    until(lambda: overseer.room(room_id).message(2).text == "First")
    queued = client.get(f"/rooms/{room_id}/messages/4").text
    assert "Queued" in queued and f"/rooms/{room_id}/turn?question=3" in queued
    turn = f"/rooms/{room_id}/turn"
    assert client.delete(f"{turn}?question=3").status_code == 200
    assert client.delete(f"{turn}?question=3").status_code == 404
    assert client.delete(f"{turn}?question=1").status_code == 409
    assert client.delete(f"{turn}?question=x").status_code == 400
    assert client.delete(turn).status_code == 200 and replies[0].closed.wait(DEADLINE)
    until(lambda: overseer.room(room_id).message(6).text == "Third")
    ask(client, room_id, "Four", wait=False)
    stopped = client.post(f"{turn}?all=1", data={"_method": "DELETE", "_plain": "1"})
    assert stopped.status_code == 303
    states = [one.state for one in overseer.room(room_id).messages().messages if one.role == "assistant"]
    assert states == ["stopped", "stopped", "stopped"]


def test_fork_answers_with_the_new_room(client: FlaskClient) -> None:
    room = new_room(client)
    ask_in(client, room, "One?")
    ask_in(client, room, "Two?")
    forked = client.post(f"{room}/fork", data={"upto": "2"})
    location = forked.headers["Location"]
    assert forked.status_code == 201 and forked.text.startswith('<main id="room"') and location != room
    assert forked.headers["HX-Push-Url"] == location and forked.text.count("<article") == 2
    assert f'<a class="header__origin" href="{room}/messages/2">' in forked.text
    plain = client.post(f"{room}/fork", data={"_plain": "1"})
    assert plain.status_code == 303 and client.get(plain.headers["Location"]).text.count("<article") == 4
    for upto, status in (("9", 404), ("x", 400), ("-1", 400), ("9" * 30, 404)):
        assert client.post(f"{room}/fork", data={"upto": upto}).status_code == status
    assert client.post("/rooms/0123456789ab/fork").status_code == 404


def test_head_is_moved_to_messages_of_the_room_only(client: FlaskClient, model_server: ModelServer) -> None:
    room, other = new_room(client), new_room(client)
    for one in (room, other):
        ask_in(client, one, "One?")
    ask_in(client, other, "Two?")
    client.patch(f"{room}/messages/1", data={"text": "Three?"})
    join_turn_threads(room[-12:])
    shown = client.get(f"{room}/messages").text
    for message, status in (("9", 404), ("", 400), ("x", 400), ("1.0", 400), ("0", 404), ("9" * 30, 404)):
        response = client.put(f"{room}/head", data={"message": message})
        assert response.status_code == status and 'id="error"' in response.text, message
    assert client.put(f"{room}/head").status_code == 400
    assert client.get(f"{room}/messages").text == shown
    switched = client.put(f"{room}/head", data={"message": "1"})
    assert switched.status_code == 200 and 'id="message-2"' in switched.text and 'id="message-3"' not in switched.text
    assert "One?" in client.get(f"{room}/messages", headers={"Accept": "text/markdown"}).text
    for at, status in (("3", 200), ("1", 200), ("9", 404), ("x", 400)):
        assert client.get(f"{room}?at={at}").status_code == status
    assert "another version" in client.get(f"{room}?at=3").text
    assert "another version" not in client.get(f"{room}?at=2").text
    model_server.will(held(text("Half")))
    client.post(f"{room}/messages", data={"text": "Go on"})
    assert client.put(f"{room}/head", data={"message": "3"}).status_code == 409
