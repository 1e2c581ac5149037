"""A model that says what is hard to show: its own room shows it, and nobody waits for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import requests

from tests.render.test_markdown import ANSWER, ENDLESS
from tests.support.model_server import ModelServer, end, held, text
from tests.support.rooms import ask, ended, new_room
from tests.support.server import Server
from tests.support.tab import Tab

TOO_LONG = 8.0  # seconds; without bounds one piece of such a text takes more


@pytest.mark.parametrize("name", ["one wide table", "wide tables", "items in items", "brackets in many paragraphs"])
def test_others_do_not_wait_while_it_grows(
    server: Server, model_server: ModelServer, tab: Callable[..., Tab], name: str
) -> None:
    """A page is served and another answer goes on, word by word, while this one comes; and then it ends."""
    hard, easy = new_room(server), new_room(server)
    watching, other = tab(hard), tab(easy)
    endless, words = model_server.will(held()), held()
    ask(server, hard, "Go on")
    assert endless.begun.wait(20)
    model_server.will(words)
    ask(server, easy, "Hello")
    whole = (ENDLESS[name] * (ANSWER // len(ENDLESS[name]) + 1))[: ANSWER - 1000]
    reading = threading.Thread(target=watching.read_until, args=(ended,), daemon=True)
    reading.start()
    for start in range(0, len(whole), 20_000):
        endless.say(text(whole[start : start + 20_000]))
        began = time.monotonic()
        assert requests.get(f"{server.url}/rooms/{easy}/messages", timeout=60).ok
        words.say(text(f"word{start}. "))
        other.read_until(f"word{start}.")
        assert time.monotonic() - began < TOO_LONG
    for reply in (endless, words):
        reply.say(end())
        reply.hang_up()
    other.has(ended)
    reading.join(60)
    assert not reading.is_alive()
    began = time.monotonic()
    assert requests.get(f"{server.url}/rooms/{hard}", timeout=60).ok
    assert time.monotonic() - began < TOO_LONG
