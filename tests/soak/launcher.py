"""The server, which on SIGUSR1 also writes into the file named first how many greenlets there are in it.

What it keeps up to a limit, it keeps up to a smaller one, so that it is full within the first minutes.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections import Counter  # noqa: E402
from pathlib import Path  # noqa: E402

from greenlet import greenlet  # type: ignore[import-untyped]  # noqa: E402

import overseer  # noqa: E402
from overseer.live import hub  # noqa: E402


def count(path: Path) -> None:
    """Write what is in memory; whoever waits sees it whole or not at all."""
    things = gc.get_objects()
    greenlets = [thing for thing in things if isinstance(thing, greenlet)]
    found = {
        "greenlets": len(greenlets),
        "alive": sum(not one.dead for one in greenlets),
        "objects": len(things),
        "ours": Counter(kind.__name__ for kind in map(type, things) if str(kind.__module__).startswith("overseer")),
    }
    half = path.with_name(path.name + ".half")
    half.write_text(json.dumps(found))
    os.replace(half, path)


def main() -> int:
    """Serve, as `app.py` does."""
    from gevent import get_hub, signal_handler

    path = Path(sys.argv.pop(1))
    get_hub()
    overseer.FRAGMENT_CACHE_BYTES = 1_000_000
    hub.ROOMS_REMEMBERED = 50
    signal_handler(signal.SIGUSR1, count, path)
    from app import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
