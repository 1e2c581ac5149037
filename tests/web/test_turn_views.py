"""What of a turn is set and seen by HTTP: settings, the model list, edits, going on, and the transcript."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from overseer import create_app
from overseer.domain.settings import MAX_SYSTEM_PROMPT
from overseer.llm.choice import ModelSettings
from overseer.rooms.overseer import Overseer
from tests.support.model_server import NOBODY, ModelServer, Reply, answer, end, held, reasoning, text, tool_call, usage

WAIT = {"Prefer": "wait=20"}
PLAIN = {"_plain": "1"}


def new_room(client: FlaskClient, name: str = "Kitchen") -> str:
    return client.post("/rooms", data={"name": name}).headers["Location"]


def ask(client: FlaskClient, room: str, words: str) -> str:
    response = client.post(f"{room}/messages", data={"text": words}, headers=WAIT)
    assert response.status_code == 201, response.text
    return response.text


# Settings


def test_settings_are_set_one_by_one_and_answer_the_header(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """What a form does not name stays as it is, the name too; the next question goes by all of them."""
    room = new_room(client)
    for form in ({"model": " owl-7b "}, {"temperature": "0.5"}, {"system_prompt": "Be\r\nbrief."}):
        response = client.patch(room, data=form)
        assert response.status_code == 200 and response.text.startswith('<header id="header"')
    assert "Kitchen" in response.text and 'value="owl-7b"' in response.text and 'value="0.5"' in response.text
    ask(client, room, "Hello")
    body = model_server.requests[-1]
    assert (body["model"], body["temperature"]) == ("owl-7b", 0.5)
    assert body["messages"][0] == {"role": "system", "content": "Be\nbrief."}
    client.patch(room, data={"model": "", "temperature": "", "system_prompt": ""})
    ask(client, room, "Hello again")
    body = model_server.requests[-1]
    assert body["model"] == "stand-in" and "temperature" not in body
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]


def test_a_name_and_settings_can_come_together(client: FlaskClient, overseer: Overseer) -> None:
    """One form, one header; the list shows the new name."""
    room = new_room(client)
    response = client.patch(room, data={"name": "Owls", "temperature": "1"})
    assert "Owls" in response.text and 'value="1.0"' in response.text
    assert "Owls" in client.get("/rooms").text


@pytest.mark.parametrize(
    ("form", "status", "sentence"),
    [
        ({"temperature": "hot"}, 422, "from 0 to 2"),
        ({"temperature": "nan"}, 422, "from 0 to 2"),
        ({"temperature": "2.1"}, 422, "from 0 to 2"),
        ({"temperature": "-0.1"}, 422, "from 0 to 2"),
        ({"model": 300 * "x"}, 422, "at most 200"),
        ({"system_prompt": (MAX_SYSTEM_PROMPT + 1) * "x"}, 413, "32,000"),
        ({"name": " ", "model": "x"}, 422, "needs a name"),
        ({"colour": "red"}, 422, "needs a name"),
    ],
)
def test_settings_that_cannot_be_are_refused_whole(
    client: FlaskClient, overseer: Overseer, form: dict[str, str], status: int, sentence: str
) -> None:
    """A sentence says what would do, and nothing of the form is kept."""
    room = new_room(client)
    before = overseer.settings(room[-12:]), overseer.room(room[-12:]).name
    response = (
        client.patch(room, data={"name": "Other", **form}) if "colour" not in form else client.patch(room, data=form)
    )
    assert response.status_code == status and sentence in response.text
    assert (overseer.settings(room[-12:]), overseer.room(room[-12:]).name) == before


def test_a_plain_form_of_settings_leads_back_to_the_room(client: FlaskClient) -> None:
    """As every form does without JavaScript."""
    room = new_room(client)
    response = client.post(room, data={"_method": "PATCH", "model": "owl", **PLAIN})
    assert (response.status_code, response.headers["Location"]) == (303, room)
    assert 'value="owl"' in client.get(room).text


# The model list


def test_the_models_are_listed_and_kept_until_asked_for_anew(client: FlaskClient, model_server: ModelServer) -> None:
    """A list that somebody looks at again is not fetched again, unless they want it."""
    model_server.models = ["a", '"><b>b']
    listed = client.get("/models").text
    assert '<option value="a">' in listed and "2 models" in listed and "<b>" not in listed
    model_server.models = ["c"]
    assert client.get("/models").text == listed
    assert '<option value="c">' in client.get("/models?refresh=1").text


def test_a_model_list_that_cannot_be_had_says_why(instance: Path) -> None:
    """Nothing is listed, and nothing breaks: a name can still be typed."""
    app = create_app(instance, models=ModelSettings(base_url=NOBODY))
    with app.test_client() as client:
        response = client.get("/models")
        assert response.status_code == 200 and "Could not connect" in response.text
    app.extensions["overseer"].close()


def test_offline_there_is_nothing_to_choose_from(instance: Path) -> None:
    """And the list says so."""
    app = create_app(instance, models=ModelSettings(ollama_url=NOBODY))
    with app.test_client() as client:
        assert "No model server is connected." in client.get("/models").text
    app.extensions["overseer"].close()


# Edits


def test_the_form_of_an_edit_says_what_it_drops(client: FlaskClient) -> None:
    """The question as it is, and how many messages follow its answer; a page for a browser that goes there."""
    room = new_room(client)
    for words in ("One?", "Two?", "Three?"):
        ask(client, room, words)
    form = client.get(f"{room}/messages/1/edit").text
    assert form.startswith('<form id="editing"') and "One?" in form and "the 4 messages after it" in form
    assert "the 2 messages after it" in client.get(f"{room}/messages/3/edit").text
    assert "messages after it" not in client.get(f"{room}/messages/5/edit").text
    page = client.get(f"{room}/messages/1/edit", headers={"Sec-Fetch-Mode": "navigate"}).text
    assert page.startswith("<!doctype html>") and 'name="_plain" value="1"' in page
    for number in (2, 7):
        assert client.get(f"{room}/messages/{number}/edit").status_code == 404


def test_an_edit_that_saw_an_older_room_is_refused(client: FlaskClient) -> None:
    """`last` names the last message that was seen: who confirmed to drop two drops no four."""
    room = new_room(client)
    ask(client, room, "One?")
    ask(client, room, "Two?")
    stale = client.patch(f"{room}/messages/1", data={"text": "Uno?", "last": "2"})
    assert stale.status_code == 409 and "new messages" in stale.text
    assert "Uno?" not in client.get(f"{room}/messages").text
    assert client.patch(f"{room}/messages/1", data={"text": "Uno?", "last": "4"}).status_code == 200


# Going on


def test_an_answer_that_broke_off_is_gone_on_with(client: FlaskClient, model_server: ModelServer) -> None:
    """`resume=1` adds to the same answer; an answer that is complete is left alone."""
    room = new_room(client)
    model_server.will(Reply(text("Once upon"), end("length")), answer(" a time."))
    assert "length limit" in ask(client, room, "A story")
    response = client.post(f"{room}/turn", data={"resume": "1"}, headers=WAIT)
    assert response.status_code == 201 and response.headers["Location"] == f"{room}/messages/2"
    assert "Once upon a time." in ended(client, room, 2)
    assert client.post(f"{room}/turn", data={"resume": "1"}).status_code == 409


def test_a_resume_that_is_neither_yes_nor_no_changes_nothing(client: FlaskClient, model_server: ModelServer) -> None:
    """It is not taken for a retry, which would drop what was said."""
    room = new_room(client)
    model_server.will(Reply(text("Once upon"), end("length")))
    ask(client, room, "A story")
    assert client.post(f"{room}/turn", data={"resume": "true"}).status_code == 400
    assert "Once upon" in client.get(f"{room}/messages/2").text


def test_there_is_nothing_to_go_on_with_in_an_empty_room(client: FlaskClient) -> None:
    """It says so."""
    response = client.post(f"{new_room(client)}/turn", data={"resume": "1"})
    assert response.status_code == 409 and "not cut off" in response.text


def ended(client: FlaskClient, room: str, number: int) -> str:
    """A message once it has ended: another question waits its turn, so its end is that of the one before."""
    ask(client, room, "And?")
    return client.get(f"{room}/messages/{number}").text


# The transcript


def test_the_transcript_is_markdown_of_the_whole_room(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Every message in order, also more than a page of them: thoughts quoted, tools in brackets, endings named."""
    room = new_room(client, "Owls & more")
    model_server.will(
        Reply(reasoning("Hm.\nDice."), tool_call("roll_dice", '{"sides": 2}'), end("tool_calls")),
        answer("It is **one**."),
        Reply(text("Half an")),
    )
    ask(client, room, "Roll")
    ask(client, room, "Go on")
    for n in range(30):
        ask(client, room, f"Question {n}")
    response = client.get(f"{room}/messages", headers={"Accept": "text/markdown"})
    assert response.mimetype == "text/markdown" and response.headers["Vary"] == "Accept"
    told = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "NOW", response.text)
    assert told.startswith(
        '# Owls & more\n\n## You, NOW\n\nRoll\n\n## stand-in, NOW\n\n> Hm.\n> Dice.\n\n[roll_dice {"sides": 2} → '
    )
    assert "It is **one**.\n\n## You, NOW\n\nGo on\n\n## stand-in, NOW\n\nHalf an\n\n*interrupted: The model" in told
    assert re.findall(r"Question (\d+)", told) == [str(n) for n in range(30)]
    assert told.count("\n## ") == 64
    assert "<article" in client.get(f"{room}/messages").text


def test_a_transcript_of_nothing_is_its_heading(client: FlaskClient) -> None:
    """An empty room has one, a room that is not there has none."""
    headers = {"Accept": "text/markdown"}
    assert client.get(f"{new_room(client)}/messages", headers=headers).text == "# Kitchen\n"
    assert client.get("/rooms/000000000000/messages", headers=headers).status_code == 404


# What it took


def test_an_answer_says_what_it_took(client: FlaskClient, model_server: ModelServer) -> None:
    """The server's count as it is, over all steps; an estimate is marked; a question says nothing of it."""
    room = new_room(client)
    step = Reply(tool_call("roll_dice", "{}"), usage(1000, 10), end("tool_calls"))
    model_server.will(step, Reply(text("One."), usage(2000, 5), end()), answer("About that."))
    assert "3,000 in, 15 out" in ask(client, room, "Roll")
    assert re.search(r"≈ \d+ in, ≈ \d+ out", ask(client, room, "And how much?"))
    assert "message__usage" not in client.get(f"{room}/messages/1").text


def test_limits_come_from_the_environment(
    instance: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is ended where OVERSEER_MAX_ANSWER_CHARS says, and a silent server after the seconds set for it."""
    for name, value in {
        "OPENAI_BASE_URL": model_server.url,
        "OPENAI_MODEL": "stand-in",
        "OVERSEER_MAX_ANSWER_CHARS": "10",
        "OVERSEER_FIRST_BYTE_SECONDS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    app = create_app(instance)
    with app.test_client() as client:
        room = new_room(client)
        model_server.will(answer("12345", "67890", "more"), held())
        told = ask(client, room, "Much")
        assert "1234567890" in told and "more" not in told and "ended at 10 characters" in told
        assert "said nothing for 1 s" in ask(client, room, "Anybody?")
    app.extensions["overseer"].close()
