"""The server, which on SIGUSR1 also writes the numbers of its greenlets and objects to the file named first.

Its caches are smaller, so that they are full within the first minutes.
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

from overseer import application  # noqa: E402
from overseer.live import hub  # noqa: E402


def count(path: Path) -> None:
    """Write the counts, and then give the file its name, so that it is never read half-written."""
    objects = gc.get_objects()
    greenlets = [one for one in objects if isinstance(one, greenlet)]
    types = Counter(kind.__name__ for kind in map(type, objects) if str(kind.__module__).startswith("overseer"))
    counts = {"greenlets": sum(not one.dead for one in greenlets), "objects": len(objects), "types": types}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(counts))
    os.replace(partial, path)


def main() -> int:
    """Serve as `app.py` does."""
    from gevent import get_hub, signal_handler

    path = Path(sys.argv.pop(1))
    get_hub()
    application.FRAGMENT_CACHE_BYTES = 1_000_000
    hub.ROOMS_REMEMBERED = 50
    signal_handler(signal.SIGUSR1, count, path)
    from app import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
