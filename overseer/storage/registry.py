"""The SQL of the Overseer's file: which rooms there are, and a summary of each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from overseer.domain.errors import NoSuchRoom
from overseer.domain.records import MAX_NUMBER, PINNED, Move, Room, RoomList, Summary
from overseer.storage.database import Storage
from overseer.storage.room_rows import now

APPLICATION_ID = 0x4F565253  # "OVRS"
PAGE = 50  # rooms


def m001_rooms(db: sqlite3.Connection) -> None:
    """Rooms with their summaries, and whether the last run ended in order."""
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


MIGRATIONS = (m001_rooms,)  # append only


class Registry:
    """The rooms and their summaries. Every command is one transaction, committed when it returns.

    A file of an older version is kept as a copy. Raises StorageDamaged for one that can be made anew from the rooms.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=True, keep_older=True)
        storage.verify()

    # Commands

    def begin_run(self) -> bool:
        """Note that the server runs; whether its last run ended in order."""
        with self._storage.write() as db:
            in_order = bool(db.execute("SELECT in_order FROM runs").fetchone()[0])
            db.execute("UPDATE runs SET in_order = 0")
            return in_order

    def end_run(self) -> None:
        """Note that the server ended in order: no summary is older than its room."""
        with self._storage.write() as db:
            db.execute("UPDATE runs SET in_order = 1")

    def add(self, room_id: str, summary: Summary) -> None:
        """Enter a room, on top of the list."""
        with self._storage.write() as db:
            _add(db, room_id, summary, active_at=now())

    def adopt(self, rooms: Iterable[tuple[str, Summary]]) -> None:
        """Enter rooms that were found, the one with the last activity on top.

        Into an empty list they come with the times of their activity; else above the others, as if active just now.
        """
        with self._storage.write() as db:
            (empty,) = db.execute("SELECT NOT EXISTS (SELECT 1 FROM rooms)").fetchone()
            for room_id, summary in sorted(rooms, key=lambda found: (found[1].active_at, found[0])):
                _add(db, room_id, summary, active_at=summary.active_at if empty else now())

    def sync(self, room_id: str, summary: Summary, *, active: bool, taken_at: int) -> Move:
        """Take over the summary that a room had at `taken_at` (UTC milliseconds); an active room moves to the top of
        its part of the list. Returns how it moved.

        The room's own file has it for good, and `begin_run` tells when it has to be taken over again.
        """
        with self._storage.write(durable=False) as db:
            moved = _sync(db, room_id, summary, taken_at)
            if not active:
                return moved
            db.execute("UPDATE rooms SET active_at = ? WHERE id = ?", (now(), room_id))
            base = PINNED if summary.pinned else 0
            (above,) = db.execute(
                "SELECT count(*) FROM (SELECT 1 FROM rooms, (SELECT rank AS mine FROM rooms WHERE id = ?)"
                " WHERE rank > mine AND rank < ? LIMIT 1)",
                (room_id, base + PINNED),
            ).fetchone()
            # Also of the topmost pinned room: when it is not pinned any more, it is as new as its activity.
            top = _top(db) - 1
            db.execute(
                "UPDATE rooms SET rank = ? WHERE id = ? AND rank % ? < ?", (base + top + 1, room_id, PINNED, top)
            )
            return moved or ("raised" if above else "")

    def note_closed(self, room_id: str, *, at: int) -> None:
        """Note that until then, in UTC milliseconds, nothing is in the room's file that is not in its summary."""
        with self._storage.write(durable=False) as db:
            db.execute("UPDATE rooms SET synced_at = ? WHERE id = ?", (at, room_id))

    def mark_broken(self, room_id: str, problem: str) -> None:
        """Note that the room's file cannot be used."""
        with self._storage.write() as db:
            db.execute("UPDATE rooms SET problem = ?, answering = 0 WHERE id = ?", (problem, room_id))

    def begin_deleting(self, room_id: str) -> None:
        """Take the room off the list, before its files go. Raises NoSuchRoom."""
        with self._storage.write() as db:
            done = db.execute("UPDATE rooms SET deleting = 1 WHERE id = ? AND NOT deleting", (room_id,))
            if not done.rowcount:
                raise NoSuchRoom("This room doesn’t exist or was deleted.")

    def remove(self, room_id: str) -> None:
        """Forget the room."""
        with self._storage.write() as db:
            db.execute("DELETE FROM rooms WHERE id = ?", (room_id,))

    # Queries

    def room(self, room_id: str) -> Room:
        """One room. Raises NoSuchRoom."""
        with self._storage.read() as db:
            row = db.execute("SELECT * FROM rooms WHERE id = ? AND NOT deleting", (room_id,)).fetchone()
            if row is None:
                raise NoSuchRoom("This room doesn’t exist or was deleted.")
            return _room(row)

    def rooms(self, *, q: str = "", after: int | None = None, limit: int = PAGE) -> RoomList:
        """Rooms by last activity, whose name contains `q` (in any case), below rank `after`."""
        with self._storage.read() as db:
            found = db.execute(
                "SELECT * FROM rooms WHERE rank < ? AND NOT deleting AND (? = '' OR instr(casefold(name), ?))"
                " ORDER BY rank DESC LIMIT ?",
                (MAX_NUMBER if after is None else after, q, q.casefold(), limit + 1),
            )
            rooms = [_room(row) for row in found]
            return RoomList(tuple(rooms[:limit]), after=rooms[limit - 1].rank if len(rooms) > limit else None)

    def synced(self) -> dict[str, tuple[int, bool, bool]]:
        """For each room when its summary was taken (UTC milliseconds), whether it was answering, and whether it is
        being deleted."""
        with self._storage.read() as db:
            rows = db.execute("SELECT id, synced_at, answering, deleting FROM rooms")
            return {row["id"]: (row["synced_at"], bool(row["answering"]), bool(row["deleting"])) for row in rows}


def entries(db: sqlite3.Connection) -> dict[str, Room]:
    """The rooms of a registry's file, but those that are being deleted."""
    return {row["id"]: _room(row) for row in db.execute("SELECT * FROM rooms WHERE NOT deleting")}


def ended_in_order(db: sqlite3.Connection) -> bool:
    """Whether no summary of a registry's file can be older than its room."""
    return bool(db.execute("SELECT in_order FROM runs").fetchone()[0])


def make_a_copy(db: sqlite3.Connection, *, without: Iterable[str]) -> None:
    """Make a copied registry one of rooms that were copied later: their summaries are taken anew when it is opened."""
    db.execute("PRAGMA journal_mode = DELETE")
    db.executemany("DELETE FROM rooms WHERE id = ?", [(room_id,) for room_id in without])
    db.execute("DELETE FROM rooms WHERE deleting")
    db.execute("UPDATE rooms SET synced_at = 0")
    db.execute("UPDATE runs SET in_order = 0")


def _add(db: sqlite3.Connection, room_id: str, summary: Summary, *, active_at: int) -> None:
    db.execute(
        "INSERT INTO rooms (id, name, created_at, rank, active_at, synced_at) VALUES (?, ?, ?, ?, ?, 0)",
        (room_id, summary.name, summary.created_at, _top(db), active_at),
    )
    _sync(db, room_id, summary, now())


def _sync(db: sqlite3.Connection, room_id: str, summary: Summary, taken_at: int) -> Move:
    """Where a room belongs by its activity it comes back to when it is not pinned any more."""
    moved = db.execute(
        "UPDATE rooms SET rank = rank + ? WHERE id = ? AND (rank >= ?) != ?",
        (PINNED if summary.pinned else -PINNED, room_id, PINNED, summary.pinned),
    )
    db.execute(
        "UPDATE rooms SET name = ?, messages = ?, preview = ?, answering = ?, problem = '', synced_at = ? WHERE id = ?",
        (summary.name, summary.messages, summary.preview, summary.answering, taken_at, room_id),
    )
    return "elsewhere" if moved.rowcount else ""


def _top(db: sqlite3.Connection) -> int:
    """A count that no room has had, pinned or not."""
    highest = "SELECT max(rank) FROM rooms"
    return (
        int(
            db.execute(
                f"SELECT max(ifnull(({highest} WHERE rank < {PINNED}), 0), ifnull(({highest}), 0) % {PINNED})"
            ).fetchone()[0]
        )
        + 1
    )


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
    )
