"""One streamed answer of a server: its requests, its events and its end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import requests
import urllib3

from overseer.domain.messages import Message, Text
from overseer.domain.tools import ToolDescription
from overseer.llm import Delta, LeftOut, ModelCut, ModelError, ModelOverflow, TextDelta
from overseer.llm.complaint import OPTIONAL, REASONING_OMITTED
from overseer.llm.connection import AbortableConnection, Deadline, FirstByteDeadline, open_session
from overseer.llm.error_body import reported_error
from overseer.llm.event_stream import DONE, Body
from overseer.llm.finish import error_of_finish_reason
from overseer.llm.redaction import redacted
from overseer.llm.refusal import ErrorResponse, error_in_stream, refusal_in_stream
from overseer.llm.stream import StreamParser, first_choice
from overseer.llm.wire import conversation, tool_schema

if TYPE_CHECKING:
    from overseer.llm.openai import OpenAIServer

JSON_START = re.compile(r"\{|\[\s*\{")
MALFORMED_CALL = "malformed_call"  # the key of LEFT_OUT for tools that only this answer does without


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
        self.asked_for = model
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
        self._malformed_call = False

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
            model = self.asked_for or self._server.first(session)
            while True:
                with self._first_byte_limit(), closing(self._request_accepted(session, model)) as response:
                    if left_out := self._left_out(model):
                        yield LeftOut(left_out)
                    try:
                        yield from self._collect_text(redacted(self._deltas(response, model), self._server.secret))
                        return
                    except _Unsupported as error:
                        self._leave_out(error.name, error.response)

    def _collect_text(self, deltas: Iterator[Delta]) -> Iterator[Delta]:
        """Yield the deltas. If the request is to be sent again, add their text to the history, to be continued."""
        text: list[str] = []
        try:
            for delta in deltas:
                if isinstance(delta, TextDelta):
                    text.append(delta.text)
                yield delta
        except _Unsupported:
            if text:
                self._history = [*self._history, Message(0, "assistant", "streaming", (Text("".join(text)),))]
            raise

    def _request_accepted(self, session: requests.Session, model: str) -> requests.Response:
        """Return the first response with status 200. After each refusal of an optional field, retry without it."""
        while True:
            without, self._has_response = self._without(model), False
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

    def _left_out(self, model: str) -> frozenset[str]:
        """Return the keys of LEFT_OUT for what this request does without."""
        left_out = self._optional() & self._without(model)
        return left_out - {"tools"} | {MALFORMED_CALL} if self._malformed_call else left_out

    def _without(self, model: str) -> frozenset[str]:
        return self._server.memory.unsupported(self._room, model) | self._refused

    def _leave_out(self, name: str, error: ErrorResponse) -> None:
        self._refused |= {name}
        if error.is_malformed_call:
            self._malformed_call = True
        elif error.is_permanent(name):
            self._unsupported |= {name}

    def _optional(self) -> frozenset[str]:
        """Return the names of the optional things that this request would contain."""
        used = {"tools": self._tools, "system": self._system, "temperature": self._temperature is not None}
        return frozenset(name for name in OPTIONAL if used.get(name, True))

    def _request(self, model: str, without: frozenset[str]) -> dict[str, object]:
        messages = conversation(
            self._history,
            model=model,
            system=self._system,
            tools=bool(self._tools) and "tools" not in without,
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
        parser = StreamParser(model)
        sent = self._optional() - self._without(model)
        done = begun = False
        body = Body(response.raw)
        try:
            for data in self._events(body):
                if done := data == DONE:
                    break
                for chunk in self._chunks(data):
                    self._check_error(chunk, model, sent, begun=begun)
                    begun |= "choices" in chunk
                    yield from parser.parse(chunk)
        except (ModelError, _Unsupported):
            yield from parser.flush()
            raise
        yield from parser.flush()
        if not begun:
            streamed = response.headers.get("Content-Type", "").startswith("text/event-stream")
            self._raise_empty(empty=done or (body.empty and streamed))
        self._check_end(parser, done=done or body.whole)
        yield from parser.tool_requests()

    def _raise_empty(self, *, empty: bool) -> None:
        """Raise ModelError for a response without a chunk of an answer."""
        if empty:  # llama-cpp-python, if the conversation exceeds the context
            raise ModelError("The model returned an empty answer. Nothing came: look at the server's log, then Retry.")
        raise ModelError(
            f"{self._server.where} answered, but not with a streamed chat answer. Check OPENAI_BASE_URL; "
            "it usually ends in /v1."
        )

    def _check_end(self, parser: StreamParser, *, done: bool) -> None:
        """Raise ModelError unless the answer is complete."""
        if error := error_of_finish_reason(parser.finish):
            raise error
        # llama-cpp-python ends an answer that another request cuts off with [DONE], and without a finish reason. There
        # are servers that never send one: then no chunk has the field.
        complete = done and not (parser.expects_finish and parser.has_output)
        if not parser.finish and not complete:
            raise ModelCut("The model server ended the answer early. Continue, or try again.")

    def _events(self, body: Body) -> Iterator[str]:
        """Yield the JSON text of each event, and DONE. Raises ModelError if the connection fails."""
        timeouts = self._server.timeouts
        begun = False
        try:
            for data in body:
                if not begun:
                    begun = self.has_begun = True
                    self._on_first_event()
                    if not body.whole:  # after the whole body, the connection may be closed
                        self._connection.settimeout(timeouts.gap)
                yield from _json_texts(data)
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

    def _chunks(self, data: str) -> list[dict[str, Any]]:
        """Return the chunks of an event, usually one. Raises ModelError if it is not valid JSON."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            server = self._server
            raise ModelError(f"{server.where} sent invalid JSON: {server.sanitize(data)[:80]}") from None
        return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]

    def _check_error(self, chunk: Mapping[str, Any], model: str, sent: Collection[str], *, begun: bool) -> None:
        """Raise ModelError if a chunk reports an error.

        Raises _Unsupported if the error is about one of the optional things that were `sent`. After the answer has
        begun, it can only be about a tool call.
        """
        error = reported_error(chunk, first_choice(chunk))
        if error is None:
            return
        response = refusal_in_stream(error)
        if (not begun or response.is_malformed_call) and (name := response.unsupported(sent)):
            raise _Unsupported(name, response)
        raise self._noted(error_in_stream(error, self._server.sanitize), model)


class _Unsupported(Exception):
    """The server does not support the optional thing of this name."""

    def __init__(self, name: str, response: ErrorResponse) -> None:
        super().__init__(name)
        self.name = name
        self.response = response


def _json_texts(data: str) -> Iterator[str]:
    """Yield the data of an event if it is a JSON object or list, or DONE."""
    data = data.strip()
    if data == DONE or JSON_START.match(data):
        yield data
