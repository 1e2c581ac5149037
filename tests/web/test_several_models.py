"""The routes of answers side by side: to ask several models, wait for them, stop and repeat one, and choose."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from overseer.web.extensions import overseer as overseer_of
from tests.support.client import NAVIGATION, PLAIN, WAIT, articles, ended, wait_for_message
from tests.support.client import new_room as create
from tests.support.html import parsed
from tests.support.model_server import ModelServer, Reply, answer, end, held, text, tool_call


@pytest.fixture(autouse=True)
def named_answers(model_server: ModelServer) -> None:
    """Every model answers with its name."""

    def otherwise(body: dict[str, Any]) -> Reply:
        return answer(f"I am {body['model']}.")

    model_server.otherwise = otherwise


@pytest.fixture
def room(client: FlaskClient) -> str:
    return f"/rooms/{create(client)}"


def ask(client: FlaskClient, room: str, *models: str, headers: dict[str, str] | None = None) -> Any:
    return client.post(f"{room}/messages", data={"text": "Who?", "model": list(models)}, headers=headers or WAIT)


def test_question_is_answered_by_each_model(client: FlaskClient, room: str) -> None:
    response = ask(client, room, "ant", " bee ", "")
    assert response.status_code == 201 and response.headers["Location"] == f"{room}/messages/1"
    expected = [
        ("message-1", "user", "complete", "Who?"),
        ("message-2", "assistant", "complete", "I am ant."),
        ("message-3", "assistant", "complete", "I am bee."),
    ]
    for html in (response.text, client.get(room).text, client.get(f"{room}/messages").text):
        assert articles(html) == expected
        assert [one["id"] for one in parsed(html).one("section", id="beside-1").every("article")] == [
            "message-2",
            "message-3",
        ]
    assert response.text.strip() in client.get(room).text


def test_at_most_four_models_are_asked(client: FlaskClient, room: str, model_server: ModelServer) -> None:
    response = ask(client, room, *"abcde")
    assert response.status_code == 422 and "Choose at most 4 models; these are 5." in response.text
    assert ask(client, room, "x" * 201).status_code == 422
    assert not model_server.requests and not articles(client.get(room).text)
    assert len(articles(ask(client, room, *"abcd").text)) == 5


def test_models_are_checked_before_a_room_is_created(client: FlaskClient) -> None:
    assert client.post("/messages", data={"text": "Who?", "model": list("abcde")}).status_code == 422
    assert not parsed(client.get("/rooms").text).has("li", class_="row")


def test_other_version_that_ends_side_by_side_is_switched_to_without_a_choice(client: FlaskClient, room: str) -> None:
    ask(client, room, "ant", "bee")
    edited = client.patch(f"{room}/messages/1", data={"text": "Who else?"}, headers=WAIT)
    assert edited.status_code == 201
    form = parsed(client.get(f"{room}?at=3").text).one("form", class_="other-version")
    assert form.one("button")["value"] == "1"


def test_hostile_name_of_a_model_is_text(client: FlaskClient, room: str) -> None:
    response = ask(client, room, "<b>x</b>\x00", "b", headers={"Prefer": "wait=0"})
    assert response.status_code == 201 and "<b>" not in response.text and "&lt;b&gt;" in response.text


def test_plain_text_has_each_answer_under_the_name_of_its_model(client: FlaskClient, room: str) -> None:
    response = ask(client, room, "ant", "bee", headers={"Accept": "text/plain"})
    assert response.text == "[ant]\nI am ant.\n\n[bee]\nI am bee.\n"
    again = client.post(f"{room}/messages", data={"text": "Who?", "model": "ant", "key": "k"}, headers=WAIT)
    assert again.status_code == 201


def test_plain_text_of_one_model_has_no_heading(client: FlaskClient, room: str) -> None:
    assert ask(client, room, "ant", headers={"Accept": "text/plain"}).text == "I am ant.\n"


def test_one_answer_is_stopped_repeated_and_chosen(client: FlaskClient, room: str, model_server: ModelServer) -> None:
    model_server.will(held(text("Slowly")), held(text("Slowly")))
    ask(client, room, "ant", "bee", headers={"Prefer": "wait=0"})
    with client.application.app_context():
        overseer, room_id = overseer_of(), room.removeprefix("/rooms/")
    for number in (2, 3):
        wait_for_message(overseer, room_id, number, lambda message: bool(message.parts))
    assert client.put(f"{room}/head", data={"message": 3}).status_code == 409
    assert client.delete(f"{room}/turn?message=3").status_code == 200
    states = [state for _, _, state, _ in articles(client.get(room).text)]
    assert states == ["complete", "streaming", "stopped"]
    assert client.post(f"{room}/turn", data={"message": 2}).status_code == 409
    response = client.post(f"{room}/turn", data={"message": 3})
    assert response.status_code == 201 and response.headers["Location"] == f"{room}/messages/4"
    wait_for_message(overseer, room_id, 4, ended)
    assert articles(client.get(room).text)[2][0::3] == ("message-4", "I am bee.")
    assert client.delete(f"{room}/turn").status_code == 200
    assert [one[2] for one in articles(client.get(room).text)] == ["complete", "stopped", "complete"]
    for refused in ("message=x", "message=-1"):
        assert client.delete(f"{room}/turn?{refused}").status_code == 400
    assert client.post(f"{room}/turn", data={"message": 1}).status_code == 409
    response = client.put(f"{room}/head", data={"message": 4})
    assert [one[0] for one in articles(response.text)] == ["message-1", "message-4"]
    assert not parsed(response.text).has("section")
    assert "2" in (parsed(client.get("/rooms").text).one("li", class_="row")["data-hidden"] or "")


def test_link_to_an_answer_beside_another_leads_to_the_room(client: FlaskClient, room: str) -> None:
    ask(client, room, "ant", "bee")
    response = client.get(f"{room}/messages/3", headers={"Sec-Fetch-Mode": "navigate"})
    assert response.status_code == 303 and response.headers["Location"] == f"{room}#message-3"
    page = client.get(f"{room}?at=3").text
    assert parsed(page).has("form", id="composer") and len(articles(page)) == 3


def test_form_without_javascript_chooses_an_answer(client: FlaskClient, room: str) -> None:
    ask(client, room, "ant", "bee")
    response = client.post(f"{room}/head", data={"_method": "PUT", "message": 3, **PLAIN})
    assert response.status_code == 303 and response.headers["Location"].endswith("#message-3")


def test_models_to_choose_from_keep_those_that_are_chosen(client: FlaskClient, model_server: ModelServer) -> None:
    model_server.models = ["ant", "bee", "x/cat"]
    html = client.get("/models?several=1&q=C&model=bee&model=bee&model=other").text
    found = [(one["value"], one["checked"] is not None) for one in parsed(html).every("input")]
    assert found == [("bee", True), ("other", True), ("x/cat", False), ("C", False)]
    assert client.get("/models", query_string={"several": 1, "model": list("abcde")}).status_code == 422


def test_transcript_has_the_answer_that_is_gone_on_with(client: FlaskClient, room: str) -> None:
    ask(client, room, "ant", "bee")
    text = client.get(f"{room}/messages", headers={"Accept": "text/markdown"}).text
    assert "I am ant." in text and "I am bee." not in text


def test_number_of_a_question_or_an_answer_may_be_in_the_query_or_in_the_form(
    client: FlaskClient, room: str, model_server: ModelServer
) -> None:
    model_server.will(held(text("Half")))
    client.post(f"{room}/messages", data={"text": "Who?"})
    for number, sent in ((3, {"data": {"question": "3"}}), (5, {"query_string": {"question": "5"}})):
        client.post(f"{room}/messages", data={"text": "And who?"})
        shown = client.delete(f"{room}/turn", **sent)
        assert [one[0] for one in articles(shown.text)] == ["message-1", "message-2"], number
        assert 'data-state="stopped"' not in shown.text
    client.delete(f"{room}/turn")
    ask(client, room, "ant", "bee")
    first = int(str(articles(client.get(room).text)[-2][0]).partition("-")[2])
    assert client.post(f"{room}/turn?message={first}", headers=WAIT).status_code == 201
    lanes = parsed(client.get(room).text).one("section", class_="beside").every("article")
    assert [one["id"] for one in lanes] == [f"message-{first + 2}", f"message-{first + 1}"]


def test_rejected_form_keeps_every_model(client: FlaskClient, room: str) -> None:
    form = {"text": "Who?", "model": list("abcde"), "_plain": "1"}
    page = client.post(f"{room}/messages", data=form, headers=NAVIGATION)
    assert page.status_code == 422
    fields = parsed(page.text).every("textarea", name="model")
    assert [one.text.strip() for one in fields] == list("abcde")


def test_plain_text_has_the_tools_of_every_answer(client: FlaskClient, room: str, model_server: ModelServer) -> None:
    for _ in range(2):
        model_server.will(Reply(tool_call("roll_dice", '{"sides": 1}'), end("tool_calls")))
    response = ask(client, room, "ant", "bee", headers={"Accept": "text/plain"})
    assert response.text.count("[roll_dice") == 2


def test_name_that_cannot_be_seen_has_a_label(client: FlaskClient, room: str) -> None:
    response = ask(client, room, "\u200b", "bee", headers={"Accept": "text/plain"})
    assert response.text.startswith("[?]\n")
