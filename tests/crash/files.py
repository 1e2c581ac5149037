"""An instance directory as SQLite sees it, read from a copy."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from overseer.domain.records import PINNED

SUFFIXES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A row of a room's file with its words."""

    number: int
    role: str
    state: str
    text: str


@dataclass(slots=True)
class StoredRoom:
    """A room's file. `used` is the highest number that was ever given to a message."""

    name: str = ""
    named_by: str = "nobody"
    pinned: bool = False
    temperature: float | None = None
    counted: int = 0
    used: int = 0
    messages: list[StoredMessage] = field(default_factory=list)

    @property
    def preview(self) -> str:
        """The newest words, as the list shows them."""
        spoken = [message.text for message in self.messages if message.text]
        return " ".join(spoken[-1][:120].split()) if spoken else ""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row of the registry."""

    name: str
    messages: int
    preview: str
    answering: bool
    problem: str
    deleting: bool
    pinned: bool


@dataclass(slots=True)
class Stored:
    """All of an instance directory. `loose` are files that belong to no room's file."""

    rows: dict[str, StoredRow] = field(default_factory=dict)
    rooms: dict[str, StoredRoom] = field(default_factory=dict)
    loose: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read(instance: Path) -> Stored:
    """Read a directory that no server writes to just now."""
    stored = Stored()
    with tempfile.TemporaryDirectory() as folder:
        for path in [instance / "overseer.sqlite", *sorted((instance / "facets").glob("*.sqlite"))]:
            copy = Path(folder) / path.name
            for suffix in SUFFIXES[:2]:
                if path.with_name(path.name + suffix).exists():
                    shutil.copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
            db = sqlite3.connect(copy)
            db.row_factory = sqlite3.Row
            try:
                _check(stored, db, path.name)
                if path.parent == instance:
                    stored.rows = {row["id"]: _row(row) for row in db.execute("SELECT * FROM rooms")}
                else:
                    stored.rooms[path.stem.removeprefix("room-")] = _room(stored, db, path.name)
            except sqlite3.Error as error:
                stored.faults.append(f"{path.name} cannot be read: {error}")
            finally:
                db.close()
    bases = {f"room-{room}.sqlite{suffix}" for room in stored.rooms for suffix in SUFFIXES}
    stored.loose = sorted({path.name for path in (instance / "facets").iterdir()} - bases)
    return stored


def _check(stored: Stored, db: sqlite3.Connection, name: str) -> None:
    if (found := [row[0] for row in db.execute("PRAGMA integrity_check")]) != ["ok"]:
        stored.faults.append(f"{name} is damaged: {found}")
    if orphans := [tuple(row) for row in db.execute("PRAGMA foreign_key_check")]:
        stored.faults.append(f"{name} has parts without a message: {orphans}")


def _row(row: sqlite3.Row) -> StoredRow:
    return StoredRow(
        row["name"],
        row["messages"],
        row["preview"],
        bool(row["answering"]),
        row["problem"],
        bool(row["deleting"]),
        row["rank"] >= PINNED,
    )


def _room(stored: Stored, db: sqlite3.Connection, name: str) -> StoredRoom:
    row = db.execute("SELECT * FROM room").fetchone()
    if row is None:
        stored.faults.append(f"{name} was never named")
        return StoredRoom()
    used = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    found = db.execute(
        "SELECT number, role, state, (SELECT group_concat(text, '') FROM parts WHERE message = number) AS text"
        " FROM messages ORDER BY number"
    )
    return StoredRoom(
        row["name"],
        row["named_by"],
        bool(row["pinned"]),
        row["temperature"],
        row["messages"],
        used[0] if used else 0,
        [StoredMessage(one["number"], one["role"], one["state"], one["text"] or "") for one in found],
    )
