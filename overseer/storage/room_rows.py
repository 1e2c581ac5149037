"""Statements on the tables of a room's file. The caller begins and commits the transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from types import UnionType

from overseer.domain.messages import (
    UNFINISHED,
    File,
    Message,
    Part,
    Reasoning,
    Source,
    State,
    Text,
    ToolCall,
    Usage,
    Versions,
)
from overseer.domain.settings import MAX_LANES
from overseer.storage import message_tree

SELECT_MESSAGES = """
    WITH RECURSIVE {up}
    SELECT m.*,
      (SELECT count(*) FROM messages v WHERE v.parent IS m.parent) AS versions,
      (SELECT count(*) FROM messages v WHERE v.parent IS m.parent AND v.number <= m.number) AS version,
      (SELECT max(number) FROM messages v WHERE v.parent IS m.parent AND v.number < m.number) AS earlier,
      (SELECT min(number) FROM messages v WHERE v.parent IS m.parent AND v.number > m.number) AS later
    FROM messages m WHERE m.number IN (SELECT number FROM up) ORDER BY m.number"""
SELECT_PATH = SELECT_MESSAGES.format(up=message_tree.UP)
SELECT_HISTORY = SELECT_MESSAGES.format(up=message_tree.UP_WITHIN)
# The answers to the questions ? (JSON) that are shown side by side.
SELECT_BESIDE = SELECT_MESSAGES.format(
    up="""
    up (number) AS (
      SELECT number FROM messages
      WHERE parent IN (SELECT value FROM json_each(?)) AND lane IS NOT NULL ORDER BY number LIMIT ?)"""
)

SELECT_PARTS = """
    SELECT parts.*, media_type, width, height FROM parts LEFT JOIN files ON sha256 = file
    WHERE message IN (SELECT value FROM json_each(?)) ORDER BY message, position"""

INSERT_EXCHANGE = f"""
    WITH question (parent, depth, jump) AS ({message_tree.PLACE}),
      answer (depth, jump) AS (
        SELECT q.depth + 1,
          CASE WHEN q.depth - j.depth = j.depth - k.depth THEN k.number ELSE :question END
        FROM question q LEFT JOIN messages j ON j.number = q.jump LEFT JOIN messages k ON k.number = j.jump)
    INSERT INTO messages (number, role, state, key, created_at, parent, depth, jump, asked_model, lane)
    SELECT :question, 'user', 'complete', :key, :now, *, '', NULL FROM question
    UNION ALL
    SELECT :question + 1 + key, 'assistant', 'waiting', NULL, :now, :question, depth, jump, value,
      CASE WHEN json_array_length(:models) > 1 THEN key + 1 END
    FROM answer, json_each(:models)"""  # noqa: S608 - a constant

INSERT_ANSWER = f"""
    INSERT INTO messages (role, state, created_at, parent, depth, jump, asked_model, lane)
    SELECT 'assistant', 'waiting', :now, *, :model, :lane FROM ({message_tree.PLACE})"""  # noqa: S608 - a constant

FINISH = """
    UPDATE messages SET state = :state, reason = :reason, model = coalesce(:model, model), ended_at = :now,
      left_out = coalesce(:left_out, left_out), sources = coalesce(:sources, sources), continuable = :continuable,
      tokens_in = coalesce(:tokens_in, tokens_in), tokens_out = coalesce(:tokens_out, tokens_out),
      seconds = coalesce(:seconds, seconds), speaking = coalesce(:speaking, speaking),
      estimated = coalesce(:estimated, estimated), context_used = coalesce(:context_used, context_used),
      context_limit = coalesce(:context_limit, context_limit)
    WHERE number = :number"""
NO_USAGE = dict.fromkeys(field.name for field in fields(Usage))


def now() -> int:
    """Return the current time in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def insert_exchange(
    db: sqlite3.Connection,
    question: int,
    *,
    parent: int | None,
    key: str | None,
    text: str,
    models: Sequence[str] = ("",),
) -> tuple[Message, ...]:
    """Insert a question with this number, and an empty answer of each model with the next ones.

    Return them as they are stored if the question has no other version.
    """
    at, count = now(), len(models)
    values = {"question": question, "parent": parent, "key": key, "now": at, "models": json.dumps(list(models))}
    db.execute(INSERT_EXCHANGE, values)
    upsert_parts(db, question, [Text(text)])
    answers = (
        Message(
            number=question + lane,
            role="assistant",
            state="waiting",
            parts=(),
            created_at=at,
            parent=question,
            versions=Versions(
                lane, count, question + lane - 1 if lane > 1 else None, question + lane + 1 if lane < count else None
            ),
            asked_model=model,
            lane=lane if count > 1 else None,
        )
        for lane, model in enumerate(models, 1)
    )
    return Message(question, "user", "complete", (Text(text),), created_at=at, parent=parent), *answers


def insert_answer(db: sqlite3.Connection, question: int, *, model: str = "", lane: int | None = None) -> int:
    """Insert another empty answer to a question and return its number."""
    done = db.execute(INSERT_ANSWER, {"parent": question, "now": now(), "model": model, "lane": lane})
    assert done.lastrowid is not None
    return done.lastrowid


def upsert_parts(db: sqlite3.Connection, number: int, parts: Sequence[Part], first: int = 0) -> None:
    """Insert or replace the parts of a message from position `first` on. `parts` holds all of them."""
    db.executemany(
        "INSERT OR REPLACE INTO parts (message, position, kind, text, call, file, seconds, name)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(number, position, part.kind, *_columns(part)) for position, part in enumerate(parts) if position >= first],
    )


def _columns(part: Part) -> tuple[str, str | None, str | None, float | None, str]:
    if isinstance(part, File):
        return part.text, None, part.sha256, None, part.name
    if isinstance(part, Reasoning):
        return part.text, None, None, part.seconds, ""
    if not isinstance(part, ToolCall):
        return part.text, None, None, None, ""
    call = {"id": part.call_id, "name": part.name, "arguments": part.arguments, "state": part.state}
    if part.extra:
        call["extra"] = part.extra
    return part.result, json.dumps(call), None, None, ""


def _part(row: sqlite3.Row) -> Part:
    require(row, str, "text")
    if row["kind"] == "text":
        return Text(row["text"])
    if row["kind"] == "reasoning":
        return Reasoning(row["text"], row["seconds"])
    if row["kind"] == "file":
        return File(
            row["file"], row["media_type"] or "", row["text"], row["width"] or 0, row["height"] or 0, row["name"]
        )
    call = json.loads(row["call"])
    return ToolCall(call["id"], call["name"], call["arguments"], row["text"], call["state"], call.get("extra", ""))


def select_message(db: sqlite3.Connection, number: int) -> Message | None:
    """Return a message with its parts."""
    return next(iter(select_path(db, number, 1)), None)


def select_path(db: sqlite3.Connection, number: int | None, limit: int) -> list[Message]:
    """Return a message and those it follows, at most `limit`, in reading order, with their parts."""
    return _with_parts(db, db.execute(SELECT_PATH, (number, limit)).fetchall()) if number and limit > 0 else []


def read_all(db: sqlite3.Connection) -> None:
    """Read every message. Raises TypeError or ValueError for a value that cannot be read."""
    for (number,) in db.execute("SELECT number FROM messages").fetchall():
        select_message(db, number)


def select_history(db: sqlite3.Connection, number: int, tokens: int) -> list[Message]:
    """Return a message and those it follows, in reading order: at least as many as have `tokens` estimated tokens.

    In two statements, whatever their number; a token is at least four characters in the estimate.
    """
    return _with_parts(db, db.execute(SELECT_HISTORY, (number, max(1, 4 * tokens))).fetchall())


def select_beside(db: sqlite3.Connection, questions: Sequence[int]) -> dict[int, tuple[Message, ...]]:
    """Return the answers to each question that are shown side by side, in their order. Most questions have none."""
    found: dict[int, list[Message]] = {}
    limit = MAX_LANES * len(questions)  # another program may have stored more
    for message in _with_parts(db, db.execute(SELECT_BESIDE, (json.dumps(questions), limit)).fetchall()):
        if message.parent is not None and message.lane is not None:
            found.setdefault(message.parent, []).append(message)
    in_order = {question: tuple(sorted(some, key=lambda one: one.lane or 0)) for question, some in found.items()}
    return {question: some for question, some in in_order.items() if len(some) > 1}


def _with_parts(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[Message]:
    parts: dict[int, list[Part]] = {}
    for row in db.execute(SELECT_PARTS, (json.dumps([row["number"] for row in rows]),)):
        parts.setdefault(row["message"], []).append(_part(row))
    return [_message(row, parts.get(row["number"], ())) for row in rows]


def _message(row: sqlite3.Row, parts: Sequence[Part]) -> Message:
    require(row, str, "role", "state", "reason", "model", "asked_model", "left_out", "sources")
    require(row, int, "created_at")
    require(row, int | None, "parent", "ended_at", "lane")
    return Message(
        number=row["number"],
        role=row["role"],
        state=row["state"],
        parts=tuple(parts),
        reason=row["reason"],
        model=row["model"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        usage=_usage(row),
        left_out=frozenset(filter(None, row["left_out"].split(","))),
        continuable=bool(row["continuable"]),
        sources=tuple(Source(*one) for one in json.loads(row["sources"])) if row["sources"] else (),
        parent=row["parent"],
        versions=Versions(row["version"], row["versions"], row["earlier"], row["later"]),
        asked_model=row["asked_model"],
        lane=row["lane"],
    )


def require(row: sqlite3.Row, kind: type | UnionType, *columns: str) -> None:
    """Raise TypeError if a value is of another kind, which SQLite lets another program store."""
    for column in columns:
        if not isinstance(row[column], kind):
            raise TypeError(f"{column} is {type(row[column]).__name__} instead of {kind}")


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


def empty_answer(db: sqlite3.Connection, number: int, *, model: str) -> None:
    """Mark an answer without parts as waiting, as if it were new and this model was asked."""
    db.execute(
        "UPDATE messages SET model = '', tokens_out = NULL, left_out = '', sources = '', created_at = ?,"
        " asked_model = ? WHERE number = ?",
        (now(), model, number),
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
    sources: Sequence[Source] = (),
    usage: Usage | None = None,
) -> None:
    """Set the final state of an answer. What is None or empty keeps its value."""
    db.execute(
        FINISH,
        {
            **(asdict(usage) if usage else NO_USAGE),
            "number": number,
            "state": state,
            "reason": reason,
            "model": model,
            "left_out": None if left_out is None else encode_names(left_out),
            "continuable": continuable,
            "sources": encode_sources(sources),
            "now": now(),
        },
    )


def encode_names(names: Collection[str]) -> str:
    """Encode the names of rejected request parameters for the column `left_out`."""
    return ",".join(sorted(names))


def encode_sources(sources: Sequence[Source]) -> str | None:
    """Encode cited pages for the column `sources`; None if there are none."""
    return json.dumps([[one.url, one.title] for one in sources], ensure_ascii=False) if sources else None


def unfinished_numbers(db: sqlite3.Connection, limit: int = -1) -> list[int]:
    """Return the numbers of the answers that wait or stream, at most `limit` of them; -1 means no limit."""
    found = db.execute(
        f"SELECT number FROM messages WHERE state IN {UNFINISHED} ORDER BY number LIMIT ?",  # noqa: S608 - a constant
        (limit,),
    )
    return [row["number"] for row in found]
