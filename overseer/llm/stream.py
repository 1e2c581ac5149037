"""The parser of a streamed answer: text, reasoning in any of several forms, tool calls, token counts, the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from overseer.llm import AnsweredBy, Delta, ReasoningDelta, SourcesFound, TextDelta, TokenCount, ToolRequest
from overseer.llm.blank import BlankFilter
from overseer.llm.model_name import short_model_name
from overseer.llm.pictures import DataUriParser, PictureCollector
from overseer.llm.sources import SourceCollector
from overseer.llm.thoughts import ThoughtParser
from overseer.llm.tool_calls import ToolCalls

REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
PLAIN_FIELDS = {"role", "content"}
MAX_FINISH_CHARS = 40
MAX_RAW_NAME_CHARS = 10_000


class StreamParser:
    """Parses one streamed answer, chunk by chunk. `model` is the one that was asked.

    `finish` is the finish reason, once there is one, and `expects_finish` whether the server names that field at all.
    `has_output` is set once there is text, reasoning or a call.
    """

    def __init__(self, model: str = "") -> None:
        self.finish = ""
        self.expects_finish = False
        self.has_output = False
        self._calls = ToolCalls(model)
        self._content = ThoughtParser()
        self._blank = BlankFilter()
        self._sources = SourceCollector()
        self._pictures = PictureCollector()
        self._data_uris = DataUriParser(self._pictures)
        self._reasoning_field: str | None = None  # the one that this server uses
        self._model_named = False
        self._has_deltas = False

    def parse(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        """Yield what a chunk adds. Raises ModelError for too many tool calls."""
        yield from self._answering_model(chunk.get("model"))
        if "citations" in chunk or "search_results" in chunk:
            self._sources.add_chunk(chunk)
        if (choice := first_choice(chunk)) is not None:
            for delta in self._choice(choice):
                # Most deltas are text that passes both filters. Two generators for each cost 0.7 µs more.
                is_plain = type(delta) is not TextDelta or self._data_uris.passes(delta.text)
                if is_plain and self._blank.passes(delta):
                    yield delta
                else:
                    yield from self._filter(delta, is_plain=is_plain)
        yield from _token_count(chunk.get("usage"))

    def flush(self) -> Iterator[Delta]:
        """Yield the text that was held back, and the sources."""
        for delta in self._content.flush():
            is_plain = not isinstance(delta, TextDelta) or self._data_uris.passes(delta.text)
            yield from self._filter(delta, is_plain=is_plain)
        for delta in self._data_uris.flush():
            yield from self._blank.add(delta)
        self._sources.add_pictures(self._pictures)
        if self._sources.sources or self._sources.unshown:
            yield SourcesFound(self._sources.sources, frozenset(self._sources.unshown))

    def tool_requests(self) -> Iterator[ToolRequest]:
        """Yield the complete tool calls, at the end of the answer."""
        yield from self._calls.requests()

    def _filter(self, delta: Delta, *, is_plain: bool) -> Iterator[Delta]:
        """Yield the delta, with pictures in place of data URIs unless it `is_plain`, and without blank texts."""
        for one in (delta,) if is_plain or not isinstance(delta, TextDelta) else self._data_uris.add(delta.text):
            yield from self._blank.add(one)

    def _answering_model(self, name: object) -> Iterator[Delta]:
        if isinstance(name, str) and not self._model_named and short_model_name(name):
            self._model_named = True
            yield AnsweredBy(name[:MAX_RAW_NAME_CHARS])

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Delta]:
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, dict) and delta:
            yield from self._delta(delta)
            self._has_deltas |= self.has_output
        elif isinstance(message, dict) and not self._has_deltas:
            # A server that does not stream sends a message. Others repeat the whole answer in one, at the end.
            yield from self._delta(message)
        elif isinstance(message, dict):
            self._sources.add_message(message)
            yield from self._pictures.of_message(message)
        self.expects_finish |= "finish_reason" in choice
        self.finish = _finish_reason(choice.get("finish_reason")) or self.finish

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        if not (delta.keys() <= PLAIN_FIELDS and isinstance(delta.get("content"), str)):
            self._sources.add_message(delta)
        texts = map(self._text, filter(None, (delta.get("content"), delta.get("refusal"))))
        for one in chain(self._reasoning(delta), *texts, self._picture_parts(delta)):
            self.has_output = True
            yield one
        self._calls.add(delta.get("tool_calls"))
        self.has_output |= bool(self._calls)

    def _reasoning(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        # Servers that send two of the fields send the same text in both.
        for name in REASONING_FIELDS if self._reasoning_field is None else (self._reasoning_field,):
            value = delta.get(name)
            if value and (text := _join_text(value)):
                if self._reasoning_field is None:
                    yield from self._content.flush()
                self._reasoning_field = name
                yield ReasoningDelta(text)
                return

    def _text(self, content: object) -> Iterator[Delta]:
        if isinstance(content, str):
            yield from self._plain_text(content)
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, dict):
                continue
            if part.get("type") == "thinking":  # Mistral sends a list of typed parts
                yield from self._content.flush()
                yield from map(ReasoningDelta, filter(None, [_join_text(part.get("thinking"))]))
            else:
                yield from self._plain_text(_join_text([part]))

    def _picture_parts(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        for picture in self._pictures.of_message(delta):
            yield from self._content.flush()
            yield picture

    def _plain_text(self, text: str) -> Iterable[Delta]:
        if self._reasoning_field is None:
            return self._content.add(text) if text else ()
        return (TextDelta(text),) if text else ()


def first_choice(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the choice with index 0, or without an index; None if the chunk has none. Others are other answers."""
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else [choices]:
        if isinstance(choice, dict) and choice.get("index") in (None, 0, "0"):
            return choice
    return None


def _finish_reason(reason: object) -> str:
    """Return the finish reason, shortened; empty if there is none. Some servers send an object with a type."""
    if isinstance(reason, dict):
        names = (reason.get(name) for name in ("type", "reason", "name", "value"))
        reason = next((name for name in names if isinstance(name, str)), "stop")
    return "".join(filter(str.isprintable, reason))[:MAX_FINISH_CHARS].strip() if isinstance(reason, str) else ""


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
