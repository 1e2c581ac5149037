"""Search from the palette, the field above the list and the page; a hit opens the room at the message."""

from __future__ import annotations

import requests
from playwright.sync_api import Page, expect

from tests.browser.steps import OpenPage, ask, create_room, message
from tests.support.model_server import ModelServer, answer
from tests.support.server import Server
from tests.support.waiting import until


def searchable(server: Server, words: str, count: int) -> None:
    """Wait until the index finds that many texts."""
    url = f"{server.url}/search"
    until(
        lambda: (
            requests.get(url, {"q": words}, headers={"Accept": "text/plain"}, timeout=20).text.count("\t") == 2 * count
        )
    )


def marked(page: Page) -> list[str]:
    """Return the texts that are marked on the page."""
    found: list[str] = page.evaluate("[...(CSS.highlights.get('found') ?? [])].map(String)")
    return found


def kitchen(server: Server, model_server: ModelServer) -> str:
    path = create_room(server, "Kitchen")
    model_server.will(answer("A naïve *quince*, and a Quince tree."))
    ask(server, path, "Which fruit?")
    for _ in range(3):
        ask(server, path, "And what else?")
    searchable(server, "quince", 1)
    return path


def test_palette_finds_a_message_as_one_types(open_page: OpenPage, server: Server, model_server: ModelServer) -> None:
    path, other = kitchen(server, model_server), create_room(server, "Other")
    page = open_page(other)
    page.keyboard.press("Control+k")
    page.keyboard.type("naive qui")
    option = page.locator("#palette [role=option]").first
    expect(option).to_contain_text("Kitchen")
    expect(option.locator("mark")).to_have_text(["naïve", "qui", "Qui"])
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}{path}?mark=naive+qui#message-2")
    expect(message(page, 2)).to_be_in_viewport()
    until(lambda: marked(page) == ["naïve", "qui", "Qui"])


def test_field_above_the_list_and_the_page_lead_to_a_message(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """Also to another version, which is shown without a switch."""
    path, other = kitchen(server, model_server), create_room(server, "Other")
    requests.patch(f"{server.url}{path}/messages/1", {"text": "Which nut?"}, timeout=20).raise_for_status()
    page = open_page(other)
    page.get_by_role("searchbox").fill("quince")
    expect(page.locator("#rooms .found")).to_contain_text("A naïve *quince*")
    page.get_by_role("link", name="All results").click()
    field = page.get_by_role("searchbox", name="Search messages")
    expect(field).to_have_value("quince")
    expect(page.locator("#search .hit")).to_have_count(1)
    field.fill("nothing here")
    expect(page.locator("#search")).to_contain_text("No results for “nothing here”")
    field.fill("quince")
    page.locator("#search .hit").click()
    expect(page).to_have_url(f"{server.url}{path}?at=2&mark=quince#message-2")
    expect(page.get_by_text("You’re reading another version")).to_be_visible()
    until(lambda: marked(page) == ["quince", "Quince"])


def test_search_of_one_room_from_its_menu(open_page: OpenPage, server: Server, model_server: ModelServer) -> None:
    path = kitchen(server, model_server)
    page = open_page(path)
    page.get_by_label("Room actions").click()
    page.get_by_role("link", name="Search…").click()
    expect(page.get_by_role("heading", name="Search in Kitchen")).to_be_visible()
    page.get_by_role("searchbox", name="Search messages").fill("fruit")
    expect(page.locator("#search .hit")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}/search?room={path[-12:]}&q=fruit")
