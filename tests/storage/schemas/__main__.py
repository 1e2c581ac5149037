"""`python -m tests.storage.schemas FILE > tests/storage/schemas/room-N.sql`: dump a file with a new schema version."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing

with closing(sqlite3.connect(sys.argv[1])) as db:
    for pragma in ("application_id", "user_version"):
        print(f"PRAGMA {pragma} = {db.execute(f'PRAGMA {pragma}').fetchone()[0]};")
    print("\n".join(db.iterdump()))
