"""What a page requests beyond rooms and messages: the palette, and the page of a browser without JavaScript."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from overseer.rooms.overseer import Overseer
from tests.support.client import HTMX, PLAIN, ask, is_page, new_room
from tests.support.html import parsed, root
from tests.support.model_server import ModelServer, held, text

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
    assert ">Refresh</a></noscript>" in page
    overseer.stop(room_id)
    page = client.get(f"/rooms/{room_id}").text
    assert not REFRESH.search(page) and ">Refresh<" not in page


@pytest.mark.parametrize(
    ("form", "status"),
    [({"text": "   "}, 422), ({"text": "x" * 200_001}, 413), ({"text": "Lost?", "key": "k" * 201}, 422)],
)
def test_rejected_form_shows_its_text_and_links_to_its_room(
    client: FlaskClient, form: dict[str, str], status: int
) -> None:
    room_id = new_room(client)
    response = client.post(f"/rooms/{room_id}/messages", data={**form, **PLAIN})
    assert response.status_code == status and is_page(response)
    main = parsed(response.text).one("main")
    assert main.one("a")["href"] == f"/rooms/{room_id}"
    assert main.one("textarea").text == form["text"].strip()
    other = client.post("/rooms/0123456789ab/messages", data={"text": "Lost?", **PLAIN})
    assert other.status_code == 404 and not parsed(other.text).one("main").has("a")
