"""Messages, their parts, and the states of an answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from overseer.domain.addresses import split_url

Role = Literal["user", "assistant"]
State = Literal["waiting", "streaming", "complete", "stopped", "failed", "interrupted"]
CallState = Literal["running", "done", "failed", "abandoned"]

# What an answer was made without, or contains but is not shown, and the sentences that say so.
LEFT_OUT = {
    "tools": "Without tools: the server refused them.",
    "temperature": "Without temperature: the server refused it.",
    "system": "System prompt sent with the first message: the server refused the system role.",
    "malformed_call": "Without tools: the model’s tool call was malformed.",
    "picture": "The model sent a picture that can’t be shown.",
    "sound": "The model sent sound, which can’t be played.",
    "unknown_part": "The model sent something other than text, which can’t be shown.",
}
SERVER_SAID = " The server said: "
PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
UNFINISHED: tuple[State, ...] = ("waiting", "streaming")


@dataclass(frozen=True, slots=True)
class Text:
    """Text, as Markdown."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The reasoning of the model, as Markdown, and the seconds that it took, if they are known."""

    kind: ClassVar[str] = "reasoning"
    text: str
    seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool. `arguments` is the JSON from the model, `result` the output or error of the tool.

    An abandoned call was given up before the tool returned; its `result` says why. `extra` is what only the model that
    sent the call understands, as JSON; see `overseer.llm.call_extras`.
    """

    kind: ClassVar[str] = "tool_call"
    call_id: str
    name: str
    arguments: str
    result: str = ""
    state: CallState = "running"
    extra: str = ""

    @property
    def in_brackets(self) -> str:
        """The call as plain text."""
        return f"[{self.name} {self.arguments} → {self.result}]"


@dataclass(frozen=True, slots=True)
class File:
    """A picture that the model sent, or a file of an import. Its content is in the room's file, by its SHA-256 in hex.

    `text` describes a picture, if the model does. `width` and `height` are in pixels, and 0 for other files.
    """

    kind: ClassVar[str] = "file"
    sha256: str
    media_type: str
    text: str = ""
    width: int = 0
    height: int = 0
    name: str = ""

    @property
    def is_picture(self) -> bool:
        """Whether browsers show it as a picture."""
        return self.media_type in PICTURE_TYPES

    @property
    def in_brackets(self) -> str:
        """The file in a plain text."""
        kind, words = ("picture" if self.is_picture else "file"), self.text or self.name
        return f"[{kind}: {words}]" if words else f"[{kind}]"


Part = Text | Reasoning | ToolCall | File


def abandon_if_running(part: Part) -> Part:
    """Return the part as it is stored when the answer ends: a running call becomes abandoned."""
    if isinstance(part, ToolCall) and part.state == "running":
        return replace(part, state="abandoned", result="Abandoned: the answer ended before the tool did.")
    return part


@dataclass(frozen=True, slots=True)
class Source:
    """A page that an answer cites: its http or https address, and its title if the server names it."""

    url: str
    title: str = ""

    @property
    def host(self) -> str:
        """The host of the address."""
        parts = split_url(self.url)
        return (parts and parts.hostname) or ""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens and seconds of an answer, over all its steps.

    `speaking` is the part of `seconds` after the first token. `estimated` if the server did not report the tokens.
    `context_used` are the tokens of the last request and its reply, `context_limit` those that the model can read.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    speaking: float = 0.0
    estimated: bool = False
    context_used: int = 0
    context_limit: int = 0

    @property
    def rate(self) -> float | None:
        """Output tokens per second after the first token; None if the answer arrived at once."""
        return self.tokens_out / self.speaking if self.tokens_out and self.speaking >= 0.01 else None

    def plus(self, more: Usage) -> Usage:
        """Return the sum."""
        return Usage(
            self.tokens_in + more.tokens_in,
            self.tokens_out + more.tokens_out,
            self.seconds + more.seconds,
            self.speaking + more.speaking,
            self.estimated or more.estimated,
            more.context_used,
            more.context_limit,
        )


@dataclass(frozen=True, slots=True)
class Versions:
    """Which of the versions at its place a message is, from 1, and the numbers of its neighbours among them."""

    index: int = 1
    count: int = 1
    earlier: int | None = None
    later: int | None = None


ONLY_VERSION = Versions()


@dataclass(frozen=True, slots=True)
class Message:
    """A question or an answer. Times are UTC milliseconds.

    `number` starts at 1 and is never used again in the room. `reason` is a sentence that explains a state other than
    complete. `retry_at` is when the next request to a busy model server is sent. `left_out` are the keys of LEFT_OUT
    that apply to the answer, `sources` the pages that it cites. An answer is not `continuable` if it fills the model's
    context. It is `queued` while another answer of the room is generated. `parent` is the number of the message that it
    follows, None for a first one; messages with the same parent are versions.

    `asked_model` is the model that was chosen for this answer, empty for the room's. `lane` is the place, from 1, of an
    answer among those to the same question that are shown side by side, until one of them is chosen; otherwise None.
    """

    number: int
    role: Role
    state: State
    parts: tuple[Part, ...]
    reason: str = ""
    model: str = ""
    created_at: int = 0
    ended_at: int | None = None
    usage: Usage | None = None
    retry_at: int | None = None
    left_out: frozenset[str] = frozenset()
    continuable: bool = True
    sources: tuple[Source, ...] = ()
    queued: bool = False
    parent: int | None = None
    versions: Versions = ONLY_VERSION
    asked_model: str = ""
    lane: int | None = None

    @property
    def text(self) -> str:
        """The text of the message, without reasoning and tool calls."""
        return "\n\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def note(self) -> str:
        """The sentences about what the server refused, and what cannot be shown."""
        return " ".join(sentence for name, sentence in LEFT_OUT.items() if name in self.left_out)

    @property
    def explanation(self) -> tuple[str, str]:
        """The sentence of `reason` about what happened, and the model server's own words, if it has any."""
        sentence, said, words = self.reason.partition(SERVER_SAID)
        return sentence, (said + words).strip()

    @property
    def finished(self) -> bool:
        return self.state not in UNFINISHED

    @property
    def resumable(self) -> bool:
        """Whether the answer ended within a text part, so that a model can continue it."""
        broke_off = self.finished and self.state != "complete" and self.continuable
        return broke_off and bool(self.parts) and isinstance(self.parts[-1], Text)
