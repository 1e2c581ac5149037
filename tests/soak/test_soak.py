"""Tabs that vanish, seen from inside of the server; `make soak MINUTES=10` is the soak itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.soak.__main__ import Probe
from tests.soak.load_generator import wire
from tests.support.server import DEADLINE, Server
from tests.support.tab import Tab

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
