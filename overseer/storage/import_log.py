"""The imports and their reports, which are kept in the registry."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from overseer.domain.errors import NoSuchImport
from overseer.domain.records import Import, Imported, ImportState
from overseer.storage.database import Storage
from overseer.storage.room_rows import now

KEPT = 50  # imports, of which the reports are kept
SELECT = """
    SELECT imports.*, (
      SELECT json_group_object(outcome, count) FROM (
        SELECT outcome, count(*) AS count FROM imported WHERE import = imports.id GROUP BY outcome)) AS outcomes
    FROM imports"""


class ImportLog:
    """The tables `imports` and `imported` of the registry. Every command is one transaction."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def add(self, import_id: str, files: Sequence[str], *, size: int) -> None:
        """Insert an import that waits, and delete the oldest reports."""
        with self._storage.write() as db:
            db.execute(
                "INSERT INTO imports (id, state, files, created_at, size) VALUES (?, 'waiting', ?, ?, ?)",
                (import_id, json.dumps(list(files)), now(), size),
            )
            old = db.execute(
                "SELECT id FROM imports ORDER BY created_at DESC, id LIMIT -1 OFFSET ?", (KEPT,)
            ).fetchall()
            for row in old:
                db.execute("DELETE FROM imported WHERE import = ?", (row["id"],))
                db.execute("DELETE FROM imports WHERE id = ?", (row["id"],))

    def set_state(self, import_id: str, state: ImportState, reason: str = "") -> None:
        """Store the state. An import that has ended keeps its state."""
        ended_at = None if state in ("waiting", "running") else now()
        with self._storage.write() as db:
            db.execute(
                "UPDATE imports SET state = ?, reason = ?, ended_at = ? WHERE id = ? AND ended_at IS NULL",
                (state, reason, ended_at, import_id),
            )

    def report(self, import_id: str, lines: Sequence[Imported], *, read: int, size: int) -> None:
        """Store lines of the report, and how far the files are read.

        A line that says that a conversation was imported stays: after a crash, the same one is found to be there.
        """
        with self._storage.write() as db:
            db.executemany(
                "INSERT INTO imported (import, number, outcome, name, messages, room, place, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET outcome = excluded.outcome,"
                " name = excluded.name, messages = excluded.messages, room = excluded.room, place = excluded.place,"
                " reason = excluded.reason WHERE outcome != 'imported' OR excluded.outcome = 'failed'",
                [
                    (import_id, one.number, one.outcome, one.name, one.messages, one.room, one.place, one.reason)
                    for one in lines
                ],
            )
            db.execute("UPDATE imports SET read = ?, size = ? WHERE id = ?", (read, size, import_id))

    # Queries

    def find(self, import_id: str) -> Import:
        """Return an import. Raises NoSuchImport."""
        with self._storage.read() as db:
            row = db.execute(f"{SELECT} WHERE id = ?", (import_id,)).fetchone()
        if row is None:
            raise NoSuchImport("There is no such import, or its report is not kept any more.")
        return _import(row)

    def all(self) -> list[Import]:
        """Return the imports, the newest first."""
        with self._storage.read() as db:
            return [_import(row) for row in db.execute(f"{SELECT} ORDER BY created_at DESC, id")]

    def lines(self, import_id: str, *, after: int = 0, limit: int = -1) -> list[Imported]:
        """Return the lines of a report after line `after`, at most `limit`; -1 means all."""
        with self._storage.read() as db:
            found = db.execute(
                "SELECT * FROM imported WHERE import = ? AND number > ? ORDER BY number LIMIT ?",
                (import_id, after, limit),
            )
            return [
                Imported(
                    row["number"],
                    row["outcome"],
                    row["name"],
                    row["messages"],
                    row["room"],
                    row["place"],
                    row["reason"],
                )
                for row in found
            ]

    def last_line(self, import_id: str) -> int:
        """Return the number of the last line of a report; 0 if there is none."""
        with self._storage.read() as db:
            row = db.execute("SELECT max(number) AS last FROM imported WHERE import = ?", (import_id,)).fetchone()
            return row["last"] or 0

    def rooms(self, import_id: str) -> list[str]:
        """Return the ids of the rooms that an import made or changed."""
        with self._storage.read() as db:
            found = db.execute("SELECT DISTINCT room FROM imported WHERE import = ? AND room != ''", (import_id,))
            return [row["room"] for row in found]


def _import(row: sqlite3.Row) -> Import:
    return Import(
        row["id"],
        row["state"],
        tuple(json.loads(row["files"])),
        row["created_at"],
        row["ended_at"],
        row["size"],
        row["read"],
        row["reason"],
        json.loads(row["outcomes"]),
    )
