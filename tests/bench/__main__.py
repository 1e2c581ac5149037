"""`python -m tests.bench [GROUP...] [--json FILE] [--once]`: measure the real server and print a table.

Each figure is the median of its repeats. The table shows its bound, and its floor: what the machine alone takes for the
same in the same run. A figure that breaks a bound is marked, and the exit code is 1. `--once` measures everything once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import answers, durable, fanout, idle, imports, messages, overseers, page, rooms, search, start, turn
from tests.bench.figure import HEAD, Figure, once

GROUPS: dict[str, Callable[[], Iterator[Figure]]] = {
    "start": start.figures,
    "turn": turn.figures,
    "fanout": fanout.figures,
    "answers": answers.figures,
    "page": page.figures,
    "rooms": rooms.figures,
    "messages": messages.figures,
    "durable": durable.figures,
    "search": search.figures,
    "import": imports.figures,
    "idle": idle.figures,
    "overseers": overseers.figures,
}
# Measured only if it is named: it takes several minutes to prepare.
ON_REQUEST = {"million": search.million}


def machine() -> str:
    """Return a description of the machine."""
    models = [
        line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {models[0] if models else platform.machine()}, Python {platform.python_version()}"


def main() -> int:
    """Print the table. Return 1 if a figure breaks a bound."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join([*GROUPS, *ON_REQUEST]))
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    parser.add_argument("--once", action="store_true", help="measure everything only once")
    options = parser.parse_args()
    if unknown := set(options.groups) - GROUPS.keys() - ON_REQUEST.keys():
        parser.error(f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    if options.once:
        once()
    at = datetime.now(UTC)
    print(f"{machine()}, {at:%Y-%m-%d}\n\n{HEAD}")
    figures: dict[str, list[Figure]] = {}
    for group in options.groups or GROUPS:
        print(f"— {group}")
        for figure in (GROUPS | ON_REQUEST)[group]():
            figures.setdefault(group, []).append(figure)
            print(figure.row(), flush=True)
    if options.json:
        groups = {group: [figure.record() for figure in found] for group, found in figures.items()}
        record = {"machine": machine(), "at": at.isoformat(timespec="seconds"), "groups": groups}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    over = [figure for found in figures.values() for figure in found if figure.over]
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
