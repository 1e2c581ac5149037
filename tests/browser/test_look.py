"""Theme, print, layout, and the size of the first page and of a switch of rooms."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Request, expect

from tests.browser.steps import OpenPage, ask, create_room, expect_open, message, new_room, row, send, wait_for_requests
from tests.support.model_server import ModelServer, answer
from tests.support.server import Server
from tests.support.waiting import until

LIGHTNESS = """(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = getComputedStyle(document.documentElement).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data[0];
})()"""


def test_theme_follows_the_system_until_one_is_chosen_in_any_tab(open_page: OpenPage) -> None:
    """The choice is applied before the first paint: by a blocking script in the head."""
    page, other = open_page(), open_page()
    page.bring_to_front()
    for tab in (page, other):
        tab.emulate_media(color_scheme="dark")
        assert tab.evaluate(LIGHTNESS) < 128
    expect(page.get_by_role("button", name="System", exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Light", exact=True).click()
    for tab in (page, other):
        expect(tab.locator("html")).to_have_attribute("data-theme", "light")
        assert tab.evaluate(LIGHTNESS) >= 128
    page.route("**/app.js*", lambda route: route.abort())
    page.reload(wait_until="commit")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    script = page.locator("head > script[src*='store.js']")
    assert script.evaluate("script => !script.async && !script.defer && script.type === ''")
    assert page.evaluate(LIGHTNESS) >= 128
    other.get_by_role("button", name="System", exact=True).click()
    expect(other.locator("html")).to_have_attribute("data-theme", "system")
    assert other.evaluate(LIGHTNESS) < 128


def test_print_shows_the_whole_conversation_and_nothing_else(open_page: OpenPage, model_server: ModelServer) -> None:
    """On screen the composer is at the bottom of the window, and in the middle of an empty room."""
    page = open_page()
    new_room(page)

    def at_the_bottom() -> bool:
        box = page.locator(".open__foot").bounding_box()
        return box is not None and abs(box["y"] + box["height"] - 800) < 2

    assert not at_the_bottom()
    model_server.will(answer("\n\n".join(f"Paragraph {n}" for n in range(80))))
    send(page, "Write much")
    expect(message(page, 2, state="complete")).to_be_visible()
    until(at_the_bottom)
    page.emulate_media(media="print")
    for hidden in ("#sidebar", "#composer", ".message__actions >> nth=0", ".menu >> nth=0"):
        expect(page.locator(hidden)).to_be_hidden()
    heights = page.locator("#scroller").evaluate("list => [list.scrollHeight, list.clientHeight]")
    assert heights[0] <= heights[1] + 1


def test_first_page_and_room_switch_are_small(context: BrowserContext, server: Server) -> None:
    """A page: 16 requests and 60 KB. A switch: one request and 20 KB for fifty messages, preloaded on hover."""
    one, two = create_room(server, questions=25), create_room(server, questions=25)
    page = context.new_page()
    requests: list[Request] = []
    page.on("requestfinished", lambda request: requests.append(request))

    def size() -> int:
        sizes = [request.sizes() for request in requests]
        return sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes)

    def rooms_requested() -> list[str]:
        return [request.url for request in requests if "/static/" not in request.url]

    page.goto(server.url + one)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    page.wait_for_load_state("networkidle")
    assert 5 < len(requests) <= 16, [request.url for request in requests]
    assert size() <= 60 * 1024
    requests.clear()
    row(page, two).locator("a").click()
    expect_open(page, two)
    wait_for_requests(page)
    assert size() <= 20 * 1024
    assert rooms_requested() == [server.url + two]
    requests.clear()
    with page.expect_response(server.url + one):
        row(page, one).locator("a").hover()
    row(page, one).locator("a").click()
    expect_open(page, one)
    wait_for_requests(page)
    assert rooms_requested() == [server.url + one]
    expect(message(page, 50)).to_be_in_viewport()
    ask(server, one, "Still live?")
    expect(message(page, 52, state="complete")).to_be_visible()
