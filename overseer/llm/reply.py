"""One streamed answer of a server: asked for, heard, and cut short."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import requests
import sseclient
import urllib3

from overseer.domain.messages import Message
from overseer.domain.tools import ToolDescription
from overseer.llm import Delta, LeftOut, ModelCut, ModelError
from overseer.llm.connection import MAX_EVENT, AbortableConnection, Deadline, body, session
from overseer.llm.redaction import redacted
from overseer.llm.refusal import OPTIONAL, ErrorResponse, in_stream, refusal_in_stream
from overseer.llm.stream import StreamParser
from overseer.llm.wire import conversation, schema

if TYPE_CHECKING:
    from overseer.llm.openai import OpenAIServer

ERROR_FIELD = re.compile(rb"^error:", re.M)
# Reasons of OpenRouter, vLLM and DeepSeek for an answer that is not whole.
BROKE_OFF = ("error", "abort", "insufficient_system_resource")

# Its debug lines hold the text of the answer.
logging.getLogger("sseclient").setLevel(logging.WARNING)


class OpenAIReply:
    """One streamed answer. `close` shuts the connection down, whatever it is waiting for."""

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
        self._tools = [schema(tool) for tool in tools]
        self._system = system
        self._temperature = temperature
        self._room = room
        self._line = AbortableConnection()
        self._refused = self._lasting = frozenset[str]()

    def __iter__(self) -> Iterator[Delta]:
        seconds = self._server.timeouts.total
        with Deadline(self._line, seconds) as deadline:
            try:
                yield from self._heard()
            except ModelError:
                if deadline.passed:
                    raise ModelCut(f"The answer took longer than {seconds:g} s and was ended. Retry.") from None
                raise

    def close(self) -> None:
        self._line.shut_down()

    def _heard(self) -> Iterator[Delta]:
        with session(self._line, local=self._server.local) as connected:
            model = self._model or self._server.first(connected)
            while True:
                with closing(self._accepted(connected, model)) as response:
                    if left_out := self._optional() & self._without(model):
                        yield LeftOut(left_out)
                    try:
                        yield from redacted(self._deltas(response, model), self._server.secret)
                        return
                    except _Unwanted as unwanted:
                        self._leave_out(unwanted.name, unwanted.refusal)

    def _accepted(self, connected: requests.Session, model: str) -> requests.Response:
        """The response to a request that the server takes: what it refuses of the optional things is left out."""
        while True:
            without = self._without(model)
            response = self._server.post(connected, self._request(model, without))
            if response.status_code == 200:
                self._server.refused.add(self._room, model, self._lasting)
                return response
            refusal = self._server.refusal(response)
            unwanted = refusal.unwanted(self._optional() - without)
            if unwanted is None:
                if response.status_code == 404:
                    self._server.first_name = ""
                raise refusal.error(self._server.shown)
            self._leave_out(unwanted, refusal)

    def _without(self, model: str) -> frozenset[str]:
        return self._server.refused.of(self._room, model) | self._refused

    def _leave_out(self, name: str, refusal: ErrorResponse) -> None:
        self._refused |= {name}
        if refusal.lasting(name):
            self._lasting |= {name}

    def _optional(self) -> frozenset[str]:
        used = {"tools": self._tools, "system": self._system, "temperature": self._temperature is not None}
        return frozenset(name for name in OPTIONAL if used.get(name, True))

    def _request(self, model: str, without: frozenset[str]) -> dict[str, object]:
        system_role, tools = "system" not in without, "tools" not in without
        messages = conversation(
            self._history, system=self._system, tools=tools, system_role=system_role, thoughts="silence" in without
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
        hearing = StreamParser()
        sent = self._optional() - self._without(model)
        done = False
        events = 0
        try:
            for data in self._events(response):
                if data == "[DONE]":
                    done = True
                    break
                chunk = self._read(data, () if events else sent)
                events += "choices" in chunk
                yield from hearing.chunk(chunk)
        except ModelError:
            yield from hearing.rest()
            raise
        yield from hearing.rest()
        if not events and not done:
            raise ModelError(
                f"{self._server.where} answered, but not with a streamed chat answer. Check OPENAI_BASE_URL; "
                "it usually ends in /v1."
            )
        if hearing.finish == "length":
            raise ModelCut("The answer reached the model's length limit.")
        if hearing.finish == "content_filter":
            raise ModelError("The model server's content filter ended the answer. Ask otherwise.")
        if hearing.finish in BROKE_OFF:
            raise ModelCut(f"The model server gave the answer up ({hearing.finish}). Retry to ask again.")
        if not done and not hearing.finish:
            raise ModelCut("The model server ended the answer in the middle. Retry to ask again.")
        yield from hearing.requests()

    def _events(self, response: requests.Response) -> Iterator[str]:
        """The data of each event that can be an answer; comments and keep-alives are left out."""
        timeouts = self._server.timeouts
        heard = False
        try:
            if response.headers.get("Content-Type", "").startswith("application/json"):
                yield from _objects(response.raw.read(MAX_EVENT).decode())  # a server that does not stream
                return
            for event in _Events(body(response)).events():
                if not heard:
                    heard = True
                    self._line.settimeout(timeouts.gap)
                yield from _objects(event.data)
        except UnicodeDecodeError:
            raise ModelError(
                f"{self._server.where} sent what is not UTF-8 text. Look at its log, then Retry."
            ) from None
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            silent = isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError))
            if silent and not heard:
                raise self._server.silent() from None
            if silent:
                raise ModelCut(
                    f"The model server fell silent in mid-answer ({timeouts.gap:g} s). Retry to ask again."
                ) from None
            raise ModelCut("The connection to the model server broke in mid-answer. Retry to ask again.") from None

    def _read(self, data: str, sent: Collection[str] = ()) -> Mapping[str, Any]:
        """One event. Raises ModelError for one that is broken, or that reports an error, and _Unwanted if that is
        about one of the optional things that were `sent`."""
        server = self._server
        try:
            chunk: dict[str, Any] = json.loads(data)
        except (ValueError, RecursionError):
            raise ModelError(f"{server.where} sent broken JSON: {server.shown(data)[:80]}") from None
        bare = chunk.get("object") == "error" or ("choices" not in chunk and isinstance(chunk.get("message"), str))
        if error := chunk.get("error") or (chunk if bare else None) or _choice_error(chunk):
            refusal = refusal_in_stream(error)
            if name := refusal.unwanted(sent):
                raise _Unwanted(name, refusal)
            raise in_stream(server.where, error, server.shown)
        return chunk


class _Unwanted(Exception):
    """The server does not take the optional thing of this name."""

    def __init__(self, name: str, refusal: ErrorResponse) -> None:
        super().__init__(name)
        self.name = name
        self.refusal = refusal


class _Events(sseclient.SSEClient):
    """The events of a stream. An older llama.cpp reports an error in a field of that name."""

    def _read(self) -> Iterator[bytes]:
        for event in super()._read():  # type: ignore[misc]
            yield ERROR_FIELD.sub(b"data:", event)


def _objects(data: str) -> Iterator[str]:
    """The data of an event, if it is an object or the end of all."""
    data = data.strip()
    if data.startswith("{") or data == "[DONE]":
        yield data


def _choice_error(chunk: Mapping[str, Any]) -> object:
    """OpenRouter tells of a provider that broke within the choice."""
    choices = chunk.get("choices")
    return choices[0].get("error") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
