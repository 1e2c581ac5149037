"""`app.py` with commits that a test can hold.

A commit to `room-<id>.sqlite` waits while the file `room-<id>.sqlite.held` exists. It writes into that file first.
"""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HELD = ".held"


@contextmanager
def held(instance: Path, room_id: str) -> Iterator[Path]:
    """Hold commits to the room until the block ends. Yield a file that is not empty once a commit waits."""
    marker = instance / "facets" / f"room-{room_id}.sqlite{HELD}"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink()


def main() -> int:
    """Serve. `python -m tests.support.slow_disk` takes the flags of `app.py`."""
    import app
    from overseer.storage.database import Storage

    wait = monkey.get_original("time", "sleep")

    execute = Storage._execute_commit

    def commit(storage: Storage, db: sqlite3.Connection) -> None:
        marker = storage.path.with_name(storage.path.name + HELD)
        while marker.exists():
            with suppress(FileNotFoundError), marker.open("r+") as file:
                file.write("waiting")
            wait(0.01)
        execute(storage, db)

    Storage._execute_commit = commit  # type: ignore[method-assign, assignment]
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
