"""What the reader of a format makes of an export: conversations, their messages as nodes of a tree, and their files.

Readers run in a process of their own (see `worker`). What they are given is hostile: every value may be missing or of
any type. `values` has the functions that take what is usable from such a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from overseer.domain.messages import Reasoning, Source, State, Text, ToolCall

Role = Literal["user", "assistant", "tool", "system"]


class Unreadable(Exception):
    """A file or a conversation cannot be imported; the message is a sentence that says why.

    `place` is where in the file it is, such as "mapping.a1.message".
    """

    def __init__(self, sentence: str, place: str = "") -> None:
        super().__init__(sentence)
        self.place = place


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a message, or a picture. `read` returns its content and may raise Unreadable.

    Without `read`, the export has only its name; it is mentioned in the text. `media_type` may be empty: it is then
    found from the content and the name. `text` describes a picture.
    """

    name: str
    media_type: str = ""
    read: Callable[[], bytes] | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call that an earlier node made, found by `call_id`, or by `name` if the id is empty."""

    call_id: str
    name: str
    text: str
    failed: bool = False


Content = Text | Reasoning | ToolCall | ToolResult | Attachment


@dataclass(slots=True)
class Node:
    """One message of an export.

    `id` is unique in its conversation, and the same in a later export. `parent` is the id of the node that it follows;
    None, or an unknown id, for a first one. Times are UTC milliseconds. A `hidden` node is left out: what follows it
    follows the node before it. So is one without parts, unless it has a `reason`. `role` "tool" carries results of
    tools; it and the assistant's nodes after one question become one answer.
    """

    id: str
    parent: str | None
    role: Role
    parts: list[Content] = field(default_factory=list)
    created_at: int | None = None
    ended_at: int | None = None
    model: str = ""
    state: State = "complete"
    reason: str = ""
    sources: list[Source] = field(default_factory=list)
    hidden: bool = False


@dataclass(slots=True)
class Conversation:
    """One conversation of an export.

    `source` names the format and the id of the conversation in it: "chatgpt:6a1f…". If the export has no id, it is made
    of what does not change from one export to the next; see `values.digest`. `head` is the id of the last node on the
    path that was shown; None for the newest. `notes` are sentences about what could not be kept.
    """

    source: str
    title: str = ""
    nodes: list[Node] = field(default_factory=list)
    head: str | None = None
    created_at: int | None = None
    updated_at: int | None = None
    model: str = ""
    system_prompt: str = ""
    temperature: float | None = None
    pinned: bool = False
    archived: bool = False
    notes: list[str] = field(default_factory=list)


class Files(Protocol):
    """The other files of the export, such as the members of a zip."""

    def find(self, name: str) -> Callable[[], bytes] | None:
        """Return what reads the file with this name or path, or whose name begins with it, or None."""

    def json(self, name: str) -> object:
        """Return the parsed content of a JSON file of the export with this name, or None."""
