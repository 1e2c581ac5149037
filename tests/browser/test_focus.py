"""Keyboard focus: it is in the composer after each action on a message, and text typed outside a field goes there."""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.steps import (
    OpenPage,
    act_on_room,
    composer,
    confirm,
    create_room,
    message,
    messages,
    new_room,
    row,
    send,
    wait_for_requests,
)
from tests.support.model_server import ModelServer, Reply, answer, end, held, text
from tests.support.server import Server
from tests.support.waiting import until


def type_into_composer(page: Page, typed: str = "and then") -> None:
    """Type without a click: every character, the first included, must arrive in the composer."""
    page.keyboard.type(typed)
    expect(composer(page)).to_have_value(typed)
    expect(composer(page)).to_be_focused()
    composer(page).fill("")


@pytest.mark.parametrize("by", ["pointer", "keyboard"])
def test_focus_after_stop_continue_and_retry_is_in_the_composer(
    open_page: OpenPage, model_server: ModelServer, by: str
) -> None:
    """Space and Enter, which would press a focused button, are typed too."""
    page = open_page()
    new_room(page)

    def press(name: str) -> None:
        button = page.get_by_role("button", name=name, exact=True)
        if by == "pointer":
            button.click()
        else:
            button.press("Enter")

    model_server.will(held(text("One")))
    send(page, "Count")
    expect(message(page, 2, state="streaming")).to_contain_text("One")
    press("Stop")
    page.keyboard.type(" next")
    expect(message(page, 2, state="stopped")).to_be_visible()
    page.keyboard.type(" thing")
    expect(composer(page)).to_have_value(" next thing")
    composer(page).fill("")
    model_server.will(held(text(" two")))
    press("Continue")
    expect(message(page, 2, state="streaming")).to_contain_text("One two")
    type_into_composer(page)
    press("Stop")
    expect(message(page, 2, state="stopped")).to_be_visible()
    model_server.will(answer("Anew."))
    press("Retry")
    expect(message(page, 3, state="complete")).to_contain_text("Anew.")
    type_into_composer(page)
    assert len(model_server.requests) == 3


def test_focus_after_copy_regenerate_clear_and_delete_is_in_the_composer(
    open_page: OpenPage, server: Server, model_server: ModelServer, context: BrowserContext
) -> None:
    """Also after a link was copied, which scrolls to its message, and without the Clipboard API."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = open_page()
    other, path = create_room(server, "Other"), new_room(page)
    model_server.will(answer("Some\n\n```\ncode\n```\n"), Reply(text("Second."), end()))
    send(page, "Show me")
    done = message(page, 2, state="complete")
    copies: tuple[Locator, ...] = (
        done.get_by_role("link", name="Copy", exact=True),
        done.get_by_role("link", name="Link", exact=True),
        done.get_by_role("button", name="Copy", exact=True),
    )
    for copy in copies:
        for _ in range(2):
            copy.click()
            type_into_composer(page)
    page.evaluate("delete window.ClipboardItem")
    done.get_by_role("button", name="Cop").click()
    type_into_composer(page)
    done.get_by_role("button", name="Regenerate").click()
    expect(message(page, 3, state="complete")).to_contain_text("Second.")
    type_into_composer(page)
    act_on_room(page, path, "Clear messages")
    confirm(page)
    expect(messages(page)).to_have_count(0)
    type_into_composer(page)
    send(page, "Hello")
    expect(message(page, 5, state="complete")).to_be_visible()
    page.get_by_label("Room actions").click()
    page.locator("#header").get_by_role("button", name="Clear messages").click()
    confirm(page)
    expect(messages(page)).to_have_count(0)
    type_into_composer(page)
    act_on_room(page, other, "Delete room")
    confirm(page)
    expect(row(page, other)).to_have_count(0)
    type_into_composer(page)


def test_focus_of_an_element_that_a_push_removes_goes_to_the_composer(
    open_page: OpenPage, model_server: ModelServer, server: Server
) -> None:
    page = open_page()
    path = new_room(page)
    model_server.will(held(text("On and on")))
    send(page, "Go on")
    expect(message(page, 2, state="streaming")).to_contain_text("On and on")
    page.get_by_role("button", name="Stop").focus()
    requests.delete(f"{server.url}{path}/turn", timeout=20)
    expect(message(page, 2, state="stopped")).to_be_visible()
    expect(composer(page)).to_be_focused()
    message(page, 2).get_by_role("link", name="Copy").focus()
    requests.delete(f"{server.url}{path}/messages", timeout=20)
    expect(messages(page)).to_have_count(0)
    expect(composer(page)).to_be_focused()


def test_keys_outside_a_field_type_into_the_composer_or_keep_their_meaning(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """Typing does not scroll. Space scrolls and presses, `?` lists shortcuts; modified and composed keys do nothing."""
    page = open_page()
    new_room(page)
    model_server.will(answer("Line\n\n" * 100))
    send(page, "Much")
    expect(message(page, 2, state="complete")).to_be_visible()
    box, scroller = composer(page), page.locator("#scroller")
    scroller.evaluate("list => (list.scrollTop = 50)")
    for place in ("#scroller", "#message-2 .message__when", "#theme-dark", "#header summary"):
        page.locator(place).first.evaluate("element => element.focus({ preventScroll: true })")
        before = scroller.evaluate("list => list.scrollTop")
        type_into_composer(page, "Éa1/")
        assert scroller.evaluate("list => list.scrollTop") == before
    for first in ("x", " "):
        page.evaluate("document.activeElement.blur()")
        type_into_composer(page, f"{first}y")

    scroller.evaluate("list => (list.scrollTop = 0)")
    scroller.focus()
    page.keyboard.press("Space")
    until(lambda: bool(scroller.evaluate("list => list.scrollTop > 0")))
    for key in ("Control+b", "Alt+x", "Meta+j", "F9", "Shift", "Tab", "Shift+Tab"):
        page.keyboard.press(key)
    scroller.focus()
    composing = "list => list.dispatchEvent(new KeyboardEvent('keydown', { key: 'n', keyCode: 229, bubbles: true }))"
    scroller.evaluate(composing)
    scroller.evaluate(composing.replace("keyCode: 229", "isComposing: true"))
    scroller.evaluate(composing.replace("key: 'n', keyCode: 229", "key: 'Dead'"))
    expect(scroller).to_be_focused()
    page.locator("#theme-dark").focus()
    page.keyboard.press("Space")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("#theme-dark")).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.type("abc")
    page.keyboard.press("Escape")
    page.get_by_label("Room actions").press("Enter")
    page.keyboard.type("abc")
    page.keyboard.press("Escape")
    page.locator("#filter").focus()
    with page.expect_response("**/rooms?q=abc"):
        page.keyboard.type("abc")
    expect(page.locator("#filter")).to_have_value("abc")
    wait_for_requests(page)
    expect(box).to_have_value("")


def test_touch_screen_opens_no_keyboard_unless_a_key_is_typed(
    browser: Browser, server: Server, model_server: ModelServer
) -> None:
    """Neither opening a room nor Stop focuses the composer; a key of an attached keyboard does."""
    context = browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#composer")).to_be_visible()
    expect(composer(page)).not_to_be_focused()
    model_server.will(held(text("On and on")))
    send(page, "Go on")
    expect(message(page, 2, state="streaming")).to_contain_text("On and on")
    page.get_by_role("button", name="Stop").tap()
    expect(message(page, 2, state="stopped")).to_be_visible()
    expect(composer(page)).not_to_be_focused()
    page.keyboard.type("Typed")
    expect(composer(page)).to_have_value("Typed")
    context.close()


def test_second_click_of_a_slow_double_click_on_a_replaced_button_is_ignored(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """Stop replaces Send: for a second, a pointer that has not moved presses only one of them."""
    page = open_page()
    new_room(page)
    model_server.will(answer("First"), held(text("Again")))
    send(page, "Hello")
    expect(message(page, 2, state="complete")).to_be_visible()
    page.clock.set_fixed_time(1_800_000_000.0)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method) if request.method != "GET" else None)
    composer(page).fill("Go on")
    place = page.get_by_role("button", name="Send").bounding_box()
    assert place
    x, y = place["x"] + 20, place["y"] + 20
    page.mouse.click(x, y)
    expect(message(page, 4, state="streaming")).to_contain_text("Again")
    page.clock.set_fixed_time(1_800_000_000.9)
    page.mouse.click(x + 1, y)
    page.clock.set_fixed_time(1_800_000_001.9)
    expect(message(page, 4, state="streaming")).to_be_visible()
    assert sent == ["POST"]
    page.mouse.click(x, y)
    expect(message(page, 4, state="stopped")).to_be_visible()
    assert sent == ["POST", "DELETE"]
    composer(page).fill("More")
    page.clock.set_fixed_time(1_800_000_002.8)
    page.mouse.click(x, y)
    expect(composer(page)).to_have_value("More")
    assert sent == ["POST", "DELETE"]


def test_long_conversation_is_a_few_tab_stops(open_page: OpenPage, server: Server, model_server: ModelServer) -> None:
    """From the start of the page to the composer; the arrow keys reach the actions of every message."""
    for _ in range(30):
        create_room(server)
    path = create_room(server, questions=12)
    page = open_page(path)
    page.evaluate("document.activeElement.blur()")
    page.locator(".skip").focus()
    stops = 1
    while not composer(page).evaluate("box => box === document.activeElement"):
        page.keyboard.press("Tab")
        stops += 1
        assert stops <= 30
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_label("Ask several models")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(message(page, 24).get_by_label("Tokens and time").or_(message(page, 24).locator("summary"))).to_be_focused()
    for number in (23, 22, 21):
        page.keyboard.press("ArrowUp")
        expect(message(page, number).locator(":focus")).to_have_count(1)
    expect(message(page, 21).get_by_role("link", name="Edit")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#editing textarea")).to_be_focused()
    page.keyboard.press("Escape")
    send(page, "More?")
    expect(message(page, 26, state="complete")).to_be_visible()
    for _ in range(2):
        page.keyboard.press("Shift+Tab")
    expect(message(page, 26).locator(":focus")).to_have_count(1)
