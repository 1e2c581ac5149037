"""`python -m tests.soak [MINUTES]`: load a server and compare its resources in the second and the last quarter.

Exits with 1 if one of them grew or the log has an error.
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
from tests.support.server import Server
from tests.support.waiting import until

TABS, ROOMS = 50, 20
SAMPLE_SECONDS = 15.0
MIN_SECONDS = 300.0  # until every bounded cache is full
ERROR = re.compile(r"Traceback|\b(ERROR|CRITICAL|Exception|failed)\b|could not|went wrong| 500 ")


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server uses: memory in MB, and counts. `types` are the objects of Overseer's classes."""

    at: float
    rss: float
    descriptors: int
    threads: int
    greenlets: int
    objects: int
    types: dict[str, int]


# Allowed growth: a share of the second quarter's median, and an absolute number for tabs that come and go.
BOUNDS: dict[str, tuple[Callable[[Sample], float], float, float]] = {
    "memory, MB": (lambda sample: sample.rss, 0.03, 1.0),
    "descriptors": (lambda sample: sample.descriptors, 0.05, 8),
    "threads": (lambda sample: sample.threads, 0.0, 8),  # at most COMMIT_THREADS, as many as were needed at once
    "greenlets": (lambda sample: sample.greenlets, 0.05, 8),
    "objects": (lambda sample: sample.objects, 0.05, 1000),
}
TYPE_BOUND = (0.5, 100)  # some objects of a class are garbage that is not collected yet


class Probe:
    """Samples a server process through `/proc` and through its reply to SIGUSR1."""

    def __init__(self, server: Server, counts: Path) -> None:
        self._server, self._counts = server, counts
        self._began = time.monotonic()

    def sample(self) -> Sample:
        self._counts.unlink(missing_ok=True)
        os.kill(self._server.pid, signal.SIGUSR1)
        until(self._counts.exists)
        counts = json.loads(self._counts.read_text())
        process = Path(f"/proc/{self._server.pid}")
        status = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", (process / "status").read_text(), re.M))
        return Sample(
            at=time.monotonic() - self._began,
            rss=int(status["VmRSS"]) / 1024,
            descriptors=len(os.listdir(process / "fd")),
            threads=int(status["Threads"]),
            **counts,
        )


def main() -> int:
    options = argparse.ArgumentParser(description="Keep the server busy and check that it does not grow.")
    options.add_argument("minutes", nargs="?", type=float, default=10)
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = options.parse_args()
    print(f"seed {given.seed}; {TABS} tabs, {ROOMS} rooms, {given.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="overseer-soak-") as folder:
        return soak(Path(folder), minutes=given.minutes, seed=given.seed)


def soak(folder: Path, *, minutes: float, seed: int) -> int:
    """Run the load and print the samples. Return 1 if something grew or failed."""
    model = ModelServer()
    environment = {"OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "stand-in"}
    altered = {"counts": {"file": str(folder / "counts")}}
    server = Server(folder / "instance", environment=environment, altered=altered).start()
    load = LoadGenerator(server.url, model, seed=seed)
    probe = Probe(server, folder / "counts")
    samples: list[Sample] = []
    try:
        load.begin(tabs=TABS, rooms=ROOMS)
        print("   time       RSS  descriptors  threads  greenlets  objects", flush=True)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            time.sleep(max(0.0, min(SAMPLE_SECONDS, 60 * minutes / 20, end - time.monotonic())))
            samples.append(one := probe.sample())
            figures = f"{one.descriptors:12} {one.threads:8} {one.greenlets:10} {one.objects:8}"
            print(f"{one.at:6.0f} s {one.rss:6.1f} MB {figures}", flush=True)
    finally:
        load.end()
        code = server.stop()
        model.close()
    print("Done: " + ", ".join(f"{count:,} {what}" for what, count in sorted(load.done.items())))
    failures = [*load.failures, *([f"the server exited with {code}"] if code else [])]
    failures += [f"in the log: {line.rstrip()}" for line in server.log if ERROR.search(line)]
    print(f"{len(server.log):,} lines in the log")
    growth = find_growth(samples)
    if samples[-1].at < MIN_SECONDS:
        print(f"Growth is only meaningful after {MIN_SECONDS / 60:g} minutes.")
        growth = []
    print(*([*failures, *growth][:40] or ["Flat, and no error."]), sep="\n")
    return int(bool(failures or growth))


def find_growth(samples: list[Sample]) -> list[str]:
    """Print the medians of the second and the last quarter. Return a sentence for each one that exceeds its bound."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    bounds = dict(BOUNDS)
    for kind in {kind for one in samples for kind in one.types}:
        bounds[f"of {kind}"] = (lambda sample, kind=kind: sample.types.get(kind, 0), *TYPE_BOUND)  # type: ignore[misc]
    found = []
    for name, (figure, share, more) in bounds.items():
        first, last = statistics.median(map(figure, early)), statistics.median(map(figure, late))
        bound = first * (1 + share) + more
        if last > bound:
            found.append(f"{name} grew from {first:,.1f} to {last:,.1f}")
        if name in BOUNDS:
            print(f"{name:14} {first:10,.1f} → {last:10,.1f}   at most {bound:10,.1f}")
    return found


if __name__ == "__main__":
    sys.exit(main())
