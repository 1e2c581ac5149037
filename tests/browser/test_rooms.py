"""Rooms: create, open, rename, pin, filter, clear and delete them, with the pointer, keys and the palette."""

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
    composer,
    confirm,
    create_room,
    expect_open,
    message,
    messages,
    new_room,
    open_room,
    room_rows,
    row,
    send,
    wait_for_requests,
)
from tests.support.model_server import ModelServer, Reply, answer, end, held, text
from tests.support.server import Server


def heading(page: Page, name: str) -> None:
    expect(page.locator("#header h1")).to_have_text(name)


def test_room_journey_of_the_readme_works(
    open_page: OpenPage, instance: Path, server: Server, model_server: ModelServer
) -> None:
    """Create a room, ask, create another, go back, restart, clear, delete: the steps of "Try it"."""
    page = open_page()
    first = new_room(page)
    expect(row(page, first)).to_have_attribute("aria-current", "page")
    files = [instance / "facets" / f"room-{first[-12:]}.sqlite{suffix}" for suffix in ("", "-wal", "-shm")]
    assert files[0].exists()
    model_server.will(answer("Hello", " to", " you."))
    send(page, "Hi there")
    expect(message(page, 2, state="complete").locator(".message__body")).to_have_text("Hello to you.")
    expect(row(page, first)).to_have_attribute("data-messages", "2")
    expect(page).to_have_title("Hi there · Overseer")
    second = new_room(page)
    expect(row(page, second)).to_have_attribute("aria-current", "page")
    expect(row(page, first)).not_to_have_attribute("aria-current", "page")
    with page.context.expect_page() as opened:
        row(page, first).locator("a").click(modifiers=["ControlOrMeta"])
    expect(opened.value).to_have_url(server.url + first)
    opened.value.close()
    expect_open(page, second)
    open_room(page, first)
    expect(message(page, 2).locator(".message__body")).to_have_text("Hello to you.")
    wait_for_requests(page)
    server.restart()
    page.reload()
    expect(message(page, 1)).to_contain_text("Hi there")

    more = row(page, first).locator(".row__more")
    act_on_room(page, first, "Clear messages")
    expect(page.locator("#confirm").get_by_role("button", name="Clear")).to_be_visible()
    page.keyboard.press("Escape")
    expect(more).to_be_focused()
    act_on_room(page, first, "Delete room")
    expect(page.locator("#confirm")).to_contain_text("Delete “Hi there”? Its 2 messages will be gone for good.")
    page.locator("#confirm").get_by_role("button", name="Cancel").click()
    expect(more).to_be_focused()
    expect(messages(page)).to_have_count(2)
    act_on_room(page, first, "Clear messages")
    assert confirm(page) == "Clear all 2 messages in “Hi there” and its shares? This can’t be undone."
    expect(messages(page)).to_have_count(0)
    expect(row(page, first)).to_have_attribute("data-messages", "0")
    act_on_room(page, first, "Delete room")
    assert confirm(page) == "Delete “New room”?"
    expect(row(page, first)).to_have_count(0)
    expect_open(page, second)
    assert not [file for file in files if file.exists()]


def test_double_click_on_new_creates_one_room(open_page: OpenPage) -> None:
    page = open_page()
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.locator("#new-room").dblclick()
    expect(page.locator("#composer")).to_be_visible()
    expect(page.locator("#new-room")).to_be_enabled()
    wait_for_requests(page)
    assert len(posts) == 1


def test_rename_by_double_click_key_and_menu_changes_every_place(open_page: OpenPage, server: Server) -> None:
    """Enter saves, Escape cancels; an invalid name is rejected beside the field."""
    other, path = create_room(server, "Other"), create_room(server, "Kitchen")
    page = open_page(path)
    field = page.get_by_role("textbox", name="New name")
    for name, new in ((page.locator("#header h1"), "Cellar"), (row(page, path).locator(".row__name"), "Attic")):
        old = name.inner_text()
        name.dblclick()
        expect(field).to_be_focused()
        expect(field).to_have_value(old)
        there, at = name.bounding_box(), field.bounding_box()
        assert there and at and abs(there["x"] - at["x"]) < 16 and abs(there["y"] - at["y"]) < 16
        page.keyboard.type("Not this")
        page.keyboard.press("Escape")
        expect(field).to_be_hidden()
        name.dblclick()
        field.fill("   ")
        page.keyboard.press("Enter")
        expect(page.locator("#rename").get_by_role("alert")).not_to_be_empty()
        field.fill(new)
        page.keyboard.press("Enter")
        expect(field).to_be_hidden()
        heading(page, new)
        expect(row(page, path)).to_contain_text(new)
        expect(page).to_have_title(f"{new} · Overseer")
    page.get_by_label("Room actions").click()
    page.locator("#header").get_by_role("button", name="Rename").click()
    expect(field).to_have_value("Attic")
    page.keyboard.type("Hall")
    page.keyboard.press("Enter")
    heading(page, "Hall")
    page.keyboard.press("F2")
    expect(field).to_have_value("Hall")
    page.keyboard.press("Escape")
    row(page, other).locator("a").focus()
    page.keyboard.press("F2")
    expect(field).to_have_value("Other")
    page.keyboard.type("Another")
    page.keyboard.press("Enter")
    expect(row(page, other)).to_contain_text("Another")
    heading(page, "Hall")


def test_keyboard_alone_creates_a_room_and_reaches_its_actions(open_page: OpenPage, server: Server) -> None:
    """A row that moves to the top keeps the focus in it."""
    page = open_page()
    page.locator("#new-room").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/rooms/"))
    expect(composer(page)).to_be_focused()
    path = "/rooms/" + page.url[-12:]
    upper = create_room(server)
    expect(room_rows(page).first).to_have_id(f"room-{upper[-12:]}")
    row(page, path).locator("a").focus()
    page.keyboard.press("ArrowRight")
    more = row(page, path).get_by_role("button", name="Actions for New room")
    expect(more).to_be_focused()
    ask(server, path, "Up")
    expect(room_rows(page).first).to_have_attribute("data-messages", "2")
    expect(row(page, path).locator(".row__more")).to_be_focused()
    page.keyboard.press("Space")
    menu = page.locator("#row-menu")
    expect(menu.get_by_role("button", name="Pin")).to_be_focused()
    page.keyboard.press("Escape")
    expect(row(page, path).locator(".row__more")).to_be_focused()
    page.keyboard.press("Space")
    expect(menu.get_by_role("button", name="Pin")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(menu.get_by_role("button", name="Archive")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(menu.get_by_role("button", name="Rename")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#rename input")).to_be_focused()
    page.keyboard.type("Typed")
    page.keyboard.press("Enter")
    heading(page, "Typed")


def test_room_list_changes_in_every_tab(open_page: OpenPage, server: Server) -> None:
    """New, renamed, active, pinned and deleted rooms; the newest activity is at the top, below the pinned rooms."""
    low, high = create_room(server, "Low"), create_room(server, "High")
    page, other = open_page(low), open_page(high)
    page.bring_to_front()
    act_on_room(page, low, "Pin")
    for tab in (page, other):
        expect(room_rows(tab).first).to_have_attribute("data-room", low[-12:])
        expect(tab.get_by_role("heading", name="Pinned")).to_be_visible()
    new = create_room(server, "New one")
    expect(room_rows(page).nth(1)).to_have_attribute("data-room", new[-12:])
    ask(server, high, "Up")
    expect(row(page, high)).to_have_attribute("data-messages", "2")
    expect(room_rows(page).nth(1)).to_have_attribute("data-room", high[-12:])
    requests.patch(server.url + new, {"name": "Renamed"}, timeout=20)
    expect(row(page, new)).to_contain_text("Renamed")
    requests.delete(server.url + new, timeout=20)
    expect(row(page, new)).to_have_count(0)
    page.get_by_label("Room actions").click()
    page.get_by_role("button", name="Unpin", exact=True).click()
    expect(room_rows(page).last).to_have_attribute("data-room", low[-12:])
    expect(other.get_by_role("heading", name="Pinned")).to_be_hidden()


def test_filter_shows_matching_rooms_only_also_after_a_push(open_page: OpenPage, server: Server) -> None:
    for name in ("Apples", "Pears", "Pineapples"):
        create_room(server, name)
    page = open_page()
    expect(room_rows(page)).to_have_count(3)
    page.get_by_role("searchbox").fill("apple")
    expect(room_rows(page)).to_have_count(2)
    pears = create_room(server, "More pears")
    create_room(server, "Crab apple")
    expect(room_rows(page)).to_have_count(3)
    expect(row(page, pears)).to_have_count(0)
    page.get_by_role("searchbox").fill("cherry")
    expect(room_rows(page)).to_have_count(0)
    before = "list => getComputedStyle(list, '::before').content"
    assert "cherry" in page.locator("#rooms").evaluate(before)
    page.get_by_role("searchbox").fill("")
    expect(room_rows(page)).to_have_count(5)


def test_palette_opens_rooms_and_runs_commands(open_page: OpenPage, server: Server) -> None:
    """Enter waits for the results of the typed letters; Escape changes nothing; arrows move the selection."""
    create_room(server, "Garden plan")
    kitchen = create_room(server, "Kitchen")
    page = open_page(kitchen)
    palette = page.get_by_role("dialog", name="Search rooms and commands")
    box, options = palette.get_by_role("combobox"), palette.get_by_role("option")
    for key in ("Escape", "Enter"):  # the same letters twice
        page.keyboard.press("Control+k")
        expect(box).to_be_focused()
        page.keyboard.type("gard")
        if key == "Escape":
            expect(page.locator("#palette-options")).to_have_attribute("data-q", "gard")
        page.keyboard.press(key)
        expect(palette).to_be_hidden()
        heading(page, "Kitchen" if key == "Escape" else "Garden plan")
    expect(composer(page)).to_be_focused()

    page.keyboard.press("Control+k")
    expect(page.locator("#palette-options")).to_have_attribute("data-q", "")
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
    for typed, wanted in (
        ("theme: dark", page.locator("html[data-theme=dark]")),
        ("settings", page.locator(".settings[open]")),
        ("model", page.locator("#model-filter:focus")),
        ("rename", page.get_by_role("textbox", name="New name")),
        ("shortcuts", page.get_by_role("dialog", name="Keyboard shortcuts")),
        ("new room", page.locator("#header h1", has_text="New room")),
    ):
        page.keyboard.press("Control+k")
        page.keyboard.type(typed)
        page.keyboard.press("Enter")
        expect(box).to_be_hidden()
        expect(wanted).to_be_visible()
        page.keyboard.press("Escape")


def test_alt_arrows_open_neighbouring_rooms_and_lose_no_press(open_page: OpenPage, server: Server) -> None:
    for name in "1234":
        create_room(server, name)
    page = open_page()
    heading(page, "4")
    for key, name in (("ArrowDown", "3"), ("ArrowUp", "4")):
        page.keyboard.press(f"Alt+{key}")
        heading(page, name)
        expect(composer(page)).to_be_focused()
    press = "new KeyboardEvent('keydown', { key: 'ArrowDown', altKey: true, bubbles: true, cancelable: true })"
    page.evaluate(f"for (let i = 0; i < 3; i++) document.body.dispatchEvent({press})")
    heading(page, "1")


def test_back_and_forward_reopen_rooms_with_one_socket(
    open_page: OpenPage, server: Server, page_errors: list[str]
) -> None:
    """Back to a deleted room shows an error, and the rest of the page works on."""
    page = open_page()
    first, second = new_room(page), new_room(page)
    page.go_back()
    expect(page).to_have_url(re.compile(first))
    expect_open(page, first)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    send(page, "Hello?")
    expect(message(page, 2, state="complete")).to_contain_text("All right.")
    expect(messages(page)).to_have_count(2)
    page.go_forward()
    expect_open(page, second)
    requests.delete(server.url + first, timeout=20)
    page.go_back()
    expect(page.locator("#error")).not_to_be_empty()
    new_room(page)
    expect(composer(page)).to_be_focused()
    expect(page.locator("#error")).to_be_empty()
    page_errors.clear()


def test_room_deleted_elsewhere_keeps_its_draft_and_a_live_list(open_page: OpenPage, server: Server) -> None:
    path = create_room(server)
    one, two = open_page(path), open_page(path)
    composer(two).fill("Not yet sent")
    requests.delete(server.url + path, timeout=20)
    for page in (one, two):
        expect(page.locator("#messages")).to_have_role("alert")
        expect(row(page, path)).to_have_count(0)
    expect(composer(two)).to_have_value("Not yet sent")
    expect(two.locator("body")).to_have_attribute("data-live", "open")
    other = create_room(server, "Another")
    expect(row(two, other)).to_contain_text("Another")


def test_answer_that_ends_in_another_room_is_marked_unread_until_opened(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    path, here = create_room(server, "Long"), create_room(server, "Here")
    page = open_page(here)
    unread = row(page, path).locator(".row__unread")
    reply = model_server.will(held(text("Slowly")))
    ask(server, path, "Go", wait=False)
    expect(row(page, path).locator(".row__answering")).to_be_visible()
    expect(unread).to_be_hidden()
    reply.say(end())
    expect(unread).to_be_visible()
    expect(row(page, path).locator("a")).to_have_accessible_name("Long new answer")
    page.reload()
    expect(unread).to_be_visible()
    open_room(page, path)
    expect(unread).to_be_hidden()
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    open_room(page, here)
    expect(page.locator(".row__unread:visible")).to_have_count(0)


def test_page_without_a_model_says_so_and_explains_how_to_connect_one(browser: Browser, offline_server: Server) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(offline_server.url)
    expect(page.locator("#model")).to_contain_text("No model connected: demo answers only")
    page.locator("#model summary").click()
    for name in ("Ollama", "llama.cpp", "OpenAI", "OpenRouter"):
        expect(page.locator("#model")).to_contain_text(name)
    assert violations(page) == []
    new_room(page)
    send(page, "What time is it? And roll a die with 20 sides.")
    expect(message(page, 2, state="complete").locator(".part--tool")).to_have_count(2)
    context.close()


def test_list_is_one_tab_stop_with_arrow_keys(open_page: OpenPage, server: Server) -> None:
    """The composer is within 30 Tab stops. From a row, the arrow keys lead to its neighbours and to its buttons."""
    paths = [create_room(server, f"Room {number}") for number in range(60)]
    ask(server, paths[-1], "Hello")
    page = open_page(paths[-1])
    page.evaluate("() => { document.activeElement.blur(); getSelection().setPosition(document.body, 0); }")
    stops = 0
    while not page.evaluate("() => document.activeElement.matches('#composer textarea')"):
        page.keyboard.press("Tab")
        stops += 1
        assert stops <= 30
    row(page, paths[-1]).locator("a").focus()
    page.keyboard.press("ArrowDown")
    expect(row(page, paths[-2]).locator("a")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(row(page, paths[-2]).get_by_role("button").first).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(row(page, paths[-1]).locator("a")).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect_open(page, paths[10])
    page.keyboard.press("Shift+Tab")
    ask(server, paths[-1], "Once more")
    expect(row(page, paths[-1])).to_have_attribute("data-messages", "4")
    assert page.locator("#rooms .row__link[tabindex='0']").count() == 1


def test_open_room_is_in_the_list_wherever_its_place_is(open_page: OpenPage, server: Server) -> None:
    """Apart from the others, until its place is loaded, it becomes active, or another room is open."""
    paths = [create_room(server, f"Room {n}") for n in range(52)]
    page = open_page(paths[0])
    apart, first = page.locator("#rooms-open"), row(page, paths[0])
    expect(apart).to_be_visible()
    expect(first).to_have_attribute("aria-current", "page")
    expect(room_rows(page).first).to_have_id(f"room-{paths[0][-12:]}")
    open_room(page, paths[51])
    expect(apart).to_have_count(0)
    expect(first).to_have_count(0)
    page.keyboard.press("Control+k")
    page.keyboard.type("Room 0")
    page.keyboard.press("Enter")
    expect_open(page, paths[0])
    expect(first).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="Show more").click()
    expect(room_rows(page)).to_have_count(52)
    expect(apart).to_have_count(0)
    requests.patch(server.url + paths[30], {"name": "Renamed"}, timeout=20)
    expect(row(page, paths[30])).to_contain_text("Renamed")
    expect(room_rows(page).last).to_have_id(f"room-{paths[0][-12:]}")
    expect(first).to_have_attribute("aria-current", "page")
    page.reload()
    ask(server, paths[0], "Up")
    expect(apart).to_be_hidden()
    expect(first).to_have_count(1)


def test_room_whose_last_answer_failed_is_marked_until_one_succeeds(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    path = create_room(server, "Kitchen")
    page = open_page()
    model_server.will(Reply(b'{"error": {"message": "Out of memory."}}', status=500))
    ask(server, path, "One?")
    expect(row(page, path)).to_contain_text("failed")
    expect(row(page, path).locator(".row__problem")).to_be_visible()
    ask(server, path, "Two?")
    expect(row(page, path)).to_have_attribute("data-messages", "4")
    expect(row(page, path).locator(".row__problem")).to_have_count(0)


def test_menu_of_a_row_follows_its_room(open_page: OpenPage, server: Server) -> None:
    """It is asked about what is deleted now; the menu of a deleted room closes."""
    paths = [create_room(server, name) for name in ("Kitchen", "Cellar")]
    page = open_page(paths[1])
    menu = page.locator("#row-menu")
    row(page, paths[0]).hover()
    row(page, paths[0]).locator(".row__more").click()
    expect(menu.get_by_role("button", name="Clear messages")).to_be_hidden()
    requests.patch(server.url + paths[0], {"name": "Attic", "pinned": "1"}, timeout=20)
    ask(server, paths[0], "Hello")
    expect(row(page, paths[0])).to_have_attribute("data-messages", "2")
    expect(menu.get_by_role("button", name="Unpin")).to_be_visible()
    menu.get_by_role("button", name="Delete room").click()
    expect(page.locator("#confirm")).to_contain_text("Delete “Attic”? Its 2 messages will be gone for good.")
    page.keyboard.press("Escape")
    row(page, paths[0]).locator(".row__more").click()
    menu.get_by_role("button", name="Rename").click()
    there, at = row(page, paths[0]).bounding_box(), page.locator("#rename input").bounding_box()
    assert there and at and abs(there["y"] - at["y"]) < 16
    page.keyboard.press("Escape")
    row(page, paths[0]).locator(".row__more").click()
    expect(menu).to_be_visible()
    requests.delete(server.url + paths[0], timeout=20)
    expect(menu).to_be_hidden()
