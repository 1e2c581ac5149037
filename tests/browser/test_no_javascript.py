"""A browser without JavaScript: forms and links do everything but live updates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import ask, create_room, message, messages, reload_until
from tests.support.model_server import ModelServer, answer, end, held, text
from tests.support.server import Server


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab without JavaScript."""
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def test_forms_create_ask_edit_configure_rename_filter_clear_and_delete(
    page: Page, server: Server, model_server: ModelServer
) -> None:
    """A page with a growing answer reloads itself until the answer has ended."""
    page.goto(server.url)
    page.locator("#new-room").click()
    reply = model_server.will(held(text("Slowly")))
    page.get_by_role("textbox", name="Message").fill("Hello")
    page.get_by_role("button", name="Send").click()
    path = "/rooms/" + (page.locator("#room").get_attribute("data-room") or "")
    expect(page).to_have_url(f"{server.url}{path}#message-1")
    expect(message(page, 2, state="streaming")).to_contain_text("Slowly")
    reply.say(text(" but"), end("length"))
    expect(message(page, 2, state="interrupted")).to_contain_text("Slowly but")
    expect(page.locator("head meta[http-equiv=refresh]")).to_have_count(0)
    model_server.will(answer(" surely."), answer("Edited."))
    with page.expect_navigation():
        page.get_by_role("button", name="Continue").click()
    reload_until(page, message(page, 2, state="complete"))
    expect(message(page, 2).locator(".message__body")).to_have_text("Slowly but surely.")
    page.locator(".settings > summary").click()
    page.get_by_label("System prompt").fill("Be brief.")
    with page.expect_navigation():
        page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Edit").click()
    page.get_by_role("textbox", name="Question").fill("One, please?")
    page.get_by_role("button", name="Ask again").click()
    expect(page).to_have_url(f"{server.url}{path}#message-3")
    expect(message(page, 3)).to_contain_text("One, please?")
    reload_until(page, message(page, 4, state="complete"))
    page.get_by_role("button", name="Previous version").click()
    expect(page).to_have_url(f"{server.url}{path}#message-1")
    expect(message(page, 2, state="complete")).to_contain_text("Slowly but surely.")
    page.get_by_label("Room actions").click()
    page.get_by_role("textbox", name="Room name").fill("Plain")
    page.locator("#header").get_by_role("button", name="Rename").click()
    expect(page.locator("#header h1")).to_have_text("Plain")
    page.get_by_role("searchbox").fill("no such name")
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("#rooms > [data-room]")).to_have_count(0)
    page.goto(server.url)
    page.get_by_label("Room actions").click()
    page.get_by_role("button", name="Clear messages").click()
    expect(messages(page)).to_have_count(0)
    page.get_by_label("Room actions").click()
    page.get_by_role("button", name="Delete room").click()
    expect(page.locator("#rooms > [data-room]")).to_have_count(0)


LONG_BLOCKS = {
    "code": ("```python\n" + "x = 'some words in a line of code'\n" * 150 + "```\n\n", ".code--more"),
    "list": ("".join(f"{n}. some words in an item\n" for n in range(1, 200)) + "\n", ".list--more"),
    "table": ("| a | b |\n|---|---|\n" + "| some words | in a row |\n" * 150 + "\n", ".table--more"),
}


def test_growing_long_blocks_have_no_visible_gaps_between_their_pieces(
    page: Page, server: Server, model_server: ModelServer
) -> None:
    """The pieces are as high as the whole block: the reload after the end of the answer moves nothing."""
    height = "body => body.getBoundingClientRect().height"
    for kind, (block, piece) in LONG_BLOCKS.items():
        path = create_room(server)
        reply = model_server.will(held(text(block), text("That is all.")))
        ask(server, path, "Write much", wait=False)
        page.goto(server.url + path)
        reload_until(page, page.get_by_text("That is all."))
        body = message(page, 2).locator(".message__body")
        assert body.locator(f".part__done > {piece}").count() > 0
        grown = body.evaluate(height)
        reply.say(end())
        reload_until(page, message(page, 2, state="complete"))
        # The line between two pieces of a table is not shared.
        assert abs(body.evaluate(height) - grown) <= (2 if kind == "table" else 0.5), kind
