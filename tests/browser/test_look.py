"""How it looks: the theme, before the first paint and in every tab; paper; and what a switch of rooms costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from tests.browser.steps import message, new_room, reload_until, row, say, settled
from tests.browser.test_reading import fill
from tests.support.model_server import ModelServer, answer, end, held, text
from tests.support.server import Server

OpenPage = Callable[..., Page]

LIGHTNESS = """(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = getComputedStyle(document.documentElement).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data[0];
})()"""


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_is_the_system_s_until_one_chooses(open_page: OpenPage, system: str) -> None:
    """A choice is kept over a reload, holds in other tabs at once, and can be taken back."""
    page, other = open_page(), open_page()
    page.bring_to_front()
    for tab in (page, other):
        tab.emulate_media(color_scheme=system)  # type: ignore[arg-type]
    dark = system == "dark"
    assert (page.evaluate(LIGHTNESS) < 128) == dark
    expect(page.get_by_role("button", name="System", exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Light" if dark else "Dark").click()
    for tab in (page, other):
        expect(tab.locator("html")).to_have_attribute("data-theme", "light" if dark else "dark")
        assert (tab.evaluate(LIGHTNESS) < 128) != dark
    page.reload()
    assert (page.evaluate(LIGHTNESS) < 128) != dark
    page.get_by_role("button", name="System", exact=True).click()
    expect(other.locator("html")).to_have_attribute("data-theme", "system")
    assert (page.evaluate(LIGHTNESS) < 128) == dark


def test_the_theme_is_there_before_anything_is_painted(context: BrowserContext, server: Server) -> None:
    """What sets it stands in the head, blocks, and comes before the body."""
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("button", name="Dark").click()
    page.route("**/app.js*", lambda route: route.abort())
    page.reload(wait_until="commit")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    script = page.locator("head > script[src*='store.js']")
    assert script.evaluate("script => !script.async && !script.defer && script.type === ''")


def test_paper_holds_the_conversation_and_nothing_else(open_page: OpenPage, model_server: ModelServer) -> None:
    """Printed, all of it is there, not only what fits the window; lists, buttons and the composer are not."""
    page = open_page()
    new_room(page)
    model_server.will(answer("\n\n".join(f"Paragraph {n}" for n in range(80))))
    say(page, "Write much")
    expect(message(page, 2, state="complete")).to_be_visible()
    page.emulate_media(media="print")
    for gone in ("#sidebar", "#composer", ".message__actions >> nth=0", ".menu >> nth=0"):
        expect(page.locator(gone)).to_be_hidden()
    heights = page.locator("#scroller").evaluate("list => [list.scrollHeight, list.clientHeight]")
    assert heights[0] <= heights[1] + 1


LONG = {
    "code": ("```python\n" + "x = 'some words in a line of code'\n" * 150 + "```\n\n", ".code--more"),
    "a numbered list": ("".join(f"{n}. some words in an item\n" for n in range(1, 200)) + "\n", ".list--more"),
    "a list": ("- some words in an item\n" * 200 + "\n", ".list--more"),
    "a table": ("| a | b |\n|---|---|\n" + "| some words | in a row |\n" * 150 + "\n", ".table--more"),
}


@pytest.mark.parametrize("kind", LONG)
def test_long_block_growing_without_scripts_shows_no_seams(
    browser: Browser, server: Server, model_server: ModelServer, kind: str
) -> None:
    """There its pieces are not put together, and take the place of one: a reload at the end moves nothing."""
    words, piece = LONG[kind]
    path = requests.post(f"{server.url}/rooms", timeout=20).headers["Location"]
    reply = model_server.will(held(text(words), text("That is all.")))
    requests.post(f"{server.url}{path}/messages", {"text": "Write much"}, timeout=20)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    height = "body => body.getBoundingClientRect().height"
    page.goto(server.url + path)
    reload_until(page, page.get_by_text("That is all."))
    body = message(page, 2, state="streaming").locator(".message__body")
    assert body.locator(f".part__done > {piece}").count() > 0
    grown = body.evaluate(height)
    reply.say(end())
    reload_until(page, message(page, 2, state="complete"))
    moved = abs(message(page, 2).locator(".message__body").evaluate(height) - grown)
    assert moved <= (2 if "table" in kind else 0.5)  # the line below a piece of a table is not shared with the next
    context.close()


def test_a_switch_is_one_small_request(open_page: OpenPage, server: Server) -> None:
    """The room alone, at most 20 KB with fifty messages; a rest on the row before the click fetches it once as well."""
    paths = [requests.post(f"{server.url}/rooms", timeout=20).headers["Location"] for _ in range(2)]
    for path in paths:
        fill(server, path, 25, "Question {}, of some length.")
    page = open_page(paths[0])
    settled(page)
    asked: list[Request] = []
    page.on("requestfinished", lambda request: None if "/static/" in request.url else asked.append(request))
    row(page, paths[1][-12:]).locator("a").click()
    expect(page.locator("#room")).to_have_attribute("data-room", paths[1][-12:])
    settled(page)
    assert [request.url for request in asked] == [server.url + paths[1]]
    (switch,) = asked
    sizes = switch.sizes()
    assert sizes["responseBodySize"] + sizes["responseHeadersSize"] <= 20 * 1024
    asked.clear()
    with page.expect_response(server.url + paths[0]):
        row(page, paths[0][-12:]).locator("a").hover()
    row(page, paths[0][-12:]).locator("a").click()
    expect(page.locator("#room")).to_have_attribute("data-room", paths[0][-12:])
    settled(page)
    assert len(asked) == 1
    expect(message(page, 50)).to_be_in_viewport()
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    requests.post(f"{server.url}{paths[0]}/messages", {"text": "Still live?"}, timeout=20)
    expect(message(page, 52, state="complete")).to_be_visible()
