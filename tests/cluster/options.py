"""How much each scenario does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """The counts of `make cluster-test`."""

    kills: int = 50
    freezes: int = 5
    races: int = 200
    tabs: int = 100
    rooms: int = 1000
    samples: int = 300  # requests for a latency
    seed: int = 1


QUICK = Options(kills=4, freezes=1, races=12, tabs=10, rooms=20, samples=30)
