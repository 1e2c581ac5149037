"""Fork a room from its menus, the palette and a message."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.steps import OpenPage, act_on_room, ask, create_room, message, messages, send
from tests.support.server import Server

FORK = re.compile(r"/rooms/[0-9a-f]{12}$")


def expect_fork(page: Page, path: str, name: str) -> str:
    """Wait until another room with this name is open and connected. Return its path."""
    expect(page.locator("#header h1")).to_have_text(name)
    expect(page).to_have_url(FORK)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    fork = page.url[-len(path) :]
    assert fork != path
    return fork


def test_fork_from_a_message_ends_with_it_and_links_back(open_page: OpenPage, server: Server) -> None:
    path = create_room(server, "Kitchen")
    for question in ("One?", "Two?"):
        ask(server, path, question)
    page, other = open_page(path), open_page(path)
    message(page, 2).hover()
    message(page, 2).get_by_role("button", name="Fork from here").click()
    fork = expect_fork(page, path, "Kitchen (fork)")
    expect(messages(page)).to_have_count(2)
    expect(other.locator(f"#room-{fork[-12:]}")).to_contain_text("Kitchen (fork)")
    send(page, "Three?")
    expect(message(page, 6, state="complete")).to_be_visible()
    expect(messages(other)).to_have_count(4)
    page.get_by_role("link", name="Forked from Kitchen").click()
    expect(page).to_have_url(f"{server.url}{path}#message-2")
    expect(messages(page)).to_have_count(4)


def test_room_is_forked_from_both_menus_and_the_palette(open_page: OpenPage, server: Server) -> None:
    path = create_room(server, "Kitchen", questions=1)
    page = open_page(path)
    page.get_by_label("Room actions").click()
    page.locator("#header").get_by_role("button", name="Fork").click()
    expect_fork(page, path, "Kitchen (fork)")
    act_on_room(page, path, "Fork")
    expect_fork(page, path, "Kitchen (fork)")
    expect(page.locator("#rooms .row")).to_have_count(3)
    page.keyboard.press("Control+k")
    page.keyboard.type("duplicate")
    expect(page.locator("#palette-options")).to_have_attribute("data-q", "duplicate")
    expect(page.locator("#palette [role=option]")).to_have_text("Fork this room")
    page.keyboard.press("Enter")
    expect_fork(page, path, "Kitchen (fork) (fork)")
    expect(messages(page)).to_have_count(2)
