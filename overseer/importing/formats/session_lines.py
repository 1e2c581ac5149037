"""Sessions as JSON Lines: of Overseer, the web UI of llama.cpp, and others that write the Session Trace Simple Format.

A line with the type "session" is followed by one for each message, in the shape of the OpenAI API. Those of other
types are left out. https://huggingface.co/docs/hub/session-traces-format
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overseer.domain.messages import State
from overseer.importing import message_parts, values
from overseer.importing.conversations import Conversation, Files, Node, Role
from overseer.importing.formats import llama_cpp

NAME = "STS"
LLAMA_CPP, OVERSEER = "llama.app", "overseer"
MESSAGE_TYPES = ("message", "version")
ROLES: Mapping[str, Role] = {
    "user": "user",
    "human": "user",
    "system": "system",
    "developer": "system",
    **dict.fromkeys(message_parts.ANSWER_ROLES, "assistant"),
    **dict.fromkeys(message_parts.TOOL_ROLES, "tool"),
}
STATES: Mapping[str, State] = {"stopped": "stopped", "failed": "failed", "interrupted": "interrupted"}
PARENT_KEYS = ("parent", "parentId", "parent_id")
TIME_KEYS = ("timestamp", "created_at", "createdAt")


def recognizes(record: Mapping[str, Any]) -> bool:
    """Return whether a line begins a session."""
    return record.get("type") == "session" and "messages" not in record and ("harness" in record or "id" in record)


def read(records: Sequence[Mapping[str, Any]], files: Files) -> Conversation:
    """Return the session. The first record is the one that begins it."""
    about = values.mapping(records[0]) if records else values.NOTHING
    lines = [line for line in map(values.mapping, records[1:]) if line.get("type") in MESSAGE_TYPES]
    harness = values.text(about.get("harness"))
    if harness == LLAMA_CPP:
        messages = [message for line in lines if (message := values.mapping(line.get("message")))]
        return llama_cpp.conversation(about, messages, files)
    nodes = list(_nodes(lines, files))
    title = values.text(about.get("name") or about.get("title"))
    created_at = _time(about)
    session_id = values.identifier(about.get("id")) or values.digest(title, created_at, nodes[0].id if nodes else "")
    models = [node.model for node in nodes if node.model]
    model = values.text(about.get("model")) or (models[-1] if models else "")
    for node in nodes:
        if node.role == "assistant" and not node.model and harness != OVERSEER:
            node.model = model
    return Conversation(
        f"overseer:{session_id}" if harness == OVERSEER else f"sts:{harness[:100]}:{session_id}",
        title,
        nodes,
        values.identifier(about.get("currNode")),
        created_at or next((node.created_at for node in nodes if node.created_at), None),
        values.milliseconds(about.get("lastModified")),
        model,
        values.text(about.get("system_prompt") or about.get("systemPrompt")),
        values.number(about.get("temperature")),
        about.get("pinned") is True,
        about.get("archived") is True,
    )


def _nodes(lines: Sequence[Mapping[str, Any]], files: Files) -> Iterator[Node]:
    """Yield the messages. One that does not say what it follows follows the one before it."""
    before: str | None = None
    for index, line in enumerate(lines):
        message = values.mapping(line.get("message")) or line
        given_role = values.text(message.get("role"))
        role = ROLES.get(given_role, "assistant")
        message_id = values.identifier(message.get("id")) or values.identifier(line.get("id"))
        message_id = message_id or values.digest(index, given_role)
        parent = before
        for holder in (line, message):
            parent = next((values.identifier(holder[key]) for key in PARENT_KEYS if key in holder), parent)
        yield Node(
            message_id,
            parent,
            role,
            list(message_parts.message(message, files)),
            _time(message) or _time(line),
            model=values.text(message.get("model") or line.get("model")) if role == "assistant" else "",
            state=STATES.get(values.text(message.get("state")), "complete"),
            reason=values.text(message.get("reason")),
            hidden=message.get("hidden") is True,
        )
        before = message_id


def _time(holder: Mapping[str, Any]) -> int | None:
    return next((time for key in TIME_KEYS if (time := values.milliseconds(holder.get(key)))), None)
