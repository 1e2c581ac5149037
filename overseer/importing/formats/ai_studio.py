"""Prompts of Google AI Studio: one file each, from the folder "Google AI Studio" of Google Drive.

`chunkedPrompt.chunks` has what was said in order. Files are usually in Drive, so that the prompt has only their ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing import contents, values
from overseer.importing.conversations import Attachment, Content, Conversation, Files, Node, ToolResult, Unreadable
from overseer.importing.values import identifier, items, mapping, milliseconds, number, text

NAME = "Google AI Studio"
IN_DRIVE = {"driveDocument": "document", "driveImage": "picture", "driveAudio": "sound", "driveVideo": "video"}
INLINE = {"inlineFile": "file", "inlineImage": "picture", "inlineData": "file", "inlineAudio": "sound"}
VIDEO_ID = re.compile(r"[\w-]{6,20}")
CUT = "The answer reached the limit of its length."
FAILED = "Google AI Studio reported an error: {words}"


def recognizes(item: Mapping[str, Any]) -> bool:
    """Return whether this is a prompt."""
    return isinstance(mapping(item.get("chunkedPrompt")).get("chunks"), list)


def read(item: Mapping[str, Any], files: Files) -> Conversation:
    """Return the conversation. Raises Unreadable if it is empty."""
    chunks = [mapping(one) for one in items(mapping(item.get("chunkedPrompt")).get("chunks"))]
    nodes = _nodes([one for one in chunks if one])
    if not nodes:
        raise Unreadable("It has no messages.", "chunkedPrompt.chunks")
    run = mapping(item.get("runSettings"))
    given = item.get("systemInstruction")
    return Conversation(
        source=f"ai-studio:{identifier(item.get('id')) or _made_id(nodes)}",
        title=text(item.get("title")) or text(item.get("displayName")),
        nodes=nodes,
        head=nodes[-1].id,
        created_at=nodes[0].created_at or milliseconds(item.get("createTime")),
        model=text(run.get("model")).removeprefix("models/"),
        system_prompt=text(given) or "".join(_texts(mapping(given))),
        temperature=number(run.get("temperature")),
    )


def _made_id(nodes: list[Node]) -> str:
    """Return an id that is made of the first question and answer."""
    said = ["".join(part.text for part in node.parts if isinstance(part, Text)) for node in nodes]
    return values.digest(nodes[0].created_at, *[words for words in said if words][:2])


def _nodes(chunks: list[Mapping[str, Any]]) -> list[Node]:
    """Return a node for each chunk. Files and words that a person sent after each other are one question."""
    nodes: list[Node] = []
    ids = set[str]()
    for index, chunk in enumerate(chunks):
        node_id = identifier(chunk.get("id")) or str(index)
        node = _node(f"{node_id}:{index}" if node_id in ids else node_id, chunk)
        if nodes and node.role == nodes[-1].role == "user":
            nodes[-1].parts += node.parts
            continue
        node.parent = nodes[-1].id if nodes else None
        ids.add(node.id)
        nodes.append(node)
    return nodes


def _node(node_id: str, chunk: Mapping[str, Any]) -> Node:
    role = text(chunk.get("role")).lower()
    is_question = role == "user"
    error = text(chunk.get("errorMessage")) or text(mapping(chunk.get("error")).get("message"))
    parts = list(_parts(chunk, node_id))
    is_result = bool(parts) and all(isinstance(part, ToolResult) for part in parts)
    is_cut = not is_question and text(chunk.get("finishReason")).upper() == "MAX_TOKENS"
    return Node(
        node_id,
        None,
        "tool" if is_result else "user" if is_question else "system" if role == "system" else "assistant",
        parts,
        created_at=milliseconds(chunk.get("createTime")),
        state="failed" if error and not is_question else "interrupted" if is_cut else "complete",
        reason=FAILED.format(words=error[:500]) if error and not is_question else CUT if is_cut else "",
        sources=list(dict.fromkeys(_sources(mapping(chunk.get("grounding"))))),
    )


def _parts(chunk: Mapping[str, Any], node_id: str) -> Iterator[Content]:
    """Yield the parts of a chunk. Its `parts`, if it has words there, are its text in pieces."""
    is_thought = chunk.get("isThought") is True
    inner = [mapping(one) for one in items(chunk.get("parts"))]
    pieces: list[tuple[bool, str]] = []
    if not any(text(one.get("text")) for one in inner):
        pieces.append((is_thought, text(chunk.get("text"))))
    others = [content for index, one in enumerate([chunk, *inner]) for content in _others(one, f"{node_id}.{index}")]
    for one in inner:
        words, of_thought = text(one.get("text")), is_thought or one.get("thought") is True
        if words and pieces and pieces[-1][0] == of_thought:
            pieces[-1] = of_thought, pieces[-1][1] + words
        elif words:
            pieces.append((of_thought, words))
    made = [Reasoning(words) if of_thought else Text(words) for of_thought, words in pieces if words]
    yield from made
    yield from others
    if not made and not others and not text(chunk.get("errorMessage")):
        words = contents.words_of({key: value for key, value in chunk.items() if key not in ("role", "error")})
        if words:
            yield contents.unknown("chunk", dict(chunk))


def _others(one: Mapping[str, Any], place: str) -> Iterator[Content]:
    """Yield the files, calls and results of a chunk or a part of one."""
    for key, kind in INLINE.items():
        if found := mapping(one.get(key)):
            name = text(found.get("name") or found.get("displayName")) or kind
            yield contents.base64_file(name, found.get("data"), found.get("mimeType"))
    for key, kind in IN_DRIVE.items():
        if found := mapping(one.get(key)):
            name = text(found.get("name") or found.get("title")) or f"{kind} {text(found.get('id'))} in Google Drive"
            yield Attachment(name, text(found.get("mimeType")))
    if found := mapping(one.get("fileData")):
        yield Attachment(text(found.get("fileUri")) or "file", text(found.get("mimeType")))
    video = mapping(one.get("youtubeVideo"))
    if VIDEO_ID.fullmatch(text(video.get("id"))):
        yield Text(f"https://www.youtube.com/watch?v={video['id']}")
    if found := mapping(one.get("executableCode")):
        language = text(found.get("language")).lower()
        name = language if language.isalpha() and language.isascii() else "python"
        yield ToolCall(place, name, contents.json_of({"code": text(found.get("code"))}))
    if found := mapping(one.get("codeExecutionResult")):
        outcome = text(found.get("outcome"))
        yield ToolResult("", "", text(found.get("output")), outcome not in ("", "OUTCOME_OK"))
    if found := mapping(one.get("functionCall")):
        name = text(found.get("name")) or "tool"
        given = found.get("args") or found.get("parameters")
        yield ToolCall(identifier(found.get("id")) or place, name, contents.arguments(given, name))
    if found := mapping(one.get("functionResponse")):
        answer = found.get("response")
        yield ToolResult(text(found.get("id")), text(found.get("name")), text(answer) or contents.json_of(answer))


def _texts(given: Mapping[str, Any]) -> Iterator[str]:
    yield text(given.get("text"))
    for one in items(given.get("parts")):
        yield text(mapping(one).get("text"))


def _sources(grounding: Mapping[str, Any]) -> Iterator[Source]:
    rows = [
        mapping(one) for one in (*items(grounding.get("groundingSources")), *items(grounding.get("groundingChunks")))
    ]
    rows += [mapping(one) for one in items(grounding.get("corroborationSegments"))]
    for row in rows:
        found = mapping(row.get("web")) or row
        if page := contents.source(found.get("uri") or found.get("url"), found.get("title")):
            yield page
