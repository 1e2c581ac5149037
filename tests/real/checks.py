"""Overseer with a real model server: llama.cpp with a model of 135 million parameters. `make real` runs these checks.

They assert protocol and state, never words: what so small a model says depends on the processor.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from tests.real.llama import MODEL
from tests.support.html import Element, parsed
from tests.support.rooms import ask, fetch, new_room
from tests.support.server import ROOT, Server
from tests.support.server_pool import ServerPool
from tests.support.waiting import until

PATIENCE_SECONDS = 120.0
STORY = "Write a very long story about a lighthouse, in as many chapters as you can."
WORDS = "The lighthouse keeper counts the ships that pass. "


class Llama:
    """A llama.cpp server as a process. It loads the model after `start` has returned."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **options: str | int) -> Llama:
        arguments = [str(self.port), *(f"{name}={value}" for name, value in options.items())]
        command = [sys.executable, "-m", "tests.real.llama", *arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def wait_until_loaded(self) -> Llama:
        wait_until(lambda: self.status("/health") == 200)
        return self

    def status(self, path: str) -> int:
        """Return the status of a GET, or 0 while nothing listens."""
        try:
            return requests.get(self.url + path, timeout=PATIENCE_SECONDS).status_code
        except requests.ConnectionError:
            return 0

    def busy_slots(self) -> int:
        """Return how many slots compute an answer."""
        return sum(slot["is_processing"] for slot in requests.get(f"{self.url}/slots", timeout=PATIENCE_SECONDS).json())

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(PATIENCE_SECONDS)


class Answer(NamedTuple):
    """An answer as the page shows it."""

    state: str
    model: str
    text: str
    footer: str
    html: Element


wait_until = partial(until, seconds=PATIENCE_SECONDS)


def answer_of(server: Server, room: str, number: int = 2) -> Answer:
    html = parsed(fetch(server, f"/rooms/{room}/messages/{number}")).one("article")
    footer = "".join(one.text for one in html.every("footer"))
    return Answer(
        html["data-state"] or "", html["aria-label"] or "", html.one(class_="message__body").text, footer, html
    )


def ended(server: Server, room: str, number: int = 2) -> Answer:
    """Return an answer when it has ended."""
    wait_until(lambda: answer_of(server, room, number).state not in ("waiting", "streaming"))
    return answer_of(server, room, number)


def stop(server: Server, room: str) -> None:
    requests.delete(f"{server.url}/rooms/{room}/turn", timeout=PATIENCE_SECONDS)


def retry(server: Server, room: str) -> None:
    requests.post(f"{server.url}/rooms/{room}/turn", timeout=PATIENCE_SECONDS)


@pytest.fixture
def llama() -> Iterator[Llama]:
    llama = Llama()
    yield llama
    llama.kill()


@pytest.fixture
def server(instance: Path, llama: Llama, server_pool: ServerPool) -> Iterator[Server]:
    """Overseer, whose model server is not started yet."""
    server = Server(instance, environment={"OPENAI_BASE_URL": f"{llama.url}/v1"}, server_pool=server_pool).start()
    yield server
    server.stop()


def test_question_while_the_model_loads_is_answered(server: Server, llama: Llama) -> None:
    """The model has the file's name, and the tokens are those that the server counted."""
    room = new_room(server)
    llama.start()
    wait_until(lambda: llama.status("/health") == 503)
    ask(server, room, "Say hello.")
    seen: set[str] = set()

    def has_ended() -> bool:
        seen.update(re.findall(r"The model is loading… \d+ s", answer_of(server, room).footer))
        return answer_of(server, room).state == "complete"

    wait_until(has_ended)
    assert seen
    answer = answer_of(server, room)
    assert answer.text.strip() and "≈" not in answer.html.text
    assert answer.model == MODEL.removesuffix(".gguf")


def test_stop_frees_the_slot_and_a_second_room_waits_for_it(server: Server, llama: Llama) -> None:
    llama.start().wait_until_loaded()
    first, second = new_room(server), new_room(server)
    ask(server, first, STORY)
    wait_until(lambda: answer_of(server, first).state == "streaming")
    assert llama.busy_slots() == 1
    ask(server, second, "Say hello.")
    wait_until(lambda: "Waiting for the model: 1 answer ahead" in answer_of(server, second).footer)
    stop(server, first)
    assert answer_of(server, first).state == "stopped"
    assert ended(server, second).state == "complete"
    wait_until(lambda: llama.busy_slots() == 0)


def test_room_longer_than_the_context_goes_on(server: Server, llama: Llama) -> None:
    llama.start(ctx=512, predict=40).wait_until_loaded()
    room = new_room(server)
    for number in range(2, 14, 2):
        ask(server, room, f"{number}. {WORDS * 12}")
        assert ended(server, room, number).state in ("complete", "interrupted"), "40 tokens may not be the end"
    page = fetch(server, f"/rooms/{room}")
    assert 'id="reading"' in page and "of 512 tokens" in page
    ask(server, room, WORDS * 200)
    answer = ended(server, room, 14)
    assert answer.state == "failed"
    assert re.search(r"too long for this model: [\d,]+ tokens, and the model reads 512\. Shorten it by", answer.footer)


def test_answer_that_fills_the_context_offers_no_continue(server: Server, llama: Llama) -> None:
    llama.start(ctx=256, template=BABBLE).wait_until_loaded()
    room = new_room(server)
    ask(server, room, STORY)
    answer = ended(server, room)
    assert answer.state == "interrupted" and "fills the model’s context" in answer.footer
    assert [one.text for one in answer.html.every("button") if one.text in ("Continue", "Retry")] == ["Retry"]


def test_key_is_sent_and_a_wrong_one_is_rejected(instance: Path, llama: Llama, server_pool: ServerPool) -> None:
    llama.start(key="right").wait_until_loaded()
    for key, expected in (("wrong", "failed"), ("right", "complete")):
        environment = {"OPENAI_BASE_URL": f"{llama.url}/v1", "OPENAI_API_KEY": key, "OPENAI_MODEL": "any"}
        server = Server(instance / key, environment=environment, server_pool=server_pool).start()
        try:
            room = new_room(server)
            ask(server, room, "Say hello.")
            answer = ended(server, room)
        finally:
            server.stop()
        assert answer.state == expected
        assert ("API key rejected (401)" in answer.footer) == (key == "wrong")


def test_answer_of_a_killed_model_server_is_interrupted_and_can_be_retried(server: Server, llama: Llama) -> None:
    llama.start().wait_until_loaded()
    room = new_room(server)
    ask(server, room, STORY)
    wait_until(lambda: len(answer_of(server, room).text) > 20)
    llama.kill()
    answer = ended(server, room)
    assert answer.state == "interrupted" and len(answer.text) > 20
    retry(server, room)
    answer = ended(server, room)
    assert answer.state == "failed" and "Could not connect to" in answer.footer
    llama.start().wait_until_loaded()
    retry(server, room)
    wait_until(lambda: answer_of(server, room).state == "streaming")
    stop(server, room)


def test_tool_call_is_parsed_by_the_servers_grammar_and_its_result_is_accepted(server: Server, llama: Llama) -> None:
    """The model imitates the calls in its system prompt; a grammar constrains what follows `<tool_call>`."""
    llama.start(template=TOOLS, predict=60).wait_until_loaded()
    room = imitating(server, '<tool_call>\n{"name": "roll_dice", "arguments": {"sides": 6}}\n</tool_call>')
    ask(server, room, "Roll a die.")
    answer = ended(server, room)
    calls = answer.html.every("details", class_="part--tool")
    assert calls, answer.text
    assert all(call["data-state"] == "done" for call in calls)
    assert [term.text for term in calls[0].every("pre")][0] == '{"sides": 6}'
    assert answer.state == "complete" or "used tools 5 times" in answer.footer, answer.footer


def test_reasoning_that_the_server_separates_is_shown_as_reasoning(server: Server, llama: Llama) -> None:
    llama.start(template=TOOLS, predict=60).wait_until_loaded()
    room = imitating(server, "<think>\nI count to four.\n</think>\n\nIt is four.")
    ask(server, room, "Roll a die.")
    answer = ended(server, room)
    assert answer.html.has("details", class_="part--reasoning"), answer.text
    assert "<think>" not in answer.html.text and "</think>" not in answer.html.text


def imitating(server: Server, answer: str) -> str:
    """Return a room whose system prompt shows this answer so often that the model gives it too."""
    room = new_room(server)
    example = f"<|im_start|>user\nRoll a die.<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
    fields = {"system_prompt": example * 6, "temperature": "0"}
    requests.patch(f"{server.url}/rooms/{room}", fields, timeout=PATIENCE_SECONDS).raise_for_status()
    return room


# A template for tools and reasoning, in the form that Qwen's models use.
TOOLS = (Path(__file__).parent / "tools.jinja").read_text()
# A template without an end of turn: the model goes on until something else ends it.
BABBLE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: Once upon a time,"
