"""The routes of rooms and messages: what each returns to curl, to htmx and to a browser without JavaScript."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import requests
from flask import request_finished
from flask.testing import FlaskClient

from overseer.domain.records import Asked
from overseer.rooms.overseer import Overseer
from overseer.rooms.room_handle import RoomHandle
from overseer.storage.instance_lock import room_file
from tests.support.client import (
    HTMX,
    NAVIGATION,
    PLAIN,
    WAIT,
    articles,
    ask,
    ended,
    is_page,
    new_room,
    rows,
    wait_for_message,
)
from tests.support.files import column
from tests.support.html import Element, parsed, root
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text, tool_call
from tests.support.seed_data import insert_messages
from tests.support.server import Server
from tests.support.waiting import DEADLINE

TEXT = {"Accept": "text/plain"}


def showing(room_id: str) -> dict[str, str]:
    """The headers of htmx in a tab that shows a room."""
    return {**HTMX, "HX-Current-URL": f"http://localhost/rooms/{room_id}"}


def row_of(client: FlaskClient, room_id: str) -> Element:
    return root(client.get("/rooms").text).one(id=f"room-{room_id}")


# Pages


def test_root_is_the_empty_page_and_then_redirects_to_the_most_recently_active_room(client: FlaskClient) -> None:
    empty = client.get("/")
    assert empty.status_code == 200 and is_page(empty) and rows(empty.text) == []
    assert parsed(empty.text).one("form", id="composer")["action"] == "/messages"
    first, second = new_room(client), new_room(client)
    assert (client.get("/").status_code, client.get("/").headers["Location"]) == (303, f"/rooms/{second}")
    ask(client, first, "Hello")
    assert client.get("/").headers["Location"] == f"/rooms/{first}"


def test_healthz_is_ok_as_text(client: FlaskClient) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.text, response.mimetype) == (200, "ok", "text/plain")


def test_page_contains_the_list_the_open_room_and_every_fragment_byte_for_byte(client: FlaskClient) -> None:
    other, room_id = new_room(client, "Other"), new_room(client, "Kitchen")
    ask(client, room_id, "Hello")
    response = client.get(f"/rooms/{room_id}")
    assert response.status_code == 200 and response.mimetype == "text/html"
    assert (response.headers["Vary"], response.headers["Cache-Control"]) == ("HX-Request", "no-store")
    page = parsed(response.text)
    assert page.one("body")["data-live"] == "closed"
    listed = page.one(id="sidebar").one("ul", id="rooms")
    row = listed.one("li", id=f"room-{room_id}")
    assert (row["data-room"], row["data-messages"], row["data-state"]) == (room_id, "2", "idle")
    assert row["aria-current"] == "page" and listed.one(id=f"room-{other}")["aria-current"] is None
    room = page.one(id="room", data_room=room_id)
    assert room.one("header", id="header").one("h1").text == "Kitchen"
    assert room.one("form", id="composer").one("textarea", name="text")
    sockets = [element for element in page.all if "hx-ws:connect" in element.attributes]
    assert len(sockets) == 1 and sockets[0] in room.all
    assert articles(response.text) == [
        ("message-1", "user", "complete", "Hello"),
        ("message-2", "assistant", "complete", "All right."),
    ]
    for path in (f"/rooms/{room_id}/messages", f"/rooms/{room_id}/messages/1", f"/rooms/{room_id}/messages/2"):
        assert client.get(path).text in response.text
    assert client.patch(f"/rooms/{room_id}", data={"name": "Kitchen"}).text in response.text
    assert client.get("/rooms", headers=showing(room_id)).text in response.text


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        ({}, True),
        ({**HTMX, "HX-Request-Type": "partial"}, False),
        ({**HTMX, "HX-Request-Type": "full"}, True),
        ({**HTMX, "HX-Request-Type": "partial", "HX-History-Restore-Request": "true"}, True),
        ({"HX-Request-Type": "partial"}, True),
    ],
)
def test_room_is_a_fragment_for_partial_requests_of_htmx_only(
    client: FlaskClient, headers: dict[str, str], page: bool
) -> None:
    room_id = new_room(client)
    response = client.get(f"/rooms/{room_id}", headers=headers)
    assert (response.status_code, response.headers["Vary"]) == (200, "HX-Request")
    assert is_page(response) is page
    assert page or root(response.text)["data-room"] == room_id


def test_urls_below_a_prefix_start_with_it(client: FlaskClient) -> None:
    base = "http://localhost/chat"
    made = client.post("/rooms", base_url=base)
    path = made.headers["Location"].removeprefix("/chat")
    assert made.headers["Location"].startswith("/chat/rooms/")
    client.post(f"{path}/messages", base_url=base, data={"text": "Hello"}, headers=WAIT)
    assert client.get("/", base_url=base).headers["Location"] == f"/chat{path}"
    page = parsed(client.get(path, base_url=base).text)
    names = {"href", "src", "action", "hx-get", "hx-post", "hx-patch", "hx-delete", "hx-ws:connect", "data-rename"}
    urls = [value for one in page.all for name, value in one.attributes.items() if name in names]
    assert len(urls) > 20
    assert [url for url in urls if not url.startswith(("/chat/", "#"))] == []


# Rooms


def test_create_room_returns_its_fragment_and_location(client: FlaskClient) -> None:
    response = client.post("/rooms")
    assert response.status_code == 201 and re.fullmatch(r"/rooms/[0-9a-f]{12}", response.headers["Location"])
    room = root(response.text)
    assert (room["id"], room["data-room"]) == ("room", response.headers["Location"].removeprefix("/rooms/"))
    assert room.one("h1").text == "New room" and articles(response.text) == []
    htmx = client.post("/rooms", data={"name": " The  kitchen ", **PLAIN}, headers=HTMX)
    assert htmx.status_code == 201 and htmx.headers["HX-Push-Url"] == htmx.headers["Location"]
    assert root(htmx.text).one("h1").text == "The kitchen"
    plain = client.post("/rooms", data={"name": "Kitchen", **PLAIN})
    assert plain.status_code == 303 and is_page(client.get(plain.headers["Location"]))


def test_list_is_filtered_by_name(client: FlaskClient) -> None:
    """As a fragment, and as a page for a browser that submits the filter form."""
    kitchen, street, _ = new_room(client, "Kitchen"), new_room(client, "Große Straße"), new_room(client, "Cellar")
    response = client.get("/rooms")
    assert response.status_code == 200 and len(rows(response.text)) == 3
    assert (root(response.text).tag, root(response.text)["id"]) == ("ul", "rooms")
    assert rows(client.get("/rooms?q=kITCH").text) == [kitchen]
    assert rows(client.get("/rooms", query_string={"q": " STRASSE "}).text) == [street]
    assert rows(client.get("/rooms?q=attic").text) == []
    page = client.get("/rooms?q=kit", headers=NAVIGATION)
    assert page.status_code == 200 and is_page(page)
    assert rows(page.text) == [kitchen] and parsed(page.text).one(id="filter")["value"] == "kit"


def test_list_comes_in_pages_with_pinned_rooms_first_and_then_by_last_activity(client: FlaskClient) -> None:
    """Every room is listed once, and every heading once. The link to the next page keeps the filter."""
    made = [new_room(client, f"Room {n}") for n in range(60)]
    ask(client, made[7], "Hello")
    client.patch(f"/rooms/{made[0]}", data={"pinned": "1"})
    expected = [made[0], made[7], *(one for one in reversed(made[1:]) if one != made[7])]
    for q in ("", "room"):
        first = root(client.get("/rooms", query_string={"q": q}).text)
        more = first.one(id="rooms-more").one("a")
        assert more["href"] == more["hx-get"] and parse_qs(urlsplit(more["href"] or "").query).get("q", [""]) == [q]
        second = root(client.get(more["href"] or "").text)
        pages = [[row["data-room"] for row in page.every("li", class_="row")] for page in (first, second)]
        assert pages == [expected[:50], expected[50:]]
        found = ["Messages"] if first.has(id="rooms-found") else []  # the index may have been faster
        assert [heading.text for heading in first.every("h2")] == ["Pinned", "Today", *found]
        assert not second.has("h2") and not second.has(id="rooms-more")


def test_list_marks_the_room_that_the_tab_shows(client: FlaskClient) -> None:
    other, room_id = new_room(client), new_room(client)
    listed = root(client.get("/rooms", headers=showing(room_id)).text)
    assert listed.one(id=f"room-{room_id}")["aria-current"] == "page"
    assert listed.one(id=f"room-{other}")["aria-current"] is None
    for url in ("http://[::1", "http://localhost/rooms/0123456789ab", "x" * 10_000):
        assert client.get("/rooms", headers={**HTMX, "HX-Current-URL": url}).status_code == 200, url


def test_list_shows_count_state_and_preview_of_a_room(client: FlaskClient, model_server: ModelServer) -> None:
    room_id = new_room(client)

    def row() -> tuple[str | None, str | None, str | None]:
        listed = row_of(client, room_id)
        return listed["data-messages"], listed["data-state"], listed.one("a")["title"]

    assert row() == ("0", "idle", "")
    reply = model_server.will(held(text("Good")))
    ask(client, room_id, "Say **good day**", wait=False)
    assert row() == ("2", "answering", "Say good day")
    client.delete(f"/rooms/{room_id}/turn")
    reply.hang_up()
    assert row()[:2] == ("2", "idle")


def test_pinning_moves_a_room_to_the_top_until_it_is_unpinned(client: FlaskClient, instance: Path) -> None:
    low, high = new_room(client, "Low"), new_room(client, "High")
    assert client.patch(f"/rooms/{low}", data={"pinned": "1"}).status_code == 200
    assert column(room_file(instance, low), "SELECT pinned FROM room") == [1]
    ask(client, high, "Up")
    newest = new_room(client, "Newest")
    assert client.patch(f"/rooms/{low}", data={"pinned": "yes"}).status_code == 422
    assert client.patch(f"/rooms/{low}", data={"temperature": "0.5"}).status_code == 200
    assert rows(client.get("/rooms").text) == [low, newest, high]
    client.patch(f"/rooms/{low}", data={"pinned": "0"})
    assert rows(client.get("/rooms").text) == [newest, high, low]
    client.patch(f"/rooms/{low}", data={"pinned": "1"})
    ask(client, low, "Up")
    client.patch(f"/rooms/{low}", data={"pinned": "0"})
    assert rows(client.get("/rooms").text) == [low, newest, high], "activity counts while a room is pinned"


def test_delete_room_stops_its_turn_and_removes_its_files(
    client: FlaskClient, instance: Path, model_server: ModelServer
) -> None:
    kept, room_id = new_room(client), new_room(client)
    reply = model_server.will(held(text("On and on")))
    ask(client, room_id, "Go on", wait=False)
    assert reply.begun.wait(DEADLINE)
    response = client.delete(f"/rooms/{room_id}", headers=showing(kept))
    assert (response.status_code, response.text) == (200, "") and "HX-Retarget" not in response.headers
    assert reply.closed.wait(DEADLINE)
    assert rows(client.get("/rooms").text) == [kept]
    assert list((instance / "facets").glob(f"*{room_id}*")) == []
    assert client.get(f"/rooms/{room_id}").status_code == client.delete(f"/rooms/{room_id}").status_code == 404


def test_delete_of_the_open_room_returns_the_next_one(client: FlaskClient) -> None:
    next_one, room_id = new_room(client), new_room(client)
    response = client.delete(f"/rooms/{room_id}", headers=showing(room_id))
    assert (response.headers["HX-Retarget"], response.headers["HX-Reswap"]) == ("#room", "outerHTML")
    assert response.headers["HX-Push-Url"] == f"/rooms/{next_one}"
    assert (root(response.text)["id"], root(response.text)["data-room"]) == ("room", next_one)
    last = client.delete(f"/rooms/{next_one}", headers=showing(next_one))
    assert (last.headers["HX-Retarget"], last.headers["HX-Push-Url"]) == ("#room", "/")
    assert root(last.text)["id"] == "room" and root(last.text)["data-room"] is None


# Messages


def test_question_returns_both_messages_at_once(client: FlaskClient, model_server: ModelServer) -> None:
    reply = model_server.will(held())
    room_id = new_room(client)
    response = ask(client, room_id, "Hello", wait=False)
    assert response.headers["Location"] == f"/rooms/{room_id}/messages/1"
    assert articles(response.text) == [
        ("message-1", "user", "complete", "Hello"),
        ("message-2", "assistant", "waiting", ""),
    ]
    assert parsed(response.text).one(id="message-2")["aria-busy"] == "true"
    assert client.get(response.headers["Location"]).text in response.text
    reply.hang_up()


def test_question_from_htmx_replaces_the_end_of_the_list(client: FlaskClient) -> None:
    room_id = new_room(client)
    for last in (0, 2):
        assert parsed(client.get(f"/rooms/{room_id}").text).has(id=f"after-{last}")
        response = client.post(f"/rooms/{room_id}/messages", data={"text": "Hello", **PLAIN}, headers={**HTMX, **WAIT})
        partial = root(response.text)
        assert (response.status_code, partial.tag, partial["hx-swap"]) == (201, "hx-partial", "outerHTML")
        assert partial["hx-target"] == f"#after-{last}"
        ids = [child["id"] for child in partial.children]
        assert ids == [f"message-{last + 1}", f"message-{last + 2}", f"after-{last + 2}"]


def test_every_form_of_the_page_works_without_javascript(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Each form, as a browser without JavaScript sends it, redirects to a page."""
    room_id = new_room(client)
    model_server.will(Reply(text("Half")), answer("Good"), held(text("On and on")))
    ask(client, room_id, "Hello")
    typed = {"text": "Again", "name": "Cellar"}

    def submit(path: str, method: str, field: str = "") -> str:
        forms = parsed(client.get(f"/rooms/{room_id}").text).every("form", method="post", action=path)
        for form in forms:
            pressed = [one for one in form.every("button") if one["name"] and one["name"] in ("message", field)]
            controls = (*form.every("input"), *form.every("textarea"), *pressed)
            fields = {one["name"] or "": one["value"] or "" for one in controls if one["disabled"] is None}
            if fields.get("_method", "POST") == method and (not field or field in fields):
                break
        else:
            raise AssertionError(f"no form for {method} {path}")
        response = client.post(path, data={**fields, **{name: typed[name] for name in fields if name in typed}})
        assert (response.status_code, response.text) == (303, ""), path
        assert is_page(client.get(urljoin("/", response.headers["Location"]), follow_redirects=True))
        return response.headers["Location"]

    room = f"/rooms/{room_id}"
    submit(f"{room}/turn", "POST")
    wait_for_message(overseer, room_id, 3, ended)
    assert submit(f"{room}/head", "PUT", "message") == f"{room}#message-2"
    assert submit(f"{room}/messages", "POST") == f"{room}#message-4"
    wait_for_message(overseer, room_id, 5, lambda message: message.text == "On and on")
    submit(f"{room}/turn", "DELETE")
    assert overseer.room(room_id).message(5).state == "stopped"
    submit(room, "PATCH", "name")
    assert overseer.record(room_id).name == "Cellar"
    submit(f"{room}/messages", "DELETE")
    assert overseer.room(room_id).messages().messages == ()
    submit("/rooms", "POST")
    assert len(overseer.rooms().rooms) == 2
    for chosen in (True, False):
        submit(room, "PATCH", "pinned")
        submit(room, "PATCH", "archived")
        assert (overseer.record(room_id).pinned, overseer.record(room_id).archived) == (chosen, chosen)
    temporary = submit("/rooms", "POST", "temporary").removeprefix("/rooms/")
    assert overseer.record(temporary).temporary
    submit(room, "DELETE")
    assert room_id not in [one.id for one in overseer.rooms().rooms]


def test_messages_come_in_pages_of_fifty(client: FlaskClient, instance: Path) -> None:
    """A browser that navigates to a message comes to the page that contains it."""
    room_id = new_room(client)
    insert_messages(room_file(instance, room_id), range(1, 121), str)

    def numbers(html: str) -> list[int]:
        return [int((one["id"] or "").removeprefix("message-")) for one in parsed(html).every("article")]

    newest = client.get(f"/rooms/{room_id}/messages")
    assert newest.status_code == 200 and root(newest.text)["id"] == "messages"
    assert numbers(newest.text) == list(range(71, 121)) and parsed(newest.text).has(id="after-120")
    more = parsed(newest.text).one(class_="messages__earlier").one("a")
    assert more["hx-get"] == f"/rooms/{room_id}/messages?before=71"
    middle = client.get(more["hx-get"] or "")
    assert numbers(middle.text) == list(range(21, 71)) and not parsed(middle.text).has(id="after-120")
    first = client.get(f"/rooms/{room_id}/messages?before=21")
    assert numbers(first.text) == list(range(1, 21)) and not parsed(first.text).has(class_="messages__earlier")
    page = client.get(more["href"] or "")
    assert is_page(page) and numbers(page.text) == list(range(21, 71))
    assert numbers(client.get(f"/rooms/{room_id}/messages?before=1").text) == []
    assert numbers(client.get(f"/rooms/{room_id}/messages?before={10**30}").text) == list(range(71, 121))
    for number, location in ((110, "#message-110"), (20, "?at=20#message-20")):
        linked = client.get(f"/rooms/{room_id}/messages/{number}", headers=NAVIGATION)
        assert (linked.status_code, linked.headers["Location"]) == (303, f"/rooms/{room_id}{location}")
    missing = client.get(f"/rooms/{room_id}/messages/900", headers=NAVIGATION)
    assert missing.status_code == 404 and parsed(missing.text).one("main").one("a")["href"] == f"/rooms/{room_id}"


def test_message_is_a_fragment_or_its_markdown(client: FlaskClient, model_server: ModelServer) -> None:
    room_id = new_room(client)
    model_server.will(answer("**Good** day"))
    ask(client, room_id, "**Hello**\nthere")
    for number, markdown in ((1, "**Hello**\nthere"), (2, "**Good** day")):
        fragment = client.get(f"/rooms/{room_id}/messages/{number}")
        assert root(fragment.text)["id"] == f"message-{number}"
        assert root(fragment.text).has("strong") is (number == 2), "a question is shown as it was typed"
        stored = client.get(f"/rooms/{room_id}/messages/{number}", headers={"Accept": "text/markdown"})
        assert (stored.mimetype, stored.text) == ("text/markdown", markdown)
        assert stored.headers["Cache-Control"] == "no-store" and "Accept" in stored.headers["Vary"]


@pytest.mark.parametrize("in_header", [True, False])
def test_question_with_a_known_key_is_not_asked_again(
    client: FlaskClient, model_server: ModelServer, in_header: bool
) -> None:
    """With another text it is 422. In another room it is another question."""
    room_id = new_room(client)
    headers = {**WAIT, "Idempotency-Key": "k-1"} if in_header else WAIT
    form = {} if in_header else {"key": "k-1"}
    path = f"/rooms/{room_id}/messages"
    sent = [client.post(path, data={"text": "Hello", **form}, headers=headers) for _ in range(2)]
    assert [one.status_code for one in sent] == [201, 201]
    assert sent[0].text == sent[1].text and sent[0].headers["Location"] == sent[1].headers["Location"]
    assert len(model_server.requests) == 1
    changed = client.post(path, data={"text": "Bye", **form}, headers=headers)
    assert changed.status_code == 422 and root(changed.text)["id"] == "error"
    assert len(articles(client.get(path).text)) == 2
    elsewhere = client.post(f"/rooms/{new_room(client)}/messages", data={"text": "Bye", **form}, headers=headers)
    assert elsewhere.status_code == 201


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("headers", [{}, TEXT, WAIT])
def test_question_in_a_room_that_is_cleared_meanwhile_is_201(
    client: FlaskClient,
    overseer: Overseer,
    monkeypatch: pytest.MonkeyPatch,
    model_server: ModelServer,
    headers: dict[str, str],
    repeated: bool,
) -> None:
    room_id = new_room(client)
    if repeated:
        ask(client, room_id, "Hello", key="k")
    model_server.will(held())  # otherwise the answer may end before the room is cleared
    store = RoomHandle.ask

    def ask_and_clear(*args: Any, **kwargs: Any) -> Asked:
        asked = store(*args, **kwargs)
        overseer.room(room_id).clear()
        return asked

    monkeypatch.setattr(RoomHandle, "ask", ask_and_clear)
    response = client.post(f"/rooms/{room_id}/messages", data={"text": "Hello", "key": "k"}, headers=headers)
    assert response.status_code == 201
    if headers is TEXT:
        assert response.text == "\n\n[deleted]\n"
    elif headers or repeated:  # what is shown is read after the room was cleared
        assert response.text == ""
    assert response.headers["Location"] == f"/rooms/{room_id}/messages/1"


def test_question_waits_for_its_answer_or_returns_202(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """A repeat with the same key waits for the rest of the answer."""
    room_id = new_room(client)
    finished = ask(client, room_id, "Hello")
    assert articles(finished.text)[1] == ("message-2", "assistant", "complete", "All right.")
    reply = model_server.will(held(text("Half an ans")))
    form = {"text": "Go on", "key": "k-1"}
    unfinished = client.post(f"/rooms/{room_id}/messages", data=form, headers={"Prefer": "wait=1"})
    assert unfinished.status_code == 202 and unfinished.headers["Location"] == f"/rooms/{room_id}/messages/3"
    assert articles(unfinished.text)[1][2] in ("waiting", "streaming")
    reply.say(text("wer"), end())
    reply.hang_up()
    repeated = ask(client, room_id, "Go on", key="k-1")
    assert articles(repeated.text)[1] == ("message-4", "assistant", "complete", "Half an answer")


# Answers as plain text


def test_plain_text_streams_an_answer_and_continues_when_the_client_disconnects(
    server: Server, model_server: ModelServer
) -> None:
    url = requests.post(f"{server.url}/rooms").headers["Location"]
    reply = model_server.will(held(text("Grüß ")))
    with requests.post(f"{server.url}{url}/messages", {"text": "Hello"}, headers=TEXT, stream=True) as response:
        assert response.status_code == 201 and response.headers["Content-Type"].startswith("text/plain")
        assert response.headers["Location"] == f"{url}/messages/1"
        chunks = response.iter_content(None)
        assert next(chunks).decode() == "Grüß "
        reply.say(text("dich."))
        assert next(chunks).decode() == "dich."
        reply.say(end())
        reply.hang_up()
        assert b"".join(chunks) == b"\n"
    reply, form = model_server.will(held(text("The beginning, "))), {"text": "Hello", "key": "k-1"}
    with requests.post(f"{server.url}{url}/messages", form, headers=TEXT, stream=True) as response:
        assert next(response.iter_content(None)) == b"The beginning, "
    reply.say(text("the end."), end())
    reply.hang_up()
    again = requests.post(f"{server.url}{url}/messages", form, headers=WAIT)
    assert articles(again.text)[1] == ("message-4", "assistant", "complete", "The beginning, the end.")


@pytest.mark.parametrize(
    ("replies", "streamed"),
    [
        (
            [
                Reply(text("Rolling."), tool_call("roll_dice", '{"sides": 2}'), end("tool_calls")),
                answer("Done."),
            ],
            r'Rolling\.\n\n\[roll_dice \{"sides": 2\} → [12]\]\n\nDone\.\n',
        ),
        ([Reply(reasoning("Hm, hm."), text("Good day."), end())], r"Good day\.\n"),
        ([Reply(text("Half an ans"))], r"Half an ans\n\n\[interrupted: [^\]]+\]\n"),
    ],
    ids=["tool call", "reasoning", "interrupted"],
)
def test_plain_text_contains_text_tool_results_and_errors_only(
    client: FlaskClient, model_server: ModelServer, replies: list[Reply], streamed: str
) -> None:
    model_server.will(*replies)
    response = client.post(f"/rooms/{new_room(client)}/messages", data={"text": "Roll"}, headers=TEXT)
    assert response.status_code == 201 and re.fullmatch(streamed, response.text)


@pytest.mark.parametrize("finished", [True, False])
def test_plain_text_of_a_repeated_question_is_the_whole_answer(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer, finished: bool
) -> None:
    room_id = new_room(client)
    reply = model_server.will(held(text("Good ")))
    ask(client, room_id, "Hello", wait=False, key="k-1")
    wait_for_message(overseer, room_id, 2, lambda message: bool(message.text))

    def finish(sender: object, **extra: object) -> None:
        reply.say(text("day."), end())
        reply.hang_up()

    if finished:
        finish(client)
        wait_for_message(overseer, room_id, 2, ended)
    # The signal is sent before the body is read, so the turn ends while the body is read.
    with nullcontext() if finished else request_finished.connected_to(finish):
        data = {"text": "Hello", "key": "k-1"}
        response = client.post(f"/rooms/{room_id}/messages", data=data, headers=TEXT)
    assert response.text == "Good day.\n" and len(model_server.requests) == 1


# Changes of the conversation


def test_edit_of_a_question_asks_another_version_of_it(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    room_id = new_room(client)
    for question in ("First", "Second", "Third"):
        ask(client, room_id, question)
    before = client.get(f"/rooms/{room_id}/messages").text
    for number in (2, 7, 0):
        rejected = client.patch(f"/rooms/{room_id}/messages/{number}", data={"text": "Bye"})
        assert rejected.status_code == 404 and root(rejected.text)["id"] == "error"
    assert client.get(f"/rooms/{room_id}/messages").text == before
    model_server.will(held())
    response = client.patch(f"/rooms/{room_id}/messages/3", data={"text": "Zweitens"})
    assert (response.status_code, response.headers["Location"]) == (201, f"/rooms/{room_id}/messages/7")
    added = [("message-7", "user", "complete", "Zweitens"), ("message-8", "assistant", "waiting", "")]
    assert articles(response.text) == added
    shown = articles(client.get(f"/rooms/{room_id}/messages").text)
    assert [one[0] for one in shown[:2]] == ["message-1", "message-2"] and shown[2:] == added


def test_edit_and_retry_during_a_turn_are_409_and_stop_keeps_the_text(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    room_id = new_room(client)
    reply = model_server.will(held(text("Half an ans")))
    ask(client, room_id, "Hello", wait=False)
    wait_for_message(overseer, room_id, 2, lambda message: bool(message.text))
    edit = client.patch(f"/rooms/{room_id}/messages/1", data={"text": "Bye"})
    for response in (edit, client.post(f"/rooms/{room_id}/turn")):
        assert response.status_code == 409 and root(response.text)["id"] == "error"
    for _ in range(2):
        response = client.delete(f"/rooms/{room_id}/turn")
        assert response.status_code == 200 and root(response.text)["id"] == "messages"
        assert articles(response.text) == [
            ("message-1", "user", "complete", "Hello"),
            ("message-2", "assistant", "stopped", "Half an ans"),
        ]
    assert reply.closed.wait(DEADLINE)
    assert client.patch(f"/rooms/{room_id}/messages/1", data={"text": "Bye"}).status_code == 201
    assert client.delete(f"/rooms/{new_room(client)}/turn").status_code == 200


def test_retry_answers_the_last_question_again(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    room_id = new_room(client)
    nothing = client.post(f"/rooms/{room_id}/turn")
    assert nothing.status_code == 404 and root(nothing.text)["id"] == "error"
    ask(client, room_id, "First")
    ask(client, room_id, "Second")
    model_server.will(held())
    response = client.post(f"/rooms/{room_id}/turn")
    assert (response.status_code, response.headers["Location"]) == (201, f"/rooms/{room_id}/messages/5")
    assert articles(response.text) == [("message-5", "assistant", "waiting", "")]
    assert response.text == client.get(response.headers["Location"]).text


def test_clear_removes_all_messages_and_stops_the_turn(client: FlaskClient, model_server: ModelServer) -> None:
    """Numbers are not used again."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    reply = model_server.will(held(text("On and on")))
    ask(client, room_id, "Go on", wait=False)
    assert reply.begun.wait(DEADLINE)
    response = client.delete(f"/rooms/{room_id}/messages")
    assert response.status_code == 200
    assert root(response.text)["id"] == "messages" and articles(response.text) == []
    assert reply.closed.wait(DEADLINE)
    assert client.get(f"/rooms/{room_id}/messages/1").status_code == 404
    assert row_of(client, room_id)["data-messages"] == "0"
    assert [one[0] for one in articles(ask(client, room_id, "Again").text)] == ["message-5", "message-6"]


def test_method_of_a_form_overrides_post_but_a_query_does_not(client: FlaskClient) -> None:
    """htmx gets a fragment even if a noscript's `_plain` is among the fields."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    form = {"_method": "PATCH", "text": "Bye", **PLAIN}
    htmx = client.post(f"/rooms/{room_id}/messages/1", data=form, headers=HTMX)
    assert htmx.status_code == 201 and articles(htmx.text)[0][0] == "message-3"
    assert client.post(f"/rooms/{room_id}?_method=DELETE").status_code == 405
    assert client.get(f"/rooms/{room_id}?_method=DELETE").status_code == 200
    assert client.get(f"/rooms/{room_id}").status_code == 200
