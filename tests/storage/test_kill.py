"""`kill -9` during an answer: the question and everything saved of the answer are there after the next start.

An answer is saved once a second, here more often; `make crash` kills the server many more times.
"""

from __future__ import annotations

import re
import signal
import threading

from overseer.storage.instance_lock import room_file
from tests.support.files import column
from tests.support.model_server import ModelServer, Reply, held, text
from tests.support.rooms import ask, fetch, new_room
from tests.support.server import Server
from tests.support.waiting import until

WORD_SECONDS = 0.004
MESSAGE = re.compile(r'<article id="message-(\d+)".*?data-state="(\w+)".*?__body">(.*?)</article>', re.S)


def speak(reply: Reply) -> None:
    """Send numbered words until the reply is closed."""
    number = 0
    while not reply.closed.wait(WORD_SECONDS):
        reply.say(text(f"{number} "))
        number += 1


def messages(server: Server, room: str) -> list[tuple[int, str, list[str]]]:
    """Return number, state and words of each message."""
    page = fetch(server, f"/rooms/{room}/messages")
    return [
        (
            int(number),
            state,
            re.sub(r"<footer.*|<div class=\"message__actions.*|<[^>]+>", " ", body, flags=re.S).split(),
        )
        for number, state, body in MESSAGE.findall(page)
    ]


def next_save(server: Server, room: str, number: int, before: str) -> str:
    """Wait until more of an answer is in the room's file, and return its text there."""
    path = room_file(server.instance, room)

    def stored() -> str:
        found = column(path, f"SELECT text FROM parts WHERE message = {number}")
        return str(found[0]) if found else ""

    until(lambda: stored() != before)
    return stored()


def test_kill_during_an_answer_keeps_what_was_saved(server: Server, model_server: ModelServer) -> None:
    room = new_room(server)
    number = 2
    for requests_so_far, saves in enumerate((0, 2)):  # kill at once, and after the answer was saved twice
        reply = model_server.will(held())
        speaker = threading.Thread(target=speak, args=(reply,), daemon=True)
        speaker.start()
        ask(server, room, f"Question {number}")
        until(lambda: len(model_server.requests) > requests_so_far)  # noqa: B023 - called in this round only
        saved = ""
        for _ in range(saves):
            saved = next_save(server, room, number, saved)
        server.restart(signal.SIGKILL)
        reply.hang_up()
        *_, (_, _, question), (last, state, words) = messages(server, room)
        assert (last, state, question) == (number, "interrupted", ["Question", f"{number}"])
        assert words == [str(n) for n in range(len(words))], "not the beginning of the answer"
        assert words[: len(saved.split())] == saved.split()
        number += 2
