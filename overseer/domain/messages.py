"""What a room is made of: messages, the parts of a message, and the states an answer goes through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

Role = Literal["user", "assistant"]
State = Literal["waiting", "streaming", "complete", "stopped", "failed", "interrupted"]
CallState = Literal["running", "done", "failed", "abandoned"]

# What of a request a server may refuse, and what an answer made without it says. The rest is left out in silence: it
# costs the answer nothing.
LEFT_OUT = {
    "tools": "Without tools: the server refused them.",
    "temperature": "Without temperature: the server refused it.",
    "system": "System prompt sent with the first message: the server refused the system role.",
}
UNFINISHED: tuple[State, ...] = ("waiting", "streaming")


@dataclass(frozen=True, slots=True)
class Text:
    """Words, as Markdown."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model thought before it spoke, as Markdown."""

    kind: ClassVar[str] = "reasoning"
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model used: `arguments` is the JSON it sent, `result` what the tool answered.

    An abandoned call was given up before it had a result, and `result` says why.
    """

    kind: ClassVar[str] = "tool_call"
    call_id: str
    name: str
    arguments: str
    result: str = ""
    state: CallState = "running"

    @property
    def in_brackets(self) -> str:
        """The call in one line of plain text."""
        return f"[{self.name} {self.arguments} → {self.result}]"


Part = Text | Reasoning | ToolCall


def ended(part: Part) -> Part:
    """The part as it is in an answer that has ended: a call that has no result by then is abandoned."""
    if isinstance(part, ToolCall) and part.state == "running":
        return replace(part, state="abandoned", result="Abandoned: the answer ended before the tool did.")
    return part


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took: tokens the model read and wrote, over all its steps, and seconds.

    `speaking` is the part of `seconds` from its first word on. `estimated` if the server did not count the tokens.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    speaking: float = 0.0
    estimated: bool = False

    @property
    def rate(self) -> float | None:
        """Tokens a second while it spoke; None for an answer that came all at once."""
        return self.tokens_out / self.speaking if self.tokens_out and self.speaking >= 0.01 else None

    def plus(self, more: Usage) -> Usage:
        """Both together."""
        return Usage(
            self.tokens_in + more.tokens_in,
            self.tokens_out + more.tokens_out,
            self.seconds + more.seconds,
            self.speaking + more.speaking,
            self.estimated or more.estimated,
        )


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a room. `number` is SQLite's, from 1, and never used again; times are UTC milliseconds.

    `reason` is the sentence that explains a state other than complete; `model` names what answered, and `usage` says
    what that took. A model that is asked again later is asked at `retry_at`. `left_out` names what the server
    refused of the request.
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

    @property
    def text(self) -> str:
        """The words of the message, without reasoning and tool calls."""
        return "\n\n".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def note(self) -> str:
        """What the answer was made without, in words."""
        return " ".join(words for name, words in LEFT_OUT.items() if name in self.left_out)

    @property
    def finished(self) -> bool:
        return self.state not in UNFINISHED

    @property
    def resumable(self) -> bool:
        """Whether it broke off in mid-text, so that a model can go on from there."""
        return self.finished and self.state != "complete" and bool(self.parts) and isinstance(self.parts[-1], Text)
