"""Statements on the tables of a room's file. The caller begins and commits the transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, repeat

from overseer.domain.messages import UNFINISHED, File, Message, Part, Reasoning, Source, State, Text, ToolCall, Usage

SELECT_PARTS = """
    SELECT parts.*, media_type, width, height FROM parts LEFT JOIN files ON sha256 = file
    WHERE message BETWEEN ? AND ? ORDER BY message, position"""


def now() -> int:
    """Return the current time in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def insert_message(db: sqlite3.Connection, role: str, state: State, key: str | None) -> int:
    """Insert a message without parts and return its number."""
    done = db.execute(
        "INSERT INTO messages (role, state, key, created_at) VALUES (?, ?, ?, ?)", (role, state, key, now())
    )
    assert done.lastrowid is not None
    return done.lastrowid


def upsert_parts(db: sqlite3.Connection, number: int, parts: Sequence[Part], first: int = 0) -> None:
    """Insert or replace the parts of a message from position `first` on. `parts` holds all of them."""
    db.executemany(
        "INSERT OR REPLACE INTO parts (message, position, kind, text, call, file, seconds)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(number, position, part.kind, *_columns(part)) for position, part in enumerate(parts) if position >= first],
    )


def _columns(part: Part) -> tuple[str, str | None, str | None, float | None]:
    if isinstance(part, File):
        return part.text, None, part.sha256, None
    if isinstance(part, Reasoning):
        return part.text, None, None, part.seconds
    if not isinstance(part, ToolCall):
        return part.text, None, None, None
    call = {"id": part.call_id, "name": part.name, "arguments": part.arguments, "state": part.state}
    if part.extra:
        call["extra"] = part.extra
    return part.result, json.dumps(call), None, None


def _part(row: sqlite3.Row) -> Part:
    if row["kind"] == "text":
        return Text(row["text"])
    if row["kind"] == "reasoning":
        return Reasoning(row["text"], row["seconds"])
    if row["kind"] == "file":
        return File(row["file"], row["media_type"] or "", row["text"], row["width"] or 0, row["height"] or 0)
    call = json.loads(row["call"])
    return ToolCall(call["id"], call["name"], call["arguments"], row["text"], call["state"], call.get("extra", ""))


def select_messages(db: sqlite3.Connection, numbers: Sequence[int]) -> Iterable[Message]:
    """Yield the messages from the first to the last of `numbers`, which are ascending, with their parts."""
    if not numbers:
        return
    span = (numbers[0], numbers[-1])
    parts: dict[int, list[Part]] = {}
    for row in db.execute(SELECT_PARTS, span):
        parts.setdefault(row["message"], []).append(_part(row))
    for row in db.execute("SELECT * FROM messages WHERE number BETWEEN ? AND ? ORDER BY number", span):
        yield Message(
            number=row["number"],
            role=row["role"],
            state=row["state"],
            parts=tuple(parts.get(row["number"], ())),
            reason=row["reason"],
            model=row["model"],
            created_at=row["created_at"],
            ended_at=row["ended_at"],
            usage=_usage(row),
            left_out=frozenset(filter(None, row["left_out"].split(","))),
            continuable=bool(row["continuable"]),
            sources=tuple(Source(*one) for one in json.loads(row["sources"])) if row["sources"] else (),
        )


def _usage(row: sqlite3.Row) -> Usage | None:
    if row["tokens_out"] is None:
        return None
    return Usage(
        row["tokens_in"],
        row["tokens_out"],
        row["seconds"],
        row["speaking"],
        bool(row["estimated"]),
        row["context_used"],
        row["context_limit"],
    )


def insert_file(db: sqlite3.Connection, file: File, content: bytes) -> None:
    """Insert a file, unless it is there already."""
    db.execute(
        "INSERT OR IGNORE INTO files (sha256, media_type, width, height, created_at, content)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (file.sha256, file.media_type, file.width, file.height, now(), content),
    )


def reset_answer(db: sqlite3.Connection, number: int) -> None:
    """Delete the parts of an answer and mark it as waiting."""
    db.execute("DELETE FROM parts WHERE message = ?", (number,))
    db.execute(
        "UPDATE messages SET model = '', tokens_out = NULL, left_out = '', sources = '', created_at = ?"
        " WHERE number = ?",
        (now(), number),
    )
    mark_waiting(db, number)


def mark_waiting(db: sqlite3.Connection, number: int) -> None:
    """Set the state of an answer to waiting and keep its parts."""
    db.execute(
        "UPDATE messages SET state = 'waiting', reason = '', ended_at = NULL, continuable = 1 WHERE number = ?",
        (number,),
    )


def mark_finished(
    db: sqlite3.Connection,
    number: int,
    state: State,
    reason: str,
    *,
    model: str | None = None,
    left_out: Collection[str] | None = None,
    continuable: bool = True,
) -> None:
    """Set the final state of an answer. `model` and `left_out` keep their values if they are None."""
    db.execute(
        "UPDATE messages SET state = ?, reason = ?, model = coalesce(?, model), left_out = coalesce(?, left_out),"
        " ended_at = ?, continuable = ? WHERE number = ?",
        (state, reason, model, None if left_out is None else encode_names(left_out), now(), continuable, number),
    )


def encode_names(names: Collection[str]) -> str:
    """Encode the names of rejected request parameters for the column `left_out`."""
    return ",".join(sorted(names))


def set_usage(db: sqlite3.Connection, number: int, usage: Usage) -> None:
    """Store the tokens and seconds that an answer took."""
    db.execute(
        "UPDATE messages SET tokens_in = :tokens_in, tokens_out = :tokens_out, seconds = :seconds,"
        " speaking = :speaking, estimated = :estimated, context_used = :context_used, context_limit = :context_limit"
        " WHERE number = :number",
        {**asdict(usage), "number": number},
    )


def set_sources(db: sqlite3.Connection, number: int, sources: Sequence[Source]) -> None:
    """Store the pages that an answer cites."""
    encoded = json.dumps([[source.url, source.title] for source in sources], ensure_ascii=False)
    db.execute("UPDATE messages SET sources = ? WHERE number = ?", (encoded, number))


def unfinished_numbers(db: sqlite3.Connection, limit: int = -1) -> list[int]:
    """Return the numbers of the answers that wait or stream, at most `limit` of them; -1 means no limit."""
    found = db.execute(
        f"SELECT number FROM messages WHERE state IN {UNFINISHED} ORDER BY number LIMIT ?",  # noqa: S608 - a constant
        (limit,),
    )
    return [row["number"] for row in found]


def iterate_backwards(db: sqlite3.Connection, below: int) -> Iterator[Message]:
    """Yield the messages below a number in descending order.

    Reads in batches that grow, because the caller may stop after a few.
    """
    for count in chain((4, 8, 16, 32, 64), repeat(100)):
        found = db.execute("SELECT number FROM messages WHERE number < ? ORDER BY number DESC LIMIT ?", (below, count))
        numbers = [row["number"] for row in found]
        if not numbers:
            return
        yield from reversed(list(select_messages(db, numbers[::-1])))
        below = numbers[-1]


def context_start(db: sqlite3.Connection) -> int:
    """Return the number of the first message that the model receives; 0 means all messages."""
    row = db.execute("SELECT reads_from FROM room").fetchone()
    return row["reads_from"] if row else 0


def first_number(db: sqlite3.Connection) -> int:
    """Return the number of the first message, or 0."""
    return db.execute("SELECT min(number) FROM messages").fetchone()[0] or 0


def last_number(db: sqlite3.Connection) -> int:
    """Return the number of the last message, or 0."""
    return db.execute("SELECT max(number) FROM messages").fetchone()[0] or 0
