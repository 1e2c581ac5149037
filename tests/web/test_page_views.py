"""What a page requests beyond rooms and messages: the palette, and the page of a browser without JavaScript."""

from __future__ import annotations

import re
from pathlib import Path

from flask.testing import FlaskClient

from overseer.rooms.overseer import Overseer
from overseer.storage.instance_lock import room_file
from tests.support.client import HTMX, PLAIN, ask, is_page, new_room
from tests.support.html import parsed, root
from tests.support.model_server import ModelServer, held, text
from tests.support.seed_data import insert_messages

REFRESH = re.compile(r'<noscript><meta http-equiv="refresh" content="3; url=([^"]+)#end"></noscript>')


def test_palette_lists_matching_rooms_and_commands(client: FlaskClient) -> None:
    """Commands for a room are listed if one is open, and the open room is not listed itself."""
    garden, kitchen = new_room(client, "Garden"), new_room(client, "Kitchen")
    here = {**HTMX, "HX-Current-URL": f"http://localhost/rooms/{kitchen}"}

    def options(q: str, headers: dict[str, str]) -> list[str]:
        listed = root(client.get("/palette", query_string={"q": q}, headers=headers).text)
        assert listed["id"] == "palette-options" and listed["data-q"] == q
        return [option.one("span").text for option in listed.every("li", role="option") if option.has("span")]

    assert options("", here)[0] == "Garden" and "Kitchen" not in options("", here)
    assert options("", HTMX)[:2] == ["Kitchen", "Garden"]
    assert {*options("", HTMX)} - {"Kitchen"} < {*options("", here)}, "an open room has more commands"
    assert options("gar", here) == ["Garden"] and len(options("THEME: d", here)) == 1
    assert options("<nothing>", here) == [] and "Log out" not in options("", here)
    for q, command in (
        ("new chat", "New room"),
        ("dark mode", "Theme: Dark"),
        ("shortcuts", "Keyboard shortcuts"),
        ("help", "Keyboard shortcuts"),
        ("rnme", "Rename this room"),
        ("system prompt", "Room settings"),
        ("print", "Print this room"),
    ):
        assert options(q, here)[0] == command
    assert "Stop the answer" not in options("", here)
    chosen = root(client.get("/palette?q=gar").text).one("li")
    assert (chosen["hx-get"], chosen["aria-selected"]) == (f"/rooms/{garden}", "true")


def test_page_without_javascript_reloads_while_an_answer_grows(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    room_id = new_room(client)
    assert not REFRESH.search(client.get(f"/rooms/{room_id}").text)
    model_server.will(held(text("Slowly")))
    ask(client, room_id, "Hello", wait=False)
    page = client.get(f"/rooms/{room_id}").text
    (url,) = REFRESH.findall(page.split("</head>")[0])
    assert client.get(url).status_code == 200 and ' id="end"' in client.get(url).text
    assert REFRESH.findall(client.get(url).text) != [url], "a browser does not reload a page for an anchor in it"
    assert not REFRESH.search(client.get(f"/rooms/{room_id}?before=9").text)
    assert re.search(r"<noscript>[^~]*>Stop</button>[^~]*>Refresh</a>\s*</noscript>", page)
    overseer.room(room_id).stop()
    page = client.get(f"/rooms/{room_id}").text
    assert not REFRESH.search(page) and ">Refresh<" not in page


def test_rejected_form_without_javascript_links_to_its_room(client: FlaskClient) -> None:
    """If there is one. The text is shown."""
    room_id = new_room(client)
    for path, status in ((f"/rooms/{room_id}/messages", 422), ("/rooms/0123456789ab/messages", 404)):
        form = {"text": "Lost?", "key": "k" * 201 if status == 422 else "k", **PLAIN}
        response = client.post(path, data=form)
        assert response.status_code == status and is_page(response)
        main = parsed(response.text).one("main")
        assert main.one("textarea", **({"name": "text"} if status == 422 else {})).text == "Lost?"
        assert [link["href"] for link in main.every("a")] == ([f"/rooms/{room_id}"] if status == 422 else ["/"])


def test_room_can_be_opened_with_all_messages_for_printing(
    client: FlaskClient, overseer: Overseer, instance: Path
) -> None:
    room_id = new_room(client)
    overseer.close()
    insert_messages(room_file(instance, room_id), range(1, 61), "Message {}.".format)
    overseer.open()
    assert client.get(f"/rooms/{room_id}").text.count("<article") == 50
    page = client.get(f"/rooms/{room_id}?all=1").text
    assert page.count("<article") == 60 and 'id="earlier-' not in page
