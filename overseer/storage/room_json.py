"""A room as JSON: everything that its file has, except for idempotency keys and shares. See docs/formats.md.

`room_item`, `message_items` and `file_items` also read files of others: they call no SQL function and name each column.
"""

from __future__ import annotations

import json
import math
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

FORMAT = "overseer-room"
VERSION = 1
BASE64_BYTES = 3 * 2**16  # that are encoded at once, a multiple of 3

Item = dict[str, Any]

SELECT_ROOM = """
    SELECT name, named_by, created_at, model, system_prompt, temperature, pinned, archived, source, forked_from,
      forked_at, reads_from, head
    FROM room"""
SELECT_MESSAGES = """
    SELECT number, parent, role, state, reason, model, asked_model, lane, created_at, ended_at, source, left_out,
      continuable, sources, tokens_in, tokens_out, seconds, speaking, estimated, context_used, context_limit
    FROM messages"""
SELECT_PARTS = "SELECT kind, text, call, file, seconds, name FROM parts WHERE message = ? ORDER BY position"
SELECT_FILES = "SELECT sha256, media_type, width, height, created_at, content FROM files ORDER BY sha256"


def encode(db: sqlite3.Connection, room_id: str) -> Iterator[str]:
    """Yield the room as one JSON object, in pieces of about one message or 256 KiB of a file."""
    head = _dump({"format": FORMAT, "version": VERSION, "id": room_id, **room_item(db)})
    yield head[:-1] + ',"messages":['
    for count, message in enumerate(message_items(db)):
        yield (",\n" if count else "\n") + _dump(message)
    yield '],"files":['
    for count, file in enumerate(file_items(db)):
        content = file.pop("content")
        yield (",\n" if count else "\n") + _dump(file)[:-1] + ',"content":"'
        for at in range(0, len(content), BASE64_BYTES):
            yield b64encode(content[at : at + BASE64_BYTES]).decode()
        yield '"}'
    yield "]}\n"


def room_item(db: sqlite3.Connection) -> Item:
    """Return the name, the settings and the head. Raises LookupError if there is no room in the file."""
    room = db.execute(SELECT_ROOM).fetchone()
    if room is None:
        raise LookupError("the file has no room")
    newest = db.execute("SELECT number FROM messages ORDER BY number DESC LIMIT 1").fetchone()
    has_head = db.execute("SELECT number FROM messages WHERE number = ?", (room["head"],)).fetchone()
    last_used = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return {
        "name": room["name"],
        "named_by": room["named_by"],
        "created_at": room["created_at"],
        "settings": {
            "model": room["model"],
            "system_prompt": room["system_prompt"],
            "temperature": _finite(room["temperature"]),
            "pinned": bool(room["pinned"]),
        },
        "archived": bool(room["archived"]),
        "source": room["source"],
        "forked_from": room["forked_from"],
        "forked_at": room["forked_at"],
        "context_start": room["reads_from"],
        # If another program has lost the head, the newest message is shown; see `message_tree.HEAD`.
        "head": room["head"] if has_head else newest["number"] if newest else None,
        "last_number": last_used["seq"] if last_used else 0,
    }


def message_items(db: sqlite3.Connection) -> Iterator[Item]:
    """Yield all messages in the order of their numbers."""
    for row in db.execute(f"{SELECT_MESSAGES} ORDER BY number"):
        yield _message(db, row)


def message_item(db: sqlite3.Connection, number: int) -> Item:
    """Return one message."""
    return _message(db, db.execute(f"{SELECT_MESSAGES} WHERE number = ?", (number,)).fetchone())


def file_items(db: sqlite3.Connection) -> Iterator[Item]:
    """Yield the files. Their `content` is bytes."""
    for row in db.execute(SELECT_FILES):
        yield {
            "sha256": row["sha256"],
            "media_type": row["media_type"],
            "width": row["width"],
            "height": row["height"],
            "created_at": row["created_at"],
            "size": len(row["content"]),
            "content": row["content"],
        }


def _message(db: sqlite3.Connection, row: sqlite3.Row) -> Item:
    return {
        "number": row["number"],
        "parent": row["parent"],
        "role": row["role"],
        "state": row["state"],
        "reason": row["reason"],
        "model": row["model"],
        "asked_model": row["asked_model"],
        "lane": row["lane"],
        "created_at": row["created_at"],
        "ended_at": row["ended_at"],
        "source": row["source"],
        "left_out": sorted(filter(None, row["left_out"].split(","))),
        "continuable": bool(row["continuable"]),
        "sources": [{"url": url, "title": title} for url, title in json.loads(row["sources"] or "[]")],
        "usage": _usage(row),
        "parts": [_part(part) for part in db.execute(SELECT_PARTS, (row["number"],))],
    }


def _usage(row: sqlite3.Row) -> Item | None:
    if row["tokens_out"] is None:
        return None
    return {
        "tokens_in": row["tokens_in"],
        "tokens_out": row["tokens_out"],
        "seconds": _finite(row["seconds"]),
        "speaking": _finite(row["speaking"]),
        "estimated": bool(row["estimated"]),
        "context_used": row["context_used"],
        "context_limit": row["context_limit"],
    }


def _part(row: sqlite3.Row) -> Item:
    kind, text = row["kind"], row["text"]
    if kind == "reasoning":
        return {"kind": kind, "text": text, "seconds": _finite(row["seconds"])}
    if kind == "file":
        return {"kind": kind, "sha256": row["file"], "name": row["name"], "text": text}
    if kind != "tool_call":
        return {"kind": kind, "text": text}
    call = json.loads(row["call"])
    return {
        "kind": kind,
        "id": call["id"],
        "name": call["name"],
        "arguments": call["arguments"],
        "result": text,
        "state": call["state"],
        "extra": call.get("extra", ""),
    }


def _finite(number: Any) -> Any:
    """Return None for an infinite number, which JSON does not have."""
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _dump(item: Item) -> str:
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
