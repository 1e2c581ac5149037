"""Make the file of a room of what was exported from one, as JSON or as a SQLite file. See docs/formats.md.

Whatever the export says is checked: it may be written by anyone. It is never opened as a room's file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from overseer.domain.addresses import split_url
from overseer.domain.errors import StorageError, StorageUnavailable
from overseer.domain.messages import (
    UNFINISHED,
    CallState,
    File,
    Part,
    Reasoning,
    Role,
    State,
    Text,
    ToolCall,
    abandon_if_running,
)
from overseer.domain.records import ROOM_ID
from overseer.domain.settings import MAX_LANES, MAX_MODEL_CHARS, MAX_SYSTEM_PROMPT_CHARS, MAX_TEMPERATURE
from overseer.domain.text import Invalid, clean, room_name
from overseer.domain.times import MAX_MS
from overseer.storage import message_tree, room_json, room_rows
from overseer.storage.database import PRIVATE_MODE, UNREADABLE, Storage, beside, remove
from overseer.storage.schema import APPLICATION_ID, MIGRATIONS

MAX_TEXT_CHARS = 4_000_000  # of one part of a message
MAX_SHORT_CHARS = 20_000  # of names, ids, addresses and reasons
MAX_PARTS = 10_000  # of one message
MAX_FILE_BYTES = 100 * 2**20
MAX_NUMBER = 10**15  # of a message, which JSON and a path can have
MAX_COUNT = 2**53  # of tokens and pixels: what JSON can have
MAX_SECONDS = 1e9
INTERRUPTED = "The room was exported during this answer. What had arrived is here."

ROLES: tuple[Role, ...] = ("user", "assistant")
STATES: tuple[State, ...] = ("waiting", "streaming", "complete", "stopped", "failed", "interrupted")
CALL_STATES: tuple[CallState, ...] = ("running", "done", "failed", "abandoned")
NAMED_BY = ("nobody", "first words", "person")
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
LEFT_OUT = re.compile(r"[a-z_]{1,40}", re.ASCII)
MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,100}/[\w!#$&^.+-]{1,100}(;[ -~]{0,100})?", re.ASCII)

INSERT_MESSAGE = f"""
    INSERT INTO messages (number, role, state, reason, model, asked_model, lane, created_at, ended_at, source, left_out,
      continuable, sources, tokens_in, tokens_out, seconds, speaking, estimated, context_used, context_limit, parent,
      depth, jump)
    SELECT :number, :role, :state, :reason, :model, :asked_model, :lane, :created_at, :ended_at, :source, :left_out,
      :continuable, :sources, :tokens_in, :tokens_out, :seconds, :speaking, :estimated, :context_used, :context_limit, *
    FROM ({message_tree.PLACE})"""  # noqa: S608 - a constant
NO_USAGE = {**room_rows.NO_USAGE, "context_used": 0, "context_limit": 0}

# A file of others: what its schema may do to a query, and how many steps SQLite may take for each of its bytes.
TABLES = ("room", "messages", "files", "parts")  # parts refer to those before
FIRST_WITH_FILES = 6  # the schema version
READABLE = {*TABLES, "sqlite_sequence", "sqlite_schema", "sqlite_master"}
STEPS_PER_BYTE = 20
MIN_STEPS = 2_000_000
STEPS_BETWEEN_CHECKS = 10_000

T = TypeVar("T")
C = TypeVar("C", bound=str)


class UnreadableExport(Exception):
    """The export cannot be read. The message is a sentence that begins with the place, such as `messages[3].parent`."""


@dataclass(frozen=True, slots=True)
class ImportedRoom:
    """What is in the new file: the name, the number of messages in all versions, and the time the room was created.

    `room_id` is the id that the room had where it was exported, or empty. The time is in UTC milliseconds.
    """

    name: str
    messages: int
    created_at: int
    room_id: str


@dataclass(frozen=True, slots=True)
class Export:
    """The items of an export, unchecked, in the form of `room_json`. The content of a file is base64 or bytes."""

    room: object
    files: Iterable[object]
    messages: Iterable[object]


def write_room_from_json(item: Mapping[str, Any], path: Path, *, source: str) -> ImportedRoom:
    """Write a room's file at `path`, where there is none, from a parsed `.json` export.

    `source` becomes the room's source. Messages without a source get their number as one. Raises UnreadableExport, or
    StorageError if the file cannot be written; then there is none.
    """
    fields = Fields(item, "")
    if fields.text("format") != room_json.FORMAT:
        raise UnreadableExport(f"format must be {room_json.FORMAT}: this is no room that Overseer exported.")
    if fields.integer("version", 1, MAX_NUMBER) > room_json.VERSION:
        raise UnreadableExport("version is newer than this Overseer can read. Update Overseer to import it.")
    return _write(Export(item, fields.array("files"), fields.array("messages")), path, source)


def write_room_from_sqlite(given: Path, path: Path, *, source: str) -> ImportedRoom:
    """Write a room's file at `path`, where there is none, from a room's file of any schema version.

    `given` is read as data and not changed; see `write_room_from_json`.
    """
    with closing(_open_foreign(given)) as db:
        version = _version(db, given)
        if version == len(MIGRATIONS):
            return _write(_read(db), path, source)
        older = beside(path, ".older")
        remove(older)  # a crash may have left it
        storage = Storage(older)
        try:
            _copy_older(db, storage, version)
            with storage.read() as migrated:
                return _write(_read(migrated), path, source)
        finally:
            storage.close()
            remove(older)


class Fields:
    """An object of the export. Each method returns one field, or raises UnreadableExport with its place.

    A field that is missing or null has its default; without one, it is required.
    """

    def __init__(self, value: object, place: str) -> None:
        self._place = place
        if not isinstance(value, Mapping):
            raise UnreadableExport(f"{place or 'The export'} must be an object.")
        self._values = value

    def place(self, name: str) -> str:
        """Return where a field is."""
        return f"{self._place}.{name}" if self._place else name

    def error(self, name: str, sentence: str) -> UnreadableExport:
        """Return the error for a field: its place and what it must be."""
        return UnreadableExport(f"{self.place(name)} {sentence}.")

    def text(self, name: str, limit: int = MAX_SHORT_CHARS, *, default: str | None = None) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.error(name, "must be a text")
        if len(value) > limit:
            raise self.error(name, f"must have at most {limit:,} characters")
        return clean(value)

    def matching(self, name: str, pattern: re.Pattern[str], *, default: str | None = None) -> str:
        value = self.text(name, default=default)
        if value != default and not pattern.fullmatch(value):
            raise self.error(name, "is not in the right form")
        return value

    def choice(self, name: str, choices: tuple[C, ...], *, default: str | None = None) -> C:
        value = self._value(name, default)
        for one in choices:
            if one == value:
                return one
        raise self.error(name, f"must be one of: {', '.join(choices)}")

    def integer(self, name: str, low: int, high: int, *, default: int | None = None) -> int:
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(name, f"must be a whole number from {low} to {high}")
        return value

    def number(self, name: str, high: float) -> float | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= high:
            raise self.error(name, f"must be a number from 0 to {high:g}")
        return float(value)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "must be true or false")
        return value

    def array(self, name: str, limit: float = math.inf) -> list[object]:
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > limit:
            raise self.error(name, "must be an array" + (f" of at most {limit:,}" if limit < math.inf else ""))
        found: list[object] = value
        return found

    def objects(self, name: str, limit: float = math.inf) -> Iterator[Fields]:
        for index, value in enumerate(self.array(name, limit)):
            yield Fields(value, f"{self.place(name)}[{index}]")

    def nested(self, name: str) -> Fields | None:
        value = self._values.get(name)
        return None if value is None else Fields(value, self.place(name))

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def content(self, name: str) -> bytes:
        """Return bytes, which JSON has in base64."""
        value = self._value(name, None)
        if isinstance(value, str) and len(value) <= MAX_FILE_BYTES * 4 / 3 + 4:
            with suppress(ValueError):
                value = b64decode(value, validate=True)
        if not isinstance(value, bytes) or len(value) > MAX_FILE_BYTES:
            raise self.error(name, f"must be base64 of at most {MAX_FILE_BYTES:,} bytes")
        return value

    def _value(self, name: str, default: object) -> object:
        value = self._values.get(name)
        if value is None:
            if default is None:
                raise self.error(name, "is missing")
            return default
        return value


def _write(export: Export, path: Path, source: str) -> ImportedRoom:
    """Write the file in one transaction."""
    path.touch(PRIVATE_MODE, exist_ok=False)
    storage = Storage(path)
    try:
        storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=True)
        with storage.write() as db:
            imported = _insert_all(db, export, source)
        storage.close()
    except BaseException:
        with suppress(StorageError):
            storage.close()
        remove(path)
        raise
    return imported


def _insert_all(db: sqlite3.Connection, export: Export, source: str) -> ImportedRoom:
    room = Fields(export.room, "")
    name = _insert_room(db, room, source)
    for index, item in enumerate(export.files):
        _insert_file(db, Fields(item, f"files[{index}]"))
    count = last = 0
    for index, item in enumerate(export.messages):
        last, count = _insert_message(db, Fields(item, f"messages[{index}]"), last), index + 1
    db.execute("DELETE FROM files WHERE sha256 NOT IN (SELECT file FROM parts WHERE file IS NOT NULL)")
    # One that another message has as its own source stays without.
    db.execute("UPDATE OR IGNORE messages SET source = 'overseer:' || number WHERE source IS NULL")
    head = room.integer("head", 1, MAX_NUMBER) if count or room.has("head") else None
    if head is not None and not _exists(db, head):
        raise room.error("head", "must be the number of a message")
    db.execute("UPDATE room SET head = ?", (head,))
    message_tree.count_hidden(db)
    last = max(last, room.integer("last_number", 0, MAX_NUMBER, default=0))
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'messages'")
    if last:
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('messages', ?)", (last,))
    created_at = room.integer("created_at", 0, MAX_MS)
    return ImportedRoom(name, count, created_at, room.matching("id", ROOM_ID, default=""))


def _insert_room(db: sqlite3.Connection, room: Fields, source: str) -> str:
    try:
        name = room_name(room.text("name"))
    except Invalid as error:
        raise UnreadableExport(f"name is no name of a room. {error}") from None
    settings = room.nested("settings") or Fields({}, "settings")
    values = {
        "name": name,
        "named_by": room.choice("named_by", NAMED_BY, default="person"),
        "created_at": room.integer("created_at", 0, MAX_MS),
        "model": settings.text("model", MAX_MODEL_CHARS, default=""),
        "system_prompt": settings.text("system_prompt", MAX_SYSTEM_PROMPT_CHARS, default=""),
        "temperature": settings.number("temperature", MAX_TEMPERATURE),
        "pinned": settings.flag("pinned", default=False),
        "archived": room.flag("archived", default=False),
        "source": source,
        "forked_from": room.matching("forked_from", ROOM_ID, default=""),
        "forked_at": room.integer("forked_at", 1, MAX_NUMBER) if room.has("forked_at") else None,
        "reads_from": room.integer("context_start", 0, MAX_NUMBER, default=0),
    }
    db.execute(
        f"INSERT INTO room (one, {', '.join(values)}) VALUES (1, :{', :'.join(values)})",  # noqa: S608 - constants
        values,
    )
    return name


def _insert_file(db: sqlite3.Connection, file: Fields) -> None:
    content, sha256 = file.content("content"), file.matching("sha256", SHA256)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise file.error("sha256", "is not that of the content: the file was changed or damaged")
    if _found(db, "SELECT 1 FROM files WHERE sha256 = ?", sha256):
        raise file.error("sha256", "is there twice")
    db.execute(
        "INSERT INTO files (sha256, media_type, width, height, created_at, content) VALUES (?, ?, ?, ?, ?, ?)",
        (
            sha256,
            file.matching("media_type", MEDIA_TYPE),
            file.integer("width", 0, MAX_COUNT, default=0),
            file.integer("height", 0, MAX_COUNT, default=0),
            file.integer("created_at", 0, MAX_MS, default=0),
            content,
        ),
    )


def _insert_message(db: sqlite3.Connection, message: Fields, last: int) -> int:
    """Insert a message and return its number, which must be higher than `last`."""
    number = message.integer("number", 1, MAX_NUMBER)
    if number <= last:
        raise message.error("number", f"must be higher than that of the message before, {last}")
    parent = message.integer("parent", 1, MAX_NUMBER) if message.has("parent") else None
    if parent is not None and not (parent < number and _exists(db, parent)):
        raise message.error("parent", "must be the number of an older message")
    role, state, reason = (
        message.choice("role", ROLES),
        message.choice("state", STATES),
        message.text("reason", default=""),
    )
    if role == "user" and state != "complete":
        raise message.error("state", "must be complete for a question")
    if state in UNFINISHED:
        state, reason = "interrupted", INTERRUPTED
    source = message.text("source", default="") or None
    if source and _found(db, "SELECT 1 FROM messages WHERE source = ?", source):
        raise message.error("source", "is that of another message too")
    db.execute(
        INSERT_MESSAGE,
        {
            "number": number,
            "role": role,
            "state": state,
            "reason": reason,
            "model": message.text("model", default=""),
            "asked_model": message.text("asked_model", default=""),
            "lane": _lane(db, message, role, parent),
            "created_at": message.integer("created_at", 0, MAX_MS),
            "ended_at": message.integer("ended_at", 0, MAX_MS) if message.has("ended_at") else None,
            "source": source,
            "left_out": _left_out(message),
            "continuable": message.flag("continuable", default=True),
            "sources": _sources(message),
            **_usage(message.nested("usage")),
            "parent": parent,
        },
    )
    parts = [_part(db, part) for part in message.objects("parts", MAX_PARTS)]
    room_rows.upsert_parts(db, number, [abandon_if_running(part) for part in parts])
    return number


def _lane(db: sqlite3.Connection, message: Fields, role: str, parent: int | None) -> int | None:
    if not message.has("lane"):
        return None
    lane = message.integer("lane", 1, MAX_LANES)
    if role != "assistant" or parent is None:
        raise message.error("lane", "must be of an answer to a question")
    if _found(db, "SELECT 1 FROM messages WHERE parent = ? AND lane = ?", parent, lane):
        raise message.error("lane", "is that of another answer too")
    return lane


def _left_out(message: Fields) -> str:
    names = message.array("left_out", 100)
    if not all(isinstance(name, str) and LEFT_OUT.fullmatch(name) for name in names):
        raise message.error("left_out", "must be names of small letters and underscores")
    return room_rows.encode_names({str(name) for name in names})


def _sources(message: Fields) -> str:
    found = []
    for one in message.objects("sources", 1000):
        url, title = one.text("url"), one.text("title", default="")
        parts = split_url(url)
        if parts is None or parts.scheme not in ("http", "https"):
            raise one.error("url", "must be an http or https address")
        found.append([url, title])
    return json.dumps(found, ensure_ascii=False) if found else ""


def _usage(usage: Fields | None) -> dict[str, object]:
    if usage is None:
        return NO_USAGE
    tokens = ("tokens_in", "tokens_out", "context_used", "context_limit")
    return {
        **{name: usage.integer(name, 0, MAX_COUNT, default=0) for name in tokens},
        **{name: usage.number(name, MAX_SECONDS) or 0.0 for name in ("seconds", "speaking")},
        "estimated": usage.flag("estimated", default=False),
    }


def _part(db: sqlite3.Connection, part: Fields) -> Part:
    kind = part.choice("kind", ("text", "reasoning", "tool_call", "file"))
    if kind == "text":
        return Text(part.text("text", MAX_TEXT_CHARS))
    if kind == "reasoning":
        return Reasoning(part.text("text", MAX_TEXT_CHARS), part.number("seconds", MAX_SECONDS))
    if kind == "tool_call":
        return ToolCall(
            call_id=part.text("id"),
            name=part.text("name"),
            arguments=part.text("arguments", MAX_TEXT_CHARS),
            result=part.text("result", MAX_TEXT_CHARS, default=""),
            state=part.choice("state", CALL_STATES),
            extra=part.text("extra", MAX_TEXT_CHARS, default=""),
        )
    sha256 = part.matching("sha256", SHA256)
    if not _found(db, "SELECT 1 FROM files WHERE sha256 = ?", sha256):
        raise part.error("sha256", "must be that of one of the files")
    return File(sha256, "", part.text("text", MAX_TEXT_CHARS, default=""), name=part.text("name", default=""))


def _exists(db: sqlite3.Connection, number: int) -> bool:
    return _found(db, "SELECT 1 FROM messages WHERE number = ?", number)


def _found(db: sqlite3.Connection, query: str, *values: object) -> bool:
    return db.execute(query, values).fetchone() is not None


# Files of others


def _open_foreign(path: Path) -> sqlite3.Connection:
    """Open a file that may be made to attack SQLite: for reading, without its views, triggers and functions."""
    with _reading():
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        db.row_factory = sqlite3.Row
        db.text_factory = lambda value: value.decode(errors="replace")
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_FILE_BYTES + 2**20)
        with _reading():
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "query_only = ON"):
                db.execute(f"PRAGMA {pragma}").fetchall()
        return db
    except BaseException:
        db.close()
        raise


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of a room's file, and from then on, let its tables only be read, for a limited time."""
    with _reading():
        owner: int = db.execute("PRAGMA application_id").fetchone()[0]
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if owner != APPLICATION_ID or version < 1:
            raise UnreadableExport("The file is no room of Overseer.")
        if version > len(MIGRATIONS):
            raise UnreadableExport("The file was written by a newer version of Overseer. Update Overseer to import it.")
        left = [max(MIN_STEPS, STEPS_PER_BYTE * path.stat().st_size) // STEPS_BETWEEN_CHECKS]
        db.set_progress_handler(lambda: _take_step(left), STEPS_BETWEEN_CHECKS)
        tables = {row["name"] for row in db.execute("SELECT * FROM sqlite_schema") if _is_table(row)}
        for name in _tables(version):
            if name not in tables or any(row["hidden"] for row in db.execute(f"PRAGMA table_xinfo({name})")):
                raise UnreadableExport(f"The file has no table {name} as Overseer makes it.")
        db.set_authorizer(_authorize)
    return version


def _is_table(row: sqlite3.Row) -> bool:
    """Return whether a row of the schema is a table with rows, not a view or a virtual table."""
    is_created = re.match(r"create\s+table\b", str(row["sql"]), re.I)
    return bool(row["type"] == "table" and row["rootpage"] and is_created)


def _tables(version: int) -> tuple[str, ...]:
    return tuple(table for table in TABLES if table != "files" or version >= FIRST_WITH_FILES)


def _take_step(left: list[int]) -> int:
    left[0] -= 1
    return left[0] < 0


def _authorize(action: int, table: str | None, column: str | None, database: str | None, view: str | None) -> int:
    is_read = action == sqlite3.SQLITE_READ and table in READABLE and view is None
    return sqlite3.SQLITE_OK if is_read or action == sqlite3.SQLITE_SELECT else sqlite3.SQLITE_DENY


def _read(db: sqlite3.Connection) -> Export:
    with _reading():
        room = room_json.room_item(db)
    return Export(room, _each(lambda: room_json.file_items(db)), _each(lambda: room_json.message_items(db)))


def _each(items: Callable[[], Iterator[T]]) -> Iterator[T]:
    with _reading():
        yield from items()


@contextmanager
def _reading() -> Iterator[None]:
    """Raise UnreadableExport for what goes wrong while a file of others is read."""
    try:
        yield
    except (sqlite3.Error, AttributeError, RecursionError, *UNREADABLE) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise UnreadableExport("The file takes too long to read: it is no ordinary room.") from error
        raise UnreadableExport("The file is damaged, or it is no room of Overseer.") from error


def _copy_older(given: sqlite3.Connection, storage: Storage, version: int) -> None:
    """Copy the rows of a file with an older schema into a new one, and migrate that."""
    try:
        storage.migrate(MIGRATIONS[:version], application_id=APPLICATION_ID, create=True)
        with storage.write() as db:
            for table in _tables(version):
                names = ", ".join(row["name"] for row in db.execute(f"PRAGMA table_info({table})"))
                values = ", ".join("?" * (names.count(",") + 1))
                rows = _each(lambda: given.execute(f"SELECT {names} FROM {table}"))  # noqa: S608, B023 - names of ours
                db.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)  # noqa: S608 - names of ours
        storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=False)
    except StorageUnavailable:
        raise
    except StorageError as error:
        raise UnreadableExport("The file is damaged, or it is no room of Overseer.") from error
