"""Make the parts of a message from values that several formats have alike, such as those of the OpenAI API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

from overseer.domain.messages import Reasoning, Text, ToolCall
from overseer.importing import contents, values
from overseer.importing.conversations import Attachment, Content, Files, ToolResult, Unreadable

DATA_URL = re.compile(r"data:([\w.+-]{1,100}/[\w.+-]{1,100})?((?:;[^,;]{0,200}){0,10}),", re.IGNORECASE)
WEB_URL = re.compile(r"https?://[^\s<>\"`\\]{1,2000}", re.IGNORECASE)
MARKUP = re.compile(r"([\[\]\\`*_<>!])")
ESCAPED = r"\\\1"
THINKING = re.compile(r"\s*<(think|thinking)>(.*?)(?:</\1>|\Z)", re.DOTALL)
DATA_PICTURE = re.compile(r"!\[([^\]\n]{0,300})\]\((data:image/[\w.+-]{1,50};base64,[A-Za-z0-9+/=]+)\)")
NO_TEXT_FILE = re.compile(
    r"\.(?:pdf|docx?|xlsx?|pptx?|od[tsp]|rtf|epub|zip|png|jpe?g|gif|webp|mp3|wav|mp4)$", re.IGNORECASE
)
TEXT_TYPES = ("text", "input_text", "output_text", "summary_text", "refusal", "error")
REASONING_TYPES = ("reasoning", "reasoning_text", "thinking", "think")
CALL_TYPES = ("tool_call", "toolCall", "tool_use", "tool-call", "function_call")
RESULT_TYPES = ("tool_result", "toolResult", "tool-result", "function_call_output")
PICTURE_TYPES = ("image_url", "input_image", "image", "image_file")
FILE_TYPES = ("file", "input_file", "document", "attachment")
TOOL_ROLES = ("tool", "function", "toolResult", "tool_result")
ANSWER_ROLES = ("assistant", "model", "ai", "bot")
SOUND_TYPES = ("input_audio", "audio")


def parts_of(content: object, files: Files) -> Iterator[Content]:
    """Yield the parts of a message's content: a text, a part, or a list of both."""
    for part in content if isinstance(content, list) else [content]:
        yield from part_of(part, files)


def part_of(part: object, files: Files) -> Iterator[Content]:
    """Yield what a part of a message's content is."""
    if not isinstance(part, dict):
        if found := values.text(part):
            yield Text(found)
        return
    kind = values.text(part.get("type"))
    if kind in TEXT_TYPES or (not kind and "text" in part):
        if found := words_at(part, "text", "refusal", "error", "content"):
            yield Text(found)
    elif kind in REASONING_TYPES:
        if found := words_at(part, "text", "thinking", "think", "reasoning", "summary", "content"):
            yield Reasoning(found, values.number(part.get("duration")))
    elif kind == "redacted_thinking":
        return
    elif kind in CALL_TYPES:
        yield call(part)
    elif kind in RESULT_TYPES:
        yield result(part)
    elif kind in PICTURE_TYPES:
        yield picture(part, files)
    elif kind in FILE_TYPES:
        yield file(part, files)
    elif kind in SOUND_TYPES:
        sound = values.mapping(part.get(kind)) or part
        sound_type = values.text(sound.get("format")) or "wav"
        yield base64_file(sound.get("data"), f"audio.{sound_type}", f"audio/{sound_type}")
    else:
        yield contents.unknown(kind, part)


def markdown(text: str) -> Iterator[Content]:
    """Yield the parts of an answer's text: thinking in tags at its start, and pictures that are in it as data URLs."""
    if found := THINKING.match(text):
        yield from reasoning(found[2].strip())
        text = text[found.end() :].lstrip()
    start = 0
    for found in DATA_PICTURE.finditer(text):
        if before := values.text(text[start : found.start()]).strip():
            yield Text(before)
        yield data_file(found[2], values.text(found[1]) or "picture", text=values.text(found[1]))
        start = found.end()
    if rest := values.text(text[start:] if start else text).strip():
        yield Text(rest)


def message(given: Mapping[str, Any], files: Files) -> Iterator[Content]:
    """Yield the parts of a message of the OpenAI API, or of one like it: of a question, an answer or a tool."""
    if values.text(given.get("role")) in TOOL_ROLES:
        keys = ("tool_call_id", "toolCallId", "call_id")
        call_id = next((found for key in keys if (found := values.identifier(given.get(key)))), "")
        parts = list(parts_of(given.get("content"), files))
        text = "\n\n".join(part.text for part in parts if isinstance(part, Text))
        name = values.text(given.get("name") or given.get("toolName"))
        failed = any(given.get(key) is True for key in ("is_error", "isError"))
        yield ToolResult(call_id, name, text, failed)
        yield from (part for part in parts if isinstance(part, Attachment))
        return
    thoughts = (given.get(key) for key in ("reasoning_content", "reasoningContent", "reasoning", "thinking"))
    yield from reasoning(next(filter(None, thoughts), None), given.get("reasoning_seconds"))
    is_answer = values.text(given.get("role")) in ANSWER_ROLES
    for part in parts_of(given.get("content"), files):
        if isinstance(part, Text) and is_answer:
            yield from markdown(part.text)
        elif not isinstance(part, Text) or part.text.strip():
            yield part
    if isinstance(given.get("refusal"), str):
        yield Text(values.text(given["refusal"]))
    yield from calls(given.get("tool_calls") or given.get("toolCalls"))
    if isinstance(function := given.get("function_call"), dict):
        yield call(function)


def call(value: Mapping[str, Any]) -> ToolCall:
    """Return a tool call of the OpenAI API, or of one like it."""
    function = values.mapping(value.get("function")) or value
    call_id = next((value[key] for key in ("call_id", "tool_call_id", "callId", "id") if value.get(key)), None)
    arguments = next((function[key] for key in ("arguments", "args", "input", "parameters") if key in function), None)
    name = values.text(function.get("name")) or "tool"
    return ToolCall(values.identifier(call_id) or "", name, as_json(arguments))


def calls(value: object) -> Iterator[ToolCall]:
    """Yield the tool calls of a list, which may be a text of JSON."""
    for item in values.items(parsed(value)):
        if isinstance(item, dict):
            yield call(item)


def result(value: Mapping[str, Any]) -> ToolResult:
    """Return the result of a tool call."""
    keys = ("call_id", "tool_call_id", "tool_use_id", "toolCallId", "callId", "id")
    call_id = next((value[key] for key in keys if value.get(key)), None)
    name = values.text(value.get("name") or value.get("tool_name") or value.get("toolName"))
    output = next((value[key] for key in ("output", "content", "result", "text") if key in value), "")
    failed = any(value.get(key) is True for key in ("is_error", "isError", "error"))
    return ToolResult(values.identifier(call_id) or "", name, result_text(output), failed)


def result_text(value: object) -> str:
    """Return what a tool returned as a text: texts in a list of parts, or else JSON."""
    if isinstance(value, str):
        return values.text(value)
    listed = values.items(value)
    if listed and all(isinstance(part, str) or "text" in values.mapping(part) for part in listed):
        return "\n\n".join(filter(None, (words_at(part, "text") for part in listed)))
    return "" if value is None else _dumped(value)


def as_json(value: object) -> str:
    """Return the arguments of a tool call as JSON; they may be JSON already."""
    if value is None or value == "":
        return "{}"
    if isinstance(value, str):
        return values.text(value) if parsed(value) is not value else _dumped({"input": value})
    return _dumped(value)


def parsed(value: object) -> Any:
    """Return what a text of JSON says, or the value itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, strict=False)
    except (ValueError, RecursionError):
        return value


def picture(part: Mapping[str, Any], files: Files) -> Content:
    """Return a picture: its content, or a link to it, which is never loaded."""
    source = values.mapping(part.get("source"))
    inner = part.get("image_url") or part.get("image_file") or part.get("image")
    inner = inner or source.get("data") or source.get("url") or part.get("data") or part.get("url")
    found = values.mapping(inner)
    address = found.get("url") or found.get("data") or found.get("filepath") or inner
    media_type = values.text(
        part.get("media_type") or part.get("mimeType") or part.get("mime_type") or source.get("media_type")
    )
    name = values.text(part.get("name") or part.get("filename") or found.get("filename") or found.get("name"))
    return located(address, name or "picture", media_type or "image/png", files, part.get("alt") or part.get("text"))


def file(part: Mapping[str, Any], files: Files) -> Content:
    """Return a file: its content, or its name."""
    inner = values.mapping(part.get("file")) or values.mapping(part.get("source")) or part
    name = next(
        (one for key in ("filename", "name", "title") if (one := values.text(inner.get(key) or part.get(key)))), ""
    )
    media_type = values.text(inner.get("media_type") or inner.get("mime_type") or inner.get("mimeType"))
    content = inner.get("file_data") or inner.get("data") or inner.get("url")
    return located(content, name or "file", media_type, files)


def located(address: object, name: str, media_type: str, files: Files, text: object = None) -> Content:
    """Return the file at an address: a data URL, base64, a member of the export, or a page of the web."""
    described = values.text(text)
    if isinstance(address, str):
        if address[:5].lower() == "data:":
            return data_file(address, name, media_type, described)
        if WEB_URL.fullmatch(address):
            return Text(link(address, described or (name if name not in ("picture", "file") else address)))
        if len(address) <= 1000 and (read := _found(files, address)):
            return Attachment(name, media_type, read, described)
        if len(address) > 64 and re.fullmatch(r"[A-Za-z0-9+/=\s]{64}", address[:64]):
            return base64_file(address, name, media_type, described)
        if name in ("picture", "file") and 0 < len(address) <= 200:
            name = values.text(address).rsplit("/", 1)[-1] or name
    read = None if name in ("picture", "file") else _found(files, name)
    return Attachment(name, media_type, read, described)


def data_file(url: str, name: str, media_type: str = "", text: str = "") -> Attachment:
    """Return the file that a data URL holds."""
    found = DATA_URL.match(url)
    named = (found[1] or "").lower() if found else ""
    return Attachment(name, named or media_type, partial(_read_data_url, url), text)


def base64_file(content: object, name: str, media_type: str = "", text: str = "") -> Attachment:
    """Return the file with this content in base64, with or without what a data URL begins with."""
    if not isinstance(content, str) or not content:
        return Attachment(name, media_type, None, text)
    if content[:5].lower() == "data:":
        return data_file(content, name, media_type, text)
    return Attachment(name, media_type, partial(contents.decode_base64, content), text)


def text_file(content: object, name: object, media_type: str = "text/plain") -> Attachment:
    """Return the file of which the export has the text only: that of "a.pdf" becomes "a.pdf.txt"."""
    text, named = values.text(content), values.text(name) or "file.txt"
    if text and NO_TEXT_FILE.search(named):
        named += ".txt"
    return Attachment(named, media_type, partial(text.encode, "utf-8", "replace") if text else None)


def link(url: str, label: str) -> str:
    """Return a link as Markdown, or its label if the address is none of the web."""
    label = " ".join(values.text(label).split())[:300] or url[:300]
    if not WEB_URL.fullmatch(url):
        return label
    return f"[{MARKUP.sub(ESCAPED, label)}](<{url}>)"


def words_at(value: object, *keys: str) -> str:
    """Return the text at the first of the keys that has one; it may be in an object or list there."""
    if not isinstance(value, dict):
        return values.text(value)
    for key in keys:
        inner = value.get(key)
        if found := values.text(inner) or contents.words_of(inner):
            return found
    return ""


def reasoning(value: object, seconds: object = None) -> Iterator[Reasoning]:
    """Yield the reasoning, if it is a text that is not blank."""
    if (found := words_at(value, "text", "content")) and found.strip():
        yield Reasoning(found, values.number(seconds))


def _found(files: Files, name: str) -> Any:
    return files.find(name) or files.find(name.replace("\\", "/").rsplit("/", 1)[-1] or name)


def _read_data_url(url: str) -> bytes:
    found = DATA_URL.match(url)
    if found is None:
        raise Unreadable("Its content is no valid data URL.")
    if found[2].lower().endswith(";base64"):
        return contents.decode_base64(url, found.end())
    if len(url) > contents.MAX_BASE64_CHARS:
        raise Unreadable("It is larger than 100 MB.")
    return unquote_to_bytes(url[found.end() :].encode("utf-8", "replace"))


def _dumped(value: object) -> str:
    try:
        return values.text(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, RecursionError):
        return "{}"
