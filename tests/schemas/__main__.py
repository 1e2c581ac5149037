"""`python -m tests.schemas FILE > tests/schemas/room-N.sql`: a file as SQL. Do it before a new migration."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing

with closing(sqlite3.connect(sys.argv[1])) as db:
    for pragma in ("application_id", "user_version"):
        print(f"PRAGMA {pragma} = {db.execute(f'PRAGMA {pragma}').fetchone()[0]};")
    print("\n".join(db.iterdump()))
