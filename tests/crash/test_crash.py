"""Two rounds of the crash harness; `make crash N=200` runs many."""

from __future__ import annotations

import random
from pathlib import Path

from tests.crash.harness import run
from tests.support.server_pool import ServerPool

ROUNDS = 2


def test_crash_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path, server_pool: ServerPool) -> None:
    """What a response or a push has shown of rooms and questions exists after the next start, exactly once."""
    faults = run(tmp_path / "instance", rounds=ROUNDS, seed=random.randrange(10**6), server_pool=server_pool)
    assert not faults, "\n".join(faults)
