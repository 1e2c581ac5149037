"""What answers: one protocol, spoken by any OpenAI-compatible server and by the built-in offline responder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from overseer.domain.messages import Message
from overseer.tools.registry import Toolbox


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next words of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next words of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """The model wants a tool used: `arguments` is the JSON text it sent, whole."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What the server counted: the tokens that were read and written for this reply."""

    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of the request the server refused, so that it was left out of it: see `Message.left_out`."""

    names: frozenset[str]


Delta = TextDelta | ReasoningDelta | ToolRequest | TokenCount | LeftOut


class ModelError(Exception):
    """The model could not answer; the message is a sentence that says what to do."""


class ModelCut(ModelError):
    """The answer broke off before its end."""


class ModelOverflow(ModelError):
    """The model cannot read so much."""


class ModelBusy(ModelError):
    """The server has no time now: `why`, a sentence. It `said` more, maybe, and when to come back, in `seconds`."""

    def __init__(self, why: str, seconds: float | None, *, said: str = "") -> None:
        super().__init__(f"{why} Wait {_time(seconds)}, then Retry." + (f" It said: {said}" if said else ""))
        self.why = why
        self.seconds = seconds


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "a moment"
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 7200 else f"{math.ceil(seconds / 3600)} h"


class Reply(Protocol):
    """One answer being made."""

    def __iter__(self) -> Iterator[Delta]:
        """The answer as it comes. Raises ModelError, after whatever came before the trouble."""

    def close(self) -> None:
        """End it at once, from any thread, also while nothing is coming."""


class Model(Protocol):
    """Something that answers."""

    @property
    def name(self) -> str:
        """What the page calls it."""

    @property
    def offline(self) -> bool:
        """Whether this is only the built-in responder."""

    def answer(
        self, history: Sequence[Message], tools: Toolbox, *, system: str = "", temperature: float | None = None
    ) -> Reply:
        """Begin to answer the last user message. A last message from the assistant is the answer so far: with the
        results of the tools it asked for, or broken off in mid-text, to be gone on with."""


class Models(Protocol):
    """Where models are found."""

    def pick(self, name: str = "", *, room: str = "") -> Model:
        """The model of this name, or the one to use where nobody has named one, to answer in a room.

        What its server refuses is remembered for that room alone.
        """

    def forget(self, room: str) -> None:
        """The room is gone."""

    def names(self, *, refresh: bool = False) -> tuple[str, ...]:
        """The names that can be picked; may be some minutes old unless it is to `refresh`. Raises ModelError."""
