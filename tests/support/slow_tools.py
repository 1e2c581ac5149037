"""The server as it is, with tools that hang; SLOW_TOOLS is a directory where the file `stop` ends them."""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()

import os
import sys
import time
from pathlib import Path

from overseer.tools.registry import tool


def hang(moment: float) -> str:
    directory = Path(os.environ["SLOW_TOOLS"])
    while not (directory / "stop").exists():
        if moment:
            time.sleep(moment)
    (directory / "returned").touch()
    return "returned"


@tool
def sleep_long() -> str:
    """Wait, as a tool does that asks another server."""
    return hang(0.1)


@tool
def compute_long() -> str:
    """Compute, and let nothing else run."""
    return hang(0)


def main() -> int:
    """`python -m tests.support.slow_tools` and the server's own flags."""
    import app
    from overseer.rooms import overseer

    overseer.TOOLS = (sleep_long, compute_long)  # type: ignore[assignment]
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
