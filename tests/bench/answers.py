"""The cost of an answer by its length and its Markdown, and the throughput of tokens."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator

import requests

from overseer.live.hub import ROOM_PACING
from tests.bench.figure import Figure, repeated, repeats
from tests.bench.script import Script
from tests.bench.seeded_instance import SeededInstance, cpu, seeded, until_quiet
from tests.bench.tabs import Watch

RATE = 1000.0  # tokens a second
LENGTHS = {1_000: 5, 10_000: 3, 50_000: 1}  # tokens, and how often they are sent


def figures() -> Iterator[Figure]:
    """Yield CPU time and bytes by length, and tokens a second of a model that does not wait."""
    with seeded() as home:
        yield from by_length(home)
        for form in ("code", "list", "table", "paragraph"):
            block = "code block" if form == "code" else form
            short, long = (streamed(home, Script(tokens, RATE, form)) for tokens in (1_000, 10_000))
            yield Figure(
                f"CPU time for one {block} of 10,000 tokens, relative to 1,000", (long[0] / short[0],), "×", 12
            )
            # A paragraph is one block, which every frame repeats, so its frames are paced by their size.
            paced = 1.2 * ROOM_PACING.bytes_per_second * 10_000 / RATE / 1024
            most, times = (paced, None) if form == "paragraph" else (None, 12)
            yield Figure(f"sent to a tab for one {block} of 10,000 tokens", (long[1] / 1024,), "KB", most)
            yield Figure("the same, relative to 1,000", (long[1] / short[1],), "×", times)
        spent, sent = streamed(home, Script(50_000, RATE, "code"))
        yield Figure("CPU time for one code block of 50,000 tokens", (1000 * spent,), "ms")
        yield Figure("sent to a tab for one code block of 50,000 tokens", (sent / 1024,), "KB")
        yield from full_speed(home)


def by_length(home: SeededInstance) -> Iterator[Figure]:
    """Yield the cost of answers with all kinds of Markdown."""
    spent, sent = {}, {}
    for tokens, usual in LENGTHS.items():
        runs = [streamed(home, Script(tokens, RATE)) for _ in range(repeats(usual))]
        spent[tokens] = tuple(1000 * one for one, _ in runs)
        sent[tokens] = tuple(one / 1024 for _, one in runs)
    for what, unit, by_tokens in (("CPU time for", "ms", spent), ("sent to a tab for", "KB", sent)):
        for tokens, values in by_tokens.items():
            yield Figure(f"{what} {tokens:,} tokens of Markdown, {RATE:,.0f}/s", values, unit)
        first = statistics.median(by_tokens[1_000])
        for tokens, values in list(by_tokens.items())[1:]:
            ratios = tuple(value / first for value in values)
            yield Figure(f"the same, {tokens:,} relative to 1,000", ratios, "×", 1.2 * tokens / 1_000)


def streamed(home: SeededInstance, script: Script) -> tuple[float, int]:
    """Return the CPU seconds that the server spends on an answer, and the bytes that a tab is sent."""
    room = home.new_room()
    watch = Watch(home.server.port, [room], each=1)
    until_quiet(home.server.pid)
    before = cpu(home.server.pid)
    home.ask(room, script)
    seen = watch.seen()
    return cpu(home.server.pid) - before, seen.bytes


def full_speed(home: SeededInstance) -> Iterator[Figure]:
    """Yield the throughput with a model that sends as fast as it can and one tab."""
    script = Script(20_000)

    def through() -> float:
        room = home.new_room()
        watch = Watch(home.server.port, [room], each=1)
        until_quiet(home.server.pid)
        began = time.monotonic()
        home.ask(room, script)
        return script.tokens / (watch.seen().last_at - began)

    def read() -> float:
        question = {"messages": [{"role": "user", "content": str(script)}]}
        began = time.monotonic()
        with requests.post(home.model.url, json.dumps(question), stream=True, timeout=60) as response:
            while response.raw.read1(65536):
                continue
        return script.tokens / (time.monotonic() - began)

    floor = statistics.median(repeated(read))
    yield Figure("tokens a second through one turn to one tab", repeated(through), "/s", 15_000, floor, least=True)
