"""An answer that is expensive to render does not block other rooms."""

from __future__ import annotations

import threading
from collections.abc import Callable

import requests

from tests.support.model_server import ModelServer, end, held, text
from tests.support.rooms import ask, ended, fetch, new_room
from tests.support.server import Server
from tests.support.tab import Tab

CHUNK = ("[" * 100 + "\n\n") * 400 + "|a" * 200 + "|\n" + "|-" * 200 + "|\n" + "|b\n" * 20_000


def test_other_rooms_are_served_while_an_expensive_answer_grows(
    server: Server, model_server: ModelServer, tab: Callable[..., Tab]
) -> None:
    """Pages and another answer arrive after each part of it, and it ends."""
    expensive_room, other_room = new_room(server), new_room(server)
    watching, other = tab(expensive_room), tab(other_room)
    expensive, plain = model_server.will(held()), held()
    ask(server, expensive_room, "Go on")
    assert expensive.begun.wait(20)
    model_server.will(plain)
    ask(server, other_room, "Hello")
    reading = threading.Thread(target=watching.read_until, args=(ended,), daemon=True)
    reading.start()
    for number in range(3):
        expensive.say(text(CHUNK))
        plain.say(text(f"word{number}. "))
        other.read_until(f"word{number}.")
        assert requests.get(f"{server.url}/rooms/{other_room}/messages", timeout=60).ok
    for reply in (expensive, plain):
        reply.say(end())
        reply.hang_up()
    other.has(ended)
    reading.join(60)
    assert not reading.is_alive()
    assert "[[[" in fetch(server, f"/rooms/{expensive_room}")
