"""What the way through nginx costs, beside the way to the node itself, in one run."""

from __future__ import annotations

import threading
import time

import websocket

from tests.bench.caller import PART, Caller
from tests.bench.figure import percentile
from tests.cluster.client import basic
from tests.cluster.cluster import Cluster, Machine
from tests.cluster.load import PASSWORD, Place, new_place, owner_of, wait_for
from tests.cluster.options import Options
from tests.cluster.report import Report
from tests.support.model_server import ModelServer, end, held, text

HEADERS = {**PART, **basic(PASSWORD)}
TOKEN_SECONDS = 0.02


def latency(cluster: Cluster, options: Options, report: Report, model_server: ModelServer) -> None:
    """Measure a page, a post and the tokens of an answer, direct and through nginx in turn."""
    assert cluster.nginx is not None
    place = new_place(cluster)
    machine = owner_of(cluster, place)
    ports = {"direct": machine.port, "through nginx": cluster.nginx.port}
    pages: dict[str, list[float]] = {way: [] for way in ports}
    posts: dict[str, list[float]] = {way: [] for way in ports}
    for number in range(options.samples):
        for way, port in ports.items():
            with Caller(port) as caller:
                pages[way].append(caller.call("GET", place.path, None, HEADERS).ms)
                if number < options.samples // 3:
                    form = {"text": f"Post {place.name} {number}."}
                    posts[way].append(caller.call("POST", f"{place.path}/messages", form, HEADERS).ms)
    for what, took in (("a page", pages), ("a post", posts)):
        for way, values in took.items():
            for percent in (50, 99):
                floor = percentile(sorted(took["direct"]), percent) if way != "direct" else None
                value = percentile(sorted(values), percent)
                report.figure(f"latency: {what} {way}, p{percent} of {len(values)}", value, "ms", floor=floor)
    tokens(cluster, machine, place, options, report, model_server)


def tokens(
    cluster: Cluster, machine: Machine, place: Place, options: Options, report: Report, model_server: ModelServer
) -> None:
    """Measure from the moment the model server sends a token to the frame in a tab that has it."""
    reply = model_server.will(held())
    tabs = {way: TokenTab(base, place) for way, base in (("direct", machine.url), ("through nginx", cluster.url))}
    with Caller(machine.port) as caller:
        caller.call("POST", f"{place.path}/messages", {"text": "Count."}, HEADERS)
    assert reply.begun.wait(20), "the model server was not asked"
    sent: dict[int, float] = {}
    for number in range(options.samples):
        sent[number] = time.perf_counter()
        reply.say(text(f"token{number}. "))
        time.sleep(TOKEN_SECONDS)
    reply.say(end())
    reply.hang_up()
    last = options.samples - 1
    wait_for(lambda: all(last in tab.seen for tab in tabs.values()), "the last token is in both tabs")
    took = {way: sorted(1000 * (at - sent[n]) for n, at in tab.seen.items()) for way, tab in tabs.items()}
    for way, values in took.items():
        tabs[way].close()
        for percent in (50, 99):
            floor = percentile(took["direct"], percent) if way != "direct" else None
            value = percentile(values, percent)
            report.figure(f"latency: a token {way}, p{percent} of {len(values)}", value, "ms", floor=floor)


class TokenTab:
    """A tab that notes when each token came."""

    def __init__(self, base: str, place: Place) -> None:
        self.seen: dict[int, float] = {}
        url = f"{base.replace('http://', 'ws://')}/o/{place.name}/live?room={place.room}"
        header = [f"{name}: {value}" for name, value in basic(PASSWORD).items()]
        self._socket = websocket.create_connection(url, timeout=20, header=header, skip_utf8_validation=True)
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over = True
        self._socket.shutdown()  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        number = 0
        while not self._over:
            try:
                opcode, data = self._socket.recv_data()
            except (OSError, websocket.WebSocketException):
                return
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return
            at = time.perf_counter()
            while f"token{number}.".encode() in data:
                self.seen[number] = at
                number += 1
