"""The server as it is, on a disk where a commit to a room takes as long as the test wants.

A commit to `room-<id>.sqlite` waits while there is a file `room-<id>.sqlite.held` beside it, which is empty until a
commit waits for it.
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
    """Commits to the room wait until the block ends; yields a file that is not empty once a commit waits."""
    marker = instance / "facets" / f"room-{room_id}.sqlite{HELD}"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink()


def main() -> int:
    """`python -m tests.support.slow_disk` and the server's own flags."""
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

    Storage._execute_commit = commit  # type: ignore[method-assign]
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
