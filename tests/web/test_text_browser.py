"""A text browser, without scripts and styles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import Server
from tests.support.text_browser import TextBrowser


@pytest.fixture
def browser(server: Server, tmp_path: Path) -> Iterator[TextBrowser]:
    """A text browser that shows the first page."""
    with closing(TextBrowser(server.url, tmp_path / "home")) as browser:
        browser.until_loaded()
        yield browser


def test_text_browser_creates_a_room_asks_and_clears(
    browser: TextBrowser, server: Server, model_server: ModelServer
) -> None:
    reply = model_server.will(held(text("Half of")))
    assert "What can I help with?" in browser.text
    browser.press("New")
    assert "New room" in browser.text and "Search" in browser.text, "a page, not a fragment"
    browser.fill_in("Do owls read?", before="Send")
    browser.press("Send")
    assert "Do owls read?" in browser.text and "Stop" in browser.text and "Search" in browser.text
    browser.press_until("Refresh", lambda: "Half of" in browser.text)
    reply.say(text(" them do."), end())
    reply.hang_up()
    browser.press_until("Refresh", lambda: "Refresh" not in browser.text)
    assert "Half of them do." in browser.text and "Stop" not in browser.text
    (room_id,) = {line.split('"')[1] for line in requests.get(f"{server.url}/rooms").text.split("data-room=")[1:]}
    browser.press("Clear messages")
    assert "Half of them do." not in browser.text
    assert "<article" not in requests.get(f"{server.url}/rooms/{room_id}/messages").text
