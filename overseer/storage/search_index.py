"""The search index: `search.sqlite`, with the words of all rooms. It is derived from the rooms' files.

FTS5 keeps the words without the texts (`content=''`), so that the index is less than half as large as the texts. To
take a text out of it again, FTS5 needs the same text once more, since contentless deletion needs SQLite 3.43. A
checksum of each text tells whether it is the same.

Writes do not wait for the disk: a crash of the process loses nothing; after a power cut the index may be behind, or be
damaged and then built anew.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from overseer.domain.errors import StorageUnavailable
from overseer.domain.messages import UNFINISHED
from overseer.domain.search import Hit, Kind, Query, in_pairs
from overseer.storage.database import PRIVATE_MODE, beside, explain_sqlite_error, file_identity, remove
from overseer.storage.room_rows import now, require
from overseer.storage.snapshot import inspect

SEARCH_FILE = "search.sqlite"
APPLICATION_ID = 0x4F565254  # "OVRT"
VERSION = 1  # an index of another version is built anew
BATCH = 200  # messages that are read and written at once
CANDIDATES = 500  # the newest hits, which are ranked
RANKED_SECONDS, NEWEST_SECONDS = 0.12, 0.06  # after which a search is cut off
PROGRESS_STEPS = 2000  # of SQLite's virtual machine, between looks at the clock
MERGE_PAGES = 200  # of the index, that are rewritten at once
KINDS: tuple[Kind, ...] = ("name", "question", "answer", "reasoning")
WEIGHTS: dict[Kind, float] = {"name": 3.0, "question": 1.2, "answer": 1.0, "reasoning": 0.5}
HALF_LIFE_MS = 90 * 24 * 3_600_000  # of the part of a score that depends on the age

SCHEMA = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
    # 1 while words of removed texts are in the file, and 2 while they are being removed.
    "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), purge INTEGER NOT NULL)",
    "INSERT INTO state (one, purge) VALUES (1, 0)",
    # All messages up to the number `upto` are in the index. `stamp` tells whether the room's file has changed since.
    """CREATE TABLE rooms (
         id INTEGER PRIMARY KEY, room TEXT NOT NULL UNIQUE, name TEXT NOT NULL, upto INTEGER NOT NULL,
         stamp TEXT NOT NULL DEFAULT '')""",
    """CREATE TABLE texts (
         id INTEGER PRIMARY KEY, room INTEGER NOT NULL, message INTEGER NOT NULL, kind INTEGER NOT NULL,
         at INTEGER NOT NULL, checksum INTEGER NOT NULL)""",
    "CREATE INDEX texts_of_room ON texts (room, message)",
    "CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = 'unicode61 remove_diacritics 2')",
)
# What waits for its turn may be removed again, so messages are indexed up to the first one that is not finished.
FINISHED = f"number < ifnull((SELECT min(number) FROM messages WHERE state IN {UNFINISHED}), 1e18)"  # noqa: S608
SELECT_MESSAGES = """
    SELECT number, role, created_at FROM messages WHERE number > :after AND {} ORDER BY number LIMIT :limit"""
SELECT_PARTS = """
    SELECT message, kind, text FROM parts WHERE message BETWEEN ? AND ? AND kind IN ('text', 'reasoning')
    ORDER BY message, position"""
# FTS5 yields the newest texts first. CROSS JOIN keeps SQLite from beginning with another table.
SEARCH = """
    SELECT rooms.room, texts.*, found.score FROM
      (SELECT rowid, {score} AS score FROM words WHERE words MATCH :query ORDER BY rowid DESC) AS found
      CROSS JOIN texts ON texts.id = found.rowid CROSS JOIN rooms ON rooms.id = texts.room {of_room} LIMIT :limit"""
BM25, NONE = "bm25(words)", "-1.0"


class Text(NamedTuple):
    """A text of a room, as it is indexed."""

    message: int
    kind: Kind
    at: int
    text: str

    @property
    def checksum(self) -> int:
        return zlib.crc32(self.text.encode())

    @property
    def key(self) -> tuple[int, Kind, int]:
        """What the index knows of the text."""
        return self.message, self.kind, self.checksum


class IndexBroken(Exception):
    """The index, or a room's file, does not have what the other one says: the index has to be built anew."""


class RoomTexts(NamedTuple):
    """What was read of a room: its name, texts, the last number that was read, and whether there may be more.

    `last_used` is the highest number that was ever used in the room. A `temporary` room is not indexed.
    """

    name: str
    texts: list[Text]
    upto: int
    more: bool
    last_used: int
    temporary: bool


class SearchIndex:
    """The index file. The caller sees to it that one thread writes at a time; `search` has its own connection and lock.

    Commands raise IndexBroken if the index has to be built anew. Those that read a room's file raise FileNotFoundError
    and StorageError as well.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    # Open and close

    def open(self) -> None:
        """Open the file. One that is damaged is replaced by an empty one. Raises StorageUnavailable."""
        self.close()
        try:
            self._open()
        except IndexBroken:
            self.delete()
            self._open()

    def close(self) -> None:
        """Close the file."""
        for db in (self._reader, self._db):
            if db is not None:
                db.close()
        self._db = self._reader = None

    def shrink(self) -> None:
        """Free the pages that SQLite has cached, and close the connection for searches until there is one."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA shrink_memory")

    def delete(self) -> None:
        """Close and delete the file."""
        self.close()
        remove(self.path)

    # Commands

    def sync(self, room_id: str, file: Path) -> bool:
        """Add the name and the new messages of a room, at most BATCH of them. Return whether there are more.

        A temporary room is not added.
        """
        with self._write() as db:
            room, stamp = self._room(db, room_id), stamp_of(file)
            found = inspect(file, lambda source: _read(source, room["upto"] if room else 0))
            if found.temporary:
                if room is not None:
                    raise IndexBroken("a room in it is temporary")
                return False
            if room is not None and found.last_used < room["upto"]:
                raise IndexBroken("an older copy of a room was put back")
            if room is None:
                db.execute("INSERT INTO rooms (room, name, upto) VALUES (?, '', 0)", (room_id,))
                room = self._room(db, room_id)
                assert room is not None
            if room["name"] != found.name:
                if room["name"]:
                    self._remove(db, room["id"], [Text(0, "name", 0, room["name"])])
                    db.execute("UPDATE state SET purge = 1")
                self._add(db, room["id"], [Text(0, "name", now(), found.name)] if found.name else [])
            self._add(db, room["id"], found.texts)
            db.execute(
                "UPDATE rooms SET name = ?, upto = max(upto, ?), stamp = ? WHERE id = ?",
                (found.name, found.upto, "" if found.more else stamp, room["id"]),
            )
            return found.more

    def repair(self, room_id: str, file: Path) -> None:
        """Add what is missing of a room, up to the last message that was added. Reads all of it."""
        with self._write() as db:
            room = self._room(db, room_id)
            if room is None:
                return
            known = {
                (text["message"], KINDS[text["kind"]], text["checksum"])
                for text in db.execute("SELECT * FROM texts WHERE room = ? AND message > 0", (room["id"],))
            }
            after, more = 0, True
            while more and after < room["upto"]:
                found = inspect(file, lambda source: _read(source, after))  # noqa: B023 - called at once
                for text in found.texts:
                    if text.message <= room["upto"] and text.key not in known:
                        self._add(db, room["id"], [text])
                    known.discard(text.key)
                after, more = found.upto, found.more
            if known:
                raise IndexBroken("a room does not have all texts that were indexed")

    def note_unchanged(self, room_id: str, file: Path) -> None:
        """Note that the index has all of a room's file, which was closed or written back."""
        with self._write() as db:
            db.execute("UPDATE rooms SET stamp = ? WHERE room = ?", (stamp_of(file), room_id))

    def note_incomplete(self, room_id: str) -> None:
        """Note that a room has to be repaired."""
        with self._write() as db:
            db.execute("UPDATE rooms SET stamp = '' WHERE room = ?", (room_id,))

    def add_message(self, room_id: str, number: int, file: Path) -> bool:
        """Add one message that was removed, or had no text when the messages around it were added.

        Return False if it is not finished.
        """
        with self._write() as db:
            room = self._room(db, room_id)
            if room is None or number > room["upto"]:
                return True
            known = db.execute("SELECT 1 FROM texts WHERE room = ? AND message = ?", (room["id"], number)).fetchone()
            if known is not None:
                return True
            found = inspect(file, lambda source: _read(source, number - 1, limit=1))
            self._add(db, room["id"], [text for text in found.texts if text.message == number])
            return found.upto >= number

    def remove_message(self, room_id: str, number: int, file: Path) -> None:
        """Take one message out, before it is changed."""
        with self._write() as db:
            if (room := self._room(db, room_id)) is not None and number <= room["upto"]:
                self._remove_between(db, room["id"], number, number, file)
                db.execute("UPDATE rooms SET stamp = '' WHERE id = ?", (room["id"],))

    def remove_room(self, room_id: str, file: Path) -> bool:
        """Take BATCH messages of a room out, while its file still has them. Return whether that were all."""
        with self._write() as db:
            room = self._room(db, room_id)
            if room is None:
                return True
            last, first = db.execute(
                "SELECT max(message), min(message) FROM (SELECT message FROM texts WHERE room = ? AND message > 0"
                " ORDER BY message DESC LIMIT ?)",
                (room["id"], BATCH),
            ).fetchone()
            db.execute("UPDATE state SET purge = 1")
            if last is not None:
                self._remove_between(db, room["id"], first, last, file)
                db.execute("UPDATE rooms SET upto = min(upto, ?), stamp = '' WHERE id = ?", (first - 1, room["id"]))
                return False
            if room["name"]:
                self._remove(db, room["id"], [Text(0, "name", 0, room["name"])])
            db.execute("DELETE FROM rooms WHERE id = ?", (room["id"],))
            return True

    def purge(self) -> bool:
        """Rewrite a part of the index, so that it loses the words of removed texts. Return whether it has none."""
        with self._write() as db:
            (purge,) = db.execute("SELECT purge FROM state").fetchone()
            if not purge:
                return True
            before = db.total_changes
            # A negative number begins to merge all: https://sqlite.org/fts5.html#the_merge_command
            pages = -MERGE_PAGES if purge == 1 else MERGE_PAGES
            db.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (pages,))
            done = db.total_changes - before < 2
            db.execute("UPDATE state SET purge = 2")
        # The words are in the WAL file too, until it is truncated.
        if not done or not self._truncate_wal(db):
            return False
        with self._write() as db:
            db.execute("UPDATE state SET purge = 0")
        return True

    # Queries

    def has(self, room_id: str) -> bool:
        """Return whether a room is in the index."""
        with self._write() as db:
            return self._room(db, room_id) is not None

    def stamps(self) -> dict[str, str]:
        """Return the rooms in the index, each with the stamp of its file at that time."""
        with self._write() as db:
            return {room["room"]: room["stamp"] for room in db.execute("SELECT room, stamp FROM rooms")}

    def search(
        self, query: Query, *, room_id: str | None = None, after: int = 0, limit: int = CANDIDATES
    ) -> tuple[list[Hit], bool]:
        """Return the best of the newest CANDIDATES, without the first `after`, the best first.

        Return also whether the search was cut off.

        They are ranked by bm25, by the kind of the text, and by its age. A search that takes too long, because bm25
        counts all texts with each word, is made again without it.
        """
        found, cut = self._search(query, room_id, score=BM25, seconds=RANKED_SECONDS)
        if cut:
            found, cut = self._search(query, room_id, score=NONE, seconds=NEWEST_SECONDS)
        best = sorted(found, key=_score(now()))[after : after + limit]
        return [Hit(row["room"], row["message"], KINDS[row["kind"]], row["at"]) for row in best], cut

    # In call order

    def _search(
        self, query: Query, room_id: str | None, *, score: str, seconds: float
    ) -> tuple[list[sqlite3.Row], bool]:
        deadline = time.monotonic() + seconds
        select = SEARCH.format(score=score, of_room="" if room_id is None else "AND rooms.room = :room")
        found: list[sqlite3.Row] = []
        try:
            if self._reader is None:
                self._reader = _connect(self.path, mode="ro")
            self._reader.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_STEPS)
            values = {"query": query.as_fts, "room": room_id, "limit": CANDIDATES}
            for row in self._reader.execute(select, values):
                found.append(row)
            return found, False
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                raise self._explained(error) from error
            return found, True
        finally:
            if self._reader is not None:
                self._reader.set_progress_handler(None, 0)

    def _open(self) -> None:
        crashed = file_identity(beside(self.path, "-wal")) is not None
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_MODE))
        try:
            self._db = _connect(self.path)
            self._prepare(self._db, crashed=crashed)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _prepare(self, db: sqlite3.Connection, *, crashed: bool) -> None:
        """Create the tables of a new file, or check those of another one."""
        if not db.execute("PRAGMA user_version").fetchone()[0]:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN")
            for statement in SCHEMA:
                db.execute(statement)
            db.execute("COMMIT")
        owner = tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if owner != (APPLICATION_ID, VERSION):
            raise IndexBroken("of another version")
        if crashed and db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise IndexBroken("damaged")

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction."""
        db = self._db
        if db is None or not self.path.exists():
            raise IndexBroken("the file is not there")
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                if db.in_transaction:
                    db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._explained(error) from error
            raise

    def _explained(self, error: sqlite3.Error) -> Exception:
        """Return what to raise for an error of SQLite: a full disk, for example, does not break the index."""
        explained = explain_sqlite_error(error, self.path)
        return explained if isinstance(explained, StorageUnavailable) else IndexBroken(str(error))

    def _truncate_wal(self, db: sqlite3.Connection) -> bool:
        """Write the WAL file back and truncate it. Return False if a reader or a full disk prevents it."""
        try:
            (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise self._explained(error) from error
        return not busy

    def _room(self, db: sqlite3.Connection, room_id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = db.execute("SELECT * FROM rooms WHERE room = ?", (room_id,)).fetchone()
        return row

    def _add(self, db: sqlite3.Connection, room: int, texts: Iterable[Text]) -> None:
        for text in texts:
            done = db.execute(
                "INSERT INTO texts (room, message, kind, at, checksum) VALUES (?, ?, ?, ?, ?)",
                (room, text.message, KINDS.index(text.kind), text.at, text.checksum),
            )
            db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (done.lastrowid, in_pairs(text.text)))

    def _remove_between(self, db: sqlite3.Connection, room: int, first: int, last: int, file: Path) -> None:
        found = inspect(file, lambda source: _read(source, first - 1, limit=last - first + 1, finished=False))
        self._remove(db, room, [text for text in found.texts if text.message <= last])
        left = "SELECT 1 FROM texts WHERE room = ? AND message BETWEEN ? AND ?"
        if db.execute(left, (room, first, last)).fetchone():
            raise IndexBroken("a room does not have all texts that were indexed")

    def _remove(self, db: sqlite3.Connection, room: int, texts: Iterable[Text]) -> None:
        for text in texts:
            row = db.execute(
                "SELECT id, checksum FROM texts WHERE room = ? AND message = ? AND kind = ?",
                (room, text.message, KINDS.index(text.kind)),
            ).fetchone()
            if row is None:
                continue
            if row["checksum"] != text.checksum:
                raise IndexBroken("a text is not the one that was indexed")
            db.execute("DELETE FROM texts WHERE id = ?", (row["id"],))
            words = in_pairs(text.text)
            db.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (row["id"], words))


def read_texts(file: Path, places: Iterable[tuple[int, Kind]]) -> list[str]:
    """Return texts of messages of a room's file, as they are indexed."""
    select = "SELECT text FROM parts WHERE message = ? AND kind = ? ORDER BY position"

    def read(source: sqlite3.Connection) -> list[str]:
        texts = []
        for number, kind in places:
            found = source.execute(select, (number, "reasoning" if kind == "reasoning" else "text"))
            texts.append("\n\n".join(row["text"] for row in found).strip())
        return texts

    return inspect(file, read)


def stamp_of(file: Path) -> str:
    """Return a text that changes with the file of a room, or an empty one if there is no file."""
    found, wal = file_identity(file), file_identity(beside(file, "-wal"))
    if found is None:
        return ""
    return f"{found.inode} {found.size} {found.written_at} {wal.size if wal else 0} {wal.written_at if wal else 0}"


def same_file(stamp: str, other: str) -> bool:
    """Return whether two stamps are of the same file, changed or not. A room that has to be repaired has no stamp."""
    return bool(stamp) and stamp.split(" ")[0] == other.split(" ")[0]


def _read(source: sqlite3.Connection, after: int, *, limit: int = BATCH, finished: bool = True) -> RoomTexts:
    """Read the name of a room and at most `limit` messages after a number, only `finished` ones."""
    row = source.execute("SELECT * FROM room").fetchone()
    if row:
        require(row, str, "name")
    name = row["name"] if row else ""
    temporary = bool(row and "temporary" in row.keys() and row["temporary"])  # noqa: SIM118 - older files have no such column
    sequence = source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    newest = source.execute("SELECT ifnull(max(number), 0) AS number FROM messages").fetchone()
    used = max(sequence["seq"] if sequence else 0, newest["number"])  # another program may have deleted the sequence
    select = SELECT_MESSAGES.format(FINISHED if finished else "1")
    messages = source.execute(select, {"after": after, "limit": limit}).fetchall()
    if not messages:
        return RoomTexts(name, [], after, more=False, last_used=used, temporary=temporary)
    parts: dict[tuple[int, str], list[str]] = {}
    for part in source.execute(SELECT_PARTS, (messages[0]["number"], messages[-1]["number"])):
        require(part, str, "text")
        parts.setdefault((part["message"], part["kind"]), []).append(part["text"])
    texts = []
    for message in messages:
        require(message, int, "created_at")
        spoken: Kind = "question" if message["role"] == "user" else "answer"
        kinds: tuple[tuple[Kind, str], ...] = ((spoken, "text"), ("reasoning", "reasoning"))
        for kind, stored in kinds:
            if text := "\n\n".join(parts.get((message["number"], stored), ())).strip():
                texts.append(Text(message["number"], kind, message["created_at"], text))
    more = len(messages) == limit
    return RoomTexts(name, texts, messages[-1]["number"], more=more, last_used=used, temporary=temporary)


def _score(at: int) -> Callable[[sqlite3.Row], float]:
    """Return the function whose value is less for a better hit, at a time."""
    weights = [WEIGHTS[kind] for kind in KINDS]

    def score(row: sqlite3.Row) -> float:
        age: float = max(0, at - row["at"]) / HALF_LIFE_MS
        bm25: float = row["score"]  # negative
        return float(bm25 * weights[row["kind"]] * (0.5 + 0.5 * 2**-age))

    return score


def _connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=1.0, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA secure_delete = ON")
    return db
