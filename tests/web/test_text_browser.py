"""A visit with a text browser, which knows neither scripts nor styles: forms and links do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import Server
from tests.support.text_browser import TextBrowser


@pytest.fixture
def open_text_browser(tmp_path: Path) -> Iterator[Callable[[str], TextBrowser]]:
    """Opens text browsers."""
    opened: list[TextBrowser] = []

    def open_text_browser(url: str) -> TextBrowser:
        opened.append(TextBrowser(url, tmp_path / f"home-{len(opened)}"))
        opened[-1].until_loaded()
        return opened[-1]

    yield open_text_browser
    for browser in opened:
        browser.close()


def test_a_room_is_made_and_a_question_asked_and_answered(
    server: Server, model_server: ModelServer, open_text_browser: Callable[[str], TextBrowser]
) -> None:
    """New, a question, Send, and Refresh until the answer is there; then Clear."""
    reply = model_server.will(held(text("Half of")))
    browser = open_text_browser(server.url)
    assert "Make a room to begin." in browser.text
    browser.press("New")
    assert "New room" in browser.text and "Filter" in browser.text, "a page, no fragment"
    browser.fill_in("Do owls read?", before="Send")
    browser.press("Send")
    assert "Do owls read?" in browser.text and "Stop" in browser.text and "Filter" in browser.text
    browser.press_until("Refresh", lambda: "Half of" in browser.text)
    reply.say(text(" them do."), end())
    reply.hang_up()
    browser.press_until("Refresh", lambda: "Refresh" not in browser.text)
    assert "Half of them do." in browser.text and "Stop" not in browser.text

    (room_id,) = {line.split('"')[1] for line in requests.get(f"{server.url}/rooms").text.split("data-room=")[1:]}
    told = requests.get(f"{server.url}/rooms/{room_id}/messages", headers={"Accept": "text/markdown"}).text
    assert "Do owls read?" in told and "Half of them do." in told

    browser.press("Clear messages")
    assert "Half of them do." not in browser.text
    assert "<article" not in requests.get(f"{server.url}/rooms/{room_id}/messages").text
