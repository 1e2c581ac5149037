"""`python -m tests.soak [MINUTES]`: a busy server's memory, descriptors, threads and greenlets, which must stay flat.

Prints a sample every few seconds, and at the end the median of the second quarter of the time beside that of the last.
Ends with 1 if anything grew, or if the log holds an error.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.soak.load_generator import LoadGenerator
from tests.support.model_server import ModelServer
from tests.support.server import DEADLINE, Server

TABS, ROOMS = 50, 20
EVERY = 15.0  # seconds between two samples
SHORTEST = 300.0  # seconds that it takes until what is bounded has come to its bound
ERROR = re.compile(r"Traceback|\b(ERROR|CRITICAL|Exception|failed)\b|could not|went wrong| 500 ")


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server holds at one moment: memory in MB, and counts; `ours` is of each class of Overseer's."""

    at: float
    rss: float
    descriptors: int
    threads: int
    greenlets: int
    alive: int
    objects: int
    ours: dict[str, int]


# What may be more at the end than in the second quarter: a share of that, and a little for tabs that come and go.
BOUNDS: dict[str, tuple[Callable[[Sample], float], float, float]] = {
    "memory, MB": (lambda sample: sample.rss, 0.03, 1.0),
    "descriptors": (lambda sample: sample.descriptors, 0.05, 8),
    "threads": (lambda sample: sample.threads, 0.0, 8),  # as many as commits ever came together, at most COMMIT_THREADS
    "greenlets": (lambda sample: sample.alive, 0.05, 8),
    "objects": (lambda sample: sample.objects, 0.05, 1000),
}
OF_A_KIND = (0.5, 100)  # the same for the objects of one class: some of them are garbage for a while


class Probe:
    """Looks into a server's process, by `/proc` and by the launcher's answer to SIGUSR1."""

    def __init__(self, server: Server, answer: Path) -> None:
        self._server, self._answer = server, answer
        self._began = time.monotonic()
        self.url = server.url

    def sample(self) -> Sample:
        """What there is now."""
        self._answer.unlink(missing_ok=True)
        os.kill(self._server.pid, signal.SIGUSR1)
        until = time.monotonic() + DEADLINE
        while not self._answer.exists():
            if time.monotonic() > until:
                raise AssertionError("the server does not answer SIGUSR1")
            time.sleep(0.01)
        counts = json.loads(self._answer.read_text())
        status = Path(f"/proc/{self._server.pid}/status").read_text()
        found = {key: int(value) for key, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.M)}
        return Sample(
            time.monotonic() - self._began,
            found["VmRSS"] / 1024,
            len(os.listdir(f"/proc/{self._server.pid}/fd")),
            found["Threads"],
            counts["greenlets"],
            counts["alive"],
            counts["objects"],
            counts["ours"],
        )


def main() -> int:
    """Soak, print, judge."""
    options = argparse.ArgumentParser(description="Keep the server busy, and look whether it grows.")
    options.add_argument("minutes", nargs="?", type=float, default=10)
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = options.parse_args()
    print(f"seed {given.seed}; {TABS} tabs, {ROOMS} rooms that answer, {given.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="overseer-soak-") as folder:
        return soak(Path(folder), minutes=given.minutes, seed=given.seed)


def soak(folder: Path, *, minutes: float, seed: int) -> int:
    """Returns 1 if something grew or went wrong."""
    model = ModelServer()
    environment = {"OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "stand-in"}
    answer = folder / "counts"
    program = ("-m", "tests.soak.launcher", str(answer))
    server = Server(folder / "instance", environment=environment, program=program).start()
    load = LoadGenerator(server.url, model, seed=seed)
    probe = Probe(server, answer)
    samples: list[Sample] = []
    try:
        load.begin(tabs=TABS, rooms=ROOMS)
        print("   time       RSS  descriptors  threads  greenlets (alive)  objects", flush=True)
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            time.sleep(max(0.0, min(EVERY, 60 * minutes / 20, until - time.monotonic())))
            samples.append(one := probe.sample())
            print(
                f"{one.at:6.0f} s {one.rss:6.1f} MB {one.descriptors:12} {one.threads:8} {one.greenlets:10}"
                f" {f'({one.alive})':>7} {one.objects:8}",
                flush=True,
            )
    finally:
        load.end()
        code = server.stop()
        model.close()
    print("Done: " + ", ".join(f"{count:,} {what}" for what, count in sorted(load.done.items())))
    return judged(samples, [*load.troubles, *([f"the server left with {code}"] if code else [])], server.log)


def judged(samples: list[Sample], troubles: list[str], log: list[str]) -> int:
    """Print the second quarter beside the last; returns 1 if that is not flat, or anything went wrong."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    bad = [f"trouble: {trouble}" for trouble in troubles]
    bad += [f"in the log: {line.rstrip()}" for line in log if ERROR.search(line)]

    def compare(name: str, figure: Callable[[Sample], float], share: float, more: float, *, tell: bool) -> None:
        first, last = statistics.median(map(figure, early)), statistics.median(map(figure, late))
        bound = first * (1 + share) + more
        if last > bound:
            bad.append(f"{name} grew from {first:,.1f} to {last:,.1f}")
        if tell or last > bound:
            print(
                f"{name:14} {first:10,.1f} → {last:10,.1f}   at most {bound:10,.1f}   {'GREW' if last > bound else ''}"
            )

    for name, (figure, share, more) in BOUNDS.items():
        compare(name, figure, share, more, tell=True)
    for kind in sorted({kind for one in samples for kind in one.ours}):
        compare(f"of {kind}", lambda sample, kind=kind: sample.ours.get(kind, 0), *OF_A_KIND, tell=False)  # type: ignore[misc]
    print(f"{len(log):,} lines in the log")
    if short := samples[-1].at < SHORTEST:
        # Until its caches are full it grows; what went wrong is wrong at any length.
        bad = [one for one in bad if " grew from " not in one]
    flat = (
        f"No error; whether it is flat shows after {SHORTEST / 60:g} minutes at the least."
        if short
        else "Flat, and no error."
    )
    print(*(bad[:40] or [flat]), sep="\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
