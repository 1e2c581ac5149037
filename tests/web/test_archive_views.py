"""The routes of archived and temporary rooms: what curl, htmx, and a browser without JavaScript get."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from overseer.rooms.overseer import Overseer
from overseer.rooms.temporary import TEMPORARY_SECONDS
from tests.support.answers import opened
from tests.support.client import HTMX, NAVIGATION, PLAIN, ask, is_page, new_room, rows
from tests.support.html import Element, parsed, root
from tests.support.model_server import ModelServer, answer
from tests.support.waiting import until


def archived(html: str) -> list[str]:
    """Return the ids of the rooms in a list of archived ones."""
    links = parsed(html).one(id="archived").every("a")
    return [(link["href"] or "").removeprefix("/rooms/") for link in links if link["class"] != "rooms__more"]


def new_temporary(client: FlaskClient, **form: str) -> str:
    response = client.post("/rooms", data={"temporary": "1", **form})
    assert response.status_code == 201 and parsed(response.text).one("main")["data-room"]
    return response.headers["Location"].removeprefix("/rooms/")


def in_tab(room_id: str) -> dict[str, str]:
    return {**HTMX, "HX-Current-URL": f"http://localhost/rooms/{room_id}"}


def link_of(html: str) -> Element:
    """The link to the archived rooms."""
    return parsed(html).one(id="rooms-archived")


def note(client: FlaskClient, room_id: str) -> str:
    """The sentence under the header of a room."""
    (found,) = parsed(client.get(f"/rooms/{room_id}").text).one(id="header").every(class_="header__note")
    return found.text


# Archived rooms


def test_archived_room_is_listed_apart(client: FlaskClient) -> None:
    first, second = new_room(client, "First"), new_room(client, "Second")
    assert link_of(client.get("/rooms").text)["hidden"] is not None
    assert client.patch(f"/rooms/{second}", data={"archived": "1"}).status_code == 200
    assert rows(client.get("/rooms").text) == rows(client.get(f"/rooms/{first}", headers=NAVIGATION).text) == [first]
    link = link_of(client.get("/rooms").text)
    assert link["hidden"] is None and link.one("a")["href"] == "/rooms?archived=1"
    assert archived(client.get("/rooms?archived=1").text) == [second]
    assert archived(client.get("/rooms?archived=1&q=sec").text) == [second]
    none = client.get("/rooms?archived=1&q=first").text
    assert archived(none) == [] and "No archived rooms match “first”" in none
    assert client.get("/").headers["Location"] == f"/rooms/{first}"
    assert client.get(f"/rooms/{second}").status_code == 200
    client.patch(f"/rooms/{first}", data={"archived": "1"})
    assert client.get("/").status_code == 200 and rows(client.get("/").text) == []
    client.patch(f"/rooms/{first}", data={"archived": "0"})
    client.patch(f"/rooms/{second}", data={"archived": "0"})
    assert rows(client.get("/rooms").text) == [second, first]
    assert root(client.get("/rooms?archived=1").text).text == "No room is archived."


def test_archived_rooms_are_a_page_for_a_browser(client: FlaskClient) -> None:
    """With the list of the other rooms beside it, which is neither filtered nor paged with it."""
    listed, room_id = new_room(client, "Kitchen"), new_room(client, "Cellar")
    client.patch(f"/rooms/{room_id}", data={"archived": "1"})
    page = client.get("/rooms?archived=1&q=cell&after=99", headers=NAVIGATION)
    assert is_page(page) and rows(page.text) == [listed] and archived(page.text) == [room_id]
    assert "<title>Archived rooms · Overseer</title>" in page.text
    form = parsed(page.text).one("main").one("form", method="get")
    assert {one["name"]: one["value"] for one in form.every("input")} == {"archived": "1", "q": "cell"}


def test_archived_rooms_come_in_pages(client: FlaskClient, overseer: Overseer) -> None:
    made = [overseer.create(f"Room {number}").id for number in range(60)]
    for room_id in made:
        overseer.room(room_id).configure({"archived": True})
    first = client.get("/rooms?archived=1&q=room").text
    more = parsed(first).one(id="archived-more").one("a")
    assert more["href"] == more["hx-get"]
    second = client.get(more["href"] or "").text
    assert archived(first) + archived(second) == made[::-1] and not parsed(second).has(id="archived-more")


@pytest.mark.parametrize("query", ["archived=yes", "archived=1&after=x"])
def test_query_that_cannot_be_understood_is_rejected(client: FlaskClient, query: str) -> None:
    response = client.get(f"/rooms?{query}")
    assert response.status_code == 400 and "must be" in response.text


def test_second_page_of_the_list_does_not_repeat_the_link(client: FlaskClient, overseer: Overseer) -> None:
    for number in range(52):
        overseer.create(f"Room {number}")
    overseer.room(overseer.create().id).configure({"archived": True})
    more = parsed(client.get("/rooms").text).one(id="rooms-more").one("a")["href"] or ""
    assert not parsed(client.get(more).text).has(id="rooms-archived")
    assert link_of(client.get(more, headers=NAVIGATION).text)["hidden"] is None


def test_open_archived_room_says_so_and_can_be_unarchived(client: FlaskClient, overseer: Overseer) -> None:
    """Its row is in the list of the tab that shows it, under a heading of its own."""
    room_id = new_room(client)
    response = client.patch(f"/rooms/{room_id}", data={"archived": "1", **PLAIN})
    assert response.headers["Location"] == f"/rooms/{room_id}"
    assert note(client, room_id) == "This room is archived. Unarchive"
    for listed in (client.get("/rooms", headers=in_tab(room_id)), client.get(f"/rooms/{room_id}", headers=NAVIGATION)):
        assert rows(listed.text) == [room_id] and parsed(listed.text).one(id="rooms-open").text == "Archived"
        assert parsed(listed.text).one(id=f"room-{room_id}")["data-archived"] is not None
    header = client.patch(f"/rooms/{room_id}", data={"archived": "0"}).text
    assert not root(header).has(class_="header__note") and not overseer.record(room_id).archived


def test_question_in_an_archived_room_unarchives_it(client: FlaskClient) -> None:
    room_id = new_room(client)
    client.patch(f"/rooms/{room_id}", data={"archived": "1"})
    ask(client, room_id, "Hello")
    assert rows(client.get("/rooms").text) == [room_id]


def test_search_and_palette_mark_archived_rooms(client: FlaskClient, model_server: ModelServer) -> None:
    room_id, shown = new_room(client, "Kitchen"), new_room(client, "Cellar")
    model_server.will(answer("A quince."))
    ask(client, room_id, "Which fruit?")
    until(lambda: "</mark>" in client.get("/search?q=quince").text)
    assert "Archived" not in client.get("/search?q=quince").text
    client.patch(f"/rooms/{room_id}", data={"archived": "1"})
    assert parsed(client.get("/search?q=quince").text).one("h2").text == "Kitchen Archived"
    listed = parsed(client.get("/rooms?q=quince").text)
    assert listed.one(class_="found__room").text == "Kitchen · Archived"
    names = [one.text for one in parsed(client.get("/palette").text).every("li") if one["hx-get"]]
    assert names == ["Cellar 0 messages"]
    typed = parsed(client.get("/palette?q=kit", headers=in_tab(shown)).text).every("li")
    assert [one.text for one in typed if one["hx-get"]] == ["Kitchen Archived"]
    found = parsed(client.get("/palette?q=quince").text).every(class_="palette__option--hit")
    assert found[0].every("small")[-1].text == "Kitchen · Archived"


def test_palette_offers_what_a_room_can_do(client: FlaskClient) -> None:
    listed, temporary = new_room(client), new_temporary(client)

    def commands(room_id: str, q: str) -> list[str]:
        found = parsed(client.get(f"/palette?q={q}", headers=in_tab(room_id)).text)
        return [one.text for one in found.every(class_="palette__option--command")]

    assert commands(listed, "archive") == ["Archive or unarchive this room"]
    client.patch(f"/rooms/{listed}", data={"archived": "1"})
    assert commands(listed, "archive") == ["Archived rooms", "Archive or unarchive this room"]
    assert commands(temporary, "archive") == ["Archived rooms"]
    assert commands(temporary, "keep this temp") == ["Keep this temporary room"]
    assert commands(listed, "keep this temp") == []
    assert commands(listed, "temporary") == ["New temporary room"]


# Temporary rooms


def test_temporary_room_is_in_no_list_of_others(client: FlaskClient) -> None:
    listed, room_id = new_room(client, "Kitchen"), new_temporary(client, name="Cellar")
    assert rows(client.get("/rooms").text) == [listed] == rows(client.get("/rooms", headers=in_tab(listed)).text)
    assert client.get("/").headers["Location"] == f"/rooms/{listed}"
    for path in ("/palette", "/palette?q=cellar", "/rooms?q=cellar", "/rooms?archived=1"):
        assert room_id not in client.get(path).text
    own = client.get("/rooms", headers=in_tab(room_id)).text
    assert rows(own) == [room_id, listed] and parsed(own).one(id="rooms-open").text == "Temporary"
    assert parsed(own).one(id=f"room-{room_id}")["data-temporary"] is not None


def test_temporary_room_says_so_and_can_be_kept(client: FlaskClient, overseer: Overseer) -> None:
    room_id = new_temporary(client)
    minutes = f"{TEMPORARY_SECONDS / 60:g} minutes"
    sentence = f"Temporary Deleted {minutes} after its last tab closes. Keep Delete now"
    assert note(client, room_id) == sentence
    header = parsed(client.get(f"/rooms/{room_id}").text).one(id="header")
    assert header.has("button", name="pinned") and not header.has("button", name="archived")
    response = client.patch(f"/rooms/{room_id}", data={"temporary": "0", **PLAIN})
    assert response.status_code == 303 and not overseer.record(room_id).temporary
    assert rows(client.get("/rooms").text) == [room_id]
    assert not parsed(client.get(f"/rooms/{room_id}").text).has(class_="header__note")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"temporary": "1"}, "Only a new room can be temporary"),
        ({"temporary": "yes"}, "temporary is 1"),
        ({"archived": "yes"}, "archived is 1"),
        ({"archived": "1"}, "Keep it first"),
    ],
)
def test_change_that_is_not_possible_is_rejected(
    client: FlaskClient, overseer: Overseer, data: dict[str, str], sentence: str
) -> None:
    room_id = new_temporary(client)
    response = client.patch(f"/rooms/{room_id}", data=data)
    assert response.status_code == 422 and sentence in response.text
    assert overseer.record(room_id).temporary and not overseer.record(room_id).archived
    assert client.post("/rooms", data={"temporary": "2"}).status_code == 422


def test_new_temporary_room_never_opens_the_unused_one(client: FlaskClient) -> None:
    """The form of the page has both fields. A browser without JavaScript is redirected."""
    unused = new_room(client)
    form = {"reuse": "1", "temporary": "1", **PLAIN}
    made = [client.post("/rooms", data=form).headers["Location"].removeprefix("/rooms/") for _ in range(2)]
    assert len({unused, *made}) == 3
    assert client.post("/rooms", data={"reuse": "1"}).headers["Location"] == f"/rooms/{unused}"
    assert note(client, made[0]).startswith("Temporary")


def test_requests_keep_a_temporary_room(instance: Path) -> None:
    """As long as they come; then it is deleted."""
    with opened(instance, temporary_seconds=0.5) as app:
        client = app.test_client()
        room_id = new_temporary(client)
        for _ in range(8):
            assert client.get(f"/rooms/{room_id}/messages").status_code == 200
            threading.Event().wait(0.1)
        until(lambda: not any((instance / "facets").glob("room-*")))
        assert client.get(f"/rooms/{room_id}").status_code == 404
