"""A few rounds of the harness; `make crash N=200` runs many."""

from __future__ import annotations

import random
from pathlib import Path

from tests.crash.harness import run

ROUNDS = 5


def test_nothing_acknowledged_is_lost_when_the_server_is_killed_under_load(tmp_path: Path) -> None:
    """Whatever an answer or a tab has shown of rooms and questions is there after the next start, once and whole."""
    faults = run(tmp_path / "instance", rounds=ROUNDS, seed=random.randrange(10**6), tell=lambda line: None)
    assert not faults, "\n".join(faults)
