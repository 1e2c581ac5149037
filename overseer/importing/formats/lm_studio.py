"""Chats of LM Studio: the `*.conversation.json` files in its conversations directory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overseer.domain.messages import Reasoning, State, Text, ToolCall
from overseer.importing import contents, message_parts, values
from overseer.importing.conversations import Attachment, Content, Conversation, Files, Node, Role, ToolResult

NAME = "LM Studio"
KIND = "lm_studio"
OWN_KEYS = ("perChatPredictionConfig", "usePerChatPredictionConfig", "lastUsedModel", "clientInput", "looseFiles")
ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool", "system": "system"}
NOT_SHOWN = ("debugInfoBlock", "genInfo", "status", "toolStatus")
STOPPED: Mapping[str, State] = {"userStopped": "stopped", "failed": "failed", "modelUnloaded": "interrupted"}
SYSTEM_PROMPT, TEMPERATURE = "llm.prediction.systemPrompt", "llm.prediction.temperature"
SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?s")
UPLOAD_TIME = re.compile(r"^\d{10,} ?- ?")


def recognizes(item: Mapping[str, Any]) -> bool:
    """Return whether the object is a chat: its messages have versions."""
    messages = item.get("messages")
    if not isinstance(messages, list):
        return False
    first = values.mapping(messages[0]) if messages else values.NOTHING
    return isinstance(first.get("versions"), list) or any(key in item for key in OWN_KEYS)


def read(item: Mapping[str, Any], files: Files) -> Conversation:
    """Return the chat. It has no id, so the time when it was created stands for it, as in the name of its file."""
    title, created_at = values.text(item.get("name")), values.milliseconds(item.get("createdAt"))
    used = values.mapping(item.get("lastUsedModel"))
    model = values.text(used.get("identifier") or used.get("indexedModelIdentifier"))
    nodes, head = _nodes(values.items(item.get("messages")), model, files)
    settings = _settings(item)
    temperature = settings.get(TEMPERATURE)
    return Conversation(
        f"{KIND}:{created_at or values.digest(title, repr(nodes[0].parts[:1])[:1000] if nodes else '')}",
        title,
        nodes,
        head,
        created_at,
        values.milliseconds(item.get("updatedAt") or item.get("assistantLastMessagedAt")),
        model,
        values.text(settings.get(SYSTEM_PROMPT)) or values.text(item.get("systemPrompt")),
        values.number(values.mapping(temperature).get("value", temperature)),
        item.get("pinned") is True,
    )


def _settings(item: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = values.items(values.mapping(item.get("perChatPredictionConfig")).get("fields"))
    return {values.text(one.get("key")): one.get("value") for one in map(values.mapping, fields)}


def _nodes(messages: Sequence[Any], model: str, files: Files) -> tuple[list[Node], str | None]:
    """Return the versions of all messages, and the id of the last one that is shown.

    A message has a list of versions. What follows it follows the one that is selected.
    """
    nodes: list[Node] = []
    shown: str | None = None
    for index, message in enumerate(map(values.mapping, messages)):
        versions = values.items(message.get("versions")) or ([message] if "role" in message else [])
        selected = message.get("currentlySelected")
        place = selected if isinstance(selected, int) and 0 <= selected < len(versions) else len(versions) - 1
        parent = shown
        for number, version in enumerate(map(values.mapping, versions)):
            node = _node(f"{index}.{number}", parent, version, model, files)
            nodes.append(node)
            if number == place:
                shown = node.id
    return nodes, shown


def _node(node_id: str, parent: str | None, version: Mapping[str, Any], model: str, files: Files) -> Node:
    role = ROLES.get(values.text(version.get("role")), "assistant")
    node = Node(node_id, parent, role)
    steps = values.items(version.get("steps"))
    if not steps:
        steps = [{"type": "contentBlock", "content": version.get("content")}]
    call_ids: dict[str, str] = {}
    for step in map(values.mapping, steps):
        node.parts += _step(step, call_ids, is_answer=role == "assistant", files=files)
        made = values.mapping(step.get("genInfo"))
        node.model = values.text(made.get("identifier") or made.get("indexedModelIdentifier")) or node.model
        reason = values.text(values.mapping(made.get("stats")).get("stopReason"))
        node.state = STOPPED.get(reason, "complete") if reason else node.state
    if role == "assistant":
        sender = values.mapping(version.get("senderInfo"))
        node.model = node.model or values.text(sender.get("senderName")) or model
    return node


def _step(step: Mapping[str, Any], call_ids: dict[str, str], *, is_answer: bool, files: Files) -> Iterator[Content]:
    kind = values.text(step.get("type"))
    if kind in NOT_SHOWN or not step:
        return
    if kind != "contentBlock" and "content" not in step:
        yield contents.unknown(kind, step)
        return
    content = step.get("content")
    style = values.mapping(step.get("style"))
    if style.get("type") == "thinking":
        seconds = SECONDS.search(values.text(style.get("title")))
        texts = (message_parts.words_at(one, "text") for one in values.items(content) or [content])
        if text := "".join(texts).strip():
            yield Reasoning(text, float(seconds[1]) if seconds else None)
        return
    for part in content if isinstance(content, list) else [content]:
        yield from _part(part, call_ids, is_answer=is_answer, files=files)


def _part(part: Any, call_ids: dict[str, str], *, is_answer: bool, files: Files) -> Iterator[Content]:
    given = values.mapping(part)
    kind = values.text(given.get("type"))
    number = values.text(given.get("callId"))
    request = values.identifier(given.get("toolCallRequestId"))
    if kind == "toolCallRequest":
        call_ids[number] = call_id = request or number
        arguments = given.get("parameters", given.get("arguments"))
        yield ToolCall(call_id, values.text(given.get("name")) or "tool", message_parts.as_json(arguments))
    elif kind == "toolCallResult":
        call_id = call_ids.get(number) or request or number
        result = message_parts.parsed(given.get("content"))
        failed = given.get("isError") is True or given.get("success") is False
        yield ToolResult(call_id, values.text(given.get("name")), message_parts.result_text(result), failed)
    elif kind in ("file", "image") and "fileIdentifier" in given:
        stored = values.text(given.get("fileIdentifier"))
        name = values.text(given.get("name")) or UPLOAD_TIME.sub("", stored) or "file"
        yield Attachment(name, "", files.find(stored) if stored else None)
    else:
        for one in message_parts.part_of(part, files):
            yield from message_parts.markdown(one.text) if is_answer and isinstance(one, Text) else [one]
