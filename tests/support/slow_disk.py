"""The server as it is, on a disk that takes half a second for each commit that waits for it."""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()

import sys
from collections.abc import Callable

SECONDS = 0.5


def main() -> int:
    """`python -m tests.support.slow_disk` and the server's own flags."""
    import app
    from overseer import sqlite

    aside, wait = app.aside, monkey.get_original("time", "sleep")

    def slowly(work: Callable[[], object]) -> object:
        def waiting() -> object:
            wait(SECONDS)
            return work()

        return aside(waiting)

    sqlite.SLOW = -1.0  # every disk is slow
    app.aside = slowly
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
