"""Conversations of the web UI of llama.cpp: its older exports, objects with a conversation and its messages.

Newer ones are JSON Lines, which `session_lines` reads with `conversation` of this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overseer.domain.messages import State
from overseer.importing import contents, message_parts, values
from overseer.importing.conversations import Attachment, Content, Conversation, Files, Node, Role

NAME = "llama.cpp"
KIND = "llama_cpp"
ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool", "system": "system"}
MAX_PAGES = 500  # of a document that has pictures only
MARKS = re.compile(r"[^A-Z]")


def recognizes(item: Mapping[str, Any]) -> bool:
    """Return whether the object has a conversation and its messages."""
    return isinstance(item.get("conv"), dict) and isinstance(item.get("messages"), list)


def read(item: Mapping[str, Any], files: Files) -> Conversation:
    """Return the conversation."""
    messages = [found for one in values.items(item.get("messages")) if (found := values.mapping(one))]
    return conversation(values.mapping(item.get("conv")), messages, files)


def conversation(about: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], files: Files) -> Conversation:
    """Return the conversation with these messages, which are a tree."""
    nodes = list(_nodes(messages, files))
    title = values.text(about.get("name"))
    conversation_id = values.identifier(about.get("id")) or values.digest(title, nodes[0].id if nodes else "")
    times = [node.created_at for node in nodes if node.created_at is not None]
    models = [node.model for node in nodes if node.model]
    return Conversation(
        f"{KIND}:{conversation_id}",
        title,
        nodes,
        values.identifier(about.get("currNode")),
        min(times, default=None),
        values.milliseconds(about.get("lastModified")),
        models[-1] if models else "",
        pinned=about.get("pinned") is True,
    )


def _nodes(messages: Sequence[Mapping[str, Any]], files: Files) -> Iterator[Node]:
    parents: dict[str, str] = {}
    for message in messages:
        message_id = values.identifier(message.get("id"))
        for child in values.items(message.get("children")):
            if message_id and (child_id := values.identifier(child)):
                parents.setdefault(child_id, message_id)
    before: str | None = None
    for index, message in enumerate(messages):
        message_id = values.identifier(message.get("id")) or values.digest(index, values.text(message.get("role")))
        parent = parents.get(message_id, before)
        if "parent" in message:
            parent = values.identifier(message["parent"])
        yield _node(message_id, parent, message, files)
        before = message_id


def _node(message_id: str, parent: str | None, message: Mapping[str, Any], files: Files) -> Node:
    kind, role = values.text(message.get("type")), ROLES.get(values.text(message.get("role")), "assistant")
    if kind == "root":
        return Node(message_id, parent, "system", hidden=True)
    parts = [*message_parts.message(message, files)]
    for extra in map(values.mapping, values.items(message.get("extra"))):
        parts += _extra(extra, files)
    written = message.get("content")
    state: State = "interrupted" if role == "assistant" and "content" in message and written is None else "complete"
    created_at, model = values.milliseconds(message.get("timestamp")), values.text(message.get("model"))
    return Node(message_id, parent, role, parts, created_at, model=model, state=state)


def _extra(extra: Mapping[str, Any], files: Files) -> Iterator[Content]:
    """Yield a file of a message; its kind is "imageFile" in older exports, and "IMAGE" in newer ones."""
    if not extra:
        return
    given = values.text(extra.get("type"))
    kind = MARKS.sub("", given.upper()).removesuffix("FILE")
    name = values.text(extra.get("name") or extra.get("title"))
    media_type = values.text(extra.get("mimeType"))
    data = extra.get("base64Url") or extra.get("base64Data") or extra.get("data")
    if kind == "IMAGE":
        yield message_parts.base64_file(data, name or "picture", media_type or "image/png")
    elif data:
        usual = "application/pdf" if kind == "PDF" else ""
        yield message_parts.base64_file(data, name or "file", media_type or usual)
    elif values.text(extra.get("content")):
        yield message_parts.text_file(extra.get("content"), name or "file.txt")
    elif pages := values.items(extra.get("images"))[:MAX_PAGES]:
        for number, page in enumerate(pages, 1):
            yield message_parts.base64_file(page, f"{name or 'page'}-{number}.png", "image/png")
    elif name:
        yield Attachment(name, media_type, files.find(name))
    else:
        yield contents.unknown(given, extra)
