"""Archived and temporary rooms in two tabs, with the pointer, keys, the palette, and without JavaScript."""

from __future__ import annotations

import re
from pathlib import Path

import requests
from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations
from tests.browser.steps import (
    OpenPage,
    act_on_room,
    ask,
    create_room,
    expect_open,
    message,
    open_room,
    room_rows,
    row,
    send,
)
from tests.support.model_server import ModelServer, answer
from tests.support.server import Server, StartServer
from tests.support.waiting import until


def expect_rows(page: Page, *paths: str) -> None:
    """Wait until the list has these rooms, from the top."""
    expect(room_rows(page)).to_have_count(len(paths))
    for at, path in enumerate(paths):
        expect(room_rows(page).nth(at)).to_have_id(f"room-{path[-12:]}")


def run_command(page: Page, typed: str) -> None:
    """Type a part of a command in the palette, and press Enter."""
    page.keyboard.press("Control+k")
    page.keyboard.type(typed)
    expect(page.locator("#palette-options")).to_have_attribute("data-q", typed)
    page.keyboard.press("Enter")


def new_temporary_room(page: Page) -> str:
    """Press the button, and wait until the room is open and connected. Return its path."""
    before = page.url
    page.locator("#new-temporary").click()
    expect(page.locator(".header__note strong")).to_have_text("Temporary")
    expect(page).not_to_have_url(before)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    return "/rooms/" + page.url[-12:]


def files_of(instance: Path, path: str) -> list[Path]:
    return list((instance / "facets").glob(f"room-{path[-12:]}*"))


def test_archiving_removes_the_row_in_all_tabs_at_once(open_page: OpenPage, server: Server) -> None:
    """Also from the menu of the open room. A room that comes back is at its place."""
    low, middle, high = (create_room(server, name) for name in ("Low", "Middle", "High"))
    page, other = open_page(high), open_page(low)
    page.bring_to_front()
    expect(page.locator("#rooms-archived")).to_be_hidden()
    act_on_room(page, middle, "Archive")
    for tab in (page, other):
        expect_rows(tab, high, low)
        expect(tab.locator("#rooms-archived")).to_be_visible()
    page.get_by_label("Room actions").click()
    page.get_by_role("button", name="Archive", exact=True).click()
    expect(page.locator(".header__note")).to_contain_text("This room is archived.")
    expect_rows(other, low)
    expect_rows(page, high, low)
    expect(page.locator("#rooms-open")).to_have_text("Archived")
    page.locator(".header__note").get_by_role("button", name="Unarchive").click()
    expect(page.locator(".header__note")).to_have_count(0)
    for tab in (page, other):
        expect_rows(tab, high, low)
    expect(page.locator("#rooms-open")).to_have_count(0)
    page.locator("#rooms-archived a").click()
    expect(page.locator("#archived li")).to_have_count(1)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    assert violations(page) == []
    page.get_by_role("button", name="Unarchive Middle").click()
    expect(page.locator("#archived li")).to_have_count(0)
    for tab in (page, other):
        expect_rows(tab, high, middle, low)
        expect(tab.locator("#rooms-archived")).to_be_hidden()


def test_question_in_an_archived_room_brings_it_back_in_all_tabs(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    old, new = create_room(server, "Old"), create_room(server, "New")
    page, other = open_page(old), open_page(new)
    page.bring_to_front()
    run_command(page, "archive")
    expect_rows(other, new)
    expect(page.locator(".header__note")).to_be_visible()
    assert violations(page) == []
    model_server.will(answer("Back."))
    send(page, "Hello?")
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(page.locator(".header__note")).to_have_count(0)
    for tab in (page, other):
        expect_rows(tab, old, new)


def test_archived_rooms_are_found_by_keys(open_page: OpenPage, server: Server) -> None:
    """The palette leads to the list, and to a room whose name is typed; the row menu unarchives the open room."""
    room, other = create_room(server, "Kitchen"), create_room(server, "Cellar")
    page = open_page(room)
    row(page, room).locator("a").focus()
    for key in ("ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#row-menu").get_by_role("button", name="Pin")).to_be_focused()
    for key in ("ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".header__note")).to_be_visible()
    run_command(page, "archived")
    expect(page).to_have_url(re.compile("archived=1"))
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    page.get_by_role("searchbox", name="Search archived rooms").fill("cell")
    expect(page.locator("#archived")).to_contain_text("No archived rooms match")
    run_command(page, "kitch")
    expect_open(page, room)
    expect(row(page, room)).to_be_visible()
    act_on_room(page, room, "Unarchive")
    expect_rows(page, other, room)


def test_deleting_the_last_archived_room_removes_the_link(open_page: OpenPage, server: Server) -> None:
    room = create_room(server)
    requests.patch(server.url + room, {"archived": "1"}, timeout=20)
    page = open_page(create_room(server))
    expect(page.locator("#rooms-archived")).to_be_visible()
    requests.delete(server.url + room, timeout=20)
    expect(page.locator("#rooms-archived")).to_be_hidden()


def test_temporary_room_is_only_in_the_list_of_its_tab(open_page: OpenPage, server: Server) -> None:
    """No frame to another tab names it, until it is kept."""
    listed = create_room(server, "Listed")
    page, other = open_page(listed), open_page(listed)
    frames: list[str] = []
    other.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))))
    other.reload()
    expect(other.locator("body")).to_have_attribute("data-live", "open")
    page.bring_to_front()
    room = new_temporary_room(page)
    expect_rows(page, room, listed)
    expect(page.locator("#rooms-open")).to_have_text("Temporary")
    assert violations(page) == []
    send(page, "A secret?")
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(row(page, room)).to_contain_text("A secret?")
    ask(server, listed, "Something else")
    expect(row(other, listed)).to_have_attribute("data-messages", "2")
    expect_rows(other, listed)
    assert not any(room[-12:] in frame or "secret" in frame for frame in frames)
    open_room(page, listed)
    expect_rows(page, listed)
    page.go_back()
    expect_open(page, room)
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".header__note")).to_have_count(0)
    for tab in (page, other):
        expect_rows(tab, listed, room)


def test_temporary_room_is_deleted_by_a_click(open_page: OpenPage, server: Server, instance: Path) -> None:
    listed = create_room(server, "Listed")
    page = open_page(listed)
    room = new_temporary_room(page)
    assert files_of(instance, room)
    page.get_by_role("button", name="Delete now").click()
    expect_open(page, listed)
    expect_rows(page, listed)
    assert not files_of(instance, room)


def test_temporary_room_is_deleted_when_its_last_tab_has_left(start_server: StartServer, browser: Browser) -> None:
    """Not while a tab shows it; a reload, and leaving it for a moment, keep it."""
    server = start_server(altered={"temporary_rooms": {"seconds": 2.0}})
    listed = create_room(server)
    context = browser.new_context()
    page, other = context.new_page(), context.new_page()
    page.goto(server.url + listed)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    room = new_temporary_room(page)
    other.goto(server.url + room)
    expect(other.locator("body")).to_have_attribute("data-live", "open")
    page.goto(server.url + listed)
    unused = requests.post(f"{server.url}/rooms", data={"temporary": "1"}, timeout=20).headers["Location"]
    until(lambda: not files_of(server.instance, unused))  # a room that nobody shows is gone by now
    other.reload()
    expect_open(other, room)
    expect(other.locator("body")).to_have_attribute("data-live", "open")
    assert files_of(server.instance, room)
    other.close()
    until(lambda: not files_of(server.instance, room))
    page.goto(server.url + room)
    expect(page.locator("main")).to_contain_text("doesn’t exist or was deleted")
    context.close()


def test_temporary_and_archived_rooms_without_javascript(browser: Browser, server: Server) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.url)
    page.locator("#new-temporary").click()
    expect(page.locator(".header__note")).to_contain_text("Temporary")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".header__note")).to_have_count(0)
    page.get_by_label("Room actions").click()
    page.get_by_role("button", name="Archive", exact=True).click()
    expect(page.locator(".header__note")).to_contain_text("This room is archived.")
    page.locator("#rooms-archived a").click()
    expect(page.locator("#archived li")).to_have_count(1)
    page.get_by_role("searchbox", name="Search archived rooms").fill("zz")
    page.locator(".search__form button").click()
    expect(page.locator("#archived")).to_contain_text("No archived rooms match")
    page.go_back()
    page.get_by_role("button", name="Unarchive").click()
    expect(page.locator(".header__note")).to_have_count(0)
    page.locator("#new-temporary").click()
    page.get_by_role("button", name="Delete now").click()
    expect(room_rows(page)).to_have_count(1)
    context.close()
