"""The six steps of the README's "Try it", in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.steps import agree, message, new_room, room_id, row, say, settled
from tests.support.model_server import ModelServer, answer
from tests.support.server import Server


def test_the_six_steps(open_page: Callable[..., Page], instance: Path, model_server: ModelServer) -> None:
    """New makes a room; it answers; another is empty; switching back shows the first; Clear; Delete."""
    page = open_page()

    new_room(page)
    first = room_id(page)
    expect(row(page, first)).to_have_attribute("aria-current", "page")
    files = [instance / "facets" / f"room-{first}.sqlite{suffix}" for suffix in ("", "-wal", "-shm")]
    assert files[0].exists()

    model_server.will(answer("Hello", " to", " you."))
    say(page, "Hi there")
    expect(message(page, 2, state="complete").locator(".message__body")).to_have_text("Hello to you.")
    expect(row(page, first)).to_have_attribute("data-messages", "2")
    expect(page).to_have_title("Hi there · Overseer")

    new_room(page)
    second = room_id(page)
    expect(page.locator("#messages article")).to_have_count(0)
    expect(row(page, second)).to_have_attribute("aria-current", "page")
    expect(row(page, first)).not_to_have_attribute("aria-current", "page")

    row(page, first).locator("a").click()
    expect(message(page, 1).locator(".message__body")).to_have_text("Hi there")
    expect(message(page, 2).locator(".message__body")).to_have_text("Hello to you.")
    assert room_id(page) == first

    row(page, first).hover()
    row(page, first).get_by_role("button", name="Clear").click()
    assert agree(page) == "Clear all 2 messages in “Hi there”? This can’t be undone."
    expect(page.locator("#messages article")).to_have_count(0)
    expect(row(page, first)).to_have_attribute("data-messages", "0")

    row(page, first).hover()
    row(page, first).get_by_role("button", name="Delete").click()
    assert agree(page) == "Delete “Hi there”?"
    expect(row(page, first)).to_have_count(0)
    expect(page.locator("#room")).to_have_attribute("data-room", second)
    assert not [file for file in files if file.exists()]


def test_everything_is_where_it_was_after_a_restart(open_page: Callable[..., Page], server: Server) -> None:
    """The server comes back, and so do the rooms and what was said."""
    page = open_page()
    new_room(page)
    say(page, "Remember me")
    expect(message(page, 2, state="complete")).to_be_visible()
    settled(page)
    server.restart()
    page.reload()
    expect(message(page, 1)).to_contain_text("Remember me")
    expect(message(page, 2)).to_contain_text("All right.")
