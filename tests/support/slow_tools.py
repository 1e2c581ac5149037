"""The server with tools that hang. They end once the directory SLOW_TOOLS contains the file `stop`."""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()

import os
import sys
import time
from pathlib import Path

from overseer.tools.toolbox import tool


def hang(seconds: float) -> str:
    """Wait for the file `stop`, sleeping between two looks or not; report the start and the end by files."""
    directory = Path(os.environ["SLOW_TOOLS"])
    (directory / "started").touch()
    while not (directory / "stop").exists():
        if seconds:
            time.sleep(seconds)
    (directory / "returned").touch()
    return "returned"


@tool
def sleep_long() -> str:
    """Wait, like a tool that asks another server."""
    return hang(0.1)


@tool
def compute_long() -> str:
    """Compute without a pause."""
    return hang(0)


def main() -> int:
    """Run `python -m tests.support.slow_tools`, with the flags of the server."""
    import app
    from overseer.rooms import overseer

    setattr(overseer, "TOOLS", (sleep_long, compute_long))  # noqa: B010
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
