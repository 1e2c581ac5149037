"""What one does with rooms and messages: in place, by the palette, by keys, and asked before something goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.steps import agree, message, new_room, room_id, room_rows, row, say
from tests.support.model_server import ModelServer, Reply, answer, end, held, text
from tests.support.server import Server

OpenPage = Callable[..., Page]


def make_rooms(server: Server, *names: str) -> list[str]:
    """Rooms by HTTP, the last one on top; their ids."""
    made = [requests.post(f"{server.url}/rooms", {"name": name}, timeout=20).headers["Location"] for name in names]
    return [path.rsplit("/", 1)[-1] for path in made]


@pytest.mark.parametrize("where", ["row", "header"])
def test_a_double_click_on_a_name_renames_it_in_place(open_page: OpenPage, server: Server, where: str) -> None:
    """The name becomes a field where it stands; Enter keeps what was typed, Escape what was there."""
    (room,) = make_rooms(server, "Kitchen")
    page = open_page(f"/rooms/{room}")
    name = page.locator(f"#room-{room} .row__name" if where == "row" else "#header h1")
    field = page.get_by_role("textbox", name="New name")
    name.dblclick()
    expect(field).to_be_focused()
    expect(field).to_have_value("Kitchen")
    there, at = name.bounding_box(), field.bounding_box()
    assert there and at and abs(there["x"] - at["x"]) < 16 and abs(there["y"] - at["y"]) < 16
    page.keyboard.type("Not this")
    page.keyboard.press("Escape")
    expect(field).to_be_hidden()
    name.dblclick()
    expect(field).to_be_focused()
    page.keyboard.type("Cellar")
    page.keyboard.press("Enter")
    expect(field).to_be_hidden()
    expect(page.locator("#header h1")).to_have_text("Cellar")
    expect(row(page, room)).to_contain_text("Cellar")


def test_f2_renames_the_room_one_is_on(open_page: OpenPage, server: Server) -> None:
    """The row with the focus, or else the open room."""
    other, first = make_rooms(server, "Other", "First")
    page = open_page(f"/rooms/{first}")
    page.keyboard.press("F2")
    expect(page.get_by_role("textbox", name="New name")).to_have_value("First")
    page.keyboard.press("Escape")
    row(page, other).locator("a").focus()
    page.keyboard.press("F2")
    expect(page.get_by_role("textbox", name="New name")).to_have_value("Other")
    page.keyboard.type("Another")
    page.keyboard.press("Enter")
    expect(row(page, other)).to_contain_text("Another")
    expect(page.locator("#header h1")).to_have_text("First")


def test_a_pinned_room_stays_on_top_in_every_tab(open_page: OpenPage, server: Server) -> None:
    """Others rise below it; unpinned it is back where its last activity belongs."""
    low, high = make_rooms(server, "Low", "High")
    page, other = open_page(f"/rooms/{low}"), open_page(f"/rooms/{high}")
    page.bring_to_front()
    row(page, low).hover()
    row(page, low).get_by_role("button", name="Pin Low").click()
    for tab in (page, other):
        expect(room_rows(tab).first).to_have_attribute("data-room", low)
        expect(tab.get_by_role("heading", name="Pinned")).to_be_visible()
    requests.post(f"{server.url}/rooms/{high}/messages", {"text": "Up"}, headers={"Prefer": "wait=20"}, timeout=30)
    expect(row(page, high)).to_have_attribute("data-messages", "2")
    (new,) = make_rooms(server, "New")
    expect(room_rows(page).nth(1)).to_have_attribute("data-room", new)
    expect(room_rows(page).first).to_have_attribute("data-room", low)
    page.get_by_label("Room actions").click()
    page.get_by_role("button", name="Unpin", exact=True).click()
    expect(room_rows(page).last).to_have_attribute("data-room", low)
    expect(other.get_by_role("heading", name="Pinned")).to_be_hidden()


def test_the_palette_goes_to_a_room_by_a_few_letters(open_page: OpenPage, server: Server) -> None:
    """Ctrl+K, letters, Enter: even Enter at once takes what fits the letters, and the composer has the focus."""
    garden, _ = make_rooms(server, "Garden plan", "Kitchen")
    page = open_page()
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Search rooms")
    expect(palette.get_by_role("combobox")).to_be_focused()
    page.keyboard.type("gard")
    page.keyboard.press("Enter")
    expect(palette).to_be_hidden()
    expect(page.locator("#header h1")).to_have_text("Garden plan")
    assert page.url.endswith(f"/rooms/{garden}")
    expect(page.locator("#composer textarea")).to_be_focused()


def test_the_palette_is_worked_by_arrows_and_does_what_it_says(open_page: OpenPage, server: Server) -> None:
    """The chosen option is told to a screen reader; Escape leaves everything as it was."""
    make_rooms(server, "One", "Two")
    page = open_page()
    page.keyboard.press("Control+k")
    palette = page.locator("#palette")
    box, options = palette.get_by_role("combobox"), palette.get_by_role("option")
    expect(options.first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    expect(options.first).to_have_attribute("aria-selected", "false")
    expect(box).to_have_attribute("aria-activedescendant", "option-2")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(options.last).to_have_attribute("aria-selected", "true")
    box.fill("zzz")
    expect(page.locator("#palette-options")).to_contain_text("No results for “zzz”")
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    expect(page.locator("#header h1")).to_have_text("Two")

    for typed, then in (
        ("theme: dark", lambda: expect(page.locator("html")).to_have_attribute("data-theme", "dark")),
        ("settings", lambda: expect(page.locator(".settings")).to_have_attribute("open", "")),
        ("rename", lambda: expect(page.get_by_role("textbox", name="New name")).to_be_focused()),
        ("keyboard", lambda: expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()),
        ("new room", lambda: expect(page.locator("#header h1")).to_have_text("New room")),
    ):
        page.keyboard.press("Control+k")
        page.keyboard.type(typed)
        page.keyboard.press("Enter")
        expect(box).to_be_hidden()
        then()
        page.keyboard.press("Escape")


def test_alt_arrows_go_from_room_to_room(open_page: OpenPage, server: Server) -> None:
    """In the order of the list, also from within the composer, which keeps the focus."""
    make_rooms(server, "Low", "Middle", "High")
    page = open_page()
    expect(page.locator("#header h1")).to_have_text("High")
    for key, name in (("ArrowDown", "Middle"), ("ArrowDown", "Low"), ("ArrowUp", "Middle")):
        page.keyboard.press(f"Alt+{key}")
        expect(page.locator("#header h1")).to_have_text(name)
        expect(page.locator("#composer textarea")).to_be_focused()


def test_escape_stops_the_answer_and_a_question_mark_lists_the_keys(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """Escape closes what is open first; a question mark in a text is a question mark."""
    page = open_page()
    new_room(page)
    reply = model_server.will(held(text("On and on")))
    say(page, "Go on")
    expect(message(page, 2, state="streaming")).to_contain_text("On and on")
    page.keyboard.type("What?")
    expect(page.locator("#composer textarea")).to_have_value("What?")
    page.locator("#scroller").focus()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(keys).to_contain_text("stop the answer")
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    expect(message(page, 2, state="streaming")).to_be_visible()
    page.locator("#composer textarea").press("Escape")
    expect(message(page, 2, state="stopped")).to_contain_text("On and on")
    assert reply.closed.wait(20)
    expect(page.locator("#composer textarea")).to_have_value("What?")


def test_a_message_is_copied_as_markdown_and_its_link_leads_back(
    open_page: OpenPage, model_server: ModelServer, context: BrowserContext
) -> None:
    """Copy takes what was written, not what it looks like; a code block gives its code alone."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = open_page()
    new_room(page)
    words = "Some **bold** words:\n\n```python\nprint('a  b')\n```\n"
    model_server.will(answer(words))
    say(page, "Show me")
    expect(message(page, 2, state="complete")).to_be_visible()
    read = "navigator.clipboard.readText()"
    message(page, 2).get_by_role("link", name="Copy", exact=True).click()
    expect(message(page, 2).get_by_text("Copied")).to_be_visible()
    assert page.evaluate(read) == words
    message(page, 2).get_by_role("button", name="Copy").click()
    expect(message(page, 2).get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate(read) == "print('a  b')\n"
    message(page, 1).hover()
    message(page, 1).get_by_role("link", name="Link").click()
    expect(page).to_have_url(f"{page.url.split('#')[0]}#message-1")
    expect(page.locator(".message:target")).to_have_id("message-1")
    assert page.evaluate(read) == page.url


def test_long_lines_of_code_can_be_wrapped(open_page: OpenPage, model_server: ModelServer) -> None:
    """A block scrolls within itself, or wraps if one likes, and says which."""
    page = open_page()
    new_room(page)
    model_server.will(answer("```\n" + "word " * 200 + "\n```\n"))
    say(page, "Long")
    block = message(page, 2, state="complete").locator("pre")
    overflow = "pre => pre.scrollWidth > pre.clientWidth"
    assert block.evaluate(overflow)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wrap = message(page, 2).get_by_role("button", name="Wrap")
    wrap.click()
    expect(wrap).to_have_attribute("aria-pressed", "true")
    assert not block.evaluate(overflow)


def test_answering_again_asks_first(open_page: OpenPage, model_server: ModelServer) -> None:
    """The old answer goes only after a yes."""
    page = open_page()
    new_room(page)
    model_server.will(answer("First."), Reply(text("Second."), end()))
    say(page, "Hello")
    expect(message(page, 2, state="complete")).to_contain_text("First.")
    message(page, 2).get_by_role("button", name="Regenerate").click()
    assert agree(page) == "Drop this answer and ask for another?"
    expect(message(page, 2, state="complete")).to_contain_text("Second.")
    assert room_id(page)


def test_back_to_a_deleted_room_says_so_and_breaks_nothing(
    open_page: OpenPage, server: Server, complaints: list[str]
) -> None:
    """The sentence is on the page, and the rooms go on."""
    here, gone = make_rooms(server, "Here", "Gone")
    page = open_page(f"/rooms/{gone}")
    row(page, here).locator("a").click()
    expect(page.locator("#header h1")).to_have_text("Here")
    requests.delete(f"{server.url}/rooms/{gone}", timeout=20)
    page.go_back()
    expect(page.locator("#error")).to_contain_text("There is no such room")
    new_room(page)
    expect(page.locator("#composer textarea")).to_be_focused()
    expect(page.locator("#error")).to_be_empty()
    complaints.clear()


def test_the_palette_takes_the_same_letters_twice(open_page: OpenPage, server: Server) -> None:
    """Closed and opened again it begins anew, and what was called off does not happen."""
    make_rooms(server, "Beta", "Alpha")
    page = open_page()
    box = page.locator("#palette").get_by_role("combobox")
    for end_with in ("Escape", "Enter"):
        page.keyboard.press("Control+k")
        expect(box).to_be_focused()
        page.keyboard.type("b")
        expect(page.locator("#palette-options")).to_have_attribute("data-q", "b")
        page.keyboard.press(end_with)
        expect(box).to_be_hidden()
    expect(page.locator("#header h1")).to_have_text("Beta")


def test_a_second_click_on_copy_goes_nowhere(open_page: OpenPage, context: BrowserContext) -> None:
    """It copies again; the page stays."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = open_page()
    new_room(page)
    say(page, "Copy me")
    expect(message(page, 2, state="complete")).to_be_visible()
    page.evaluate("window.stays = true")
    message(page, 2).locator("[data-copy-message]").dblclick()
    expect(message(page, 2).get_by_text("Copied")).to_be_visible()
    expect(message(page, 2).locator("[data-copy-message]")).to_have_text("Copy")
    assert page.evaluate("window.stays") and "#" not in page.url


def test_alt_arrows_pressed_quickly_lose_no_step(open_page: OpenPage, server: Server) -> None:
    """Three presses before the first room is there are three rooms."""
    make_rooms(server, "1", "2", "3", "4")
    page = open_page()
    expect(page.locator("#header h1")).to_have_text("4")
    press = "new KeyboardEvent('keydown', { key: 'ArrowDown', altKey: true, bubbles: true, cancelable: true })"
    page.evaluate(f"for (let i = 0; i < 3; i++) document.body.dispatchEvent({press})")
    expect(page.locator("#header h1")).to_have_text("1")
