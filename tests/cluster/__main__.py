"""`python -m tests.cluster [SCENARIO…]`: start a cluster on this machine, do to it what can happen, and check.

Prints each figure as it comes, and all of them at the end. Exits with 1 if something was lost, or a figure breaks its
bound.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import fields, replace

from tests.bench.figure import HEAD
from tests.cluster.cluster import LEASE_SECONDS
from tests.cluster.options import QUICK, Options
from tests.cluster.scenarios import SCENARIOS, run


def main() -> int:
    """Print the figures and the faults. Return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="Do to a cluster what can happen.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="do as little as the test suite does")
    parser.add_argument("--lease", type=float, default=LEASE_SECONDS, metavar="SECONDS", help="of the nodes")
    for field in fields(Options):
        parser.add_argument(f"--{field.name}", type=int, metavar="N")
    given = parser.parse_args()
    if unknown := set(given.scenarios) - SCENARIOS.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    counts = {field.name: value for field in fields(Options) if (value := getattr(given, field.name)) is not None}
    options = replace(QUICK if given.quick else Options(), **counts)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # also then, end all that was started
    began = time.monotonic()
    report = run(given.scenarios or list(SCENARIOS), options, lease_seconds=given.lease)
    print(f"\n{HEAD}", *(figure.row() for figure in report.figures), sep="\n")
    over = [figure for figure in report.figures if figure.over]
    print(f"\n{len(report.faults)} faults, {len(over)} figures over their bound, {time.monotonic() - began:.0f} s")
    for fault in report.faults:
        print(f"- {fault}")
    return 1 if report.faults or over else 0


if __name__ == "__main__":
    sys.exit(main())
