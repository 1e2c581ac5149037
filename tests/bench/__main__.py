"""Measures the real server with a stand-in model, a real socket and a real browser, and prints a table.

Every figure is a median of several rounds unless it says otherwise. A figure over its bound is marked, and ends the run
with 1.
"""

from __future__ import annotations

import itertools
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from playwright.sync_api import expect

from tests.bench.page import WATCH, chromium, filled, first_page, long_room, scrolling, switches
from tests.support.model_server import ModelServer, Reply, answer, end, held, text
from tests.support.server import Server
from tests.support.tab import Tab

PACE = 0.001  # seconds between two tokens
TICKS = os.sysconf("SC_CLK_TCK")
BLOCKS = (
    "## Owls at night\n\nThey **hunt** by ear, and a vole under the snow is heard from *far* away. ",
    "An owl turns its head by 270 degrees; see [the notes](https://example.org/owls) for more of that.\n\n",
    "- barn owl: voles\n- eagle owl: hares, now and then a hedgehog\n- little owl: beetles\n\n",
    "```python\ndef hoo(times: int) -> str:\n    return ' '.join(['hoo'] * times)\n```\n\n",
    "| owl | weighs |\n|---|---:|\n| barn | 500 g |\n| eagle | 2,800 g |\n\n",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, and what it should be at most."""

    name: str
    value: float
    unit: str
    bound: float | None = None


def tokens(count: int) -> list[str]:
    """So many tokens of about four characters each, together Markdown of every kind."""
    letters = itertools.cycle("".join(BLOCKS))
    return ["".join(itertools.islice(letters, 4)) for _ in range(count)]


def cpu(pid: int) -> float:
    """The seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def new_room(server: Server) -> str:
    return requests.post(f"{server.url}/rooms", timeout=20).headers["Location"]


def ask(server: Server, room: str) -> None:
    requests.post(f"{server.url}{room}/messages", {"text": "Tell me"}, timeout=20).raise_for_status()


def ended(frame: str) -> bool:
    return re.search(r'id="message-2"[^>]*data-state="complete"', frame) is not None


def speak(reply: Reply, words: list[str]) -> threading.Thread:
    """Say the words at an even pace, then end."""

    def run() -> None:
        began = time.monotonic()
        for n, word in enumerate(words, 1):
            reply.say(text(word))
            if (left := began + n * PACE - time.monotonic()) > 0:
                time.sleep(left)
        reply.say(end())
        reply.hang_up()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def streamed(server: Server, model: ModelServer, count: int) -> tuple[float, int]:
    """The processor seconds that the server spends on an answer of so many tokens, and the bytes a tab is sent."""
    room = new_room(server)
    tab = Tab(server.url, f"room={room[-12:]}")
    tab.read_until('hx-target="#messages"')
    seen, before = len(tab.frames), cpu(server.pid)
    reply = model.will(held())
    ask(server, room)
    reply.begun.wait(20)
    thread = speak(reply, tokens(count))
    tab.socket.settimeout(60)
    while not ended(tab.read() or ""):
        continue
    spent = cpu(server.pid) - before
    thread.join()
    tab.close()
    return spent, sum(len(frame.encode()) for frame in tab.frames[seen:])


def first_token(server: Server, model: ModelServer) -> float:
    """Milliseconds from sending a question to its answer's first token at a tab's socket."""
    room = new_room(server)
    tab = Tab(server.url, f"room={room[-12:]}")
    tab.read_until('hx-target="#messages"')
    model.will(answer("Hoo"))
    began = time.perf_counter()
    ask(server, room)
    tab.read_until("Hoo")
    took = time.perf_counter() - began
    tab.close()
    return 1000 * took


def stop(server: Server, model: ModelServer, *said: bytes) -> float:
    """Milliseconds from asking to stop to the model's socket being closed."""
    room = new_room(server)
    reply = model.will(held(*said))
    ask(server, room)
    assert reply.begun.wait(20)
    began = time.perf_counter()
    requests.delete(f"{server.url}{room}/turn", timeout=20)
    assert reply.closed.wait(20)
    return 1000 * (time.perf_counter() - began)


def in_browser(server: Server, model: ModelServer, count: int) -> tuple[float, float]:
    """The longest task of a page while so many tokens stream in, and Enter to the last of them; milliseconds."""
    with chromium() as browser:
        page = browser.new_page()
        page.goto(server.url + new_room(server))
        expect(page.locator("body")).to_have_attribute("data-live", "open")
        page.evaluate(WATCH)
        reply = model.will(held())
        began = time.perf_counter()
        page.get_by_role("textbox", name="Message").fill("Tell me")
        page.keyboard.press("Enter")
        assert reply.begun.wait(20)
        thread = speak(reply, tokens(count))
        expect(page.locator("#message-2[data-state=complete]")).to_be_attached(timeout=60_000)
        took = time.perf_counter() - began
        thread.join()
        longest = float(page.evaluate("window.longest"))
    return longest, 1000 * took


def median(measure: Callable[[], float], rounds: int) -> float:
    return statistics.median(measure() for _ in range(rounds))


@contextmanager
def running() -> Iterator[tuple[Server, ModelServer]]:
    """The real server and its model."""
    with tempfile.TemporaryDirectory() as folder:
        model = ModelServer()
        environment = {"OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "stand-in"}
        server = Server(Path(folder), environment=environment).start()
        try:
            yield server, model
        finally:
            server.stop()
            model.close()


def figures() -> Iterator[Figure]:
    """Everything there is to measure, one after the other."""
    with running() as (server, model):
        streamed(server, model, 200)  # warm
        yield Figure("first token at a tab, from POST", median(lambda: first_token(server, model), 15), "ms", 40)
        for what, said in (("a silent model", ()), ("a speaking model", (text("Hoo"),))):
            took = max(stop(server, model, *said) for _ in range(15))
            yield Figure(f"Stop to the socket of {what} closed, longest of 15", took, "ms", 1000)
        few = [streamed(server, model, 1000) for _ in range(5)]
        many = [streamed(server, model, 10_000) for _ in range(3)]
        short, long = (statistics.median(spent for spent, _ in runs) for runs in (few, many))
        yield Figure("CPU of the server for 1,000 tokens, 1,000/s", 1000 * short, "ms")
        yield Figure("CPU of the server for 10,000 tokens, 1,000/s", 1000 * long, "ms")
        yield Figure("the same as a ratio", long / short, "×", 12)
        short, long = (statistics.median(sent for _, sent in runs) for runs in (few, many))
        yield Figure("sent to a tab for 1,000 tokens", short / 1024, "KB")
        yield Figure("sent to a tab for 10,000 tokens", long / 1024, "KB")
        yield Figure("the same as a ratio", long / short, "×", 12)
        for count in (3_000, 10_000):
            longest, _ = in_browser(server, model, count)
            yield Figure(f"longest task in Chromium, {count:,} tokens", longest, "ms", 100)
        yield from page_figures(server)


def page_figures(server: Server) -> Iterator[Figure]:
    """What the page costs."""
    with chromium() as browser:
        paths = [filled(server, 25), filled(server, 25)]
        firsts = [first_page(browser, server.url + paths[0]) for _ in range(7)]
        yield Figure("first page over the wire, 50 messages", statistics.median(kb for kb, _, _ in firsts), "KB", 60)
        yield Figure("requests of the first page", statistics.median(count for _, count, _ in firsts), "", 16)
        yield Figure("first page usable, from navigation", statistics.median(ms for _, _, ms in firsts), "ms", 150)
        kilobytes, took = switches(browser, server, paths)
        yield Figure("a switch over the wire, 50 messages", kilobytes, "KB", 20)
        yield Figure("a switch, click to its first frame, median of 20", took, "ms", 100)
        # How fast this machine draws at all is not the page's doing; a room of 50 says it.
        few = scrolling(browser, server.url + long_room(server, 50), 50)
        many = scrolling(browser, server.url + long_room(server, 5_000), 5_000)
        for what, one, other in zip(("median", "p99"), few, many, strict=True):
            yield Figure(f"between two frames, scrolling 50 messages, {what}", one, "ms")
            yield Figure(f"the same of 5,000 messages, {what}", other, "ms", 2 * one)


def main() -> int:
    """Print the table; 1 if a figure is over its bound."""
    over = 0
    print(f"{'figure':58} {'measured':>12}   {'bound':>10}")
    for figure in figures():
        bound = "" if figure.bound is None else f"≤ {figure.bound:,.0f} {figure.unit}"
        late = figure.bound is not None and figure.value > figure.bound
        over += late
        mark = "  over" if late else ""
        print(f"{figure.name:58} {f'{figure.value:,.1f} {figure.unit}':>12}   {bound:>10}{mark}", flush=True)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
