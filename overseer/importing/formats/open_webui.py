"""Chats of Open WebUI: "Export chats" of its settings or of the menu of a chat."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any

from overseer.domain.messages import Source, State, Text, ToolCall
from overseer.importing import contents, message_parts, values
from overseer.importing.conversations import Attachment, Content, Conversation, Files, Node, Role, ToolResult

NAME = "Open WebUI"
KIND = "open_webui"
ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool", "system": "system"}
ATTRIBUTES = r"""(?:\s+[\w-]+(?:=(?:"[^"]*"|'[^']*'|[^\s"'>]*))?)*"""
# What the answer did is in its text as HTML. Within a code block, it is code.
FENCE_OR_DETAILS = re.compile(rf"^ {{0,3}}(?:(`{{3,}}|~{{3,}})|<details({ATTRIBUTES})\s*>)", re.MULTILINE)
ATTRIBUTE = re.compile(r"""([\w-]+)=(?:"([^"]*)"|'([^']*)'|([^\s"'>]*))""")
SUMMARY = re.compile(r"\s*<summary>.*?</summary>", re.DOTALL)
QUOTE_MARK = re.compile(r"^> ?", re.MULTILINE)
CODE_BLOCK = re.compile(r"\s*(`{3,20})([\w+-]{0,50})[^\n]*\n(.*?)\n?\1\s*", re.DOTALL)
DETAILS_END = "</details>"
CODE_OUTPUT_KEYS = ("stdout", "stderr", "result", "output", "error")
FAILED = "The export says that this answer failed."


def recognizes(item: Mapping[str, Any]) -> bool:
    """Return whether the object is a chat, with or without what surrounds it in the database."""
    chat = _chat(item)
    history = chat.get("history")
    if chat is not item:
        return isinstance(history, dict) or isinstance(chat.get("messages"), list)
    return isinstance(history, dict) and "messages" in history and "mapping" not in item


def read(item: Mapping[str, Any], files: Files) -> Conversation:
    """Return the chat."""
    chat = _chat(item)
    history = values.mapping(chat.get("history"))
    params = values.mapping(chat.get("params"))
    title = values.text(item.get("title") or chat.get("title"))
    created_at = values.milliseconds(item.get("created_at")) or values.milliseconds(chat.get("timestamp"))
    chat_id = values.identifier(item.get("id")) or values.identifier(chat.get("id"))
    models = [name for one in values.items(chat.get("models")) if (name := values.text(one))]
    nodes = _tree(history, files) or _list(values.items(chat.get("messages")), files)
    chat_id = chat_id or values.digest(title, created_at, nodes[0].id if nodes else "")
    for node in nodes:
        if node.role == "assistant" and not node.model and len(models) == 1:
            node.model = models[0]
    return Conversation(
        f"{KIND}:{chat_id}",
        title,
        nodes,
        values.identifier(history.get("currentId")),
        created_at,
        values.milliseconds(item.get("updated_at")),
        models[0] if models else "",
        values.text(chat.get("system")) or values.text(params.get("system")),
        values.number(params.get("temperature")),
        item.get("pinned") is True,
        item.get("archived") is True,
    )


def _chat(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return values.mapping(item.get("chat")) or item


def _tree(history: Mapping[str, Any], files: Files) -> list[Node]:
    """Return the messages of the history, which is an object of them by their ids."""
    messages = history.get("messages")
    if isinstance(messages, dict):
        by_id = {values.text(key): values.mapping(message) for key, message in messages.items()}
    else:
        listed = [values.mapping(message) for message in values.items(messages)]
        by_id = {message_id: message for message in listed if (message_id := values.identifier(message.get("id")))}
    parents: dict[str, str] = {}
    for message_id, message in by_id.items():
        for child in values.items(message.get("childrenIds")):
            parents.setdefault(values.text(child), message_id)
    nodes: list[Node] = []
    for message_id, message in by_id.items():
        if message:
            parent = values.identifier(message["parentId"]) if "parentId" in message else parents.get(message_id)
            nodes += _nodes(message_id, parent, message, files)
    return nodes


def _list(messages: Any, files: Files) -> list[Node]:
    """Return the messages of an old chat, which follow each other."""
    nodes: list[Node] = []
    parent: str | None = None
    for index, message in enumerate(map(values.mapping, messages)):
        message_id = values.identifier(message.get("id")) or values.digest(index, values.text(message.get("role")))
        if message:
            nodes += _nodes(message_id, parent, message, files)
            parent = message_id
    return nodes


def _nodes(message_id: str, parent: str | None, message: Mapping[str, Any], files: Files) -> Iterator[Node]:
    """Yield a message, and the answer that was merged of several, if there is one."""
    role = ROLES.get(values.text(message.get("role")), "assistant")
    parts = list(
        _answer(message, files) if role == "assistant" else message_parts.parts_of(message.get("content"), files)
    )
    parts += _files(message, files)
    if role == "tool":
        parts = [message_parts.result(message)]
    state, reason = _state(message) if role == "assistant" else ("complete", "")
    model = values.text(message.get("model")) or values.text(message.get("modelName"))
    created_at = values.milliseconds(message.get("timestamp"))
    ended_at = values.milliseconds(message.get("completedAt"))
    sources = list(_sources(message))
    yield Node(message_id, parent, role, parts, created_at, ended_at, model, state, reason, sources)
    merged = values.text(values.mapping(message.get("merged")).get("content"))
    if merged.strip() and role == "assistant":
        yield Node(f"{message_id}-merged", parent, role, list(_html_parts(merged, files)), created_at, model=model)


def _state(message: Mapping[str, Any]) -> tuple[State, str]:
    error = message.get("error")
    if error:
        return "failed", message_parts.words_at(error, "content", "message", "detail", "error") or FAILED
    return ("interrupted" if message.get("done") is False else "complete"), ""


def _answer(message: Mapping[str, Any], files: Files) -> Iterator[Content]:
    """Yield the parts of an answer: of its list of output, or of its text, which repeats them as HTML."""
    written = message.get("content")
    in_text = list(_html_parts(written, files) if isinstance(written, str) else message_parts.parts_of(written, files))
    parts = [part for item in values.items(message.get("output")) for part in _output(values.mapping(item), files)]
    if not parts:
        parts = in_text
    elif not any(isinstance(part, Text) for part in parts):
        parts += [part for part in in_text if isinstance(part, Text)]
    yield from parts
    for index, value in enumerate(values.items(message.get("code_executions"))):
        code = values.mapping(value)
        if code:
            outcome = values.mapping(code.get("result"))
            yield from _code(f"code-{index}", code.get("code"), code.get("language"), outcome, bool(outcome))


def _output(item: Mapping[str, Any], files: Files) -> Iterator[Content]:
    kind = values.text(item.get("type"))
    if kind == "message":
        yield from (part for inner in message_parts.parts_of(item.get("content"), files) for part in _checked(inner))
    elif kind == "reasoning":
        words = contents.words_of(item.get("summary")) or contents.words_of(item.get("content"))
        yield from message_parts.reasoning(words, item.get("duration"))
    elif kind == "function_call_output":
        yield message_parts.result(item)
        yield from _files(item, files)
    elif kind.endswith("code_interpreter"):
        call_id = values.text(item.get("id")) or values.digest(values.text(item.get("code")))
        code, outcome = item.get("code"), item.get("output")
        yield from _code(call_id, code, item.get("lang"), outcome, outcome is not None)
    elif item:
        yield from message_parts.part_of(item, files)


def _checked(part: Content) -> Iterator[Content]:
    """Yield a part; of a text, what is in it."""
    yield from message_parts.markdown(part.text) if isinstance(part, Text) else [part]


def _html_parts(text: str, files: Files) -> Iterator[Content]:
    """Yield the parts of an answer's text, in which reasoning and calls of tools are HTML."""
    start, at, fence, count = 0, 0, "", 0
    while found := FENCE_OR_DETAILS.search(text, at):
        at = found.end()
        if mark := found[1]:
            if not fence or (mark[0] == fence[0] and len(mark) >= len(fence)):
                fence = "" if fence else mark
            continue
        attributes = {one[1]: unescape(one[2] or one[3] or one[4] or "") for one in ATTRIBUTE.finditer(found[2])}
        if fence or attributes.get("type") not in ("reasoning", "tool_calls", "code_interpreter"):
            continue
        yield from message_parts.markdown(text[start : found.start()])
        end = text.find(DETAILS_END, at)
        body = text[at : end if end >= 0 else len(text)]
        if summary := SUMMARY.match(body):  # not searched for: that takes time squared where many are not closed
            body = body[summary.end() :]
        count += 1
        yield from _details(attributes, body, f"details-{count}", files)
        at = start = end + len(DETAILS_END) if end >= 0 else len(text)
    yield from message_parts.markdown(text[start:])


def _details(attributes: Mapping[str, str], body: str, call_id: str, files: Files) -> Iterator[Content]:
    call_id = values.text(attributes.get("id")) or call_id
    if attributes["type"] == "reasoning":
        seconds = attributes.get("duration", "")
        text = QUOTE_MARK.sub("", unescape(body).strip())
        yield from message_parts.reasoning(
            text, float(seconds) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", seconds) else None
        )
    elif attributes["type"] == "code_interpreter":
        block = CODE_BLOCK.match(unescape(body))
        code, language = (str(block[3]), str(block[2])) if block else (unescape(body).strip(), "")
        outcome = message_parts.parsed(attributes.get("output", ""))
        yield from _code(call_id, code, language, outcome, bool(outcome))
    else:
        name = values.text(attributes.get("name")) or "tool"
        yield ToolCall(call_id, name, message_parts.as_json(message_parts.parsed(attributes.get("arguments", ""))))
        result = attributes.get("result") or unescape(body).strip()
        if result or attributes.get("done") == "true":
            yield ToolResult(call_id, name, message_parts.result_text(message_parts.parsed(result)))
        for one in values.items(message_parts.parsed(attributes.get("files", ""))):
            yield from _file(values.mapping(one) or {"url": one, "type": "image"}, files)


def _code(call_id: str, code: object, language: object, outcome: object, ended: bool) -> Iterator[Content]:
    name = values.text(language) or "python"
    yield ToolCall(call_id, name, message_parts.as_json({"code": values.text(code)}))
    if ended:
        said = values.mapping(outcome)
        text = "\n".join(filter(None, (values.text(said.get(key)) for key in CODE_OUTPUT_KEYS)))
        failed = bool(said.get("error")) and not said.get("output")
        yield ToolResult(call_id, name, text if said else message_parts.result_text(outcome), failed)


def _files(message: Mapping[str, Any], files: Files) -> Iterator[Content]:
    for one in values.items(message.get("files")):
        yield from _file(values.mapping(one), files)


def _file(value: Mapping[str, Any], files: Files) -> Iterator[Content]:
    """Yield a file: pictures have a data URL or an id, others the text that was found in them."""
    inner = values.mapping(value.get("file"))
    meta = values.mapping(inner.get("meta"))
    names = (value.get("name"), inner.get("filename"), meta.get("name"), value.get("title"))
    name = next((text for one in names if (text := values.text(one))), "")
    media_type = values.text(value.get("content_type") or meta.get("content_type"))
    written = values.mapping(inner.get("data")).get("content") or value.get("content")
    url = value.get("url")
    if not value:
        return
    if isinstance(written, str) and written.strip():
        yield message_parts.text_file(written, name or "file.txt")
    elif value.get("type") == "image" or media_type.startswith("image/"):
        yield message_parts.located(url, name or "picture", media_type or "image/png", files)
    elif isinstance(url, str) and url[:5].lower() == "data:":
        yield message_parts.data_file(url, name or "file", media_type)
    elif isinstance(url, str) and message_parts.WEB_URL.fullmatch(url):
        yield Text(message_parts.link(url, name or url))
    else:
        found = files.find(name) if name else None
        yield Attachment(name or values.text(value.get("id")) or "file", media_type, found)


def _sources(message: Mapping[str, Any]) -> Iterator[Source]:
    """Yield the pages that an answer cites."""
    for given in map(values.mapping, (*values.items(message.get("sources")), *values.items(message.get("citations")))):
        source = values.mapping(given.get("source"))
        pages = [values.mapping(one) for one in values.items(given.get("metadata"))]
        for page in (*pages, source):
            title = values.text(page.get("title") or page.get("name") or source.get("name"))
            url = values.text(page.get("url") or page.get("source"))
            if message_parts.WEB_URL.fullmatch(url):
                yield Source(url, "" if title == url else title)
