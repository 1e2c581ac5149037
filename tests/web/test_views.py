"""The HTTP contract, by a plain client: what each request answers to curl, to htmx and to a browser without scripts."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from html.parser import HTMLParser
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import requests
from flask import request_finished
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer.domain.events import RoomEvent
from overseer.domain.messages import Message
from overseer.domain.records import Asked
from overseer.rooms.overseer import Overseer
from tests.support.model_server import ModelServer, Reply, answer, end, held, text, tool_call
from tests.support.server import Server

DEADLINE = 10.0
HTMX = {"HX-Request": "true"}
WAIT = {"Prefer": "wait=60"}
PLAIN = {"_plain": "1"}
VOID = {"br", "hr", "img", "input", "link", "meta"}


class Element:
    """One element of a parsed fragment or page, itself among `all`."""

    def __init__(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Element] = []
        self.words: list[str | Element] = []

    @property
    def text(self) -> str:
        """The words in it, with single spaces between them."""
        said = (word if isinstance(word, str) else word.text for word in self.words)
        return " ".join(" ".join(said).split())

    @property
    def all(self) -> Iterator[Element]:
        """This element and everything in it, in the order of the page."""
        yield self
        for child in self.children:
            yield from child.all

    def every(self, tag: str = "", **attributes: str) -> list[Element]:
        """The elements with this tag and these attributes; `data_room` stands for `data-room`, `class_` for one."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.all
            if (not tag or element.tag == tag)
            and all(
                value in element.attributes.get(name, "").split() if name == "class" else value == element[name]
                for name, value in wanted.items()
            )
        ]

    def one(self, tag: str = "", **attributes: str) -> Element:
        """The only such element."""
        found = self.every(tag, **attributes)
        assert len(found) == 1, f"{len(found)} elements are {tag} {attributes}"
        return found[0]

    def has(self, tag: str = "", **attributes: str) -> bool:
        """Whether there is such an element."""
        return bool(self.every(tag, **attributes))

    def __getitem__(self, attribute: str) -> str | None:
        return self.attributes.get(attribute)


class Parser(HTMLParser):
    """Builds the elements; what is not closed in its place is a mistake, and so is an id used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        if (known := element["id"]) is not None:
            assert known not in self.ids, f"the id {known} is used twice"
            self.ids.add(known)
        self.open[-1].children.append(element)
        self.open[-1].words.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.open[-1].words.append(data)


def parsed(html: str) -> Element:
    """The elements of a fragment or a page, under an element without a tag."""
    parser = Parser()
    parser.feed(html)
    parser.close()
    assert len(parser.open) == 1, f"<{parser.open[-1].tag}> is not closed"
    return parser.open[0]


def root(html: str) -> Element:
    """The one element a fragment is."""
    (element,) = parsed(html).children
    return element


def is_page(response: TestResponse) -> bool:
    """Whether it is a whole page, not a fragment."""
    page = parsed(response.text)
    return page.has("html") and page.has(id="sidebar") and page.has("main", id="room")


def new_room(client: FlaskClient, name: str | None = None) -> str:
    """A room's id."""
    response = client.post("/rooms", data={"name": name} if name else {})
    assert response.status_code == 201, response.text
    return response.headers["Location"].removeprefix("/rooms/")


def ask(client: FlaskClient, room_id: str, words: str, *, wait: bool = True, **form: str) -> TestResponse:
    """A question; answered when its turn has ended, or at once."""
    headers = WAIT if wait else {}
    response = client.post(f"/rooms/{room_id}/messages", data={"text": words, **form}, headers=headers)
    assert response.status_code == 201, response.text
    return response


def until(overseer: Overseer, room_id: str, number: int, wanted: Callable[[Message], bool]) -> Message:
    """The message, as soon as it is what is wanted."""
    events: SimpleQueue[RoomEvent] = SimpleQueue()
    unsubscribe = overseer.subscribe(events.put)
    try:
        while not wanted(message := overseer.message(room_id, number)):
            events.get(timeout=DEADLINE)
        return message
    finally:
        unsubscribe()


def ended(message: Message) -> bool:
    return message.finished


def rows(html: str) -> list[str]:
    """The ids of the rooms in a list, from its top."""
    return [row["data-room"] or "" for row in parsed(html).one("ul", id="rooms").every("li", class_="row")]


def articles(html: str) -> list[tuple[str | None, str | None, str | None, str]]:
    """Each message as id, role, state and words."""
    return [
        (one["id"], one["data-role"], one["data-state"], one.one(class_="message__body").text)
        for one in parsed(html).every("article")
    ]


# Pages


def test_the_root_of_an_empty_instance_is_the_empty_page(client: FlaskClient) -> None:
    """GET / with no room answers 200 with a page that says what to do."""
    response = client.get("/")
    assert response.status_code == 200 and is_page(response)
    page = parsed(response.text)
    assert rows(response.text) == []
    assert page.one(id="room")["data-room"] is None and "New room" in page.one(id="room").text


def test_the_root_leads_to_the_most_recently_active_room(client: FlaskClient) -> None:
    """GET / answers 303 to the newest room, and after a message elsewhere to that one."""
    first, second = new_room(client), new_room(client)
    assert (client.get("/").status_code, client.get("/").headers["Location"]) == (303, f"/rooms/{second}")
    ask(client, first, "Hello")
    assert client.get("/").headers["Location"] == f"/rooms/{first}"


def test_healthz_answers_ok_as_text(client: FlaskClient) -> None:
    """GET /healthz is 200 with the two letters, for a monitor."""
    response = client.get("/healthz")
    assert (response.status_code, response.text, response.mimetype) == (200, "ok", "text/plain")


def test_a_page_shows_the_list_and_the_open_room(client: FlaskClient) -> None:
    """The page has the ids and data attributes that people, tests and pushes rely on."""
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
    question, reply = room.one(id="messages").every("article")
    assert (question["id"], question["data-role"], question["data-state"]) == ("message-1", "user", "complete")
    assert (reply["id"], reply["data-role"], reply["data-state"]) == ("message-2", "assistant", "complete")
    assert reply.one(class_="message__body").text == "All right." and reply["aria-busy"] is None


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        ({}, True),
        ({"HX-Request": "true", "HX-Request-Type": "partial"}, False),
        ({"HX-Request": "true", "HX-Request-Type": "full"}, True),
        ({"HX-Request": "true", "HX-Request-Type": "partial", "HX-History-Restore-Request": "true"}, True),
        ({"HX-Request-Type": "partial"}, True),
        ({"Sec-Fetch-Mode": "navigate"}, True),
    ],
)
def test_htmx_gets_the_room_and_everybody_else_the_page(
    client: FlaskClient, headers: dict[str, str], page: bool
) -> None:
    """Only an htmx request for a part, and no history restore, is answered with the room alone."""
    room_id = new_room(client)
    response = client.get(f"/rooms/{room_id}", headers=headers)
    assert (response.status_code, response.headers["Vary"]) == (200, "HX-Request")
    assert response.headers["Cache-Control"] == "no-store"
    assert is_page(response) is page
    if not page:
        assert (root(response.text)["id"], root(response.text)["data-room"]) == ("room", room_id)


def test_the_page_holds_every_fragment_as_it_is_answered_alone(client: FlaskClient) -> None:
    """One partial, one truth: the page is made of the same bytes as the fragments."""
    room_id = new_room(client, "Kitchen")
    ask(client, room_id, "Hello")
    page = client.get(f"/rooms/{room_id}").text
    assert client.get(f"/rooms/{room_id}/messages").text in page
    assert client.get(f"/rooms/{room_id}/messages/1").text in page
    assert client.get(f"/rooms/{room_id}/messages/2").text in page
    assert client.patch(f"/rooms/{room_id}", data={"name": "Kitchen"}).text in page
    here = {**HTMX, "HX-Current-URL": f"http://localhost/rooms/{room_id}"}
    assert client.get("/rooms", headers=here).text in page


def test_below_a_prefix_every_address_begins_with_it(client: FlaskClient) -> None:
    """Mounted under /chat, no link, form, script or Location leads outside."""
    base = "http://localhost/chat"
    made = client.post("/rooms", base_url=base)
    address = made.headers["Location"].removeprefix("/chat")
    assert made.headers["Location"].startswith("/chat/rooms/")
    client.post(f"{address}/messages", base_url=base, data={"text": "Hello"}, headers=WAIT)
    assert client.get("/", base_url=base).headers["Location"] == f"/chat{address}"
    page = parsed(client.get(address, base_url=base).text)
    names = {"href", "src", "action", "hx-get", "hx-post", "hx-patch", "hx-delete", "hx-ws:connect", "data-rename"}
    addresses = [value for one in page.all for name, value in one.attributes.items() if name in names]
    assert len(addresses) > 20
    assert [one for one in addresses if not one.startswith(("/chat/", "#"))] == []


# Rooms


def test_creating_a_room_answers_its_fragment_and_address(client: FlaskClient) -> None:
    """POST /rooms is 201 with Location; without a name the room is called New room."""
    response = client.post("/rooms")
    assert response.status_code == 201
    room = root(response.text)
    assert re.fullmatch(r"/rooms/[0-9a-f]{12}", response.headers["Location"])
    assert (room["id"], room["data-room"]) == ("room", response.headers["Location"].removeprefix("/rooms/"))
    assert room.one("h1").text == "New room" and articles(response.text) == []
    assert room.one("form", id="composer").one("textarea", name="text")


def test_htmx_also_gets_the_address_to_show(client: FlaskClient) -> None:
    """The room htmx creates comes as the fragment with HX-Push-Url, whatever a noscript's field says."""
    response = client.post("/rooms", data={"name": " The  kitchen ", **PLAIN}, headers=HTMX)
    assert response.status_code == 201
    assert response.headers["HX-Push-Url"] == response.headers["Location"]
    assert root(response.text).one("h1").text == "The kitchen"


def test_a_browser_without_scripts_is_sent_to_its_new_room(client: FlaskClient) -> None:
    """`_plain` turns the fragment into 303 See Other to the page."""
    response = client.post("/rooms", data={"name": "Kitchen", **PLAIN})
    assert response.status_code == 303
    page = client.get(response.headers["Location"])
    assert is_page(page) and parsed(page.text).one("h1").text == "Kitchen"


def test_the_list_is_the_sidebar_fragment_filtered_by_name(client: FlaskClient) -> None:
    """GET /rooms?q= finds the words anywhere in a name, in any case."""
    kitchen, street, _ = new_room(client, "Kitchen"), new_room(client, "Große Straße"), new_room(client, "Cellar")
    response = client.get("/rooms")
    assert response.status_code == 200 and len(rows(response.text)) == 3
    assert (root(response.text).tag, root(response.text)["id"]) == ("ul", "rooms")
    assert rows(client.get("/rooms?q=kITCH").text) == [kitchen]
    assert rows(client.get("/rooms", query_string={"q": " STRASSE "}).text) == [street]
    nothing = client.get("/rooms?q=attic")
    assert nothing.status_code == 200 and rows(nothing.text) == []


def test_the_list_comes_in_pages_by_last_activity(client: FlaskClient) -> None:
    """Sixty rooms are fifty and ten, newest first, each once; the address of the rest keeps the filter."""
    made = [new_room(client, f"Room {n}") for n in range(60)]
    ask(client, made[7], "Hello")
    expected = [made[7], *(one for one in reversed(made) if one != made[7])]
    for q in ("", "room"):
        first = client.get("/rooms", query_string={"q": q})
        assert rows(first.text) == expected[:50]
        more = root(first.text).one(id="rooms-more").one("a")
        assert more["href"] == more["hx-get"] and parse_qs(urlsplit(more["href"] or "").query).get("q", [""]) == [q]
        second = client.get(more["href"] or "")
        assert rows(second.text) == expected[50:]
        assert not root(second.text).has(id="rooms-more")


def test_the_list_marks_the_room_that_the_asking_tab_shows(client: FlaskClient) -> None:
    """htmx says where it is; that room is the current one."""
    other, room_id = new_room(client), new_room(client)
    here = {**HTMX, "HX-Current-URL": f"http://localhost/rooms/{room_id}"}
    listed = root(client.get("/rooms", headers=here).text)
    assert listed.one(id=f"room-{room_id}")["aria-current"] == "page"
    assert listed.one(id=f"room-{other}")["aria-current"] is None


def test_the_filter_is_a_page_for_a_browser_without_scripts(client: FlaskClient) -> None:
    """Submitting the filter form is a navigation, and shows the filtered list beside an empty room."""
    kitchen, _ = new_room(client, "Kitchen"), new_room(client, "Cellar")
    response = client.get("/rooms?q=kit", headers={"Sec-Fetch-Mode": "navigate"})
    assert response.status_code == 200 and is_page(response)
    assert rows(response.text) == [kitchen] and parsed(response.text).one(id="filter")["value"] == "kit"


def test_the_list_says_how_many_messages_and_who_is_answering(client: FlaskClient, model_server: ModelServer) -> None:
    """A row counts its room's messages, and is answering for as long as a turn runs."""
    room_id = new_room(client)

    def row() -> tuple[str | None, str | None, str]:
        listed = root(client.get("/rooms").text).one(id=f"room-{room_id}")
        return listed["data-messages"], listed["data-state"], listed.one(class_="row__preview").text

    assert row() == ("0", "idle", "No messages yet")
    reply = model_server.will(held(text("Good")))
    ask(client, room_id, "Say **good day**", wait=False)
    assert row() == ("2", "answering", "Say good day")
    client.delete(f"/rooms/{room_id}/turn")
    reply.hang_up()
    assert row()[:2] == ("2", "idle")


def test_renaming_answers_the_header(client: FlaskClient) -> None:
    """PATCH /rooms/<id> is 200 with the new header, and the list has the name too."""
    room_id = new_room(client)
    response = client.patch(f"/rooms/{room_id}", data={"name": "Cellar"})
    assert response.status_code == 200
    assert (root(response.text)["id"], root(response.text).one("h1").text) == ("header", "Cellar")
    assert root(client.get("/rooms").text).one(id=f"room-{room_id}").one(class_="row__name").text == "Cellar"


def test_the_first_question_names_a_room_that_nobody_named(client: FlaskClient) -> None:
    """A new room is called by the first words said in it; a name given by a person stays."""
    nameless, named = new_room(client), new_room(client, "Kitchen")
    for room_id in (nameless, named):
        ask(client, room_id, "# Tell me\nabout the *sea*")
    listed = root(client.get("/rooms").text)
    assert listed.one(id=f"room-{nameless}").one(class_="row__name").text == "Tell me about the sea"
    assert listed.one(id=f"room-{named}").one(class_="row__name").text == "Kitchen"


def test_deleting_a_room_takes_it_off_the_list_and_its_files_off_the_disk(
    client: FlaskClient, instance: Path, model_server: ModelServer
) -> None:
    """DELETE /rooms/<id> is 200; its turn is stopped, its three files are gone, and so is its address."""
    kept, room_id = new_room(client), new_room(client)
    reply = model_server.will(held(text("On and on")))
    ask(client, room_id, "Go on", wait=False)
    assert reply.begun.wait(DEADLINE)
    response = client.delete(f"/rooms/{room_id}")
    assert (response.status_code, response.text) == (200, "")
    assert reply.closed.wait(DEADLINE)
    assert rows(client.get("/rooms").text) == [kept]
    assert list((instance / "facets").glob(f"*{room_id}*")) == []
    assert client.get(f"/rooms/{room_id}").status_code == 404
    assert client.delete(f"/rooms/{room_id}").status_code == 404


def test_deleting_the_open_room_shows_htmx_the_next_one(client: FlaskClient) -> None:
    """The tab that deletes what it shows gets the next room for #room; after the last one, the empty room."""
    next_one, room_id = new_room(client), new_room(client)
    here = {**HTMX, "HX-Current-URL": f"http://localhost/rooms/{room_id}"}
    response = client.delete(f"/rooms/{room_id}", headers=here)
    assert response.status_code == 200
    assert (response.headers["HX-Retarget"], response.headers["HX-Reswap"]) == ("#room", "outerHTML")
    assert response.headers["HX-Push-Url"] == f"/rooms/{next_one}"
    assert (root(response.text)["id"], root(response.text)["data-room"]) == ("room", next_one)
    here["HX-Current-URL"] = f"http://localhost/rooms/{next_one}"
    last = client.delete(f"/rooms/{next_one}", headers=here)
    assert (last.headers["HX-Retarget"], last.headers["HX-Push-Url"]) == ("#room", "/")
    assert root(last.text)["id"] == "room" and root(last.text)["data-room"] is None


def test_deleting_another_room_leaves_what_a_tab_shows(client: FlaskClient) -> None:
    """From the list beside another room, htmx gets nothing to swap."""
    here, room_id = new_room(client), new_room(client)
    headers = {**HTMX, "HX-Current-URL": f"http://localhost/rooms/{here}"}
    response = client.delete(f"/rooms/{room_id}", headers=headers)
    assert (response.status_code, response.text) == (200, "")
    assert "HX-Retarget" not in response.headers and "HX-Push-Url" not in response.headers


# Messages


def test_a_question_answers_with_the_two_messages(client: FlaskClient, model_server: ModelServer) -> None:
    """POST is 201 at once, with Location and the fragments of the question and of the answer that waits."""
    reply = model_server.will(held())
    room_id = new_room(client)
    response = ask(client, room_id, "Hello", wait=False)
    assert response.headers["Location"] == f"/rooms/{room_id}/messages/1"
    assert articles(response.text) == [
        ("message-1", "user", "complete", "Hello"),
        ("message-2", "assistant", "waiting", ""),
    ]
    waiting = parsed(response.text).one(id="message-2")
    assert waiting["aria-busy"] == "true" and waiting.one("button").text == "Stop"
    assert client.get(response.headers["Location"]).text in response.text
    reply.say(*answer("Good day").chunks())
    reply.hang_up()


def test_a_question_from_htmx_goes_where_the_list_ends(client: FlaskClient) -> None:
    """htmx swaps the two messages for the end of the list that was there before them."""
    room_id = new_room(client)
    for before in (0, 2):
        shown = parsed(client.get(f"/rooms/{room_id}").text)
        response = client.post(f"/rooms/{room_id}/messages", data={"text": "Hello", **PLAIN}, headers={**HTMX, **WAIT})
        assert response.status_code == 201
        partial = root(response.text)
        assert (partial.tag, partial["hx-target"], partial["hx-swap"]) == (
            "hx-partial",
            f"#after-{before}",
            "outerHTML",
        )
        assert shown.has(id=f"after-{before}")
        assert [child["id"] for child in partial.children] == [
            f"message-{before + 1}",
            f"message-{before + 2}",
            f"after-{before + 2}",
        ]


def test_a_browser_without_scripts_is_sent_to_its_question(client: FlaskClient) -> None:
    """`_plain` sends it to the page, at the message it wrote."""
    room_id = new_room(client)
    response = client.post(f"/rooms/{room_id}/messages", data={"text": "Hello", **PLAIN}, headers=WAIT)
    assert (response.status_code, response.headers["Location"]) == (303, f"/rooms/{room_id}#message-1")
    assert parsed(client.get(f"/rooms/{room_id}").text).one(id="message-1").one(class_="message__body").text == "Hello"


def test_every_form_of_the_page_works_without_scripts(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Each form, sent as a browser without JavaScript sends it, is answered 303 to a page."""
    room_id = new_room(client)
    model_server.will(Reply(text("Half")), answer("Good"), held(text("On and on")))
    ask(client, room_id, "Hello")
    done: list[str] = []
    filled = {"text": "Again", "name": "Cellar"}

    def submit(label: str) -> None:
        page = parsed(client.get(f"/rooms/{room_id}").text)
        forms = page.every("form", method="post")
        (form,) = [one for one in forms if label in [button.text for button in one.every("button")]]
        fields = {one["name"] or "": one["value"] or "" for one in (*form.every("input"), *form.every("textarea"))}
        response = client.post(form["action"] or "", data={**fields, **{k: filled[k] for k in fields if k in filled}})
        assert (response.status_code, response.text) == (303, ""), label
        target = client.get(urljoin("/", response.headers["Location"]), follow_redirects=True)
        assert target.status_code == 200 and is_page(target)
        done.append(label)

    submit("Retry")
    until(overseer, room_id, 2, ended)
    submit("Send")
    until(overseer, room_id, 4, lambda message: message.text == "On and on")
    submit("Stop")
    assert overseer.message(room_id, 4).state == "stopped"
    submit("Rename")
    assert overseer.room(room_id).name == "Cellar"
    submit("Clear messages…")
    assert overseer.messages(room_id).messages == ()
    submit("New")
    assert len(overseer.rooms().rooms) == 2
    submit("Pin")
    assert overseer.room(room_id).pinned
    submit("Unpin")
    assert not overseer.room(room_id).pinned
    submit("Delete room…")
    assert room_id not in [room.id for room in overseer.rooms().rooms]
    assert len(done) == 9


def test_message_pages_hold_fifty_in_reading_order(client: FlaskClient, instance: Path) -> None:
    """The newest 50, or the 50 before a number; the last page is what is left and says there is no more."""
    room_id = new_room(client)
    with closing(sqlite3.connect(instance / "facets" / f"room-{room_id}.sqlite")) as db, db:
        for number in range(1, 121):
            role = "user" if number % 2 else "assistant"
            row = (number, role, 1_700_000_000_000)
            db.execute("INSERT INTO messages (number, role, state, created_at) VALUES (?, ?, 'complete', ?)", row)
            db.execute(
                "INSERT INTO parts (message, position, kind, text) VALUES (?, 0, 'text', ?)", (number, f"{-number}")
            )

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
    assert numbers(client.get(f"/rooms/{room_id}/messages?before=9000").text) == list(range(71, 121))


def test_one_message_is_one_fragment(client: FlaskClient, model_server: ModelServer) -> None:
    """GET …/messages/<n> answers the article alone: the question as it was typed, the answer as Markdown."""
    room_id = new_room(client)
    model_server.will(answer("**Good** day"))
    ask(client, room_id, "**Hello**\nthere")
    question, reply = (client.get(f"/rooms/{room_id}/messages/{number}") for number in (1, 2))
    assert question.status_code == reply.status_code == 200
    assert root(question.text)["id"] == "message-1" and "**Hello**\nthere" in question.text
    assert root(reply.text)["id"] == "message-2" and root(reply.text).one("strong").text == "Good"


@pytest.mark.parametrize("by_header", [True, False])
def test_a_key_makes_a_repeat_return_the_first_result(
    client: FlaskClient, model_server: ModelServer, by_header: bool
) -> None:
    """A resend with the same key asks nobody again; with another text it is 422, and without a key it is new."""
    room_id = new_room(client)
    headers = {**WAIT, "Idempotency-Key": "k-1"} if by_header else WAIT
    form = {} if by_header else {"key": "k-1"}
    sent = [
        client.post(f"/rooms/{room_id}/messages", data={"text": "Hello", **form}, headers=headers) for _ in range(2)
    ]
    assert [one.status_code for one in sent] == [201, 201]
    assert sent[0].text == sent[1].text and sent[0].headers["Location"] == sent[1].headers["Location"]
    assert len(model_server.requests) == 1
    other = client.post(f"/rooms/{room_id}/messages", data={"text": "Bye", **form}, headers=headers)
    assert other.status_code == 422 and root(other.text)["id"] == "error"
    assert len(articles(client.get(f"/rooms/{room_id}/messages").text)) == 2
    ask(client, room_id, "Hello")
    assert len(articles(client.get(f"/rooms/{room_id}/messages").text)) == 4


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("headers", [{}, {"Accept": "text/plain"}, WAIT])
def test_a_question_that_is_cleared_away_at_once_was_stored(
    client: FlaskClient,
    overseer: Overseer,
    monkeypatch: pytest.MonkeyPatch,
    model_server: ModelServer,
    headers: dict[str, str],
    repeated: bool,
) -> None:
    """Another tab may clear the room before the answer to the request is made: that is no error of who asked."""
    room_id = new_room(client)
    if repeated:
        ask(client, room_id, "Hello", key="k")
    model_server.will(held())  # which else may have answered before the room is cleared
    add = overseer.ask

    def ask_and_clear(*args: Any, **kwargs: Any) -> Asked:
        asked = add(*args, **kwargs)
        overseer.clear(room_id)
        return asked

    monkeypatch.setattr(overseer, "ask", ask_and_clear)
    asked = client.post(f"/rooms/{room_id}/messages", data={"text": "Hello", "key": "k"}, headers=headers)
    said = "\n\n[deleted]\n" if headers.get("Accept") else ""
    assert (asked.status_code, asked.text) == (201, said)
    assert asked.headers["Location"] == f"/rooms/{room_id}/messages/1"


def test_a_key_belongs_to_its_room(client: FlaskClient) -> None:
    """The same key in another room is another question."""
    one, other = new_room(client), new_room(client)
    for room_id in (one, other):
        assert len(articles(ask(client, room_id, f"Hello {room_id}", key="k-1").text)) == 2


def test_a_question_can_wait_for_its_answer(client: FlaskClient, model_server: ModelServer) -> None:
    """`Prefer: wait` answers 201 when the turn has ended, and 202 with what there is when it has not."""
    room_id = new_room(client)
    finished = client.post(f"/rooms/{room_id}/messages", data={"text": "Hello"}, headers=WAIT)
    assert finished.status_code == 201
    assert articles(finished.text)[1] == ("message-2", "assistant", "complete", "All right.")
    reply = model_server.will(held(text("Half an ans")))
    began = time.monotonic()
    unfinished = client.post(f"/rooms/{room_id}/messages", data={"text": "Go on"}, headers={"Prefer": "wait=3"})
    assert unfinished.status_code == 202 and 2.9 < time.monotonic() - began < 30
    assert articles(unfinished.text)[1] == ("message-4", "assistant", "streaming", "Half an ans")
    assert unfinished.headers["Location"] == f"/rooms/{room_id}/messages/3"
    reply.say(text("wer"), end())
    reply.hang_up()


def test_a_repeat_can_wait_for_the_answer_of_the_first(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """A client that lost its connection sends the same key again and still gets the whole answer."""
    room_id = new_room(client)
    reply = model_server.will(held(text("Half an ans")))
    ask(client, room_id, "Go on", wait=False, key="k-1")
    until(overseer, room_id, 2, lambda message: bool(message.text))
    reply.say(text("wer"), end())
    reply.hang_up()
    response = ask(client, room_id, "Go on", key="k-1")
    assert articles(response.text)[1] == ("message-2", "assistant", "complete", "Half an answer")


def test_two_questions_are_answered_one_after_the_other(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """The second question waits for its turn, and its model reads the first answer."""
    room_id = new_room(client)
    first = model_server.will(held(text("One")))
    model_server.will(answer("Two"))
    ask(client, room_id, "First", wait=False)
    ask(client, room_id, "Second", wait=False)
    until(overseer, room_id, 2, lambda message: message.text == "One")
    assert overseer.message(room_id, 4).state == "waiting" and len(model_server.requests) == 1
    first.say(end())
    first.hang_up()
    until(overseer, room_id, 4, ended)
    said = [(one["role"], one["content"]) for one in model_server.requests[1]["messages"]]
    assert said == [("user", "First"), ("assistant", "One"), ("user", "Second")]
    assert [words for *_, words in articles(client.get(f"/rooms/{room_id}/messages").text)] == [
        "First",
        "One",
        "Second",
        "Two",
    ]


# An answer as plain text

TEXT = {"Accept": "text/plain"}


def test_plain_text_streams_the_words_as_they_are_made(server: Server, model_server: ModelServer) -> None:
    """`curl -N -H 'Accept: text/plain'` shows each word before the next is said, and ends with a line end."""
    url = requests.post(f"{server.url}/rooms").headers["Location"]
    reply = model_server.will(held(text("Grüß ")))
    with requests.post(f"{server.url}{url}/messages", {"text": "Hello"}, headers=TEXT, stream=True) as response:
        assert response.status_code == 201 and response.headers["Content-Type"].startswith("text/plain")
        assert response.headers["Location"] == f"{url}/messages/1"
        words = response.iter_content(None)
        assert next(words).decode() == "Grüß "
        reply.say(text("dich."))
        assert next(words).decode() == "dich."
        reply.say(end())
        reply.hang_up()
        assert b"".join(words) == b"\n"


def test_a_client_that_hangs_up_does_not_end_the_turn(server: Server, model_server: ModelServer) -> None:
    """The answer goes on without its reader, and is kept."""
    url = server.url + requests.post(f"{server.url}/rooms").headers["Location"]
    reply = model_server.will(held(text("The beginning, ")))
    with requests.post(f"{url}/messages", {"text": "Hello", "key": "k-1"}, headers=TEXT, stream=True) as response:
        assert next(response.iter_content(None)) == b"The beginning, "
    reply.say(text("the middle, "), text("the end."), end())
    reply.hang_up()
    again = requests.post(f"{url}/messages", {"text": "Hello", "key": "k-1"}, headers=WAIT)
    assert articles(again.text)[1] == ("message-2", "assistant", "complete", "The beginning, the middle, the end.")


def test_plain_text_brackets_what_tools_did(client: FlaskClient, model_server: ModelServer) -> None:
    """A tool call is a line of its own: name, arguments, result; only what the model said is unbracketed."""
    room_id = new_room(client)
    model_server.will(
        Reply(text("Rolling."), tool_call("roll_dice", '{"sides": 2}'), end("tool_calls")), answer("Done.")
    )
    response = client.post(f"/rooms/{room_id}/messages", data={"text": "Roll"}, headers=TEXT)
    assert response.status_code == 201
    assert re.fullmatch(r'Rolling\.\n\n\[roll_dice \{"sides": 2\} → [12]\]\n\nDone\.\n', response.text)


def test_plain_text_leaves_reasoning_out(client: FlaskClient, model_server: ModelServer) -> None:
    """Only the answer's text is streamed, without a trace of the thinking before it."""
    room_id = new_room(client)
    thought = b'data: {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm, hm."}}]}\n\n'
    model_server.will(Reply(thought, text("Good day."), end()))
    response = client.post(f"/rooms/{room_id}/messages", data={"text": "Hello"}, headers=TEXT)
    assert response.text == "Good day.\n"


def test_plain_text_says_how_an_answer_went_wrong(client: FlaskClient, model_server: ModelServer) -> None:
    """An answer that is cut off ends with its state and the sentence, in brackets."""
    room_id = new_room(client)
    model_server.will(Reply(text("Half an ans")))
    response = client.post(f"/rooms/{room_id}/messages", data={"text": "Hello"}, headers=TEXT)
    assert re.fullmatch(r"Half an ans\n\n\[interrupted: The model server [^\]]+\]\n", response.text)


@pytest.mark.parametrize("finished", [True, False])
def test_a_repeat_can_have_its_answer_as_plain_text(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer, finished: bool
) -> None:
    """The same key with Accept: text/plain streams the answer of the first, finished or not."""
    room_id = new_room(client)
    reply = model_server.will(held(text("Good ")))
    ask(client, room_id, "Hello", wait=False, key="k-1")
    until(overseer, room_id, 2, lambda message: bool(message.text))

    def finish(sender: object, **extra: object) -> None:
        reply.say(text("day."), end())
        reply.hang_up()

    if finished:
        finish(client)
        until(overseer, room_id, 2, ended)
    # The body of the repeat is asked for only after this signal; the turn then ends while it is.
    with nullcontext() if finished else request_finished.connected_to(finish):
        data = {"text": "Hello", "key": "k-1"}
        response = client.post(f"/rooms/{room_id}/messages", data=data, headers=TEXT)
    assert response.text == "Good day.\n"
    assert len(model_server.requests) == 1


# Changing what was said


def test_editing_a_question_drops_what_follows_and_asks_again(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """PATCH is 200 with the list as it is now; the model reads the new words and nothing after them."""
    room_id = new_room(client)
    for words in ("First", "Second", "Third"):
        ask(client, room_id, words)
    reply = model_server.will(held())
    response = client.patch(f"/rooms/{room_id}/messages/3", data={"text": "Zweitens"})
    assert response.status_code == 200 and root(response.text)["id"] == "messages"
    assert [one[0] for one in articles(response.text)] == ["message-1", "message-2", "message-3", "message-4"]
    assert articles(response.text)[2:] == [
        ("message-3", "user", "complete", "Zweitens"),
        ("message-4", "assistant", "waiting", ""),
    ]
    reply.say(*answer("Anew.").chunks())
    reply.hang_up()
    assert until(overseer, room_id, 4, ended).text == "Anew."
    assert [one["content"] for one in model_server.requests[-1]["messages"]] == ["First", "All right.", "Zweitens"]
    assert client.get(f"/rooms/{room_id}/messages/5").status_code == 404


def test_nothing_is_edited_while_an_answer_is_made(client: FlaskClient, model_server: ModelServer) -> None:
    """PATCH of a message, and a retry, are 409 with a sentence until the turn has ended."""
    room_id = new_room(client)
    model_server.will(held(text("Half")))
    ask(client, room_id, "Hello", wait=False)
    for response in (
        client.patch(f"/rooms/{room_id}/messages/1", data={"text": "Bye"}),
        client.post(f"/rooms/{room_id}/turn"),
    ):
        assert response.status_code == 409
        assert root(response.text)["id"] == "error" and "Stop it" in root(response.text).text
    assert articles(client.get(f"/rooms/{room_id}/messages").text)[0][3] == "Hello"
    client.delete(f"/rooms/{room_id}/turn")
    assert client.patch(f"/rooms/{room_id}/messages/1", data={"text": "Bye"}).status_code == 200


def test_only_a_question_that_is_there_can_be_edited(client: FlaskClient) -> None:
    """PATCH of an answer or of an unknown number is 404, and changes nothing."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    before = client.get(f"/rooms/{room_id}/messages").text
    for number in (2, 3, 0):
        response = client.patch(f"/rooms/{room_id}/messages/{number}", data={"text": "Bye"})
        assert response.status_code == 404 and root(response.text)["id"] == "error"
    assert client.get(f"/rooms/{room_id}/messages").text == before


def test_stopping_keeps_what_was_said(client: FlaskClient, overseer: Overseer, model_server: ModelServer) -> None:
    """DELETE …/turn is 200 with the list, where the answer is stopped; without a turn it is 200 too."""
    room_id = new_room(client)
    reply = model_server.will(held(text("Half an ans")))
    ask(client, room_id, "Hello", wait=False)
    until(overseer, room_id, 2, lambda message: bool(message.text))
    for _ in range(2):
        response = client.delete(f"/rooms/{room_id}/turn")
        assert response.status_code == 200 and root(response.text)["id"] == "messages"
        assert articles(response.text)[1] == ("message-2", "assistant", "stopped", "Half an ans")
    assert reply.closed.wait(DEADLINE)
    assert client.delete(f"/rooms/{new_room(client)}/turn").status_code == 200


def test_a_retry_answers_the_last_question_again(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """POST …/turn is 201 with the answer's address and fragment; its old words are gone."""
    room_id = new_room(client)
    ask(client, room_id, "First")
    ask(client, room_id, "Second")
    reply = model_server.will(held())
    response = client.post(f"/rooms/{room_id}/turn")
    assert (response.status_code, response.headers["Location"]) == (201, f"/rooms/{room_id}/messages/4")
    assert articles(response.text) == [("message-4", "assistant", "waiting", "")]
    assert response.text == client.get(response.headers["Location"]).text
    reply.say(*answer("Anew.").chunks())
    reply.hang_up()
    assert until(overseer, room_id, 4, ended).text == "Anew."
    assert [one["content"] for one in model_server.requests[-1]["messages"]] == ["First", "All right.", "Second"]


def test_there_is_nothing_to_retry_in_an_empty_room(client: FlaskClient) -> None:
    """POST …/turn before the first question is 404 with a sentence."""
    response = client.post(f"/rooms/{new_room(client)}/turn")
    assert response.status_code == 404 and "no question" in root(response.text).text


def test_clearing_removes_all_messages_and_stops_the_turn(client: FlaskClient, model_server: ModelServer) -> None:
    """DELETE …/messages is 200 with the empty list; numbers are not used again."""
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
    assert root(client.get("/rooms").text).one(id=f"room-{room_id}")["data-messages"] == "0"
    assert [one[0] for one in articles(ask(client, room_id, "Again").text)] == ["message-5", "message-6"]


@pytest.mark.parametrize(
    ("verb", "path"),
    [("PATCH", ""), ("DELETE", "/messages"), ("PATCH", "/messages/1"), ("DELETE", "/turn"), ("POST", "/turn")],
)
def test_plain_forms_go_back_to_their_room(client: FlaskClient, verb: str, path: str) -> None:
    """`_method` stands for the verb and `_plain` for a browser; from htmx neither the redirect nor a page comes."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    form = {"name": "Cellar", "text": "Bye"} | ({"_method": verb} if verb != "POST" else {})
    plain = client.post(f"/rooms/{room_id}{path}", data={**form, **PLAIN})
    assert (plain.status_code, plain.headers["Location"]) == (303, f"/rooms/{room_id}")
    client.delete(f"/rooms/{room_id}/turn")
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    htmx = client.post(f"/rooms/{room_id}{path}", data={**form, **PLAIN}, headers=HTMX)
    assert htmx.status_code in (200, 201) and root(htmx.text).tag != "html"


def test_the_verb_of_a_form_is_not_taken_from_the_address(client: FlaskClient) -> None:
    """`?_method=DELETE` is no verb: only a form's own field is."""
    room_id = new_room(client)
    assert client.post(f"/rooms/{room_id}?_method=DELETE").status_code == 405
    assert client.get(f"/rooms/{room_id}?_method=DELETE").status_code == 200
    assert client.get(f"/rooms/{room_id}").status_code == 200
