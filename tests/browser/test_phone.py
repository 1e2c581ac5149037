"""A phone: touch targets, the drawer, an on-screen keyboard, and no horizontal scrolling; also a zoomed page."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from overseer.storage.instance_lock import room_file
from tests.browser.steps import ask, composer, create_room, message, new_room, row
from tests.support.model_server import ModelServer, Reply, answer, end, reasoning, text, tool_call
from tests.support.server import Server
from tests.support.waiting import until

WIDTH, HEIGHT = 360, 640
WIDE = (
    "Look:\n\n```python\n" + "x = 1; " * 60 + "\n```\n\n"
    "| a | b |\n|---|---|\n| " + "wide" * 40 + " | 2 |\n\n" + "averyveryverylongwordthatnobodyeverbroke" * 10
)
# Visible controls smaller than 44 px. A link within text is as high as its line.
SMALL = """() => [...document.querySelectorAll("a[href], button, summary, input, textarea, select, [role=option]")]
    .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest("p, .visually-hidden, .skip"))
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([, { width, height }]) => width && (height < 43.5 || width < 43.5))
    .map(([one, { width, height }]) => `${Math.round(width)}×${Math.round(height)} ${one.outerHTML.slice(0, 120)}`)"""
FITS = "document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    """A browser on a small phone."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, has_touch=True, is_mobile=True)
    yield context
    context.close()


def open_page(phone: BrowserContext, url: str) -> Page:
    page = phone.new_page()
    page.goto(url)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    return page


def create_wide_room(server: Server, model_server: ModelServer) -> str:
    """Create a room with wide content in every kind of part, and an interrupted answer."""
    path = create_room(server, "A room with a rather long name")
    roll = Reply(reasoning("A die."), tool_call("roll_dice", '{"sides": 6}'), end("tool_calls"))
    model_server.will(roll, Reply(text(WIDE), end()), Reply(text("Cut off")))
    for question in ("Show me `everything`", "And more"):
        ask(server, path, question)
    return path


def test_controls_are_large_enough_and_nothing_is_wider_than_the_window(
    phone: BrowserContext, browser: Browser, server: Server, model_server: ModelServer
) -> None:
    """At 44 px, in a conversation, its menus, the palette and the drawer; and at a width of 320 px (400 % zoom)."""
    path = create_wide_room(server, model_server)
    page = open_page(phone, server.url + path)
    assert page.evaluate("matchMedia('(pointer: coarse)').matches")
    expect(message(page, 4, state="interrupted")).to_be_visible()
    steps: dict[str, tuple[Callable[[], None], str]] = {
        "conversation": (lambda: None, "#composer"),
        "menu": (lambda: page.get_by_label("Room actions").tap(), "#header .menu__item--live"),
        "models": (lambda: page.locator(".picker > summary").tap(), "#models .button"),
        "settings": (lambda: page.locator(".settings > summary").tap(), ".settings__form button"),
        "drawer": (lambda: page.locator("[data-open-drawer]").tap(), "[data-close-drawer]:focus"),
        "palette": (lambda: page.locator("#open-palette").tap(), "#palette [role=option] >> nth=0"),
    }
    for name, (act, visible) in steps.items():
        act()
        expect(page.locator(visible)).to_be_visible()
        assert page.evaluate(SMALL) == [], name
        assert page.evaluate(FITS), name
    context = browser.new_context(viewport={"width": 320, "height": 400})
    zoomed = open_page(context, server.url + path)
    expect(message(zoomed, 4, state="interrupted")).to_be_attached()
    assert zoomed.evaluate(FITS)
    zoomed.locator("[data-open-drawer]").click()
    new_room(zoomed)
    expect(zoomed.get_by_role("button", name="Send")).to_be_in_viewport()
    context.close()


def test_drawer_opens_closes_and_restores_the_focus(phone: BrowserContext, server: Server) -> None:
    """By its button, a tap beside it, Escape or a room. The page below is inert meanwhile."""
    other, path = create_room(server, "Other"), create_room(server)
    page = open_page(phone, server.url + path)
    sidebar, button = page.locator("#sidebar"), page.locator("[data-open-drawer]")
    closers: tuple[Callable[[], None], ...] = (
        lambda: page.get_by_label("Close the room list").tap(),
        lambda: page.touchscreen.tap(WIDTH - 8, HEIGHT / 2),
        lambda: page.keyboard.press("Escape"),
    )
    for close in closers:
        expect(sidebar).to_be_hidden()
        button.tap()
        expect(page.locator("[data-close-drawer]")).to_be_focused()
        expect(page.locator("#room")).to_have_js_property("inert", True)
        until(lambda: (sidebar.bounding_box() or {"x": -1})["x"] == 0)
        close()
        expect(sidebar).to_be_hidden()
        expect(button).to_be_focused()
    button.tap()
    row(page, other).locator("a").tap()
    expect(page.locator("#header h1")).to_have_text("Other")
    expect(sidebar).to_be_hidden()
    expect(page.locator("#room")).to_have_js_property("inert", False)


def test_composer_stays_above_the_keyboard(phone: BrowserContext, server: Server, model_server: ModelServer) -> None:
    """The window shrinks to half its height. The font is large enough that no phone zooms in on focus."""
    page = open_page(phone, server.url + create_room(server, questions=1))
    box = composer(page)
    assert box.evaluate("box => parseFloat(getComputedStyle(box).fontSize)") >= 16
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT // 2})
    box.tap()
    box.fill("\n".join(f"Line {n}" for n in range(40)))
    at_the_bottom = "form => Math.abs(form.getBoundingClientRect().bottom - innerHeight) < 2"
    until(lambda: bool(page.locator(".open__foot").evaluate(at_the_bottom)))
    assert box.evaluate("box => box.clientHeight <= 0.41 * innerHeight && box.scrollHeight > box.clientHeight")
    model_server.will(answer("Here."))
    page.get_by_role("button", name="Send").tap()
    expect(message(page, 4, state="complete")).to_contain_text("Here.")
    assert page.evaluate(FITS)


def test_room_whose_file_is_missing_leads_to_the_other_rooms(phone: BrowserContext, server: Server) -> None:
    path = create_room(server, "Gone")
    server.stop()
    room_file(server.instance, path[-12:]).unlink()
    server.start()
    page = open_page(phone, server.url + path)
    expect(page.locator("#room > [role=alert]")).not_to_be_empty()
    page.get_by_role("link", name="Rooms", exact=True).tap()
    expect(page.locator("#new-room")).to_be_in_viewport()
    assert page.evaluate(SMALL) == [] and page.evaluate(FITS)
