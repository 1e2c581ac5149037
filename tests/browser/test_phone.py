"""On a phone: fingers, a drawer, a keyboard that takes half of the window, and no sideways scroll."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect

from tests.browser.steps import message, new_room, row, until
from tests.support.model_server import ModelServer, Reply, answer, end, reasoning, text, tool_call
from tests.support.server import Server

SIZES: list[ViewportSize] = [{"width": 390, "height": 844}, {"width": 360, "height": 640}]
CODE = "Look:\n\n```python\n" + "x = 1; " * 60 + "\n```\n\n" + "| a | b |\n|---|---|\n| " + "wide" * 40 + " | 2 |\n"
# What a finger has to hit and is smaller than 44 px. A link within words is as high as its line; what is folded is out.
SMALL = """() => [...document.querySelectorAll("a[href], button, summary, input, textarea, select, [role=option]")]
    .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest("p, .visually-hidden, .skip"))
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([, { width, height }]) => width && (height < 43.5 || width < 43.5))
    .map(([one, { width, height }]) => `${Math.round(width)}×${Math.round(height)} ${one.outerHTML.slice(0, 120)}`)"""
FITS = "document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"


@pytest.fixture(params=SIZES, ids=["390", "360"])
def phone(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A browser on a phone."""
    context = browser.new_context(viewport=request.param, has_touch=True, is_mobile=True)
    yield context
    context.close()


def opened(phone: BrowserContext, url: str) -> Page:
    page = phone.new_page()
    page.goto(url)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    return page


def room_with_everything(server: Server, model_server: ModelServer) -> str:
    name = {"name": "A room with a rather long name"}
    path = requests.post(f"{server.url}/rooms", name, timeout=20).headers["Location"]
    roll = Reply(reasoning("A die."), tool_call("roll_dice", '{"sides": 6}'), end("tool_calls"))
    model_server.will(roll, Reply(text(CODE), end()), Reply(text("Cut off")))
    for words in ("Show me `everything`", "And more"):
        requests.post(f"{server.url}{path}/messages", {"text": words}, headers={"Prefer": "wait=30"}, timeout=60)
    return str(path)


def test_every_target_is_large_enough_for_a_finger(
    phone: BrowserContext, server: Server, model_server: ModelServer
) -> None:
    """44 px in a conversation, its menus, the palette and the drawer; and nothing is wider than the window."""
    page = opened(phone, server.url + room_with_everything(server, model_server))
    assert page.evaluate("matchMedia('(pointer: coarse)').matches")
    steps: list[tuple[str, Callable[[], None]]] = [
        ("conversation", lambda: expect(message(page, 4, state="interrupted")).to_be_visible()),
        ("menu", lambda: page.get_by_label("Room actions").tap()),
        ("settings", lambda: page.locator(".settings > summary").tap()),
        ("drawer", lambda: page.locator("[data-open-drawer]").tap()),
        ("palette", lambda: page.locator("#open-palette").tap()),
    ]
    for name, step in steps:
        step()
        if name == "settings":
            expect(page.locator("#models")).to_contain_text("available")
        if name == "drawer":
            expect(page.locator("[data-close-drawer]")).to_be_focused()
        if name == "palette":
            expect(page.locator("#palette [role=option]").first).to_be_visible()
        assert page.evaluate(SMALL) == [], name
        assert page.evaluate(FITS), name


def test_the_drawer_opens_shuts_and_gives_back_the_focus(phone: BrowserContext, server: Server) -> None:
    """By its button, a tap beside it, Escape or a room; what lies below it is out of reach meanwhile."""
    other = requests.post(f"{server.url}/rooms", {"name": "Other"}, timeout=20).headers["Location"][-12:]
    page = opened(phone, server.url + requests.post(f"{server.url}/rooms", timeout=20).headers["Location"])
    sidebar, button = page.locator("#sidebar"), page.locator("[data-open-drawer]")
    size = page.viewport_size
    assert size

    def shut() -> None:
        expect(sidebar).to_be_hidden()
        expect(button).to_be_focused()

    for away in (
        lambda: page.get_by_label("Close the room list").tap(),
        lambda: page.touchscreen.tap(size["width"] - 8, size["height"] / 2),
        lambda: page.keyboard.press("Escape"),
    ):
        expect(sidebar).to_be_hidden()
        button.tap()
        expect(page.locator("[data-close-drawer]")).to_be_focused()
        expect(page.locator("#room")).to_have_js_property("inert", True)
        until(lambda: (sidebar.bounding_box() or {"x": -1})["x"] == 0)
        away()
        shut()
    button.tap()
    row(page, other).locator("a").tap()
    expect(page.locator("#header h1")).to_have_text("Other")
    expect(sidebar).to_be_hidden()
    expect(page.locator("#room")).to_have_js_property("inert", False)


def test_the_composer_stays_above_a_keyboard(phone: BrowserContext, server: Server, model_server: ModelServer) -> None:
    """The window shrinks to half: the composer is at its lower end, in letters that no phone zooms into, and sends."""
    page = opened(phone, server.url)
    page.get_by_role("button", name="New room").tap()
    box = page.locator("#composer textarea")
    expect(box).to_be_visible()
    size = page.viewport_size
    assert size and box.evaluate("box => parseFloat(getComputedStyle(box).fontSize)") >= 16
    page.set_viewport_size({"width": size["width"], "height": size["height"] // 2})
    box.tap()
    box.fill("\n".join(f"Line {n}" for n in range(40)))
    lower_end = "form => Math.abs(form.getBoundingClientRect().bottom - innerHeight) < 2"
    until(lambda: page.locator("#composer").evaluate(lower_end))
    assert box.evaluate("box => box.clientHeight <= 0.41 * innerHeight && box.scrollHeight > box.clientHeight")
    model_server.will(answer("Here."))
    page.get_by_role("button", name="Send").tap()
    expect(message(page, 2, state="complete")).to_contain_text("Here.")
    assert page.evaluate(FITS)


def test_going_to_a_room_raises_no_keyboard(phone: BrowserContext, server: Server) -> None:
    """The composer gets the focus only from a finger."""
    page = opened(phone, server.url)
    page.get_by_role("button", name="New room").tap()
    expect(page.locator("#composer")).to_be_visible()
    expect(page.locator("#composer textarea")).not_to_be_focused()


@pytest.mark.parametrize("width", [320, 640])
def test_a_page_at_twice_the_size_has_everything(
    browser: Browser, server: Server, model_server: ModelServer, width: int
) -> None:
    """Zoomed to 200 or 400 % a window of 1280 px is 640 or 320 wide: nothing is cut off, and all can be reached."""
    context = browser.new_context(viewport={"width": width, "height": 400})
    page = context.new_page()
    page.goto(server.url + room_with_everything(server, model_server))
    expect(message(page, 4, state="interrupted")).to_be_attached()
    assert page.evaluate(FITS)
    page.locator("[data-open-drawer]").click()
    new_room(page)
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport()
    context.close()


def test_a_room_whose_file_is_gone_is_no_dead_end(phone: BrowserContext, server: Server) -> None:
    """The rooms are a tap away, there too."""
    path = requests.post(f"{server.url}/rooms", {"name": "Gone"}, timeout=20).headers["Location"]
    server.stop()
    (server.instance / "facets" / f"room-{path.rsplit('/', 1)[-1]}.sqlite").unlink()
    server.start()
    page = opened(phone, server.url + path)
    expect(page.get_by_role("alert").filter(has_text="is missing")).to_be_visible()
    page.get_by_role("link", name="Rooms", exact=True).tap()
    expect(page.get_by_role("button", name="New", exact=True)).to_be_in_viewport()
    assert page.evaluate(SMALL) == [] and page.evaluate(FITS)
