"""Keyboard focus: the composer has it after each action on a message, and what is typed outside a field goes there."""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.steps import (
    OpenPage,
    composer,
    confirm,
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


def composer_is_focused_and_typed_into(page: Page, words: str = "and then") -> None:
    """Type without clicking anywhere: every character is in the composer."""
    page.keyboard.type(words)
    expect(composer(page)).to_have_value(words)
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
    composer_is_focused_and_typed_into(page)
    press("Stop")
    expect(message(page, 2, state="stopped")).to_be_visible()
    model_server.will(answer("Anew."))
    press("Retry")
    expect(message(page, 2, state="complete")).to_contain_text("Anew.")
    composer_is_focused_and_typed_into(page)
    assert len(model_server.requests) == 3


def test_focus_after_regenerate_and_copy_is_in_the_composer(
    open_page: OpenPage, model_server: ModelServer, context: BrowserContext
) -> None:
    """Also after a link was copied, which jumps to its message, and with the clipboard of a page without TLS."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = open_page()
    new_room(page)
    model_server.will(answer("Some\n\n```\ncode\n```\n"), Reply(text("Second."), end()))
    send(page, "Show me")
    done = message(page, 2, state="complete")
    for copy in (
        done.get_by_role("link", name="Copy", exact=True),
        done.get_by_role("link", name="Link", exact=True),
        done.get_by_role("button", name="Copy", exact=True),
    ):
        for _ in range(2):
            copy.click()
            composer_is_focused_and_typed_into(page)
    page.evaluate("delete window.ClipboardItem")
    done.get_by_role("button", name="Cop").click()
    composer_is_focused_and_typed_into(page)
    done.get_by_role("button", name="Regenerate").click()
    page.locator("#confirm").get_by_role("button", name="Cancel").click()
    expect(page.locator("#confirm")).to_be_hidden()
    composer_is_focused_and_typed_into(page)
    done.get_by_role("button", name="Regenerate").click()
    confirm(page)
    expect(message(page, 2, state="complete")).to_contain_text("Second.")
    composer_is_focused_and_typed_into(page)


def test_focus_of_an_element_that_a_swap_removes_goes_to_the_composer(
    open_page: OpenPage, model_server: ModelServer, server: Server
) -> None:
    """Whatever it was, and whoever caused the swap: here Stop has the focus when another client stops the answer."""
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


def test_focus_after_clear_and_delete_is_in_the_composer(open_page: OpenPage) -> None:
    """From the row and from the menu; the question before it closes to the composer."""
    page = open_page()
    other, path = new_room(page), new_room(page)
    room = path.rsplit("/", 1)[-1]
    for where in ("row", "menu"):
        send(page, "Hello")
        expect(page.locator("#messages [data-state=complete][data-role=assistant]")).to_be_visible()
        if where == "row":
            row(page, room).hover()
            row(page, room).get_by_role("button", name="Clear").click()
        else:
            page.get_by_label("Room actions").click()
            page.get_by_role("button", name="Clear messages").click()
        confirm(page)
        expect(messages(page)).to_have_count(0)
        composer_is_focused_and_typed_into(page)
    row(page, other.rsplit("/", 1)[-1]).hover()
    row(page, other.rsplit("/", 1)[-1]).get_by_role("button", name="Delete").click()
    confirm(page)
    expect(row(page, other.rsplit("/", 1)[-1])).to_have_count(0)
    composer_is_focused_and_typed_into(page)


def test_printable_key_outside_a_field_is_typed_into_the_composer(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """From the list, a link, a button and the page itself, the first character included; the list does not move."""
    page = open_page()
    new_room(page)
    model_server.will(answer("Line\n\n" * 100))
    send(page, "Much")
    expect(message(page, 2, state="complete")).to_be_visible()
    box = composer(page)
    page.locator("#scroller").evaluate("list => (list.scrollTop = 50)")
    for where in ("#scroller", "#message-2 .message__when", "#theme-dark", "#header summary"):
        page.locator(where).first.evaluate("element => element.focus({ preventScroll: true })")
        before = page.locator("#scroller").evaluate("list => list.scrollTop")
        page.keyboard.type("Éa1/")
        expect(box).to_have_value("Éa1/")
        expect(box).to_be_focused()
        assert page.locator("#scroller").evaluate("list => list.scrollTop") == before
        box.fill("")
    for first in ("x", " "):
        page.evaluate("document.activeElement.blur()")
        page.keyboard.type(f"{first}y")
        expect(box).to_have_value(f"{first}y")
        box.fill("")


def test_other_keys_outside_a_field_keep_their_meaning(open_page: OpenPage, model_server: ModelServer) -> None:
    """Space scrolls and presses, `?` lists the keys; a key with Ctrl, Meta or Alt, or an input method, is not taken."""
    page = open_page()
    new_room(page)
    model_server.will(answer("Line\n\n" * 100))
    send(page, "Much")
    expect(message(page, 2, state="complete")).to_be_visible()
    box, scroller = composer(page), page.locator("#scroller")
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


def test_touch_screen_gets_no_keyboard_unless_somebody_types(
    browser: Browser, server: Server, model_server: ModelServer
) -> None:
    """Stop leaves the focus alone there; a key of a keyboard that is attached goes to the composer."""
    context = browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(server.url + requests.post(f"{server.url}/rooms", timeout=20).headers["Location"])
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    model_server.will(held(text("On and on")))
    send(page, "Go on")
    expect(message(page, 2, state="streaming")).to_contain_text("On and on")
    page.get_by_role("button", name="Stop").tap()
    expect(message(page, 2, state="stopped")).to_be_visible()
    expect(composer(page)).not_to_be_focused()
    page.keyboard.type("Typed")
    expect(composer(page)).to_have_value("Typed")
    context.close()


def test_slow_second_click_where_another_button_has_come_is_ignored(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """Stop comes where Retry was: for a second, a pointer that has not moved presses one of them only."""
    page = open_page()
    new_room(page)
    model_server.will(Reply(b"{}", status=401), held(text("Again")))
    send(page, "Hello")
    expect(message(page, 2, state="failed")).to_be_visible()
    page.clock.set_fixed_time(1_800_000_000.0)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method) if request.url.endswith("/turn") else None)
    # Where they are depends on the words beside them; here both are in one place.
    page.evaluate("""() => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(".message__state button { position: fixed; inset: 40% auto auto 50%; inline-size: 9rem }");
        document.adoptedStyleSheets.push(sheet);
    }""")
    place = page.get_by_role("button", name="Retry", exact=True).bounding_box()
    assert place
    x, y = place["x"] + 20, place["y"] + 10
    page.mouse.click(x, y)
    expect(message(page, 2, state="streaming")).to_contain_text("Again")
    page.clock.set_fixed_time(1_800_000_000.9)
    page.mouse.click(x + 1, y)
    page.clock.set_fixed_time(1_800_000_001.9)
    expect(message(page, 2, state="streaming")).to_be_visible()
    assert sent == ["POST"]
    page.mouse.click(x, y)
    expect(message(page, 2, state="stopped")).to_be_visible()
    page.clock.set_fixed_time(1_800_000_002.8)
    page.mouse.click(x, y)
    expect(message(page, 2, state="stopped")).to_be_visible()
    assert sent == ["POST", "DELETE"]
