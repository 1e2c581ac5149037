"""The protocol of a model that answers: an OpenAI-compatible server, or the built-in offline responder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from overseer.domain.context import ModelContext
from overseer.domain.messages import Message, Source
from overseer.domain.tools import ToolDescription


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More text of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A complete tool call that the model asks for. `arguments` is the JSON text as the model sent it.

    `extra` is what only this model understands; see `ToolCall.extra`.
    """

    call_id: str
    name: str
    arguments: str
    extra: str = ""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The numbers of prompt and completion tokens that the server counted for this reply."""

    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The optional parts of the request that were left out because the server refuses them: see `Message.left_out`."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class SourcesFound:
    """The pages that the answer cites, at its end, and the keys of LEFT_OUT for what it contains besides text."""

    sources: tuple[Source, ...]
    unshown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PictureFound:
    """A picture that the answer contains here: its content, and a description if the model gives one.

    `replaces` is text that was yielded at the end of the last TextDelta before it became clear that a picture follows,
    such as "![A cat](data:image/png;base64,".
    """

    content: bytes
    media_type: str
    width: int
    height: int
    text: str = ""
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    """The name of the model that answers, as its server writes it. It may be another one than was asked for."""

    name: str


@dataclass(frozen=True, slots=True)
class ReasoningEnded:
    """The text of this reply until now was reasoning: the model marked its end, but not its beginning."""


Delta = (
    TextDelta
    | ReasoningDelta
    | ReasoningEnded
    | ToolRequest
    | TokenCount
    | LeftOut
    | AnsweredBy
    | SourcesFound
    | PictureFound
)


class ModelError(Exception):
    """The model could not answer. The message is a sentence that says what to do."""


class ModelCut(ModelError):
    """The answer ended before it was complete."""


class ModelOverflow(ModelError):
    """The conversation exceeds the model's context length.

    `needed` and `limit` are the tokens of the request and of the context, if the server names them, and `said` is the
    server's message.
    """

    def __init__(self, why: str, *, needed: int | None = None, limit: int | None = None, said: str = "") -> None:
        super().__init__(why)
        self.needed = needed
        self.limit = limit
        self.said = said


class ModelBusy(ModelError):
    """The server is temporarily unable to answer.

    `why` is a sentence, `seconds` the wait that the server asks for, if it names one, and `said` the server's message.
    `loading` means that the server is still loading the model.
    """

    def __init__(self, why: str, seconds: float | None, *, said: str = "", loading: bool = False) -> None:
        super().__init__(
            f"{why} Wait {_format_wait(seconds)}, then Retry." + (f" The server said: “{said}”" if said else "")
        )
        self.why = why
        self.seconds = seconds
        self.loading = loading


def _format_wait(seconds: float | None) -> str:
    if seconds is None:
        return "a moment"
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 7200 else f"{math.ceil(seconds / 3600)} h"


class Reply(Protocol):
    """The model's response to one request. An answer has one reply per step."""

    def __iter__(self) -> Iterator[Delta]:
        """Yield the answer as it arrives, with pauses in which other greenlets run, also if it arrives at once.

        Raises ModelError after the deltas that arrived before the error.
        """

    def answers_ahead(self) -> int:
        """Return how many earlier requests the server is still answering, if this one has no response yet."""

    def close(self) -> None:
        """End the reply at once. Safe to call from any thread, also while the reply waits for data."""


class Model(Protocol):
    """A model that answers."""

    @property
    def name(self) -> str:
        """The name that the page shows."""

    @property
    def offline(self) -> bool:
        """Whether this is the built-in offline responder."""

    @property
    def context(self) -> ModelContext:
        """What is known of the model's context."""

    def note_prompt(self, *, estimated: int, counted: int) -> None:
        """Remember that the server counted so many tokens for a request that was estimated at `estimated`."""

    def answer(
        self,
        history: Sequence[Message],
        tools: Iterable[ToolDescription],
        *,
        system: str = "",
        temperature: float | None = None,
    ) -> Reply:
        """Begin to answer the last user message.

        If the last message is from the assistant, it is the answer so far, and the reply continues it: it ends with
        the results of tools that the model asked for, or in the middle of the text.
        """


class Models(Protocol):
    """A source of models."""

    def pick(self, name: str = "", *, room: str = "") -> Model:
        """Return the model of this name, or the default model, to answer in a room.

        Which optional request fields its server refuses is remembered for that room only.
        """

    def forget(self, room: str) -> None:
        """Discard what is remembered for a deleted room."""

    def names(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the names of the available models, from a cache unless `refresh`. Raises ModelError."""
