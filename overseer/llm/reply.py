"""One streamed answer of a server: its requests, its events and its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import requests
import urllib3

from overseer.domain.messages import Message
from overseer.domain.tools import ToolDescription
from overseer.llm import Delta, LeftOut, ModelCut, ModelError, ModelOverflow
from overseer.llm.connection import AbortableConnection, Deadline, FirstByteDeadline, open_session
from overseer.llm.event_stream import DONE, MAX_EVENT_BYTES, read_events
from overseer.llm.redaction import redacted
from overseer.llm.refusal import OPTIONAL, REASONING_OMITTED, ErrorResponse, error_in_stream, refusal_in_stream
from overseer.llm.stream import StreamParser
from overseer.llm.wire import conversation, tool_schema

if TYPE_CHECKING:
    from overseer.llm.openai import OpenAIServer

# Finish reasons of OpenRouter, vLLM and DeepSeek for an incomplete answer.
INCOMPLETE = ("error", "abort", "insufficient_system_resource")


class OpenAIReply:
    """One streamed answer. `close` shuts the connection down, whatever it waits for."""

    def __init__(
        self,
        server: OpenAIServer,
        model: str,
        history: Sequence[Message],
        tools: Iterable[ToolDescription],
        *,
        system: str,
        temperature: float | None,
        room: str = "",
    ) -> None:
        self._server = server
        self._model = model
        self._history = history
        self._tools = [tool_schema(tool) for tool in tools]
        self._system = system
        self._temperature = temperature
        self._room = room
        self._connection = AbortableConnection()
        self._refused = self._unsupported = frozenset[str]()
        self._on_first_event: Callable[[], None] = lambda: None
        self._has_response = False
        self.has_begun = False  # whether a part of the answer has arrived

    def __iter__(self) -> Iterator[Delta]:
        seconds = self._server.timeouts.total
        with self._server.running(self), Deadline(self._connection, seconds) as deadline:
            try:
                yield from self._answer()
            except ModelError:
                if deadline.passed:
                    raise ModelCut(f"The answer took longer than {seconds:g} s and was ended. Retry.") from None
                raise

    def answers_ahead(self) -> int:
        """Return how many earlier requests the server is still answering, if this one has no response yet."""
        return 0 if self._has_response else self._server.answers_before(self)

    def close(self) -> None:
        """Shut the connection down."""
        self._connection.shut_down()

    def _answer(self) -> Iterator[Delta]:
        with open_session(self._connection, local=self._server.local) as session:
            model = self._model or self._server.first(session)
            while True:
                with self._first_byte_limit(), closing(self._request_accepted(session, model)) as response:
                    if left_out := self._optional() & self._without(model):
                        yield LeftOut(left_out)
                    try:
                        yield from redacted(self._deltas(response, model), self._server.secret)
                        return
                    except _Unsupported as error:
                        self._leave_out(error.name, error.response)

    def _request_accepted(self, session: requests.Session, model: str) -> requests.Response:
        """Return the first response with status 200. After each refusal of an optional field, retry without it."""
        while True:
            without = self._without(model)
            response = self._server.post(session, self._request(model, without))
            self._has_response = True
            if response.status_code == 200:
                self._server.memory.add(self._room, model, self._unsupported)
                return response
            error = self._server.read_error(response)
            name = error.unsupported(self._optional() - without)
            if name is None:
                if response.status_code == 404:
                    self._server.first_name = ""
                raise self._noted(error.to_exception(self._server.sanitize), model)
            self._leave_out(name, error)

    def _noted(self, error: ModelError, model: str) -> ModelError:
        """Return the error, after remembering the context length that it names."""
        if isinstance(error, ModelOverflow):
            self._server.contexts.set_length(model, error.limit)
        return error

    @contextmanager
    def _first_byte_limit(self) -> Iterator[None]:
        """Limit the time until the first event. Raises ModelError if it has passed."""
        server = self._server
        queued = partial(server.is_answering_others, self)
        with FirstByteDeadline(self._connection, server.timeouts.first, queued) as deadline:
            self._on_first_event = deadline.received
            try:
                yield
            except ModelError:
                if deadline.passed:
                    raise server.no_response() from None
                raise

    def _without(self, model: str) -> frozenset[str]:
        return self._server.memory.unsupported(self._room, model) | self._refused

    def _leave_out(self, name: str, error: ErrorResponse) -> None:
        self._refused |= {name}
        if error.is_permanent(name):
            self._unsupported |= {name}

    def _optional(self) -> frozenset[str]:
        """Return the names of the optional things that this request would contain."""
        used = {"tools": self._tools, "system": self._system, "temperature": self._temperature is not None}
        return frozenset(name for name in OPTIONAL if used.get(name, True))

    def _request(self, model: str, without: frozenset[str]) -> dict[str, object]:
        messages = conversation(
            self._history,
            system=self._system,
            tools="tools" not in without,
            system_role="system" not in without,
            reasoning=REASONING_OMITTED in without,
        )
        optional: dict[str, object] = {"stream_options": {"include_usage": True}}
        if self._temperature is not None:
            optional["temperature"] = self._temperature
        if self._tools:
            optional["tools"] = self._tools
        return {
            "model": model,
            "messages": list(messages),
            "stream": True,
            **{name: value for name, value in optional.items() if name not in without},
        }

    def _deltas(self, response: requests.Response, model: str = "") -> Iterator[Delta]:
        parser = StreamParser()
        sent = self._optional() - self._without(model)
        done = False
        chunks = 0
        try:
            for data in self._events(response):
                if data == DONE:
                    done = True
                    break
                chunk = self._parse(data, model, () if chunks else sent)
                chunks += "choices" in chunk
                yield from parser.parse(chunk)
        except ModelError:
            yield from parser.flush()
            raise
        yield from parser.flush()
        self._check_end(parser.finish, done=done, empty=not chunks)
        yield from parser.tool_requests()

    def _check_end(self, finish: str, *, done: bool, empty: bool) -> None:
        """Raise ModelError unless the answer is complete."""
        if empty and not done:
            raise ModelError(
                f"{self._server.where} answered, but not with a streamed chat answer. Check OPENAI_BASE_URL; "
                "it usually ends in /v1."
            )
        if finish == "length":
            raise ModelCut("The answer reached the model's length limit.")
        if finish == "content_filter":
            raise ModelError("The model server's content filter ended the answer. Rephrase your message.")
        if finish in INCOMPLETE:
            raise ModelCut(f"The model server aborted the answer ({finish}). Continue, or try again.")
        if not done and not finish:
            raise ModelCut("The model server ended the answer early. Continue, or try again.")

    def _events(self, response: requests.Response) -> Iterator[str]:
        """Yield the JSON text of each chunk, and DONE. Raises ModelError if the connection fails."""
        timeouts = self._server.timeouts
        begun = False
        try:
            if response.headers.get("Content-Type", "").startswith("application/json"):
                yield from _json_objects(response.raw.read(MAX_EVENT_BYTES).decode())  # a server that does not stream
                return
            for data in read_events(response.raw):
                if not begun:
                    begun = self.has_begun = True
                    self._on_first_event()
                    self._connection.settimeout(timeouts.gap)
                yield from _json_objects(data)
        except UnicodeDecodeError:
            raise ModelError(
                f"{self._server.where} sent text that is not UTF-8. Look at its log, then Retry."
            ) from None
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            timed_out = isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError))
            if timed_out:
                raise ModelCut(
                    f"The model server sent nothing for {timeouts.gap:g} s. Continue, or try again."
                ) from None
            raise ModelCut("Lost connection to the model. Continue, or try again.") from None

    def _parse(self, data: str, model: str, sent: Collection[str]) -> Mapping[str, Any]:
        """Return one chunk.

        Raises ModelError if it is not valid JSON or reports an error, and _Unsupported if the error is about one of
        the optional things that were `sent`.
        """
        server = self._server
        try:
            chunk: dict[str, Any] = json.loads(data)
        except (ValueError, RecursionError):
            raise ModelError(f"{server.where} sent invalid JSON: {server.sanitize(data)[:80]}") from None
        bare = chunk.get("object") == "error" or ("choices" not in chunk and isinstance(chunk.get("message"), str))
        if error := chunk.get("error") or (chunk if bare else None) or _choice_error(chunk):
            response = refusal_in_stream(error)
            if name := response.unsupported(sent):
                raise _Unsupported(name, response)
            raise self._noted(error_in_stream(error, server.sanitize), model)
        return chunk


class _Unsupported(Exception):
    """The server does not support the optional thing of this name."""

    def __init__(self, name: str, response: ErrorResponse) -> None:
        super().__init__(name)
        self.name = name
        self.response = response


def _json_objects(data: str) -> Iterator[str]:
    """Yield the data of an event if it is a JSON object or DONE."""
    data = data.strip()
    if data.startswith("{") or data == DONE:
        yield data


def _choice_error(chunk: Mapping[str, Any]) -> object:
    """Return the error within a choice: OpenRouter reports a failed provider there."""
    choices = chunk.get("choices")
    return choices[0].get("error") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
