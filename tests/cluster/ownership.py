"""Nodes race for Overseers, and a bucket that would let two of them win is refused."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import requests

from tests.cluster.client import Response, basic, call
from tests.cluster.cluster import SERVER_PASSWORD, Cluster, Machine
from tests.cluster.load import PASSWORD, new_place, owner_of, post, stored, wait_for
from tests.cluster.options import Options
from tests.cluster.report import Report

NAMES = 10  # that are raced for at once
REQUESTS_EACH = 2  # of each name, to each node
SETTLED = (200, 421)


def races(cluster: Cluster, options: Options, report: Report) -> None:
    """Let two nodes race for what a third had that was killed, and all nodes for new names."""
    rng = random.Random(options.seed)
    places = [new_place(cluster) for _ in range(NAMES)]
    for place in places:
        assert post(cluster.url, place, 1).is_success
    raced, outcomes = 0, Counter[str]()
    while raced < options.races // 2:
        victim = owner_of(cluster, rng.choice(places))
        others = [machine for machine in cluster.machines if machine is not victim]
        names = [place.name for place in places if cluster.owner(place.name) is victim]
        before = {name: epoch(cluster, name) for name in names}
        victim.node.kill()
        race(cluster, others, names, before, outcomes, report, gone=victim.address)
        raced += len(names)
        victim.start()
        for place in places:
            report.expect(stored(cluster.url, place) == [1], f"races: {place.name} is another one after a race")
    made = 0
    while made < options.races // 2:
        names = [f"race-{uuid4().hex[:8]}" for _ in range(NAMES)]
        with ThreadPoolExecutor(NAMES * len(cluster.machines)) as pool:
            tries = [(machine, name) for name in names for machine in cluster.machines]
            statuses = Counter(pool.map(lambda one: make(*one), tries))
        report.expect(not set(statuses) - {201, 421}, f"races: PUT at all nodes at once: {dict(statuses)}")
        race(cluster, cluster.machines, names, dict.fromkeys(names, 0), outcomes, report)
        made += len(names)
    report.figure("races: names that two nodes raced for after a kill", raced)
    report.figure("races: new names that all nodes raced for", made)
    for outcome, count in sorted(outcomes.items()):
        report.figure(f"races: {outcome}", count, bound=None if outcome == "one winner, one epoch" else 0)


def race(
    cluster: Cluster,
    machines: list[Machine],
    names: list[str],
    before: dict[str, int],
    outcomes: Counter[str],
    report: Report,
    *,
    gone: str = "",
) -> None:
    """Ask several nodes for the same names at the same time, until each has said yes or who has it: not the one that
    is `gone`, which they remember for a moment."""
    tries = [(machine, name) for name in names for machine in machines for _ in range(REQUESTS_EACH)]
    with ThreadPoolExecutor(len(tries) or 1) as pool:
        responses = list(pool.map(lambda one: ask(*one, gone=gone), tries))
    for name in names:
        winners = {
            machine.address
            for (machine, asked), response in zip(tries, responses, strict=True)
            if asked == name and response.status == 200
        }
        said = {
            response.headers.get("overseer-owner", "")
            for (_, asked), response in zip(tries, responses, strict=True)
            if asked == name and response.status == 421
        }
        owner = cluster.owner(name)
        if len(winners) == 1 and owner and winners == {owner.address} and epoch(cluster, name) == before[name] + 1:
            outcomes["one winner, one epoch"] += 1
        else:
            outcomes["another outcome"] += 1
            report.fault(
                f"races: {name}: served by {sorted(winners)}, owner {owner and owner.address}, said to be "
                f"{sorted(said)}, epoch {before[name]} → {epoch(cluster, name)}"
            )


def ask(machine: Machine, name: str, *, gone: str) -> Response:
    """Ask a node for an Overseer until it serves it or says who has it."""
    response = Response(0, {}, "")

    def is_settled() -> bool:
        nonlocal response
        response = call(machine.url, "GET", f"/o/{name}/rooms", headers=basic(PASSWORD))
        return response.status in SETTLED and not (gone and response.headers.get("overseer-owner") == gone)

    wait_for(is_settled, f"node {machine.number} says who has {name}")
    return response


def make(machine: Machine, name: str) -> int:
    """Make an Overseer at a node. Return the status."""
    url = f"{machine.url}/o/{name}"
    return requests.put(url, data={"password": PASSWORD}, auth=("", SERVER_PASSWORD), timeout=30).status_code


def epoch(cluster: Cluster, name: str) -> int:
    """Return the epoch of an Overseer in the bucket."""
    return int(str(cluster.record(name).get("epoch", 0)))


def refusal(cluster: Cluster, options: Options, report: Report) -> None:
    """Start a node, and check the bucket, where the bucket ignores conditions."""
    machine = cluster.spare
    checks = {"keeps": 0, "ignores": 1}
    for what, expected in checks.items():
        machine.link.set(ignores_conditions=what == "ignores")
        check = machine.command("check-bucket")
        check.launch()
        code = check.wait_until_ended()
        sentence = check.output.strip().rpartition("\n")[2]
        print(f"check-bucket, a bucket that {what} conditions: {code}, {sentence}")
        report.expect(code == expected, f"check-bucket ended with {code} where the bucket {what} conditions")
    machine.node.launch()
    code = machine.node.wait_until_ended()
    print(f"a node: {code}, {machine.node.output.strip()}")
    report.expect(code == 1, f"a node ended with {code} where the bucket ignores conditions")
    report.expect("conditions" in machine.node.output, "the node does not say why it does not start")
    machine.link.set("cut")
    machine.node.launch()
    code = machine.node.wait_until_ended()
    report.expect(code == 1, f"a node ended with {code} where the bucket cannot be reached")
    machine.link.set("open")
    report.figure("refusal: buckets that were refused", 3)
    machine.node.exit_codes.clear()
