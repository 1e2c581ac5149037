"""What the page asks of the server beyond rooms and messages: the palette, links, the words themselves, no scripts."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from overseer.rooms.overseer import Overseer
from tests.support.model_server import ModelServer, answer, held, text
from tests.web.test_views import HTMX, PLAIN, ask, is_page, new_room, parsed, root, rows

NAVIGATE = {"Sec-Fetch-Mode": "navigate"}
REFRESH = re.compile(r'<noscript><meta http-equiv="refresh" content="3; url=([^"]+)#end"></noscript>')


def test_the_palette_lists_rooms_by_name_and_what_can_be_done(client: FlaskClient) -> None:
    """A few letters narrow both; what needs an open room is there only with one, and the open room is not a choice."""
    garden, kitchen = new_room(client, "Garden"), new_room(client, "Kitchen")
    here = {**HTMX, "HX-Current-URL": f"http://localhost/rooms/{kitchen}"}

    def options(q: str, headers: dict[str, str]) -> list[str]:
        listed = root(client.get("/palette", query_string={"q": q}, headers=headers).text)
        assert listed["id"] == "palette-options" and listed["data-q"] == q
        return [option.one("span").text for option in listed.every("li", role="option") if option.has("span")]

    assert options("", here)[:2] == ["Garden", "New room"] and "Delete this room" in options("", here)
    assert options("", HTMX)[:2] == ["Kitchen", "Garden"] and "Delete this room" not in options("", HTMX)
    assert options("gar", here) == ["Garden"] and options("THEME: d", here) == ["Theme: Dark"]
    assert options("<nothing>", here) == []
    chosen = root(client.get("/palette?q=gar").text).one("li")
    assert (chosen["hx-get"], chosen["aria-selected"]) == (f"/rooms/{garden}", "true")


def test_a_browser_that_follows_a_message_s_address_comes_to_its_place(client: FlaskClient, instance: Path) -> None:
    """Among the newest it is on the room's page; further up on the page that holds it, with what follows."""
    room_id = new_room(client)
    with closing(sqlite3.connect(instance / "facets" / f"room-{room_id}.sqlite")) as db, db:
        for number in range(1, 201):
            row = (number, "user" if number % 2 else "assistant", 1_700_000_000_000)
            db.execute("INSERT INTO messages (number, role, state, created_at) VALUES (?, ?, 'complete', ?)", row)
    near = client.get(f"/rooms/{room_id}/messages/190", headers=NAVIGATE)
    assert (near.status_code, near.headers["Location"]) == (303, f"/rooms/{room_id}#message-190")
    far = client.get(f"/rooms/{room_id}/messages/40", headers=NAVIGATE)
    assert (far.status_code, far.headers["Location"]) == (303, f"/rooms/{room_id}?before=65#message-40")
    shown = parsed(client.get(f"/rooms/{room_id}?before=65", headers=NAVIGATE).text)
    assert shown.has("article", id="message-40") and shown.has("article", id="message-64")
    gone = client.get(f"/rooms/{room_id}/messages/900", headers=NAVIGATE)
    assert gone.status_code == 404 and parsed(gone.text).one("main").one("a")["href"] == f"/rooms/{room_id}"


def test_a_message_can_be_had_as_it_was_written(client: FlaskClient, model_server: ModelServer) -> None:
    """Markdown for who asks for it, the fragment for everybody else."""
    room_id = new_room(client)
    model_server.will(answer("**Good** <day>"))
    ask(client, room_id, "Say `it`")
    for number, words in ((1, "Say `it`"), (2, "**Good** <day>")):
        response = client.get(f"/rooms/{room_id}/messages/{number}", headers={"Accept": "text/markdown"})
        assert (response.mimetype, response.text) == ("text/markdown", words)
        assert response.headers["Cache-Control"] == "no-store" and "Accept" in response.headers["Vary"]
    assert client.get(f"/rooms/{room_id}/messages/2").text.startswith("<article")


def test_while_an_answer_grows_a_page_without_scripts_comes_again(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Every three seconds, and a link to do it at once; neither when it has ended."""
    room_id = new_room(client)
    assert not REFRESH.search(client.get(f"/rooms/{room_id}").text)
    model_server.will(held(text("Slowly")))
    ask(client, room_id, "Hello", wait=False)
    page = client.get(f"/rooms/{room_id}").text
    (address,) = REFRESH.findall(page.split("</head>")[0])
    assert client.get(address).status_code == 200 and ' id="end"' in client.get(address).text
    assert REFRESH.findall(client.get(address).text) != [address], "to the same address a browser would not go"
    assert not REFRESH.search(client.get(f"/rooms/{room_id}?before=9").text)
    assert ">Refresh</a></noscript>" in page
    overseer.stop(room_id)
    page = client.get(f"/rooms/{room_id}").text
    assert not REFRESH.search(page) and ">Refresh<" not in page


@pytest.mark.parametrize(
    ("form", "status"),
    [({"text": "   "}, 422), ({"text": "x" * 200_001}, 413), ({"text": "Lost?", "key": "k" * 201}, 422)],
)
def test_a_refused_form_leads_back_and_loses_no_word(client: FlaskClient, form: dict[str, str], status: int) -> None:
    """Without scripts an error is a page: it says why, shows what was typed, and has a link to the room."""
    room_id = new_room(client)
    response = client.post(f"/rooms/{room_id}/messages", data={**form, **PLAIN})
    assert response.status_code == status and is_page(response)
    main = parsed(response.text).one("main")
    assert main.one("a")["href"] == f"/rooms/{room_id}"
    assert main.one("textarea").text == form["text"].strip()
    other = client.post("/rooms/0123456789ab/messages", data={"text": "Lost?", **PLAIN})
    assert other.status_code == 404 and not parsed(other.text).one("main").has("a")


def test_pinning_is_a_setting_of_the_room(client: FlaskClient, instance: Path) -> None:
    """1 pins, 0 or nothing unpins, anything else is refused; the room's own file has it, and the list shows it."""
    low, high = new_room(client, "Low"), new_room(client, "High")
    assert client.patch(f"/rooms/{low}", data={"pinned": "1"}).status_code == 200
    assert rows(client.get("/rooms").text) == [low, high]
    with closing(sqlite3.connect(instance / "facets" / f"room-{low}.sqlite")) as db:
        assert db.execute("SELECT pinned FROM room").fetchone() == (1,)
    ask(client, high, "Up")
    newest = new_room(client, "Newest")
    assert rows(client.get("/rooms").text) == [low, newest, high]
    assert client.patch(f"/rooms/{low}", data={"pinned": "yes"}).status_code == 422
    assert client.patch(f"/rooms/{low}", data={"temperature": "0.5"}).status_code == 200
    assert rows(client.get("/rooms").text) == [low, newest, high]
    client.patch(f"/rooms/{low}", data={"pinned": "0"})
    assert rows(client.get("/rooms").text) == [newest, high, low]


def test_an_unpinned_room_is_as_new_as_its_activity(client: FlaskClient) -> None:
    """Also one that was the topmost of the pinned ones all the time."""
    pinned, other, third = (new_room(client, name) for name in ("Pinned", "Other", "Third"))
    client.patch(f"/rooms/{pinned}", data={"pinned": "1"})
    ask(client, other, "Up")
    ask(client, pinned, "Up")
    client.patch(f"/rooms/{pinned}", data={"pinned": "0"})
    assert rows(client.get("/rooms").text) == [pinned, other, third]


def test_pinned_rooms_come_first_on_the_first_page_only(client: FlaskClient) -> None:
    """Sixty rooms, the oldest pinned: each once, in pages, each heading once."""
    made = [new_room(client, f"Room {n}") for n in range(60)]
    client.patch(f"/rooms/{made[0]}", data={"pinned": "1"})
    first = root(client.get("/rooms").text)
    headings = [item.text for item in first.every("h2")]
    second = root(client.get(first.one(id="rooms-more").one("a")["href"] or "").text)
    listed = [item["data-room"] for part in (first, second) for item in part.every("li") if item["data-room"]]
    assert listed == [made[0], *reversed(made[1:])]
    assert headings == ["Pinned", "Today"] and not second.has("h2")
