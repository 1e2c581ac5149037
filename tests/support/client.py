"""What tests do with rooms by HTTP, and what they read in the responses."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer.domain.events import RoomEvent
from overseer.domain.messages import Message
from overseer.rooms.overseer import Overseer
from tests.support.html import parsed
from tests.support.waiting import DEADLINE

HTMX = {"HX-Request": "true"}
NAVIGATION = {"Sec-Fetch-Mode": "navigate"}
WAIT = {"Prefer": "wait=60"}
PLAIN = {"_plain": "1"}  # the field of a form that a browser without JavaScript sends


def new_room(client: FlaskClient, name: str | None = None) -> str:
    """Make a room; return its id."""
    response = client.post("/rooms", data={"name": name} if name else {})
    assert response.status_code == 201, response.text
    return response.headers["Location"].removeprefix("/rooms/")


def ask(client: FlaskClient, room_id: str, text: str, *, wait: bool = True, **form: str) -> TestResponse:
    """Ask a question and, by default, wait for the end of its answer."""
    headers = WAIT if wait else {}
    response = client.post(f"/rooms/{room_id}/messages", data={"text": text, **form}, headers=headers)
    assert response.status_code == 201, response.text
    return response


def wait_for_message(overseer: Overseer, room_id: str, number: int, wanted: Callable[[Message], bool]) -> Message:
    """Return a message as soon as it is as wanted."""
    events: SimpleQueue[RoomEvent] = SimpleQueue()
    unsubscribe = overseer.subscribe(events.put)
    try:
        while not wanted(message := overseer.room(room_id).message(number)):
            events.get(timeout=DEADLINE)
        return message
    finally:
        unsubscribe()


def ended(message: Message) -> bool:
    """Whether an answer has ended."""
    return message.finished


def is_page(response: TestResponse) -> bool:
    """Whether a response is a whole page, not a fragment."""
    page = parsed(response.text)
    return page.has("html") and page.has(id="sidebar") and page.has("main", id="room")


def rows(html: str) -> list[str]:
    """Return the ids of the rooms in a list, from the top."""
    return [row["data-room"] or "" for row in parsed(html).one("ul", id="rooms").every("li", class_="row")]


def articles(html: str) -> list[tuple[str | None, str | None, str | None, str]]:
    """Return each message as id, role, state and text."""
    return [
        (one["id"], one["data-role"], one["data-state"], one.one(class_="message__body").text)
        for one in parsed(html).every("article")
    ]
