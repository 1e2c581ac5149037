"""Conversations of LibreChat: "Export" of a conversation, as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from overseer.domain.messages import Source, State, Text, ToolCall
from overseer.importing import contents, message_parts, values
from overseer.importing.conversations import Attachment, Content, Conversation, Files, Node, ToolResult

NAME = "LibreChat"
KIND = "librechat"
NO_PARENT = "00000000-0000-0000-0000-000000000000"
FAILED = "The export says that this answer failed."
# "turn0search1": which result of which search is cited. The mark may be written as an escape sequence.
CITED = re.compile(r"(?:\ue202|\\ue202)turn(\d{1,4})([a-z]{1,20})(\d{1,4})")
CITATION_MARKS = re.compile(r"[\ue200\ue201\ue203-\ue206]|\\ue20[01346]")
RESULT_KEYS: Mapping[str, str] = {"search": "organic", "news": "topStories", "ref": "references", "image": "images"}


def recognizes(item: Mapping[str, Any]) -> bool:
    """Return whether the object is an exported conversation."""
    messages = item.get("messages") or item.get("messagesTree")
    first = values.mapping(messages[0] if isinstance(messages, list) and messages else messages)
    known = any(key in item for key in ("exportAt", "endpoint", "recursive")) or "messageId" in first
    return "conversationId" in item and isinstance(messages, list | dict) and known and "mapping" not in item


def read(item: Mapping[str, Any], files: Files) -> Conversation:
    """Return the conversation. The export does not say which of its branches was shown."""
    options = values.mapping(item.get("options"))
    model = values.text(options.get("model")) or values.text(item.get("model"))
    nodes = list(_nodes(item, model, files))
    title = values.text(item.get("title")) or values.text(options.get("title"))
    conversation_id = values.identifier(item.get("conversationId"))
    times = [node.created_at for node in nodes if node.created_at is not None]
    prompts = (options.get(key) or item.get(key) for key in ("promptPrefix", "system", "instructions"))
    return Conversation(
        f"{KIND}:{conversation_id or values.digest(title, nodes[0].id if nodes else '')}",
        title,
        nodes,
        None,
        values.milliseconds(item.get("createdAt")) or min(times, default=None),
        values.milliseconds(item.get("updatedAt")) or max(times, default=None),
        model,
        next((prompt for one in prompts if (prompt := values.text(one))), ""),
        values.number(options.get("temperature")),
        archived=item.get("isArchived") is True,
    )


def _nodes(item: Mapping[str, Any], model: str, files: Files) -> Iterator[Node]:
    """Yield the messages: a list with the ids of their parents, or each with its children in it."""
    given = item.get("messages") or item.get("messagesTree")
    if isinstance(given, dict):
        given = [given] if "messageId" in given else given.get("children")
    stack: list[tuple[Any, str | None]] = [(one, None) for one in reversed(values.items(given))]
    count, before = 0, None
    while stack:
        value, above = stack.pop()
        message = values.mapping(value)
        if not message:
            continue
        count += 1
        message_id = values.identifier(message.get("messageId")) or values.digest(count, above)
        parent = above
        if parent is None:
            parent = values.identifier(message["parentMessageId"]) if "parentMessageId" in message else before
        yield _node(message_id, None if parent == NO_PARENT else parent, message, model, files)
        stack += [(child, message_id) for child in reversed(values.items(message.get("children")))]
        before = message_id


def _node(message_id: str, parent: str | None, message: Mapping[str, Any], model: str, files: Files) -> Node:
    asked = message.get("isCreatedByUser")
    if asked is None:
        asked = values.text(message.get("sender")).lower() == "user"
    created_at = values.milliseconds(message.get("createdAt"))
    parts = [part for one in values.items(message.get("content")) for part in _part(values.mapping(one) or one, files)]
    text = values.text(message.get("text"))
    if text.strip() and not any(isinstance(part, Text) for part in parts):
        parts.append(Text(text))
    parts += [_file(values.mapping(one), files) for one in values.items(message.get("files")) if values.mapping(one)]
    if asked:
        return Node(message_id, parent, "user", parts, created_at)
    parts += list(_plugins(message))
    state, reason = _state(message, text)
    if reason and parts == [Text(text)]:
        parts = []
    parts, sources = _cited(parts, message)
    for one in map(values.mapping, values.items(message.get("attachments"))):
        if "filename" in one or "filepath" in one:
            parts.append(_file(one, files))
    used = values.text(message.get("model")) or model
    ended_at = values.milliseconds(message.get("updatedAt"))
    return Node(message_id, parent, "assistant", parts, created_at, ended_at, used, state, reason, sources)


def _state(message: Mapping[str, Any], text: str) -> tuple[State, str]:
    if message.get("error") is True:
        return "failed", text or FAILED
    return ("stopped" if message.get("unfinished") is True else "complete"), ""


def _part(part: Any, files: Files) -> Iterator[Content]:
    """Yield what a part of a message's content is."""
    kind = values.text(part.get("type")) if isinstance(part, dict) else ""
    if kind == "tool_call":
        yield from _call(values.mapping(part.get("tool_call")) or part)
    elif kind == "image_file":
        yield _file(values.mapping(part.get("image_file")), files)
    elif kind == "text_delta":
        yield Text(message_parts.words_at(part, "text"))
    elif kind == "agent_update":
        return
    elif kind == "summary":
        yield Text(message_parts.words_at(part, "text", "summary", "content"))
    else:
        yield from message_parts.part_of(part, files)


def _call(given: Mapping[str, Any]) -> Iterator[Content]:
    """Yield a call of an agent's tool, or of the tools of OpenAI's assistants, with its result."""
    call_id = values.identifier(given.get("id")) or ""
    interpreter = values.mapping(given.get("code_interpreter"))
    function = values.mapping(given.get("function"))
    if interpreter:
        call = ToolCall(call_id, "python", message_parts.as_json({"code": values.text(interpreter.get("input"))}))
        output: object = contents.words_of(
            [values.mapping(one).get("logs") for one in values.items(interpreter.get("outputs"))]
        )
    else:
        call, output = message_parts.call(given), function.get("output", given.get("output"))
    yield call
    if output is not None:
        yield ToolResult(call.call_id, call.name, message_parts.result_text(output))


def _plugins(message: Mapping[str, Any]) -> Iterator[Content]:
    """Yield the calls of plugins, which old conversations have."""
    listed = values.items(message.get("plugins")) or [message.get("plugin")]
    for index, plugin in enumerate(map(values.mapping, listed)):
        name = values.text(plugin.get("latest")) or values.text(plugin.get("plugin"))
        if name and (plugin.get("inputs") or plugin.get("outputs")):
            call_id = f"plugin-{index}"
            yield ToolCall(call_id, name, message_parts.as_json({"input": contents.words_of(plugin.get("inputs"))}))
            yield ToolResult(call_id, name, message_parts.result_text(plugin.get("outputs")))


def _file(given: Mapping[str, Any], files: Files) -> Attachment:
    path = values.text(given.get("filepath") or given.get("path"))
    name = values.text(given.get("filename") or given.get("name")) or path.rsplit("/", 1)[-1] or "file"
    media_type = values.text(given.get("type"))
    text = given.get("text")
    if isinstance(text, str) and text.strip():
        return message_parts.text_file(text, name)
    if path[:5].lower() == "data:":
        return message_parts.data_file(path, name, media_type)
    base = path.rsplit("/", 1)[-1]
    return Attachment(name, media_type if "/" in media_type else "", files.find(base) if base else None)


def _cited(parts: list[Content], message: Mapping[str, Any]) -> tuple[list[Content], list[Source]]:
    """Return the parts with links in place of the marks of citations, and the pages that are cited."""
    pages: dict[tuple[str, str, int], Source] = {}
    for attachment in map(values.mapping, values.items(message.get("attachments"))):
        found = values.mapping(attachment.get("web_search"))
        turn = values.text(found.get("turn")) or "0"
        for kind, key in RESULT_KEYS.items():
            for index, result in enumerate(map(values.mapping, values.items(found.get(key)))):
                url = values.text(result.get("link") or result.get("url"))
                if message_parts.WEB_URL.fullmatch(url):
                    pages[turn, kind, index] = Source(
                        url, values.text(result.get("title") or result.get("attribution"))
                    )
    sources: dict[Source, None] = {}

    def cite(found: re.Match[str]) -> str:
        page = pages.get((found[1], found[2], int(found[3])))
        if page is None:
            return ""
        sources[page] = None
        return " " + message_parts.link(page.url, page.title or page.host)

    shown = [Text(CITATION_MARKS.sub("", CITED.sub(cite, one.text))) if isinstance(one, Text) else one for one in parts]
    return list(shown), list(sources)
