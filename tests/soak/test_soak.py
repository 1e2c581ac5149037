"""The soak itself is `make soak MINUTES=10`; here, that it would see something grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.__main__ import Probe, Sample, judged
from tests.soak.crowd import wire
from tests.support.server import DEADLINE, Server
from tests.support.tab import Tab

FLAT = [Sample(15.0 * n, 70.0, 200, 3, 170, 170, 80_000, {"Facet": 50}) for n in range(40)]
TABS = 20


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[Probe]:
    """A server that can be looked into."""
    program = ("-m", "tests.soak.launcher", str(tmp_path / "counts"))
    server = Server(tmp_path / "instance", environment={"OLLAMA_HOST": "127.0.0.1:9"}, program=program).start()
    yield Probe(server, tmp_path / "counts")
    assert server.stop() == 0


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, "that never came to be"


def test_tabs_that_vanish_leave_nothing_behind(probe: Probe) -> None:
    """Their greenlets and descriptors are seen, and go with them, though none says good-bye."""
    before = probe.sample()
    tabs = [Tab(probe.url) for _ in range(TABS)]
    for tab in tabs:
        tab.read()
    with_tabs = probe.sample()
    assert with_tabs.alive >= before.alive + TABS and with_tabs.descriptors >= before.descriptors + TABS
    for tab in tabs:
        wire(tab).close()
    until(lambda: probe.sample().descriptors < before.descriptors + TABS // 2)
    until(lambda: probe.sample().alive < before.alive + TABS // 2)  # the hub's own came with the first tab


@pytest.mark.parametrize("what", ["rss", "descriptors", "threads", "alive", "objects"])
def test_what_grows_is_seen(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By more than a third from the second quarter of the time to the last."""
    growing = [replace(one, **{what: getattr(one, what) * (1 + n / 40)}) for n, one in enumerate(FLAT)]
    assert judged(FLAT, [], ["fine"]) == 0
    assert judged(growing, [], ["fine"]) == 1
    assert "GREW" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", ["Traceback (most recent call last):", "GET /rooms 500 3ms", "a tab could not be served"]
)
def test_an_error_in_the_log_is_seen(line: str) -> None:
    """However flat the rest is."""
    assert judged(FLAT, [], ["fine", line]) == 1
    assert judged(FLAT, ["a tab was not let in"], ["fine"]) == 1
