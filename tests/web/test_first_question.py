"""Home and the first question of a room: the composer without a room, suggestions, and rooms that nobody has used."""

from __future__ import annotations

import threading

import pytest
from flask.testing import FlaskClient

from overseer.domain.errors import StorageUnavailable
from overseer.rooms.overseer import Overseer
from overseer.rooms.room_handle import RoomHandle
from tests.support.answers import ended_answer
from tests.support.html import parsed
from tests.support.model_server import ModelServer, Reply, end, text

PLAIN = {"Accept": "text/plain"}


def room_ids(overseer: Overseer) -> list[str]:
    return [room.id for room in overseer.rooms().rooms]


def test_first_question_creates_a_room_named_after_it(client: FlaskClient, overseer: Overseer) -> None:
    created = client.post("/messages", data={"text": "Why is the sky blue?"})
    (room_id,) = room_ids(overseer)
    assert (created.status_code, created.headers["Location"]) == (201, f"/rooms/{room_id}/messages/1")
    assert created.headers["HX-Push-Url"] == f"/rooms/{room_id}"
    room = parsed(created.text).one(id="room")
    assert room["data-room"] == room_id and "Why is the sky blue?" in room.one(id="message-1").text
    assert overseer.record(room_id).name == "Why is the sky blue?"
    assert ended_answer(overseer, room_id, 2).text == "All right."


@pytest.mark.parametrize("how", ["form", "header"])
def test_repeated_first_question_leads_to_the_same_room(client: FlaskClient, overseer: Overseer, how: str) -> None:
    fields, headers = ({"key": "k-1"}, {}) if how == "form" else ({}, {"Idempotency-Key": "k-1"})
    answers = [client.post("/messages", data={"text": "Hello", **fields}, headers=headers) for _ in range(3)]
    assert len({one.headers["Location"] for one in answers}) == 1 and {one.status_code for one in answers} == {201}
    (room_id,) = room_ids(overseer)
    assert overseer.record(room_id).messages == 2
    other = client.post("/messages", data={"text": "Something else", **fields}, headers=headers)
    assert other.status_code == 422 and overseer.record(room_id).messages == 2
    overseer.delete(room_id)
    assert client.post("/messages", data={"text": "Hello", **fields}, headers=headers).status_code == 201


def test_first_question_that_is_sent_twice_at_once_creates_one_room(client: FlaskClient, overseer: Overseer) -> None:
    threads = [
        threading.Thread(target=client.application.test_client().post, args=("/messages",), kwargs={"data": data})
        for data in [{"text": "Hello", "key": "k"}] * 6
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (room_id,) = room_ids(overseer)
    assert overseer.record(room_id).messages == 2


def test_first_question_without_javascript_redirects_to_its_room(client: FlaskClient, overseer: Overseer) -> None:
    sent = client.post("/messages", data={"text": "Hello", "_plain": "1"})
    assert (sent.status_code, sent.headers["Location"]) == (303, f"/rooms/{room_ids(overseer)[0]}#message-1")


def test_first_question_streams_its_answer_to_curl(client: FlaskClient, model_server: ModelServer) -> None:
    model_server.will(Reply(text("Be"), text("cause."), end()))
    assert client.post("/messages", data={"text": "Why?"}, headers=PLAIN).text == "Because.\n"
    waited = client.post("/messages", data={"text": "And?"}, headers={"Prefer": "wait=30"})
    assert waited.status_code == 201 and "All right." in waited.text


@pytest.mark.parametrize(("words", "status"), [("", 422), (" \n", 422), ("x" * 200_001, 413)])
def test_question_that_is_refused_creates_no_room(
    client: FlaskClient, overseer: Overseer, words: str, status: int
) -> None:
    assert client.post("/messages", data={"text": words}).status_code == status
    page = client.post("/messages", data={"text": words, "_plain": "1"})
    assert page.status_code == status and "<title>" in page.text
    assert not words.strip() or parsed(page.text).one("textarea", name="text").text.strip() == words.strip()
    assert room_ids(overseer) == []


@pytest.mark.parametrize("failing", ["ask", "record"])
def test_first_question_that_fails_is_asked_in_the_same_room_when_it_is_repeated(
    client: FlaskClient, overseer: Overseer, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Before it is stored or after: what was stored is never deleted."""

    def refuse(*_: object, **__: object) -> None:
        raise StorageUnavailable("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(RoomHandle, failing, refuse)
        assert client.post("/messages", data={"text": "Hello", "key": "k"}).status_code == 503
    (room_id,) = room_ids(overseer)
    assert overseer.record(room_id).messages == (2 if failing == "record" else 0)
    repeated = client.post("/messages", data={"text": "Hello", "key": "k"})
    assert (repeated.status_code, repeated.headers["Location"]) == (201, f"/rooms/{room_id}/messages/1")
    assert room_ids(overseer) == [room_id] and overseer.record(room_id).messages == 2


def test_suggestion_is_a_button_that_sends_its_text(client: FlaskClient, overseer: Overseer) -> None:
    """Beside the empty field of the composer; at home and in a room without messages."""
    room_id = client.post("/rooms").headers["Location"][-12:]
    for path in ("/?q=", f"/rooms/{room_id}"):
        page = parsed(client.get(path, follow_redirects=True).text)
        suggestions = [one for one in page.one("form", id="composer").every("button") if one["name"] == "text"]
        assert len(suggestions) == 4
    sent = client.post(f"/rooms/{room_id}/messages", data={"text": ["", suggestions[0]["value"]]})
    assert sent.status_code == 201 and overseer.room(room_id).message(1).text == suggestions[0]["value"]
    assert not parsed(client.get(f"/rooms/{room_id}").text).every("button", name="text")


def test_new_opens_the_room_that_nobody_has_used(client: FlaskClient, overseer: Overseer) -> None:
    """For the page, which sends `reuse`; a script that creates rooms gets as many as it asks for."""
    first = client.post("/rooms", data={"reuse": "1"})
    again = client.post("/rooms", data={"reuse": "1"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["Location"] == again.headers["Location"]
    assert client.post("/rooms").headers["Location"] != first.headers["Location"]
    used = client.post("/rooms", data={"reuse": "1"}).headers["Location"][-12:]
    client.post(f"/rooms/{used}/messages", data={"text": "Hello"})
    client.patch(f"/rooms/{room_ids(overseer)[-1]}", data={"name": "Kitchen"})
    assert client.post("/rooms", data={"reuse": "1"}).status_code == 201


def test_query_of_home_is_typed_into_the_composer_and_not_sent(client: FlaskClient, overseer: Overseer) -> None:
    client.post("/rooms")
    page = client.get("/", query_string={"q": "What is <b>SQLite</b>?\0"})
    assert page.status_code == 200
    assert parsed(page.text).one("textarea", name="text").text == "What is <b>SQLite</b>?\N{REPLACEMENT CHARACTER}"
    assert parsed(page.text).one(id="filter")["value"] == "" and len(parsed(page.text).every(class_="row")) == 1
    assert len(room_ids(overseer)) == 1 and not overseer.rooms().rooms[0].messages
