"""Conversations of Claude: `conversations.json`, or one that an extension of a browser saved.

A message has blocks in `content`; `text` repeats them, poorly, and is all that old exports have. What a person attached
is in the export as text only. The conversations of the design tool have another shape: `messages` with a `role`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from overseer.domain.messages import Reasoning, Source, State, Text, ToolCall
from overseer.importing import contents, values
from overseer.importing.conversations import Attachment, Content, Conversation, Files, Node, ToolResult, Unreadable
from overseer.importing.values import identifier, items, mapping, milliseconds, text

NAME = "Claude"
FIRST = "00000000-0000-4000-8000-000000000000"  # the parent of a first message
NOT_SUPPORTED = re.compile(r"(?:```\s*)?This block is not supported on your current device yet\.(?:\s*```)?\s*")
ARTIFACT = re.compile(r"<antArtifact\b([^<>]*)>((?:(?!<antArtifact\b).)*?)</antArtifact>", re.DOTALL)
ATTRIBUTE = re.compile(r'\b(title|type|language)="([^"<>]*)"')
THINKING = re.compile(r"<antThinking>((?:(?!<antThinking>).)*?)</antThinking>\s*", re.DOTALL)
WITHOUT_WORDS = ("token_budget", "flag", "redacted_thinking", "")
NOT_TEXT = re.compile(r"\.(pdf|docx?|xlsx?|pptx?|odt|ods|odp|rtf|epub|zip|png|jpe?g|gif|webp|heic)$", re.IGNORECASE)
ENDINGS = {
    "text/markdown": "md",
    "text/html": "html",
    "image/svg+xml": "svg",
    "application/vnd.ant.mermaid": "mmd",
    "application/vnd.ant.react": "jsx",
}
LANGUAGE_ENDINGS = {"python": "py", "javascript": "js", "typescript": "ts", "bash": "sh", "markdown": "md"}
MAX_WAITING = 100  # calls that are looked at for a result without the id of its call
STOPPED = "The answer was stopped."
CUT = "The answer reached the limit of its length."


def recognizes(item: Mapping[str, Any]) -> bool:
    """Return whether this is a conversation."""
    if isinstance(item.get("chat_messages"), list):
        return True
    messages = item.get("messages")
    return "uuid" in item and isinstance(messages, list) and any(map(_is_of_design, messages[:10]))


def read(item: Mapping[str, Any], files: Files) -> Conversation:
    """Return the conversation. Raises Unreadable if it is empty."""
    found = item.get("chat_messages")
    messages = [mapping(one) for one in items(found)] or [
        _of_design(mapping(one)) for one in items(item.get("messages"))
    ]
    if not any(messages):
        raise Unreadable("It has no messages.", "chat_messages")
    nodes = _nodes([message for message in messages if message], files)
    conversation_id = identifier(item.get("uuid")) or values.digest(text(item.get("created_at")), nodes[0].id)
    head = item.get("current_leaf_message_uuid")
    settings = mapping(item.get("settings"))
    return Conversation(
        source=f"claude:{conversation_id}",
        title=text(item.get("name")) or text(item.get("title")),
        nodes=nodes,
        head=head if isinstance(head, str) and any(node.id == head for node in nodes) else None,
        created_at=milliseconds(item.get("created_at")),
        updated_at=milliseconds(item.get("updated_at")),
        model=text(item.get("model")) or text(settings.get("model")),
        pinned=item.get("is_starred") is True,
        archived=item.get("is_archived") is True,
    )


def _nodes(messages: list[Mapping[str, Any]], files: Files) -> list[Node]:
    """Return the nodes. Each follows its parent; one whose parent is not in the export, the one before it."""
    ids = contents.unique(
        identifier(one.get("uuid")) or values.digest(index, text(one.get("created_at")))
        for index, one in enumerate(messages)
    )
    known, nodes, last = set(ids), list[Node](), None
    for node_id, message in zip(ids, messages, strict=True):
        given = message.get("parent_message_uuid")
        parent = given if isinstance(given, str) and given in known and given != node_id else last
        nodes.append(_node(node_id, None if given == FIRST else parent, message, files))
        last = node_id
    return nodes


def _node(node_id: str, parent: str | None, message: Mapping[str, Any], files: Files) -> Node:
    sender = text(message.get("sender") or message.get("role")).lower()
    is_question = sender in ("human", "user")
    blocks = _Blocks(node_id, files)
    parts = list(blocks.parts(message.get("content")))
    if not any(isinstance(part, Text) and part.text.strip() for part in parts):
        words = NOT_SUPPORTED.sub("", text(message.get("text"))).strip()
        if words and (is_question or not parts):
            parts += _old_text(words)
    parts += blocks.files(message)
    state, reason = _state("" if is_question else text(message.get("stop_reason")))
    return Node(
        node_id,
        parent,
        "user" if is_question else "system" if sender == "system" else "assistant",
        parts,
        created_at=milliseconds(message.get("created_at")),
        ended_at=milliseconds(message.get("updated_at")),
        model=text(message.get("model")),
        state=state,
        reason=reason if parts else "",
        sources=list(dict.fromkeys(blocks.sources)),
    )


class _Blocks:
    """Reads the blocks and the files of one message."""

    def __init__(self, node_id: str, files: Files) -> None:
        self._node_id, self._files = node_id, files
        self._waiting: dict[str, ToolCall] = {}  # calls without a result
        self.sources: list[Source] = []

    def parts(self, content: object) -> Iterator[Content]:
        """Yield the parts that blocks are."""
        if isinstance(content, str):
            yield from _old_text(text(content))
        for index, block in enumerate(items(content)):
            if isinstance(block, str):
                yield Text(text(block))
            elif isinstance(block, dict):
                yield from self._part(index, block)

    def _part(self, index: int, block: Mapping[str, Any]) -> Iterator[Content]:
        kind = text(block.get("type"))
        match kind:
            case "text" | "voice_note":
                self._cite(block.get("citations"))
                yield from _old_text(text(block.get("text")))
            case "thinking":
                summaries = [text(mapping(one).get("summary")) for one in items(block.get("summaries"))]
                yield Reasoning(text(block.get("thinking")) or "\n\n".join(summaries), _seconds(block))
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                yield from self._call(index, block)
            case "tool_result" | "web_search_tool_result" | "mcp_tool_result":
                yield from self._result(block)
            case "image" | "document":
                if found := mapping(block.get("source")):
                    yield contents.base64_file(
                        text(block.get("title")) or kind, found.get("data"), found.get("media_type")
                    )
            case _ if kind not in WITHOUT_WORDS:
                yield contents.unknown(kind, block)

    def _call(self, index: int, block: Mapping[str, Any]) -> Iterator[Content]:
        name = text(block.get("name")) or "tool"
        call_id = identifier(block.get("id")) or f"{self._node_id}:{index}"
        given = mapping(block.get("input"))
        call = ToolCall(call_id, name, contents.arguments(block.get("input"), name))
        self._waiting[call_id] = call
        self._cite(given.get("md_citations"))
        yield call
        if (document := _artifact(name, given)) is not None:
            yield document

    def _result(self, block: Mapping[str, Any]) -> Iterator[Content]:
        """Yield a result and its pictures. Exports may leave out the id of its call."""
        call_id, name = identifier(block.get("tool_use_id")), text(block.get("name"))
        if call_id is None:
            calls = list(islice(self._waiting.values(), MAX_WAITING))
            call_id = next((one.call_id for one in calls if one.name == name), calls[0].call_id if calls else "")
        call = self._waiting.pop(call_id, None)
        content = block.get("content")
        words, pictures = list[str](), list[Attachment]()
        for one in items(content) if isinstance(content, list) else [content]:
            found = mapping(one)
            source = mapping(found.get("source"))
            if found.get("type") == "image" and source.get("data"):
                pictures.append(contents.base64_file("picture", source.get("data"), source.get("media_type")))
            elif found.get("type") == "local_resource":
                words.append(text(found.get("name")) or text(found.get("file_path")))
            elif found:
                parts = (text(found.get("title")), text(found.get("url")), text(found.get("text")))
                words.append("\n".join(filter(None, parts)) or contents.words_of(dict(found)))
            else:
                words.append(text(one))
        result = "\n\n".join(filter(None, words)) or text(block.get("message"))
        yield ToolResult(call_id, name or (call.name if call else ""), result, block.get("is_error") is True)
        yield from pictures

    def _cite(self, citations: object) -> None:
        for one in map(mapping, items(citations)):
            details = mapping(one.get("details"))
            title = one.get("title") or details.get("title")
            for url in (details.get("url"), one.get("url")):
                if page := contents.source(url, title):
                    self.sources.append(page)
                    break

    def files(self, message: Mapping[str, Any]) -> Iterator[Attachment]:
        """Yield the files of a message. Those of `attachments` have their text, the others are names."""
        names = set[str]()
        for one in map(mapping, items(message.get("attachments"))):
            name, words = text(one.get("file_name")) or "pasted.txt", text(one.get("extracted_content"))
            names.add(name)
            if words:
                is_text = "." in name and not NOT_TEXT.search(name)
                yield contents.text_file(name if is_text else f"{name}.txt", words)
            else:
                yield self._named(one, name)
        for one in map(mapping, [*items(message.get("files")), *items(message.get("files_v2"))]):
            name = text(one.get("file_name")) or text(one.get("name"))
            if name and name not in names:
                names.add(name)
                yield self._named(one, name)

    def _named(self, one: Mapping[str, Any], name: str) -> Attachment:
        file_id = text(one.get("file_uuid") or one.get("id"))
        return Attachment(name, "", contents.first_found(self._files.find, file_id) if len(file_id) > 30 else None)


def _old_text(words: str) -> Iterator[Content]:
    """Yield a text. Those of 2024 have artifacts and thoughts between tags."""
    if "<antThinking>" in words:
        for found in THINKING.finditer(words):
            yield Reasoning(found[1].strip())
        words = THINKING.sub("", words)
    if "<antArtifact" in words:
        words = ARTIFACT.sub(_artifact_block, words)
    if words:
        yield Text(words)


def _artifact_block(found: re.Match[str]) -> str:
    given = dict(ATTRIBUTE.findall(found[1]))
    title = given.get("title", "")
    language = given.get("language") or ENDINGS.get(given.get("type", ""), "")
    return (f"**{title}**\n\n" if title else "") + contents.code_block(found[2].strip("\n"), language)


def _artifact(name: str, given: Mapping[str, Any]) -> Attachment | None:
    """Return the document that a call writes whole, or None."""
    if name == "artifacts" and given.get("command") in ("create", "rewrite"):
        words, kind = text(given.get("content")), text(given.get("type"))
        language = text(given.get("language")).lower()
        ending = ENDINGS.get(kind) or LANGUAGE_ENDINGS.get(language) or re.sub(r"\W", "", language)[:10] or "txt"
        title = text(given.get("title")) or text(given.get("id")) or "artifact"
        return contents.text_file(f"{title[:150]}.{ending}", words) if words else None
    if name == "create_file" and isinstance(given.get("file_text"), str):
        path = text(given.get("path"))
        return contents.text_file(path.rsplit("/", 1)[-1] or "file.txt", text(given["file_text"]))
    return None


def _seconds(block: Mapping[str, Any]) -> float | None:
    start, stop = milliseconds(block.get("start_timestamp")), milliseconds(block.get("stop_timestamp"))
    return (stop - start) / 1000 if start is not None and stop is not None and stop >= start else None


def _state(reason: str) -> tuple[State, str]:
    if reason in ("user_canceled", "user_cancelled"):
        return "stopped", STOPPED
    return ("interrupted", CUT) if reason == "max_tokens" else ("complete", "")


def _is_of_design(message: object) -> bool:
    content = mapping(message).get("content")
    return "role" in mapping(message) and bool({"contentBlocks", "authorAccountUuid"} & mapping(content).keys())


def _of_design(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message of the design tool in the shape of the others."""
    content = mapping(message.get("content"))
    blocks: list[Mapping[str, Any]] = []
    for block in map(mapping, items(content.get("contentBlocks"))):
        kind, said = block.get("type"), block.get("message")
        if kind == "tool_call":
            call = mapping(block.get("toolCall"))
            blocks.append(
                {"type": "tool_use", "id": call.get("id"), "name": call.get("name"), "input": call.get("input")}
            )
        elif kind == "thinking":
            blocks.append({"type": "thinking", "thinking": block.get("text")})
        elif kind in ("user_interjection", "error"):
            words = text(said) or text(mapping(said).get("content"))
            blocks.append({"type": "text", "text": f"[{'error' if kind == 'error' else 'user'}] {words}"})
        elif block:
            blocks.append(block)
    attached = [
        {"file_name": one.get("name"), "extracted_content": one.get("content")}
        for one in map(mapping, items(content.get("attachments")))
    ]
    return {
        "uuid": message.get("uuid"),
        "sender": message.get("role"),
        "created_at": message.get("created_at") or content.get("timestamp"),
        "text": content.get("content"),
        "content": blocks,
        "attachments": attached,
    }
