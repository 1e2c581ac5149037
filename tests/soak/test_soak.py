"""Tabs that vanish leave nothing behind in the server; `make soak MINUTES=10` runs the whole load."""

from __future__ import annotations

from pathlib import Path

from tests.soak.__main__ import Probe
from tests.soak.load_generator import tcp_socket
from tests.support.server import Server
from tests.support.tab import Tab
from tests.support.waiting import until

TABS = 20


def test_tabs_that_vanish_leave_no_greenlet_and_no_descriptor(tmp_path: Path) -> None:
    altered = {"counts": {"file": str(tmp_path / "counts")}}
    server = Server(tmp_path / "instance", environment={"OLLAMA_HOST": "127.0.0.1:9"}, altered=altered).start()
    try:
        probe = Probe(server, tmp_path / "counts")
        before = probe.sample()
        tabs = [Tab(server.url) for _ in range(TABS)]
        for tab in tabs:
            tab.read()
        connected = probe.sample()
        assert connected.greenlets >= before.greenlets + TABS
        assert connected.descriptors >= before.descriptors + TABS
        for tab in tabs:
            tcp_socket(tab).close()  # without a close frame
        until(lambda: probe.sample().descriptors < before.descriptors + TABS // 2)
        until(lambda: probe.sample().greenlets < before.greenlets + TABS // 2)  # the hub keeps a few of its own
    finally:
        assert server.stop() == 0
