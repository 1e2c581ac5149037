"""`python -m tests.crash [N] [--seed S]`: run N rounds of load, kill and check. Exits with 1 on a fault."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.crash.harness import run


def main() -> int:
    """Print the progress, and either a summary or the faults and where the files are."""
    options = argparse.ArgumentParser(description="Kill the server under load and check that nothing is lost.")
    options.add_argument("rounds", nargs="?", type=int, default=200)
    options.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the clients' random choices")
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="overseer-crash-"))

    def progress(line: str) -> None:
        done, slash, _ = line.partition("/")
        if not slash or int(done) % 10 == 0:
            print(line, flush=True)

    faults = run(directory / "instance", rounds=given.rounds, seed=given.seed, progress=progress)
    if faults:
        print(*faults, f"The files are in {directory}.", sep="\n")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
