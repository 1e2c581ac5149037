"""The registry: `overseer.sqlite` with a summary of each room."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import fields

from overseer.domain.errors import NoSuchRoom
from overseer.domain.records import MAX_NUMBER, PINNED, Move, Room, RoomList, Summary
from overseer.storage.database import Storage
from overseer.storage.room_rows import now

APPLICATION_ID = 0x4F565253  # "OVRS"
PAGE = 50  # rooms


def m001_rooms(db: sqlite3.Connection) -> None:
    """Create the tables of rooms and of the last run."""
    db.execute(
        """CREATE TABLE rooms (
             id TEXT PRIMARY KEY,
             name TEXT NOT NULL,
             created_at INTEGER NOT NULL,
             messages INTEGER NOT NULL DEFAULT 0,
             preview TEXT NOT NULL DEFAULT '',
             answering INTEGER NOT NULL DEFAULT 0,
             problem TEXT NOT NULL DEFAULT '',
             deleting INTEGER NOT NULL DEFAULT 0,
             rank INTEGER NOT NULL,
             active_at INTEGER NOT NULL,
             synced_at INTEGER NOT NULL) WITHOUT ROWID"""
    )
    db.execute("CREATE UNIQUE INDEX rooms_by_rank ON rooms (rank)")
    db.execute("CREATE TABLE runs (one INTEGER PRIMARY KEY CHECK (one = 1), in_order INTEGER NOT NULL)")
    db.execute("INSERT INTO runs (one, in_order) VALUES (1, 1)")


def m002_failed(db: sqlite3.Connection) -> None:
    """Add whether the last answer failed. Earlier rooms get it with their next summary."""
    db.execute("ALTER TABLE rooms ADD COLUMN failed INTEGER NOT NULL DEFAULT 0")


def m003_versions_and_forks(db: sqlite3.Connection) -> None:
    """Add how many messages are in other versions than the shown one, and what a fork was copied from."""
    db.execute("ALTER TABLE rooms ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE rooms ADD COLUMN forked_from TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE rooms ADD COLUMN forked_at INTEGER")


def m004_open(db: sqlite3.Connection) -> None:
    """Add whether the room may be newer than its summary. Only replicated registries keep it up to date."""
    db.execute("ALTER TABLE rooms ADD COLUMN open INTEGER NOT NULL DEFAULT 0")


def m005_archive_and_imports(db: sqlite3.Connection) -> None:
    """Add archived and temporary rooms, which are not listed, and the reports of imports."""
    db.execute("ALTER TABLE rooms ADD COLUMN archived INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE rooms ADD COLUMN temporary INTEGER NOT NULL DEFAULT 0")
    db.execute("CREATE INDEX listed ON rooms (rank) WHERE NOT deleting AND NOT archived AND NOT temporary")
    # The most recently active first, whether they are pinned or not.
    db.execute(f"CREATE INDEX archived ON rooms (rank % {PINNED}) WHERE archived AND NOT temporary AND NOT deleting")
    db.execute("CREATE INDEX temporary ON rooms (id) WHERE temporary")
    db.execute(
        """CREATE TABLE imports (
             id TEXT PRIMARY KEY,
             state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'cancelled', 'failed')),
             reason TEXT NOT NULL DEFAULT '',
             files TEXT NOT NULL,
             created_at INTEGER NOT NULL,
             ended_at INTEGER,
             size INTEGER NOT NULL DEFAULT 0,
             read INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"""
    )
    # What became of each conversation. `place` is where it is in the files.
    db.execute(
        """CREATE TABLE imported (
             import TEXT NOT NULL REFERENCES imports (id) ON DELETE CASCADE,
             number INTEGER NOT NULL,
             outcome TEXT NOT NULL CHECK (outcome IN ('imported', 'skipped', 'failed')),
             name TEXT NOT NULL,
             messages INTEGER NOT NULL,
             room TEXT NOT NULL DEFAULT '',
             place TEXT NOT NULL DEFAULT '',
             reason TEXT NOT NULL DEFAULT '',
             PRIMARY KEY (import, number)) WITHOUT ROWID"""
    )


MIGRATIONS = (m001_rooms, m002_failed, m003_versions_and_forks, m004_open, m005_archive_and_imports)  # append only

SUMMARY_COLUMNS = [field.name for field in fields(Summary)]
# A rank above those of all rooms, pinned or not.
TOP = (
    f"(1 + max(ifnull((SELECT max(rank) FROM rooms WHERE rank < {PINNED}), 0),"  # noqa: S608 - a constant
    f" ifnull((SELECT max(rank) FROM rooms), 0) % {PINNED}))"
)
SELECT = """
    SELECT rooms.*, (SELECT name FROM rooms o WHERE o.id = rooms.forked_from AND NOT o.deleting) AS origin
    FROM rooms WHERE NOT deleting"""
SET_SUMMARY = """
    UPDATE rooms SET name = :name, messages = :messages, hidden = :hidden, preview = :preview, answering = :answering,
      failed = :failed, forked_from = :forked_from, forked_at = :forked_at, archived = :archived,
      temporary = :temporary, problem = '', synced_at = :taken_at"""
LISTED = f"{SELECT} AND NOT archived AND NOT temporary AND rank < :after"
ARCHIVED = f"{SELECT} AND archived AND NOT temporary AND rank % {PINNED} < :after"
HAS_ARCHIVED = "SELECT EXISTS (SELECT 1 FROM rooms WHERE archived AND NOT temporary AND NOT deleting)"
# Also the topmost pinned room gets the highest rank: it decides its place when it is unpinned.
SYNC_ACTIVE = f"""{SET_SUMMARY}, active_at = :now,
      rank = rank - rank % {PINNED} + CASE WHEN rank % {PINNED} < {TOP} - 1 THEN {TOP} ELSE rank % {PINNED} END
    WHERE id = :id RETURNING rank, archived OR temporary AS unlisted"""


class Registry:
    """The rooms and their summaries. Every command is one transaction, committed when it returns.

    Opening keeps a copy of a file with an older schema. Raises StorageDamaged if the file has to be rebuilt from the
    rooms.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=True, keep_older=True)
        storage.verify()
        self._topmost: dict[bool, str] = {}  # of the pinned rooms and of the others, where that is known

    # Commands

    def begin_run(self) -> bool:
        """Mark the server as running and return whether the last run was shut down cleanly."""
        with self._storage.write() as db:
            was_clean = bool(db.execute("SELECT in_order FROM runs").fetchone()[0])
            db.execute("UPDATE runs SET in_order = 0")
            return was_clean

    def end_run(self) -> None:
        """Mark the run as shut down cleanly: every summary is as new as its room."""
        with self._storage.write() as db:
            db.execute("UPDATE runs SET in_order = 1")
            db.execute("UPDATE rooms SET open = 0 WHERE open")

    def add(self, room_id: str, summary: Summary) -> None:
        """Insert a room at the top of the list."""
        with self._storage.write() as db:
            _add(db, room_id, summary, active_at=now())
            if not summary.temporary:
                self._topmost[False] = room_id

    def add_all(self, rooms: Iterable[tuple[str, Summary]]) -> None:
        """Insert rooms at the top of the list with their own times of activity, the last at the top."""
        with self._storage.write() as db:
            self._topmost.clear()
            for room_id, summary in rooms:
                _add(db, room_id, summary, active_at=summary.active_at)

    def arrange(self, room_ids: Iterable[str]) -> None:
        """Let these rooms change places among themselves, so that the most recently active is above the others."""
        with self._storage.write() as db:
            self._topmost.clear()
            rows = db.execute(
                f"SELECT id, rank % {PINNED} AS place, rank >= {PINNED} AS pinned, active_at FROM rooms"  # noqa: S608
                " WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(room_ids)),),
            ).fetchall()
            places = sorted(row["place"] for row in rows)
            rows.sort(key=lambda row: (row["active_at"], row["id"]))
            # The ranks are unique, also between the two statements.
            db.executemany("UPDATE rooms SET rank = -rank WHERE id = ?", [(row["id"],) for row in rows])
            db.executemany(
                "UPDATE rooms SET rank = ? WHERE id = ?",
                [(place + PINNED * row["pinned"], row["id"]) for place, row in zip(places, rows, strict=True)],
            )

    def adopt(self, rooms: Iterable[tuple[str, Summary]]) -> None:
        """Insert rooms whose files were found, the most recently active at the top.

        In an empty registry they keep their times of activity. Otherwise they go above the others with the current
        time.
        """
        with self._storage.write() as db:
            (empty,) = db.execute("SELECT NOT EXISTS (SELECT 1 FROM rooms)").fetchone()
            self._topmost.clear()
            for room_id, summary in sorted(rooms, key=lambda found: (found[1].active_at, found[0])):
                _add(db, room_id, summary, active_at=summary.active_at if empty else now())

    def sync(self, room_id: str, summary: Summary, *, active: bool, taken_at: int) -> Move:
        """Store the summary that a room had at `taken_at` (UTC milliseconds) and return how the room moved.

        An `active` room moves to the top of the pinned or of the other rooms; whether it is pinned, and whether it is
        in the list, does not change. The write is not durable: after a crash, which `begin_run` detects, the summary is
        read again from the room's file.
        """
        values = _values(room_id, summary, taken_at)
        with self._storage.lock:
            if active:
                for row in self._storage.write_one(SYNC_ACTIVE, values):
                    return "" if row["unlisted"] else self._move_to_top(room_id, pinned=row["rank"] >= PINNED)
                return ""
            with self._storage.write(durable=False) as db:
                moved = _sync(db, values)
            if moved:
                self._topmost.clear()
            return moved

    def mark_open(self, room_id: str) -> None:
        """Record that the room may be newer than its summary from now on, until it is closed."""
        with self._storage.write() as db:
            db.execute("UPDATE rooms SET open = 1 WHERE id = ?", (room_id,))

    def note_closed(self, room_id: str, *, at: int) -> None:
        """Record that the room's file was closed and the summary is complete up to `at` (UTC milliseconds)."""
        with self._storage.write(durable=False) as db:
            db.execute("UPDATE rooms SET synced_at = ?, open = 0 WHERE id = ?", (at, room_id))

    def mark_broken(self, room_id: str, problem: str) -> None:
        """Store why the room's file cannot be used."""
        with self._storage.write() as db:
            db.execute("UPDATE rooms SET problem = ?, answering = 0 WHERE id = ?", (problem, room_id))

    def begin_deleting(self, room_id: str) -> None:
        """Hide the room before its files are removed. Raises NoSuchRoom."""
        with self._storage.write() as db:
            done = db.execute("UPDATE rooms SET deleting = 1 WHERE id = ? AND NOT deleting", (room_id,))
            if not done.rowcount:
                raise NoSuchRoom("This room doesn’t exist or was deleted.")

    def remove(self, room_id: str) -> None:
        """Delete the row of the room."""
        with self._storage.write() as db:
            db.execute("DELETE FROM rooms WHERE id = ?", (room_id,))

    def _move_to_top(self, room_id: str, *, pinned: bool) -> Move:
        was_topmost = self._topmost.get(pinned) == room_id
        self._topmost[pinned] = room_id
        return "" if was_topmost else "to top"

    # Queries

    def room(self, room_id: str) -> Room:
        """Return one room. Raises NoSuchRoom."""
        with self._storage.read() as db:
            row = db.execute(f"{SELECT} AND id = ?", (room_id,)).fetchone()
            if row is None:
                raise NoSuchRoom("This room doesn’t exist or was deleted.")
            return _room(row)

    def rooms(self, *, q: str = "", after: int | None = None, limit: int = PAGE, archived: bool = False) -> RoomList:
        """Return a page of rooms in descending rank, below rank `after`, whose name contains `q` in any case.

        They are those of the list, or with `archived` the archived ones, as if none of them were pinned.
        """
        select, rank = (ARCHIVED, f"rank % {PINNED}") if archived else (LISTED, "rank")
        with self._storage.read() as db:
            found = db.execute(
                f"{select} AND (:q = '' OR instr(casefold(name), :q)) ORDER BY {rank} DESC LIMIT :limit",
                {"after": MAX_NUMBER if after is None else after, "q": q.casefold(), "limit": limit + 1},
            )
            rooms = [_room(row) for row in found]
            (has_archived,) = db.execute(HAS_ARCHIVED).fetchone()
        last = None if len(rooms) <= limit else rooms[limit - 1].rank % PINNED if archived else rooms[limit - 1].rank
        return RoomList(tuple(rooms[:limit]), after=last, archived=bool(has_archived))

    def ids(self) -> list[str]:
        """Return the ids of all rooms that are not temporary, the least recently active first."""
        with self._storage.read() as db:
            found = db.execute("SELECT id FROM rooms WHERE NOT deleting AND NOT temporary ORDER BY active_at, id")
            return [row["id"] for row in found]

    def temporary_ids(self) -> list[str]:
        """Return the ids of the temporary rooms."""
        with self._storage.read() as db:
            return [row["id"] for row in db.execute("SELECT id FROM rooms WHERE temporary AND NOT deleting")]

    def created_at(self, time: int) -> list[str]:
        """Return the ids of the rooms that were created at a time (UTC milliseconds)."""
        with self._storage.read() as db:
            return [row["id"] for row in db.execute("SELECT id FROM rooms WHERE created_at = ? LIMIT 9", (time,))]

    def open_rooms(self) -> list[str]:
        """Return the ids of the rooms that may be newer than their summaries, or are being deleted."""
        with self._storage.read() as db:
            return [row["id"] for row in db.execute("SELECT id FROM rooms WHERE open OR answering OR deleting")]

    def synced(self) -> dict[str, tuple[int, bool, bool]]:
        """Return for each room when its summary was taken (UTC milliseconds), whether it was answering, and whether it
        is being deleted."""
        with self._storage.read() as db:
            rows = db.execute("SELECT id, synced_at, answering, deleting FROM rooms")
            return {row["id"]: (row["synced_at"], bool(row["answering"]), bool(row["deleting"])) for row in rows}


def load_rooms(db: sqlite3.Connection) -> dict[str, Room]:
    """Return the rooms in the database by id, without those being deleted."""
    return {row["id"]: _room(row) for row in db.execute(SELECT)}


def was_shut_down_cleanly(db: sqlite3.Connection) -> bool:
    """Return whether the last run was shut down cleanly, so that every summary is as new as its room."""
    return bool(db.execute("SELECT in_order FROM runs").fetchone()[0])


def mark_as_backup(db: sqlite3.Connection, *, without: Iterable[str]) -> None:
    """Turn a copied registry into that of a backup.

    The rooms were copied later than the registry: their summaries are read again when the backup is opened.
    """
    db.execute("PRAGMA journal_mode = DELETE")
    db.executemany("DELETE FROM rooms WHERE id = ?", [(room_id,) for room_id in without])
    db.execute("DELETE FROM rooms WHERE deleting")
    db.execute("UPDATE rooms SET synced_at = 0")
    db.execute("UPDATE runs SET in_order = 0")


def _add(db: sqlite3.Connection, room_id: str, summary: Summary, *, active_at: int) -> None:
    db.execute(
        f"INSERT INTO rooms (id, name, created_at, rank, active_at, synced_at, open) VALUES (?, ?, ?, {TOP}, ?, 0, 1)",  # noqa: S608
        (room_id, summary.name, summary.created_at, active_at),
    )
    _sync(db, _values(room_id, summary, now()))


def _values(room_id: str, summary: Summary, taken_at: int) -> dict[str, object]:
    columns = {column: getattr(summary, column) for column in SUMMARY_COLUMNS}  # `asdict` takes 50 µs
    return {**columns, "id": room_id, "taken_at": taken_at, "now": now()}


def _sync(db: sqlite3.Connection, values: dict[str, object]) -> Move:
    """Update the summary. Pinning adds PINNED to the rank, so that an unpinned room returns to its former place.

    So does a room that comes back to the list: its rank stays the same.
    """
    moved = db.execute(
        f"UPDATE rooms SET rank = rank % {PINNED} + :pinned * {PINNED}"  # noqa: S608 - a constant
        f" WHERE id = :id AND ((rank >= {PINNED}) != :pinned"
        "   OR (archived OR temporary) != (:archived OR :temporary))",
        values,
    )
    db.execute(f"{SET_SUMMARY} WHERE id = :id", values)
    return "elsewhere" if moved.rowcount else ""


def _room(row: sqlite3.Row) -> Room:
    return Room(
        id=row["id"],
        name=row["name"],
        messages=row["messages"],
        preview=row["preview"],
        answering=bool(row["answering"]),
        problem=row["problem"],
        rank=row["rank"],
        active_at=row["active_at"],
        failed=bool(row["failed"]),
        hidden=row["hidden"],
        forked_from=row["forked_from"],
        forked_at=row["forked_at"],
        origin=row["origin"],
        archived=bool(row["archived"]),
        temporary=bool(row["temporary"]),
    )
