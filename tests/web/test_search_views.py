"""The search page, its fragment and its lines of text."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from overseer.rooms.overseer import Overseer
from overseer.rooms.search import BEING_BUILT
from overseer.storage.search_index import SEARCH_FILE
from tests.support.client import NAVIGATION, ask, new_room
from tests.support.html import parsed, root
from tests.support.model_server import ModelServer, answer
from tests.support.waiting import until

TEXT = {"Accept": "text/plain"}


@pytest.fixture
def room_id(client: FlaskClient, model_server: ModelServer) -> str:
    """A room with a question, an answer and another version of both, which are all in the index."""
    room_id = new_room(client, "Kitchen <b>")
    model_server.will(answer("A **quince** & a medlar"))
    ask(client, room_id, "Which fruit?")
    client.patch(f"/rooms/{room_id}/messages/1", data={"text": "Which fruit <i>else</i>?"})
    until(lambda: client.get("/search?q=fruit", headers=TEXT).text.count("\n") == 2)
    return room_id


def test_search_is_a_fragment_a_page_or_lines(client: FlaskClient, room_id: str) -> None:
    fragment = client.get("/search?q=quince")
    assert fragment.status_code == 200 and root(fragment.text)["id"] == "search"
    hit = root(fragment.text).one("a", class_="hit")
    assert hit["href"] == f"/rooms/{room_id}/messages/2?mark=quince" and hit.one("mark").text == "quince"
    assert "Kitchen &lt;b&gt;" in fragment.text and "Accept" in fragment.headers["Vary"]
    page = client.get("/search?q=quince", headers=NAVIGATION)
    assert (
        page.text.startswith("<!doctype html>")
        and parsed(page.text).one("main").one("input", name="q")["value"] == "quince"
    )
    lines = client.get("/search?q=quince", headers=TEXT)
    assert lines.mimetype == "text/plain"
    assert lines.text == f"/rooms/{room_id}/messages/2\tKitchen <b>\tA **quince** & a medlar\n"


def test_hit_leads_to_its_message_also_in_another_version(client: FlaskClient, room_id: str) -> None:
    for number, place in ((1, "?at=1&mark=fruit"), (3, "?mark=fruit")):
        linked = client.get(f"/rooms/{room_id}/messages/{number}?mark=fruit", headers=NAVIGATION)
        assert (linked.status_code, linked.headers["Location"]) == (303, f"/rooms/{room_id}{place}#message-{number}")
        assert client.get(linked.headers["Location"]).status_code == 200


def test_search_in_a_room_and_in_none(client: FlaskClient, room_id: str) -> None:
    other = new_room(client, "Other")
    assert client.get(f"/search?q=fruit&room={other}", headers=TEXT).text.startswith("Nothing was found.\n")
    assert client.get(f"/search?q=fruit&room={room_id}", headers=TEXT).text.count("\n") == 2
    assert client.get("/search?q=fruit&room=0123456789ab").status_code == 404
    assert "in “Other”" in client.get(f"/search?q=fruit&room={other}").text


@pytest.mark.parametrize(
    "q", ["-x", "!!!", '"' * 6000, "\x00", "-", "\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace")]
)
def test_query_without_a_word_is_answered_with_a_sentence(client: FlaskClient, room_id: str, q: str) -> None:
    response = client.get(f"/search?q={quote(q)}")
    assert response.status_code == 200 and "Type a word to search for." in response.text
    assert client.get(f"/palette?q={quote(q)}").status_code == client.get(f"/rooms?q={quote(q)}").status_code == 200


def test_search_without_a_query_shows_its_field_only(client: FlaskClient) -> None:
    for q in ("", "?q=", "?q=+"):
        page = client.get(f"/search{q}", headers=NAVIGATION)
        assert page.status_code == 200 and "search__note" not in page.text


def test_index_that_is_lost_is_built_anew_and_says_so(client: FlaskClient, overseer: Overseer, room_id: str) -> None:
    (overseer.directory / SEARCH_FILE).unlink()
    client.patch(f"/rooms/{room_id}", data={"name": "Cellar"})
    seen = set()

    def is_found() -> bool:
        text = client.get("/search?q=cellar", headers=TEXT).text
        seen.add(text)
        return text.startswith("/rooms/")

    until(is_found)
    first_lines = {one.partition("\n")[0] for one in seen if not one.startswith("/rooms/")}
    assert first_lines <= {"Nothing was found.", BEING_BUILT}


def test_list_and_palette_show_the_best_hits(client: FlaskClient, room_id: str) -> None:
    listed = parsed(client.get("/rooms?q=quince").text)
    assert listed.one("li", class_="found").one("mark").text == "quince"
    assert listed.every("a", class_="rooms__more")[-1]["href"] == "/search?q=quince"
    options = parsed(client.get("/palette?q=quince").text).every("li", role="option")
    assert len(options) == 2 and options[0].one("a")["href"] == f"/rooms/{room_id}/messages/2?mark=quince"
    page = parsed(client.get("/rooms?q=quince", headers=NAVIGATION).text)
    assert page.one("li", class_="found"), "without JavaScript"
    assert not parsed(client.get("/rooms?q=q").text).has("li", class_="found"), "a single letter"
