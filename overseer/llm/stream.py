"""A streamed answer as servers write it: words, thoughts in any of four forms, tool calls in pieces, token counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from overseer.llm import Delta, ModelError, ReasoningDelta, TextDelta, TokenCount, ToolRequest

REASONING = ("reasoning_content", "reasoning", "reasoning_details")
MAX_NAME = 200  # characters of a tool's name
MAX_CALLS = 32  # tools that a model may want used at once,
MAX_ARGUMENTS = 400_000  # and characters of all their arguments
THINK_TAGS = {"<think>": "</think>", "<thinking>": "</thinking>"}


class StreamParser:
    """Puts one streamed answer together, chunk by chunk. `finish` is the reason it ended with, once it has."""

    def __init__(self) -> None:
        self.finish = ""
        self._calls = ToolCalls()
        self._content = ThinkTagParser()
        self._form: str | None = None  # in which reasoning came

    def chunk(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        """What a chunk adds."""
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        delta = choice.get("delta") or choice.get("message")  # a server that does not stream sends a message
        if isinstance(delta, dict):
            yield from self._reasoning(delta)
            yield from self._words(delta.get("content"))
            yield from self._words(delta.get("refusal"))
            self._calls.add(delta.get("tool_calls"))
        if choice.get("finish_reason"):
            self.finish = str(choice["finish_reason"])
        yield from _token_count(chunk.get("usage"))

    def rest(self) -> Iterator[Delta]:
        """What was held back."""
        yield from self._content.rest()

    def requests(self) -> Iterator[ToolRequest]:
        """The tools the model wants used."""
        yield from self._calls.requests()

    def _reasoning(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        # Servers that give two forms say the same in both.
        for form in REASONING if self._form is None else (self._form,):
            if text := _text(delta.get(form)):
                if self._form is None:
                    yield from self._content.rest()
                self._form = form
                yield ReasoningDelta(text)
                return

    def _words(self, content: object) -> Iterator[Delta]:
        if isinstance(content, list):  # Mistral: parts of a kind each
            for part in content:
                if isinstance(part, dict) and part.get("type") == "thinking":
                    yield from map(ReasoningDelta, filter(None, [_text(part.get("thinking"))]))
                elif text := _text([part]):
                    yield TextDelta(text)
        elif isinstance(content, str) and content:
            if self._form is None:
                yield from self._content.add(content)
            else:
                yield TextDelta(content)


class ThinkTagParser:
    """Text that may begin with what the model thinks, in tags: `<think>…</think>`, split in any way."""

    def __init__(self) -> None:
        self._held = ""
        self._close: str | None = None  # the tag that ends the thought
        self._begun = False
        self._thinking = False  # blank lines before a thought are not part of it,
        self._blank = False  # and those after it are no text

    def add(self, text: str) -> Iterator[Delta]:
        """What is certain now."""
        text, self._held = self._held + text, ""
        if not self._begun:
            start = text.lstrip()
            opened = next((tag for tag in THINK_TAGS if start.startswith(tag)), None)
            if opened is None and any(tag.startswith(start) for tag in THINK_TAGS):
                self._held = text
                return
            self._begun = True
            if opened is not None:
                self._close = THINK_TAGS[opened]
                text = start[len(opened) :]
        if self._close is not None:
            yield from self._thought(text, self._close)
        else:
            yield from self._said(text)

    def rest(self) -> Iterator[Delta]:
        """What was held back, at the end."""
        text, self._held = self._held, ""
        if text.strip():
            yield ReasoningDelta(text) if self._close is not None else TextDelta(text)

    def _thought(self, text: str, close: str) -> Iterator[Delta]:
        if not self._thinking:
            text = text.lstrip("\r\n")
            self._thinking = bool(text)
        thought, closed, text = text.partition(close)
        if closed:
            self._close, self._blank = None, True
        else:
            half = next((n for n in range(len(close) - 1, 0, -1) if thought.endswith(close[:n])), 0)
            thought, self._held = thought[: len(thought) - half], thought[len(thought) - half :]
        if thought:
            yield ReasoningDelta(thought)
        yield from self._said(text)

    def _said(self, text: str) -> Iterator[Delta]:
        if self._blank:
            text = text.lstrip()
            self._blank = not text
        if text:
            yield TextDelta(text)


@dataclass(slots=True)
class _Call:
    call_id: str
    index: object
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class ToolCalls:
    """Tool calls put together from their pieces, in whatever way the server numbers them."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._length = 0

    def add(self, pieces: object) -> None:
        """Add what a chunk holds of them. Raises ModelError if that is more than any model means."""
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict):
                function = piece.get("function")
                function = function if isinstance(function, dict) else {}
                call = self._find(piece.get("id"), piece.get("index"), function.get("name"))
                call.name = call.name or str(function.get("name") or "")[:MAX_NAME]
                arguments = function.get("arguments")
                if isinstance(arguments, dict):
                    arguments = json.dumps(arguments)
                call.arguments.append(str(arguments or ""))
                self._length += len(call.arguments[-1])
                if len(self._calls) > MAX_CALLS or self._length > MAX_ARGUMENTS:
                    raise ModelError("The model wanted more tools used at once than can be. Retry, or ask otherwise.")

    def requests(self) -> Iterator[ToolRequest]:
        """All of them, whole."""
        for call in self._calls:
            arguments = "".join(call.arguments).strip()
            yield ToolRequest(call.call_id, call.name, arguments if arguments not in ("", "null") else "{}")

    def _find(self, call_id: object, index: object, name: object) -> _Call:
        # A new id begins a call whatever its index says: some servers number every call 0, others none.
        # Without ids a new index does, and so does a name where there is one already.
        if call_id:
            found = [call for call in self._calls if call.call_id == str(call_id)]
        else:
            found = [call for call in self._calls if index is None or call.index == index][-1:]
            found = [call for call in found if not (name and call.name)]
        if found:
            return found[-1]
        taken = {call.call_id for call in self._calls}
        made_up = (f"call-{number}" for number in count(len(self._calls)))
        self._calls.append(_Call(str(call_id or next(name for name in made_up if name not in taken)), index))
        return self._calls[-1]


def _text(said: object) -> str:
    """The words of a string, or of a list of parts that hold some."""
    if isinstance(said, str):
        return said
    parts = said if isinstance(said, list) else ()
    texts = (part.get("text") or part.get("summary") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def _token_count(usage: object) -> Iterator[TokenCount]:
    if isinstance(usage, dict):
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        tokens_in, tokens_out = (n if type(n) is int and 0 <= n < 2**31 else None for n in counts)
        if tokens_in is not None and tokens_out is not None:
            yield TokenCount(tokens_in, tokens_out)
