"""Conversations of HuggingFace chat-ui: `conversations.json` in the zip that administrators can export.

Messages form a tree by their `ancestors` and `children`; those before 2024 follow each other. In the zip every message
lists the files of the whole conversation, so that a file is attached to the first question that lists it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing import contents, values
from overseer.importing.conversations import (
    Attachment,
    Content,
    Conversation,
    Files,
    Node,
    Role,
    ToolResult,
    Unreadable,
)
from overseer.importing.values import identifier, items, mapping, number, text

NAME = "HF chat-ui"
ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
THOUGHT = re.compile(r"\s*<think>(.*?)(?:</think>\s*|$)", re.DOTALL)
INTERRUPTED = "The answer was interrupted."
FILES_UNCLEAR = "The export does not say which message a file belongs to: files are with the first question."


def recognizes(item: Mapping[str, Any]) -> bool:
    """Return whether this is a conversation."""
    messages = item.get("messages")
    if not isinstance(messages, list):
        return False
    if "rootMessageId" in item:
        return True
    return any(mapping(one).get("from") in ROLES and "content" in mapping(one) for one in messages[:5])


def read(item: Mapping[str, Any], files: Files) -> Conversation:
    """Return the conversation. Raises Unreadable if it is empty."""
    messages = [one for one in map(mapping, items(item.get("messages"))) if one]
    if not messages:
        raise Unreadable("It has no messages.", "messages")
    ids = contents.unique(
        identifier(contents.plain(one.get("id"))) or values.digest(index) for index, one in enumerate(messages)
    )
    parents = _parents(ids, messages)
    attached, is_unclear = _attached(ids, messages)
    nodes = [
        _node(node_id, parents[node_id], one, attached[node_id], files)
        for node_id, one in zip(ids, messages, strict=True)
    ]
    conversation_id = identifier(contents.plain(item.get("_id"))) or identifier(contents.plain(item.get("id")))
    created_at = values.milliseconds(contents.plain(item.get("createdAt")))
    return Conversation(
        source=f"chat-ui:{conversation_id or values.digest(created_at, ids[0])}",
        title=text(item.get("title")),
        nodes=nodes,
        created_at=created_at,
        updated_at=values.milliseconds(contents.plain(item.get("updatedAt"))),
        model=text(item.get("model")),
        system_prompt=text(item.get("preprompt")),
        temperature=number(mapping(item.get("parameters")).get("temperature")),
        notes=[FILES_UNCLEAR] if is_unclear else [],
    )


def _parents(ids: Sequence[str], messages: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """Return the parent of each message. Those of a conversation that is no tree follow each other."""
    by_id = dict(zip(ids, messages, strict=True))
    others = contents.parents_by_children(by_id)
    is_tree = bool(others) or any(items(one.get("ancestors")) for one in messages)
    parents: dict[str, str | None] = {}
    last: str | None = None
    for node_id, one in zip(ids, messages, strict=True):
        above = text(next(reversed(items(one.get("ancestors"))), ""))
        known = above if above in by_id and above != node_id else others.get(node_id)
        parents[node_id] = known if is_tree else last
        last = node_id
    return parents


def _attached(ids: Sequence[str], messages: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[object]], bool]:
    """Return the files of each message, each only once, and whether it is unclear whose they are."""
    listed: dict[str, tuple[str, object]] = {}
    attached: dict[str, list[object]] = {node_id: [] for node_id in ids}
    is_unclear = False
    in_order = sorted(zip(ids, messages, strict=True), key=lambda one: one[1].get("from") != "user")
    for node_id, message in in_order:
        for file in items(message.get("files")):
            key = text(file) or text(mapping(file).get("value"))[:2000] or text(mapping(file).get("name"))
            if key in listed:
                is_unclear = True
            elif key:
                listed[key] = node_id, file
                attached[node_id].append(file)
    return attached, is_unclear


def _node(
    node_id: str, parent: str | None, message: Mapping[str, Any], attached: Sequence[object], files: Files
) -> Node:
    role = ROLES.get(text(message.get("from")) or text(message.get("role")), "assistant")
    parts: list[Content] = []
    words = text(message.get("content"))
    reasoning = text(message.get("reasoning"))
    if role == "assistant":
        if found := THOUGHT.match(words):
            reasoning = reasoning or found[1]
            words = words[found.end() :]
        if reasoning.strip():
            parts.append(Reasoning(reasoning.strip()))
        parts += _calls(message)
    if words:
        parts.append(Text(words))
    parts += [_file(one, files) for one in attached]
    is_interrupted = role == "assistant" and message.get("interrupted") is True
    return Node(
        node_id,
        parent,
        role,
        parts,
        created_at=values.milliseconds(contents.plain(message.get("createdAt"))),
        ended_at=values.milliseconds(contents.plain(message.get("updatedAt"))),
        model=text(mapping(message.get("routerMetadata")).get("model")) or text(message.get("model")),
        state="stopped" if is_interrupted else "complete",
        reason=INTERRUPTED if is_interrupted else "",
        sources=list(dict.fromkeys(_sources(message))),
    )


def _file(one: object, files: Files) -> Attachment:
    """Return a file: in the zip, or within the message."""
    if isinstance(one, str):
        return Attachment(text(one), "", files.find(text(one)))
    found = mapping(one)
    name, kind = text(found.get("name")) or "file", text(found.get("mime"))
    if found.get("type") == "base64":
        return contents.base64_file(name, found.get("value"), kind)
    return Attachment(name, kind, contents.first_found(files.find, text(found.get("value"))))


def _calls(message: Mapping[str, Any]) -> Iterator[Content]:
    """Yield the calls of tools, where the messages are not from the zip, which lacks them."""
    for update in map(mapping, items(message.get("updates"))):
        if update.get("type") != "tool":
            continue
        call_id, call = text(update.get("uuid")), mapping(update.get("call"))
        name = text(call.get("name")) or text(update.get("name")) or "tool"
        if call or "parameters" in update:
            yield ToolCall(call_id, name, contents.arguments(call.get("parameters") or update.get("parameters"), name))
        elif update.get("subtype") in ("result", "error"):
            result = mapping(update.get("result"))
            words = text(update.get("message")) or contents.words_of(result.get("outputs") or result.get("display"))
            yield ToolResult(call_id, "", words, update.get("subtype") == "error" or result.get("status") == "error")


def _sources(message: Mapping[str, Any]) -> Iterator[Source]:
    searches = [mapping(message.get("webSearch")), *map(mapping, items(message.get("updates")))]
    for found in searches:
        for one in map(mapping, items(found.get("sources")) or items(found.get("contextSources"))):
            if page := contents.source(one.get("link") or one.get("url"), one.get("title")):
                yield page
