"""Conversations of ChatGPT: `conversations.json`, or `conversations-000.json` and so on, alone or in the zip.

A conversation is a tree: `mapping` has the nodes by their ids, `current_node` is the last one on the shown path. What
the model says to a tool is a message to a `recipient`; the tool answers with messages of its own. Files are named by
ids; in the zip they are `<id>.dat`, with their names in `conversation_asset_file_names.json`, or, in exports before
2026, `<id>-<name>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from overseer.domain.messages import Reasoning, State, Text, ToolCall
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
from overseer.importing.formats.chatgpt_citations import cited
from overseer.importing.values import identifier, items, mapping, milliseconds, number, text

NAME = "ChatGPT"
ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool", "system": "system"}
TO_THE_USER = ("", "all", "user")
NOT_SHOWN = ("user_editable_context", "model_editable_context")
POINTER = re.compile(r"^[a-z-]+://")
DURATION = re.compile(r"\b(?=\d)(?:(\d{1,3}) ?m\w* ?)?(?:(\d{1,4}) ?s)?")
FOR_A_PART = ("audio_asset_pointer", "video_container_asset_pointer")
ASSET_NAMES, LIBRARY = "conversation_asset_file_names.json", "library_files.json"
MAX_STEPS = 50  # of an answer that are looked at for the reasoning that a recap is of
SUFFIXES = {
    "document": "md",
    "markdown": "md",
    "python": "py",
    "javascript": "js",
    "typescript": "ts",
    "react": "jsx",
    "html": "html",
    "bash": "sh",
    "c++": "cpp",
}
UNFINISHED = "The export was made while this answer was being written."
INTERRUPTED = "The answer was interrupted."
CUT = "The answer reached the limit of its length."
FAILED = "ChatGPT reported an error."
CUSTOM_GPT = "It was held with a custom GPT ({id}), whose instructions are not in the export."
PROJECT = "It was in a project ({id}), whose instructions and files are not in the export."


class FileNames(NamedTuple):
    """The names and media types of files by their ids, and the ids of the files of a message by those of its
    conversation and its own."""

    names: Mapping[str, str]
    media_types: Mapping[str, str]
    of_message: Mapping[tuple[str, str], list[str]]


def recognizes(item: Mapping[str, Any]) -> bool:
    """Return whether this is a conversation, or the row of one without its messages."""
    nodes = item.get("mapping")
    if isinstance(nodes, dict | list) and "inserted_at" not in item:
        found = nodes.values() if isinstance(nodes, dict) else nodes
        messages = (mapping(node).get("message") for node in found)
        first = next((message for message in messages if isinstance(message, dict)), None)
        return first is None or (("author" in first or "content" in first) and "fragments" not in first)
    # The rows of other files, such as that of the shared links, have no times or no title.
    return (
        nodes is None
        and {"title", "create_time", "update_time"} <= item.keys()
        and ("conversation_id" in item or "id" in item)
        and not {"messages", "chat_messages", "chat", "responses", "is_anonymous"} & item.keys()
    )


def read(item: Mapping[str, Any], files: Files) -> Conversation:
    """Return the conversation. Raises Unreadable if the export does not have its messages."""
    nodes = item.get("mapping")
    if isinstance(nodes, list):
        nodes = {str(identifier(mapping(node).get("id")) or index): node for index, node in enumerate(nodes)}
    if not mapping(nodes):
        raise Unreadable("The export has only the title of this conversation, not its messages.", "mapping")
    return _Reader(item, mapping(nodes), files).read()


class _Reader:
    """Reads one conversation."""

    def __init__(self, item: Mapping[str, Any], nodes: Mapping[str, Any], files: Files) -> None:
        self._item, self._nodes, self._files = item, nodes, files
        self._file_names = _file_names(files)  # type: ignore[arg-type]  # mypy wants Hashable; it is, by identity
        self._conversation_id = (
            identifier(item.get("conversation_id"))
            or identifier(item.get("id"))
            or values.digest(text(item.get("create_time")), next(iter(nodes)))
        )
        self._parents = self._find_parents()
        self._roles: dict[str, Role] = {}

    def read(self) -> Conversation:
        """Return the conversation."""
        item = self._item
        found = [self._node(node_id, mapping(node)) for node_id, node in self._nodes.items()]
        self._give_recaps({node.id: node for node in found})
        gizmo = identifier(item.get("gizmo_id"))
        notes = [(PROJECT if gizmo.startswith("g-p-") else CUSTOM_GPT).format(id=gizmo)] if gizmo else []
        head = item.get("current_node")
        return Conversation(
            source=f"chatgpt:{self._conversation_id}",
            title=text(item.get("title")),
            nodes=found,
            head=head if isinstance(head, str) and head in self._nodes else None,
            created_at=milliseconds(item.get("create_time")),
            updated_at=milliseconds(item.get("update_time")),
            model=text(item.get("default_model_slug")) or text(item.get("model_slug")),
            pinned=item.get("is_starred") is True or bool(number(item.get("pinned_time"))),
            archived=item.get("is_archived") is True,
            notes=notes,
        )

    # The tree

    def _find_parents(self) -> dict[str, str | None]:
        """Return the parent of each node: what it says, else the node that has it among its children."""
        others: dict[str, str] | None = None
        parents: dict[str, str | None] = {}
        for node_id, node in self._nodes.items():
            parent = mapping(node).get("parent")
            if not isinstance(parent, str) or parent not in self._nodes:
                if others is None:
                    others = contents.parents_by_children(self._nodes)
                parent = others.get(node_id)
            parents[node_id] = parent
        return parents

    def _role(self, node_id: str, message: Mapping[str, Any]) -> Role:
        role = text(mapping(message.get("author")).get("role") or message.get("role")).lower()
        parent = self._roles.get(self._parents[node_id] or "", "system")
        found = ROLES.get(role) or ("assistant" if role or parent == "user" else "user")
        self._roles[node_id] = found
        return found

    def _call_of(self, node_id: str, name: str) -> str:
        """Return the id of the call that a message of a tool follows. Other results are matched by the name."""
        parent = self._parents[node_id]
        recipient = _recipient(mapping(mapping(self._nodes.get(parent or "")).get("message")))
        is_call = recipient not in TO_THE_USER and name.partition(".")[0] in ("", recipient.partition(".")[0])
        return parent if parent is not None and is_call else ""

    def _give_recaps(self, nodes: Mapping[str, Node]) -> None:
        """Move the seconds of a recap ("Thought for 3 seconds") to the reasoning that it is of, and hide the recap."""
        for node in nodes.values():
            content = self._content(node.id)
            if content.get("content_type") != "reasoning_recap":
                continue
            at, steps = self._parents[node.id], 0
            while at is not None and steps < MAX_STEPS and nodes[at].role in ("assistant", "tool"):
                if self._content(at).get("content_type") == "thoughts" and nodes[at].parts:
                    last, own = nodes[at].parts[-1], next(iter(node.parts), None)
                    if isinstance(last, Reasoning) and isinstance(own, Reasoning):
                        nodes[at].parts[-1] = Reasoning(last.text, own.seconds or last.seconds)
                        node.hidden = True
                    break
                at, steps = self._parents[at], steps + 1

    def _content(self, node_id: str) -> Mapping[str, Any]:
        return mapping(mapping(mapping(self._nodes[node_id]).get("message")).get("content"))

    # Messages

    def _node(self, node_id: str, node: Mapping[str, Any]) -> Node:
        message, parent = mapping(node.get("message")), self._parents[node_id]
        if not message:
            return Node(node_id, parent, "system", hidden=True)
        metadata = mapping(message.get("metadata"))
        role = self._role(node_id, message)
        made = Node(
            node_id,
            parent,
            role,
            created_at=milliseconds(message.get("create_time")),
            ended_at=milliseconds(message.get("update_time")),
            model="" if role in ("user", "system") else text(metadata.get("model_slug")),
        )
        kind = _kind(message)
        made.hidden = (
            metadata.get("is_visually_hidden_from_conversation") is True
            or kind in NOT_SHOWN
            or (message.get("weight") == 0 and role != "tool")  # results of tools often have none
        )
        if made.hidden:
            return made
        content = message.get("content")
        if role == "tool":
            made.parts = list(self._result(node_id, message, mapping(content)))
        elif role == "assistant" and _recipient(message) not in TO_THE_USER:
            made.parts = self._call(node_id, message, mapping(content))
        else:
            if kind == "system_error" and role == "system":
                made.role = "assistant"
            made.parts = list(self._parts(content, made.role, metadata))
            made.parts, made.sources = cited(made.parts, metadata, is_answer=made.role == "assistant")
        names = {
            _file_id(one.get("id")): text(one.get("name")) for one in map(mapping, items(metadata.get("attachments")))
        }
        for index, part in enumerate(made.parts):
            if isinstance(part, Attachment) and names.get(part.name):
                made.parts[index] = replace(part, name=names[part.name])
        made.parts += self._attachments(message, metadata)
        if made.role == "assistant":
            made.state, made.reason = _state(message, metadata)
            if not made.parts:
                made.reason = made.reason if made.state == "failed" else ""
        return made

    def _call(self, node_id: str, message: Mapping[str, Any], content: Mapping[str, Any]) -> list[Content]:
        """Return the call of a tool that a message is."""
        name = _recipient(message)
        words = content.get("text")
        if not isinstance(words, str):
            parts = items(content.get("parts"))
            words = "\n".join(part for part in parts if isinstance(part, str)) or contents.words_of(dict(content))
        call = ToolCall(node_id, name, contents.arguments(words, name))
        document = _canvas(call.arguments) if name.startswith("canmore.create") else None
        return [call] if document is None else [call, document]

    def _result(self, node_id: str, message: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[Content]:
        """Yield what a tool returned: its words, then its files."""
        metadata = mapping(message.get("metadata"))
        kind = _kind(message)
        name = text(mapping(message.get("author")).get("name")) or ("python" if kind == "execution_output" else "")
        outcome = mapping(metadata.get("aggregate_result"))
        status = text(outcome.get("status")).lower()
        failed = kind == "system_error" or "fail" in status or "error" in status or "exception" in status
        made = list(self._parts(message.get("content"), "tool", metadata))
        words = "\n\n".join(part.text for part in made if isinstance(part, Text | Reasoning) and part.text.strip())
        files = [part for part in made if isinstance(part, Attachment)]
        call, words = self._call_of(node_id, name), words or _search_results(metadata)
        if call or words or not files:
            yield ToolResult(call, name, words, failed)
        yield from files
        for one in map(mapping, items(outcome.get("messages"))):
            if one.get("message_type") == "image" and one.get("image_url"):
                yield self._file(one["image_url"], "image/png", name="output.png")
        if kind == "computer_output" and (shot := mapping(content.get("screenshot"))):
            yield self._file(shot.get("asset_pointer"), "image/png", name="screenshot.png")

    def _parts(self, content: object, role: Role, metadata: Mapping[str, Any]) -> Iterator[Content]:
        """Yield the parts of a message."""
        if isinstance(content, str):
            yield Text(text(content))
            return
        found = mapping(content)
        kind = text(found.get("content_type"))
        match kind:
            case "text" | "multimodal_text" | "":
                yield from self._mixed(items(found.get("parts")) or [found.get("text")], role)
            case "code":
                words = text(found.get("text"))
                if words.strip():
                    language = text(found.get("language"))
                    yield Text(contents.code_block(words, "" if language == "unknown" else language))
            case "execution_output":
                yield Text(text(found.get("text")))
            case "thoughts":
                words = "\n\n".join(filter(None, map(_thought, items(found.get("thoughts")))))
                yield Reasoning(words, _seconds(metadata))
            case "reasoning_recap":
                words = text(found.get("content"))
                yield Reasoning(words, _seconds(metadata) or _seconds_in(words))
            case "tether_quote" | "sonic_webpage":
                yield Text(_page(found))
            case "tether_browsing_display":
                yield Text(_joined(text(found.get("summary")), text(found.get("result"))))
            case "system_error":
                yield Text(_joined(text(found.get("name")), text(found.get("text")), between=": "))
            case "computer_output":
                yield Text(contents.words_of({key: found[key] for key in found.keys() - {"screenshot"}}))
            case "citable_code_output":
                yield Text(text(found.get("output_str")) or contents.words_of(dict(found)))
            case _:
                yield contents.unknown(kind, dict(found))

    def _mixed(self, parts: Iterable[object], role: Role) -> Iterator[Content]:
        """Yield the parts of a message of texts, pictures and sound."""
        for part in parts:
            if not isinstance(part, dict):
                if words := text(part):
                    yield Text(words)
                continue
            kind = text(part.get("content_type"))
            if kind == "image_asset_pointer":
                yield self._picture(part)
            elif kind in FOR_A_PART:
                yield from self._recording(part)
            elif kind == "real_time_user_audio_video_asset_pointer":
                for key in FOR_A_PART:
                    yield from self._recording(mapping(part.get(key)))
                for frame in items(part.get("frames_asset_pointers")):
                    yield self._picture(mapping(frame) or {"asset_pointer": frame})
            elif kind == "audio_transcription" or (not kind and "text" in part):
                yield Text(text(part.get("text")))
            elif kind and "parts" not in part and ("thoughts" in part or kind in ("code", "tether_quote")):
                yield from self._parts(part, role, values.NOTHING)
            else:
                yield contents.unknown(kind or part.get("type"), part)

    # Files

    def _picture(self, part: Mapping[str, Any]) -> Attachment:
        metadata = mapping(part.get("metadata"))
        generated = mapping(metadata.get("dalle")) or mapping(metadata.get("generation"))
        name = "picture.png" if generated else ""
        return self._file(part.get("asset_pointer"), "", name=name, words=text(generated.get("prompt")))

    def _recording(self, part: Mapping[str, Any]) -> Iterator[Attachment]:
        """Yield a recording if the export has it; what was said is in the text."""
        ending = re.sub(r"\W", "", text(part.get("format")))[:10] or "wav"
        found = self._file(part.get("asset_pointer"), "", name=f"recording.{ending}")
        if found.read is not None:
            yield found

    def _attachments(self, message: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[Attachment]:
        """Yield the files of a message that no part of it is."""
        shown = _pointed_to(message.get("content"))
        for one in map(mapping, items(metadata.get("attachments"))):
            file_id = _file_id(one.get("id"))
            if not file_id or file_id not in shown:
                shown.add(file_id)
                kind = text(one.get("mime_type") or one.get("mimeType"))
                yield self._file(file_id, kind, name=text(one.get("name")))
        for file_id in self._file_names.of_message.get((self._conversation_id, text(message.get("id"))), ()):
            if file_id not in shown:
                shown.add(file_id)
                yield self._file(file_id, "")

    def _file(self, pointer: object, media_type: str, *, name: str = "", words: str = "") -> Attachment:
        """Return the file that a pointer names."""
        file_id = _file_id(pointer)
        known = self._file_names.names.get(file_id, "")
        shown = known.rsplit("/", 1)[-1] or name or file_id or "file"
        kind = media_type or self._file_names.media_types.get(file_id, "")
        return Attachment(shown, kind, self._find(file_id, known), words)

    def _find(self, file_id: str, known: str) -> Callable[[], bytes] | None:
        if len(file_id) < 6:
            return None
        names = (f"{file_id}.dat", f"{file_id}-", f"{file_id}.", file_id, known if "/" in known else "")
        return contents.first_found(self._files.find, *names)


@lru_cache(maxsize=1)
def _file_names(files: Files) -> FileNames:
    """Return the names of the files of an export. They are the same for all its conversations."""
    names: dict[str, str] = {}
    media_types: dict[str, str] = {}
    of_message: dict[tuple[str, str], list[str]] = {}
    for row in map(mapping, items(files.json(LIBRARY))):
        if file_id := _file_id(row.get("file_id")):
            names[file_id] = text(row.get("file_name"))
            media_types[file_id] = text(row.get("mime_type"))
            message = text(row.get("origination_thread_id")), text(row.get("origination_message_id"))
            if all(message):
                of_message.setdefault(message, []).append(file_id)
    for key, name in mapping(files.json(ASSET_NAMES)).items():
        if words := text(name):
            names[_file_id(key).removesuffix(".dat")] = words
    return FileNames(names, media_types, of_message)


def _kind(message: Mapping[str, Any]) -> str:
    return text(mapping(message.get("content")).get("content_type"))


def _recipient(message: Mapping[str, Any]) -> str:
    return text(message.get("recipient"))


def _file_id(pointer: object) -> str:
    """Return the id in "sediment://file_1#part" or "file-service://file-1", or of the file itself."""
    return POINTER.sub("", text(pointer)).partition("#")[0].partition("?")[0]


def _pointed_to(content: object) -> set[str]:
    """Return the ids of the files that are parts of a message."""
    parts = map(mapping, items(mapping(content).get("parts")))
    return {_file_id(part.get("asset_pointer")) for part in parts} - {""}


def _state(message: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[State, str]:
    status, finish = text(message.get("status")), text(mapping(metadata.get("finish_details")).get("type"))
    if metadata.get("is_error") is True or status in ("error", "finished_with_error"):
        return "failed", FAILED
    if finish == "interrupted":
        return "stopped", INTERRUPTED
    if finish == "max_tokens" or status == "finished_partial_completion":
        return "interrupted", CUT
    return ("interrupted", UNFINISHED) if status == "in_progress" else ("complete", "")


def _seconds(metadata: Mapping[str, Any]) -> float | None:
    """Return the seconds of reasoning."""
    seconds = number(metadata.get("finished_duration_sec"))
    start, end = number(metadata.get("reasoning_start_time")), number(metadata.get("reasoning_end_time"))
    if seconds is None and start is not None and end is not None:
        seconds = end - start
    return seconds if seconds is not None and 0 <= seconds < 1_000_000 else None


def _seconds_in(words: str) -> float | None:
    """Return the seconds in "Thought for 1m 5s"."""
    found = DURATION.search(words)
    return float(60 * int(found[1] or 0) + int(found[2] or 0)) if found else None


def _thought(value: object) -> str:
    if isinstance(value, str):
        return text(value)
    thought = mapping(value)
    words = text(thought.get("content")) or "".join(map(text, items(thought.get("chunks"))))
    title = text(thought.get("summary")).strip()
    return _joined(f"**{title}**" if title else "", words)


def _page(found: Mapping[str, Any]) -> str:
    """Return the page that a tool has read."""
    words = text(found.get("text")) or text(found.get("snippet"))
    return _joined(text(found.get("title")), text(found.get("url")), words)


def _search_results(metadata: Mapping[str, Any]) -> str:
    """Return the pages that a search found, where they are not in the content."""
    groups = map(mapping, items(metadata.get("search_result_groups")))
    entries = (mapping(entry) for group in groups for entry in items(group.get("entries")))
    found = ((text(one.get("title")), text(one.get("url")), text(one.get("snippet"))) for one in entries)
    return "\n\n".join(_joined(*words, between="\n") for words in found)


def _canvas(arguments: str) -> Attachment | None:
    """Return the document that a call writes beside the conversation."""
    try:
        made = mapping(json.loads(arguments))
    except (ValueError, RecursionError):
        return None
    kind = text(made.get("type")).rpartition("/")[2].lower()
    words = text(made.get("content"))
    ending = SUFFIXES.get(kind, re.sub(r"\W", "", kind)[:10] or "md")
    return contents.text_file(f"{text(made.get('name'))[:150] or 'document'}.{ending}", words) if words else None


def _joined(*words: str, between: str = "\n\n") -> str:
    return between.join(filter(None, words))
