"""`python -m tests.crash [N] [--seed S]`: so many rounds of load, kill and look; ends with 1 if anything is wrong."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.crash.harness import run


def main() -> int:
    """Print how far it is, at the end what was checked, or what is wrong and where the files are."""
    options = argparse.ArgumentParser(description="Kill the server under load, and look whether anything is lost.")
    options.add_argument("rounds", nargs="?", type=int, default=200)
    options.add_argument("--seed", type=int, default=random.randrange(10**6), help="decides what clients do and when")
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="overseer-crash-"))

    def tell(line: str) -> None:
        done, slash, _ = line.partition("/")
        if not slash or int(done) % 10 == 0:
            print(line, flush=True)

    faults = run(directory / "instance", rounds=given.rounds, seed=given.seed, tell=tell)
    if faults:
        print(*faults, f"The files are in {directory}.", sep="\n")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
