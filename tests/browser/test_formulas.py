"""Formulas in a real browser: their font, their width and their copies."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.steps import OpenPage, ask, create_room, message
from tests.support.model_server import ModelServer, answer
from tests.support.server import Server
from tests.support.waiting import until

WIDE = "$$" + "+".join(f"x_{{{number}}}" for number in range(200)) + "$$"


def room_with(server: Server, model_server: ModelServer, text: str) -> str:
    model_server.will(answer(text))
    path = create_room(server)
    ask(server, path, "Explain")
    return path


def fonts(page: Page) -> list[str]:
    """The fonts that the page has requested."""
    names: list[str] = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
    return [name for name in names if "woff" in name]


def test_mathematics_font_is_loaded_for_formulas_only(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    page = open_page(room_with(server, model_server, "It costs $5 and $10."))
    expect(message(page, 2)).to_contain_text("$5 and $10")
    page.evaluate("document.fonts.ready")
    assert fonts(page) == []
    page = open_page(room_with(server, model_server, "So $x^2$."))
    until(lambda: len(fonts(page)) == 1)
    assert page.evaluate("async () => (await document.fonts.load('16px \"STIX Two Math\"', 'x')).length") == 1


def test_wide_formula_scrolls_in_its_message(
    open_page: OpenPage, server: Server, model_server: ModelServer, context: BrowserContext
) -> None:
    """The page keeps its width, also with a wide formula in a line of text."""
    page = open_page(room_with(server, model_server, f"{WIDE}\n\nso {WIDE[1:-1]}, then"))
    page.set_viewport_size({"width": 390, "height": 844})
    for selector in (".formula", "p > math"):
        wide = page.locator(selector).first
        assert wide.evaluate("one => one.getBoundingClientRect().right") <= 390
    assert page.locator(".formula").evaluate("one => one.scrollWidth > one.clientWidth")
    assert page.locator("#scroller").evaluate("one => one.scrollWidth <= one.clientWidth")


def test_copied_selection_contains_the_latex_of_formulas(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """Of whole ones, also where the selection begins in one. Without formulas, the browser copies as usual."""
    page = open_page(room_with(server, model_server, "Let $a_1$ be \\(b\\).\n\n$$\n\\frac{c}{d}\n$$\n\nEnd of it."))
    copied: Callable[[str], str] = lambda select: page.evaluate(  # noqa: E731
        """(select) => {
          getSelection().removeAllRanges();
          const range = document.createRange();
          const [first, last] = select.split(" ").map((one) => document.querySelector(`#message-2 .part ${one}`));
          range.setStart(first, 0);
          range.setEnd(last, last.childNodes.length);
          getSelection().addRange(range);
          const data = new DataTransfer();
          const event = new ClipboardEvent("copy", { clipboardData: data, bubbles: true, cancelable: true });
          document.activeElement.blur();
          document.body.dispatchEvent(event);
          return event.defaultPrevented ? data.getData("text/plain") : "as usual";
        }""",
        select,
    )
    assert copied("p p:last-child") == "Let $a_1$ be $b$.\n\n$$\\frac{c}{d}$$\n\nEnd of it."
    assert copied("mi mn") == "$a_1$"
    assert copied("p:last-child p:last-child") == "as usual"
    assert page.locator(".copied").count() == 0
