"""The bucket and Litestream fail: they are cut off, hang, refuse, and claim what is untrue."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

from tests.cluster.bucket_proxy import Mode
from tests.cluster.cluster import Cluster, Machine
from tests.cluster.load import Load, clock, owner_of
from tests.cluster.options import Options
from tests.cluster.report import Report

FENCED = 3
BELOW = 0.5  # of the lease
BEYOND = 1.5


def bucket(cluster: Cluster, options: Options, report: Report) -> None:
    """Cut one node off, freeze the bucket for all, let it answer 503, and move it away."""
    with Load(cluster, attempt_seconds=2.0) as load:
        machine = owner_of(cluster, load.places[0])
        hit = load.owned_by(machine)
        machine.node.exit_codes.clear()
        at = clock()
        machine.link.set("cut")
        load.wait_until_all_are_served()
        report.figure("bucket cut for one node: next post acknowledged", max(load.back(at, hit)), "s", bound=12.0)
        code = machine.node.wait_until_ended()
        report.expect(code == FENCED, f"bucket: the node that was cut off ended with {code}")
        machine.link.set("open")
        machine.start()
        modes: dict[Mode, str] = {"muted": "answers lost", "frozen": "frozen", "unavailable": "503"}
        for mode, what in modes.items():
            for times, which in ((BELOW, "half a lease"), (BEYOND, "1.5 leases")):
                name = f"bucket {what} for all, for {which}"
                report.figure(f"{name}: posts back after its end", outage(cluster, load, mode, times), "s", bound=6.0)
                codes = sorted({code for one in cluster.machines for code in one.node.exit_codes})
                allowed = [] if times == BELOW else [FENCED]
                report.expect(not set(codes) - set(allowed), f"{name}: nodes ended with {codes}")
        before = {poster: len(poster.latencies) for poster in load.posters}
        for one in cluster.machines:
            one.link.set(delay_ms=20)
        for _ in range(10):
            load.wait_until_all_are_served()
        far = sorted(second for poster in load.posters for second in poster.latencies[before[poster] + 1 :])
        for one in cluster.machines:
            one.link.set("open")
        report.percentiles("bucket 20 ms away: a post", far, 50, 99, unit="ms")
        report.load("bucket", load)


def outage(cluster: Cluster, load: Load, mode: Mode, leases: float) -> float:
    """Let the bucket fail for all nodes for some leases. Return how many seconds later all posts are acknowledged.

    A node that ends is started again, as soon as it can be.
    """
    for machine in cluster.machines:
        machine.node.exit_codes.clear()
        machine.link.set(mode)
    threading.Event().wait(leases * cluster.lease_seconds)
    acknowledged = {poster: len(poster.acknowledged) for poster in load.posters}
    at = clock()
    for machine in cluster.machines:
        machine.link.set("open")
    if leases > 1:
        for machine in cluster.machines:
            if machine.node.exit_codes or not machine.node.is_running:
                machine.start()
    load.wait_until_all_are_served()
    for machine in cluster.machines:
        machine.start()
    return max(poster.acknowledged[acknowledged[poster]][1] - at for poster in load.posters)


def litestream(cluster: Cluster, options: Options, report: Report) -> None:
    """End and freeze the Litestream of a machine, and put daemons in its place that claim what they do not do."""
    for machine in cluster.machines:
        machine.node.exit_codes.clear()
    with Load(cluster, attempt_seconds=10.0) as load:
        for what in ("killed", "hung"):
            machine = owner_of(cluster, load.places[0])
            hit = load.owned_by(machine)
            at = clock()
            if what == "killed":
                machine.litestream.kill()
            else:
                machine.litestream.freeze()
            load.wait_until_all_are_served()
            report.figure(f"Litestream {what}: next post acknowledged", max(load.back(at, hit)), "s", bound=10.0)
            machine.litestream.thaw()
            machine.start()
            load.wait_until_all_are_served()
        for notices in (True, False):
            machine = owner_of(cluster, load.places[0])
            hit = load.owned_by(machine)
            machine.litestream.stop()
            before = {poster: len(poster.acknowledged) for poster in load.posters}
            with pretending(machine, notices=notices) as asked:
                threading.Event().wait(3.0)
            moved = [place for place in hit if cluster.owner(place.name) is not machine]
            acknowledged = sum(
                len(poster.acknowledged) - before[poster] - 1
                for poster in load.posters
                if poster.place in hit and poster.place not in moved and len(poster.acknowledged) > before[poster]
            )
            what = "counts and does not copy" if notices else "takes no notice"
            report.figure(f"Litestream {what}: posts acknowledged by its node", acknowledged, bound=0)
            report.expect(asked() > 0, f"Litestream {what}: it was never asked")
            at = clock()
            machine.litestream.start()
            load.wait_until_all_are_served()
            report.figure(f"Litestream {what}: posts back after its end", max(load.back(at, hit)), "s", bound=6.0)
        report.load("litestream", load)
    for machine in cluster.machines:
        codes = machine.node.exit_codes
        report.expect(not codes, f"litestream: node {machine.number} ended with {codes}")


@contextmanager
def pretending(machine: Machine, *, notices: bool) -> Iterator[Callable[[], int]]:
    """Answer on the control socket of a machine as Litestream does, and copy nothing.

    With `notices`, each `/sync` returns a higher number of a transaction than the one before. Yields a function that
    returns how often `/sync` was asked.
    """
    lock, count = threading.Lock(), 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._read()
            self._answer({"status": "ok"})

        def do_POST(self) -> None:
            nonlocal count
            self._read()
            if self.path == "/sync":
                with lock:
                    count += 1
                transaction = 1000 + count if notices else 1000
                self._answer({"status": "synced", "txid": transaction, "replicated_txid": transaction})
            else:
                self._answer({"status": "ok"})

        def _read(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _answer(self, value: dict[str, object]) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

        def address_string(self) -> str:
            return "node"

    path: Path = machine.daemon.socket
    path.unlink(missing_ok=True)
    with ThreadingUnixStreamServer(str(path), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield lambda: count
        finally:
            server.shutdown()
            thread.join()
