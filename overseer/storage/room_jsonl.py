"""A room as JSON Lines, in the Session Trace Simple Format with all versions. See docs/formats.md.

https://huggingface.co/docs/hub/session-traces-format
"""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

from overseer.domain.messages import PICTURE_TYPES
from overseer.storage import message_tree
from overseer.storage.room_json import Item, message_item, room_item

HARNESS = "overseer"
SYSTEM_ID = "0"  # of the line with the system prompt
SELECT_PATH = f"WITH RECURSIVE {message_tree.UP} SELECT number FROM up ORDER BY number"  # noqa: S608 - a constant
SELECT_NUMBERS = "SELECT number FROM messages ORDER BY number"


def encode(db: sqlite3.Connection, room_id: str) -> Iterator[str]:
    """Yield the lines: the session, the messages of the shown path, and then those of other versions."""
    room = room_item(db)
    path = [row["number"] for row in db.execute(SELECT_PATH, (room["head"], -1))]
    shown = set(path)
    others = [row["number"] for row in db.execute(SELECT_NUMBERS) if row["number"] not in shown]
    prompt, last = room["settings"]["system_prompt"], message_item(db, path[-1]) if path else None
    yield _line(
        {
            "type": "session",
            "harness": HARNESS,
            "id": room_id,
            "name": room["name"],
            "timestamp": room["created_at"],
            "lastModified": (last["ended_at"] or last["created_at"]) if last else room["created_at"],
            "currNode": str(room["head"] or ""),
            "model": room["settings"]["model"],
        }
    )
    if prompt:
        system = {"role": "system", "content": prompt, "id": SYSTEM_ID, "parent": None, "timestamp": room["created_at"]}
        yield _line({"type": "message", "message": system})
    for kind, numbers in (("message", path), ("version", others)):
        for number in numbers:
            for message in _messages(db, message_item(db, number), first_parent=SYSTEM_ID if prompt else None):
                yield _line({"type": kind, "message": message})


def _messages(db: sqlite3.Connection, item: Item, *, first_parent: str | None) -> list[Item]:
    """Return a message in the shape of OpenAI's API: several, if the answer has tool calls.

    The last of them has the number as its id, so that what follows can name it.
    """
    found = [line for step in _steps(item["parts"]) for line in _step(db, item["role"], step)]
    number, parent = str(item["number"]), first_parent if item["parent"] is None else str(item["parent"])
    for place, line in enumerate(found, 1):
        line["id"] = number if place == len(found) else f"{number}.{place}"
        line["parent"], parent = parent, line["id"]
        line["timestamp"] = item["created_at"]
        if item["role"] == "assistant" and line["role"] == "assistant":
            line["model"] = item["model"] or item["asked_model"]
    if item["state"] != "complete":
        found[-1] |= {"state": item["state"], "reason": item["reason"]}
    return found


def _steps(parts: Sequence[Item]) -> list[list[Item]]:
    """Split the parts where something follows tool calls: a step is one answer of the model, with its calls."""
    steps: list[list[Item]] = [[]]
    for part in parts:
        if part["kind"] != "tool_call" and steps[-1] and steps[-1][-1]["kind"] == "tool_call":
            steps.append([])
        steps[-1].append(part)
    return steps


def _step(db: sqlite3.Connection, role: str, parts: Sequence[Item]) -> Iterator[Item]:
    message: Item = {"role": role, "content": _content(db, parts)}
    calls = [part for part in parts if part["kind"] == "tool_call"]
    if reasoning := "\n\n".join(part["text"] for part in parts if part["kind"] == "reasoning"):
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in calls
        ]
    yield message
    for call in calls:
        yield {"role": "tool", "tool_call_id": call["id"], "content": call["result"]}


def _content(db: sqlite3.Connection, parts: Sequence[Item]) -> str | list[Item]:
    shown = [part for part in parts if part["kind"] in ("text", "file")]
    if all(part["kind"] == "text" for part in shown):
        return "\n\n".join(part["text"] for part in shown)
    return [_file(db, part) if part["kind"] == "file" else {"type": "text", "text": part["text"]} for part in shown]


def _file(db: sqlite3.Connection, part: Item) -> Item:
    file = db.execute("SELECT media_type, content FROM files WHERE sha256 = ?", (part["sha256"],)).fetchone()
    if file is None:
        return {"type": "text", "text": f"[file: {part['name']}]"}
    url = f"data:{file['media_type']};base64,{b64encode(file['content']).decode()}"
    if file["media_type"] in PICTURE_TYPES:
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": part["name"], "file_data": url}}


def _line(item: Any) -> str:
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
