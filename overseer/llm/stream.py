"""Parsers of a streamed answer: text, reasoning in any of four forms, tool calls in fragments, token counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from overseer.llm import Delta, ModelError, ReasoningDelta, TextDelta, TokenCount, ToolRequest

REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
MAX_TOOL_NAME_CHARS = 200
MAX_CALLS = 32  # in one step
MAX_ARGUMENTS_CHARS = 400_000  # of all calls in one step
THINK_TAGS = {"<think>": "</think>", "<thinking>": "</thinking>"}


class StreamParser:
    """Parses one streamed answer, chunk by chunk. `finish` is the finish reason, once there is one."""

    def __init__(self) -> None:
        self.finish = ""
        self._calls = ToolCalls()
        self._content = ThinkTagParser()
        self._reasoning_field: str | None = None  # the one that this server uses

    def parse(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        """Yield what a chunk adds. Raises ModelError for too many tool calls."""
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        delta = choice.get("delta") or choice.get("message")  # a server that does not stream sends a message
        if isinstance(delta, dict):
            yield from self._reasoning(delta)
            yield from self._text(delta.get("content"))
            yield from self._text(delta.get("refusal"))
            self._calls.add(delta.get("tool_calls"))
        if choice.get("finish_reason"):
            self.finish = str(choice["finish_reason"])
        yield from _token_count(chunk.get("usage"))

    def flush(self) -> Iterator[Delta]:
        """Yield the text that was held back."""
        yield from self._content.flush()

    def tool_requests(self) -> Iterator[ToolRequest]:
        """Yield the complete tool calls, at the end of the answer."""
        yield from self._calls.requests()

    def _reasoning(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        # Servers that send two of the fields send the same text in both.
        for name in REASONING_FIELDS if self._reasoning_field is None else (self._reasoning_field,):
            if text := _join_text(delta.get(name)):
                if self._reasoning_field is None:
                    yield from self._content.flush()
                self._reasoning_field = name
                yield ReasoningDelta(text)
                return

    def _text(self, content: object) -> Iterator[Delta]:
        if isinstance(content, list):  # Mistral sends a list of typed parts
            for part in content:
                if isinstance(part, dict) and part.get("type") == "thinking":
                    yield from map(ReasoningDelta, filter(None, [_join_text(part.get("thinking"))]))
                elif text := _join_text([part]):
                    yield TextDelta(text)
        elif isinstance(content, str) and content:
            if self._reasoning_field is None:
                yield from self._content.add(content)
            else:
                yield TextDelta(content)


class ThinkTagParser:
    """Separates reasoning in tags (`<think>…</think>`) at the beginning of the text from the text after it."""

    def __init__(self) -> None:
        self._held = ""
        self._close_tag: str | None = None  # while within the reasoning
        self._begun = False
        self._in_reasoning = False  # blank lines before it are dropped
        self._after_reasoning = False  # blank lines after it are dropped

    def add(self, text: str) -> Iterator[Delta]:
        """Yield what is certain now. A possible beginning of a tag is held back."""
        text, self._held = self._held + text, ""
        if not self._begun:
            stripped = text.lstrip()
            opened = next((tag for tag in THINK_TAGS if stripped.startswith(tag)), None)
            if opened is None and any(tag.startswith(stripped) for tag in THINK_TAGS):
                self._held = text
                return
            self._begun = True
            if opened is not None:
                self._close_tag = THINK_TAGS[opened]
                text = stripped[len(opened) :]
        if self._close_tag is not None:
            yield from self._reasoning(text, self._close_tag)
        else:
            yield from self._text(text)

    def flush(self) -> Iterator[Delta]:
        """Yield what was held back, at the end."""
        text, self._held = self._held, ""
        if text.strip():
            yield ReasoningDelta(text) if self._close_tag is not None else TextDelta(text)

    def _reasoning(self, text: str, close_tag: str) -> Iterator[Delta]:
        if not self._in_reasoning:
            text = text.lstrip("\r\n")
            self._in_reasoning = bool(text)
        reasoning, closed, text = text.partition(close_tag)
        if closed:
            self._close_tag, self._after_reasoning = None, True
        else:
            half = next((n for n in range(len(close_tag) - 1, 0, -1) if reasoning.endswith(close_tag[:n])), 0)
            reasoning, self._held = reasoning[: len(reasoning) - half], reasoning[len(reasoning) - half :]
        if reasoning:
            yield ReasoningDelta(reasoning)
        yield from self._text(text)

    def _text(self, text: str) -> Iterator[Delta]:
        if self._after_reasoning:
            text = text.lstrip()
            self._after_reasoning = not text
        if text:
            yield TextDelta(text)


@dataclass(slots=True)
class _Call:
    call_id: str
    index: object
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class ToolCalls:
    """Joins the fragments of tool calls, however the server numbers them."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._length = 0

    def add(self, fragments: object) -> None:
        """Add the fragments of one chunk. Raises ModelError over MAX_CALLS or MAX_ARGUMENTS_CHARS."""
        for fragment in fragments if isinstance(fragments, list) else ():
            if isinstance(fragment, dict):
                function = fragment.get("function")
                function = function if isinstance(function, dict) else {}
                call = self._find(fragment.get("id"), fragment.get("index"), function.get("name"))
                call.name = call.name or str(function.get("name") or "")[:MAX_TOOL_NAME_CHARS]
                arguments = function.get("arguments")
                if isinstance(arguments, dict):
                    arguments = json.dumps(arguments)
                call.arguments.append(str(arguments or ""))
                self._length += len(call.arguments[-1])
                if len(self._calls) > MAX_CALLS or self._length > MAX_ARGUMENTS_CHARS:
                    raise ModelError(
                        "The model requested too many tool calls at once. Retry, or rephrase your message."
                    )

    def requests(self) -> Iterator[ToolRequest]:
        """Yield the complete calls, in order."""
        for call in self._calls:
            arguments = "".join(call.arguments).strip()
            yield ToolRequest(call.call_id, call.name, arguments if arguments not in ("", "null") else "{}")

    def _find(self, call_id: object, index: object, name: object) -> _Call:
        # A new id begins a call, whatever its index: some servers number every call 0, others none.
        # Without an id, a new index begins a call, and so does a second name.
        if call_id:
            found = [call for call in self._calls if call.call_id == str(call_id)]
        else:
            found = [call for call in self._calls if index is None or call.index == index][-1:]
            found = [call for call in found if not (name and call.name)]
        if found:
            return found[-1]
        taken = {call.call_id for call in self._calls}
        generated = (f"call-{number}" for number in count(len(self._calls)))
        self._calls.append(_Call(str(call_id or next(name for name in generated if name not in taken)), index))
        return self._calls[-1]


def _join_text(value: object) -> str:
    """Return a string as it is, and of a list of parts their texts, joined."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else ()
    texts = (part.get("text") or part.get("summary") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def _token_count(usage: object) -> Iterator[TokenCount]:
    if isinstance(usage, dict):
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        tokens_in, tokens_out = (n if type(n) is int and 0 <= n < 2**31 else None for n in counts)
        if tokens_in is not None and tokens_out is not None:
            yield TokenCount(tokens_in, tokens_out)
