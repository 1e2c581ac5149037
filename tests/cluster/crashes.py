"""Nodes and Litestream are killed and frozen under load."""

from __future__ import annotations

import random
import threading
from collections import Counter

from tests.cluster.client import Response
from tests.cluster.cluster import Cluster, Machine
from tests.cluster.load import Load, Place, clock, new_room, owner_of, post, stored, wait_for
from tests.cluster.options import Options
from tests.cluster.report import Report

BACK_SECONDS = 3.0
KINDS = ("the node", "Litestream", "both")
FENCED = 3


def crashes(cluster: Cluster, options: Options, report: Report) -> None:
    """Kill the node, Litestream or both of a machine that has an Overseer, again and again; each starts again."""
    backs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    rng = random.Random(options.seed)
    with Load(cluster) as load:
        for machine in cluster.machines:
            machine.node.exit_codes.clear()
            machine.supervise()
        for number in range(options.kills):
            kind = KINDS[number % len(KINDS)]
            machine = owner_of(cluster, rng.choice(load.places))
            hit = load.owned_by(machine)
            at = clock()
            kill(machine, kind)
            load.wait_until_all_are_served()
            backs[kind] += load.back(at, hit)
            machine.start()
            machine.litestream.wait_until_ready()
        report.load("crashes", load)
        report.figure("crashes: kills", options.kills)
        for kind, seconds in backs.items():
            report.percentiles(f"crashes: {kind} killed, next post acknowledged", sorted(seconds), 50, 99)
        every = sorted(second for seconds in backs.values() for second in seconds)
        report.percentiles("crashes: next post acknowledged", every, 99, bound=BACK_SECONDS)
        tabs = sorted(outage for tab in load.tabs for outage in tab.outages)
        report.percentiles("crashes: a tab, from its close to its first frame", tabs, 50, 99, bound=BACK_SECONDS)
    for machine in cluster.machines:
        codes = Counter(machine.node.exit_codes)
        report.expect(not set(codes) - {-9}, f"crashes: node {machine.number} ended with {dict(codes)}")


def kill(machine: Machine, kind: str) -> None:
    """Kill one program of a machine, or both."""
    if kind == "both":
        machine.kill()
    else:
        (machine.node if kind == "the node" else machine.litestream).kill()


def frozen_nodes(cluster: Cluster, options: Options, report: Report) -> None:
    """Freeze a node for longer than its lease, while it stores something; then let it go on."""
    backs, ends, in_flight = [], [], Counter[str]()
    rng = random.Random(options.seed)
    with Load(cluster, attempt_seconds=1.0) as load:
        for number in range(options.freezes):
            place = rng.choice(load.places)
            machine = owner_of(cluster, place)
            hit = load.owned_by(machine)
            # A room of its own: the poster's order is not disturbed.
            direct = DirectPosts(machine, Place(place.name, new_room(machine.url, place.name)))
            direct.send(1000 + number)  # no number that the poster uses
            threading.Event().wait(rng.uniform(0, 0.03))
            at = clock()
            machine.node.freeze()
            direct.send(2000 + number)
            load.wait_until_all_are_served(tabs=False)
            backs += load.back(at, hit)
            machine.node.exit_codes.clear()
            at = clock()
            machine.node.thaw()
            code = machine.node.wait_until_ended()
            ends.append(clock() - at)
            report.expect(code == FENCED, f"frozen: node {machine.number} ended with {code}, not with {FENCED}")
            machine.start()
            report.faults_of("frozen", direct.check(cluster, load, in_flight))
            load.wait_until_all_are_served()
        report.load("frozen", load)
    report.percentiles(
        "frozen: next post acknowledged", sorted(backs), 50, 99, bound=cluster.lease_seconds + 2 * BACK_SECONDS
    )
    report.figure("frozen: the node ends after it goes on", ends, "s", bound=2.0)
    for outcome, count in sorted(in_flight.items()):
        report.figure(f"frozen: writes in flight that were {outcome}", count)


class DirectPosts:
    """Posts that are sent to a node itself, each in a thread."""

    def __init__(self, machine: Machine, place: Place) -> None:
        self._machine, self._place = machine, place
        self._responses: dict[int, Response] = {}
        self._threads: list[threading.Thread] = []

    def send(self, number: int) -> None:
        """Send a post without waiting for the response."""

        def run() -> None:
            self._responses[number] = post(self._machine.url, self._place, number, seconds=60)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def check(self, cluster: Cluster, load: Load, outcomes: Counter[str]) -> list[str]:
        """Wait for the responses, and compare them with the history. Return the faults, and count the outcomes."""
        for thread in self._threads:
            thread.join(60)
        found, faults = Counter(stored(cluster.url, self._place)), []
        for number, response in self._responses.items():
            said = "acknowledged" if response.is_success else "refused or without a response"
            outcomes[f"{said}, {'stored' if found[number] else 'not stored'}"] += 1
            if response.is_success and found[number] != 1:
                faults.append(f"LOST: a write in flight was acknowledged and is there {found[number]} times")
            if not found[number] and (self._place.name, number) in load.shown():
                faults.append("SHOWN: a write in flight is in a tab, and not stored")
            load.in_other_rooms.add((self._place.name, number))
            if found[number] > 1:
                faults.append(f"DOUBLED: a write in flight is there {found[number]} times")
        for number in self._responses:  # the same keys, again
            wait_for(
                lambda number=number: post(cluster.url, self._place, number).is_success,  # type: ignore[misc]
                "a write that is sent again is acknowledged",
            )
        again = Counter(stored(cluster.url, self._place))
        if any(again[number] != 1 for number in self._responses):
            faults.append(f"after they were sent again, the writes are there {dict(again)} times")
        return faults
