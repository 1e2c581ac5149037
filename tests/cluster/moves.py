"""Overseers move: nodes are drained, added and removed, and large Overseers are taken over."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.cluster.client import Response, basic, call, call_until_answered
from tests.cluster.cluster import Cluster, Machine
from tests.cluster.load import PASSWORD, Load, Place, clock, new_place, new_room, owner_of, post, stored, wait_for
from tests.cluster.options import Options
from tests.cluster.report import Report

MOVED_SECONDS = 2.0
TAKEOVER_SECONDS = 3.0
RESTART = 1012
OVERSEERS = 5
UNKNOWN = "/o/never-made/rooms"


def drain(cluster: Cluster, options: Options, report: Report) -> None:
    """Drain a node that has all Overseers while many tabs are open."""
    machine = cluster.machines[0]
    with Load(cluster, overseers=OVERSEERS, tabs=options.tabs // OVERSEERS, at=machine) as load:
        for tab in load.tabs:
            tab.outages.clear()
            tab.close_codes.clear()
        machine.node.exit_codes.clear()
        run_command(machine, "drain", report)
        wait_for(lambda: not load.owned_by(machine), "the node has given all up")
        wait_for(lambda: all(tab.is_in_step and tab.outages for tab in load.tabs), "the tabs are back")
        load.wait_until_all_are_served()
        outages = sorted(outage for tab in load.tabs for outage in tab.outages)
        codes = {code for tab in load.tabs for code in tab.close_codes}
        report.expect(codes == {RESTART}, f"drain: tabs were closed with {sorted(codes)}")
        report.percentiles("drain: a tab, from its close to its first frame", outages, 50, 100, bound=MOVED_SECONDS)
        report.figure("drain: closes for each tab", len(outages) / len(load.tabs), bound=1)
        report.expect(machine.is_healthy(), "drain: the node does not respond any more")
        response = call(machine.url, "GET", f"/o/{load.places[0].name}/rooms", headers=basic(PASSWORD))
        report.expect(response.status == 421, f"drain: the drained node answers {response.status}, not 421")
        code = machine.node.stop()
        report.expect(code == 0, f"drain: the node ended with {code}")
        machine.start()
        # The others end in order too, without a drain before.
        other = owner_of(cluster, load.places[0])
        for tab in load.tabs:
            tab.close_codes.clear()
        at, hit = clock(), load.owned_by(other)
        code = other.node.stop()
        report.expect(code == 0, f"SIGTERM: the node ended with {code}")
        load.wait_until_all_are_served()
        codes = {code for tab in load.tabs for code in tab.close_codes}
        report.expect(codes <= {RESTART}, f"SIGTERM: tabs were closed with {sorted(codes)}")
        report.figure("SIGTERM: next post acknowledged", max(load.back(at, hit)), "s", bound=TAKEOVER_SECONDS)
        other.start()
        report.load("drain", load)


def run_command(machine: Machine, name: str, report: Report) -> None:
    """Run a command of `overseer` with the settings of a node, which must succeed."""
    command = machine.command(name)
    command.launch()
    code = command.wait_until_ended()
    report.expect(code == 0, f"`overseer {name}` ended with {code}: {command.output[-300:]}")


class NeverMade:
    """Asks for an Overseer that was never made, again and again, during a `with` block."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.statuses: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> NeverMade:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self.statuses.append(call(self._base, "GET", UNKNOWN, headers=basic(PASSWORD)).status)


def rehash(cluster: Cluster, options: Options, report: Report) -> None:
    """Add a node to nginx and remove one: no Overseer appears empty, and what was never made stays 404."""
    assert cluster.nginx is not None
    first, *others = cluster.machines
    with NeverMade(cluster.url) as never, Load(cluster) as load:
        cluster.spare.start()
        cluster.nginx.reload([machine.address for machine in (first, *others, cluster.spare)])
        load.wait_until_all_are_served()
        at, hit = clock(), load.owned_by(first)
        run_command(first, "drain", report)
        cluster.nginx.reload([machine.address for machine in (*others, cluster.spare)])
        code = first.node.stop()
        report.expect(code == 0, f"rehash: the node that was removed ended with {code}")
        load.wait_until_all_are_served()
        if hit:
            report.figure("rehash: next post after a node was removed", max(load.back(at, hit)), "s")
        first.start()
        cluster.nginx.reload([machine.address for machine in cluster.machines])
        cluster.spare.stop()
        load.wait_until_all_are_served()
        report.load("rehash", load)
    wrong = [status for status in never.statuses if status != 404]
    report.figure("rehash: requests for what was never made", len(never.statuses))
    report.figure("rehash: of these, not 404", len(wrong), bound=0)
    if wrong:
        print(f"rehash: {sorted(set(wrong))}")


def takeover(cluster: Cluster, options: Options, report: Report) -> None:
    """Kill the node of an Overseer with many rooms, and open it on another one."""
    place = new_place(cluster)
    machine = owner_of(cluster, place)
    at = clock()
    with ThreadPoolExecutor(4) as pool:
        rooms = list(pool.map(lambda _: new_room(machine.url, place.name), range(options.rooms - 1)))
    report.figure(f"takeover: create {options.rooms} rooms, each", 1000 * (clock() - at) / options.rooms, "ms")
    last = Place(place.name, rooms[-1])
    assert post(cluster.url, last, 1).is_success
    took, first = [], []
    for _ in range(3):
        machine = owner_of(cluster, place)
        machine.node.kill()
        at = clock()
        response = call_until_answered(cluster.url, "GET", f"/o/{place.name}/rooms", headers=basic(PASSWORD))
        took.append(clock() - at)
        report.expect(response.status == 200, f"takeover: {response.status}")
        at = clock()
        response = call_until_answered(cluster.url, "GET", last.path, headers=basic(PASSWORD))
        first.append(clock() - at)
        report.expect(response.status == 200, f"takeover: a room: {response.status}")
        report.expect(stored(cluster.url, last) == [1], "takeover: the room is empty")
        machine.start()
    report.figure(f"takeover of {options.rooms} rooms: the first page", took, "s", bound=TAKEOVER_SECONDS)
    report.figure("takeover: a room, opened after that", first, "s", bound=TAKEOVER_SECONDS)


def log_ins(cluster: Cluster, options: Options, report: Report) -> None:
    """Log in, and move the Overseer: the cookie goes on being valid. After a log-out, it is not."""
    place = new_place(cluster)
    cookie = log_in(cluster.url, place)
    ended = log_in(cluster.url, place)
    out = call(cluster.url, "POST", f"/o/{place.name}/logout", {}, ended)
    report.expect(out.status in (200, 204, 303), f"log-ins: the log-out was answered with {out.status}")
    for how in ("SIGTERM", "kill -9", "drain"):
        machine = owner_of(cluster, place)
        if how == "SIGTERM":
            machine.node.stop()
        elif how == "kill -9":
            machine.node.kill()
        else:
            run_command(machine, "drain", report)
            wait_for(lambda machine=machine: cluster.owner(place.name) is not machine, "drained")  # type: ignore[misc]
        kept = page(cluster.url, place, cookie)
        report.expect(kept.status == 200, f"log-ins: after {how}, the log-in is answered with {kept.status}")
        report.expect(owner_of(cluster, place) is not machine, f"log-ins: {how} did not move the Overseer")
        gone = page(cluster.url, place, ended)
        report.expect(gone.status == 401, f"log-ins: after {how}, a log-in that was ended got {gone.status}")
        machine.node.stop()
        machine.start()
    report.figure("log-ins: moves that they survived", 3)


def log_in(base: str, place: Place) -> dict[str, str]:
    """Log in to an Overseer as the form does. Return the header with the cookie."""
    response = call_until_answered(base, "POST", f"/o/{place.name}/login", {"password": PASSWORD})
    assert response.status in (200, 204, 303), f"the log-in was answered with {response.status}"
    return {"Cookie": response.headers["set-cookie"].partition(";")[0]}


def page(base: str, place: Place, headers: dict[str, str]) -> Response:
    """Get the page of a room."""
    return call_until_answered(base, "GET", place.path, headers=headers)
