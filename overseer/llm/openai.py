"""Client of servers with OpenAI's `POST /chat/completions` with `stream: true`.

Format: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from overseer.domain.addresses import is_loopback
from overseer.domain.context import ModelContext
from overseer.domain.messages import Message
from overseer.domain.text import clean
from overseer.domain.tools import ToolDescription
from overseer.llm import ModelError
from overseer.llm.connection import AbortableConnection, Deadline, open_session
from overseer.llm.context import ContextMemory, listed_context
from overseer.llm.event_stream import READ_BYTES
from overseer.llm.model_name import short_model_name
from overseer.llm.redaction import MIN_SECRET_CHARS, REDACTED
from overseer.llm.refusal import ErrorResponse, RefusalMemory
from overseer.llm.reply import OpenAIReply
from overseer.llm.unreachable import no_response

DEFAULT_BASE_URL = "https://api.openai.com/v1"
CONNECT_SECONDS = 10.0
LIST_TIMEOUT_SECONDS = 10.0
LIST_MAX_AGE_SECONDS = 300.0
MAX_LIST_BYTES = 4_000_000
MAX_MODELS = 1000
MAX_NAME_CHARS = 200
MAX_ERROR_CHARS = 300  # of a server's own words that are shown


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits in seconds: until the first byte (a local model loads slowly), between bytes, and of one answer."""

    first: float = 300.0
    gap: float = 120.0
    total: float = 3600.0


class OpenAIServer:
    """One server. `where` is its address as it may be shown, `memory` what its models were found not to support.

    `renamed` is called when the name of its first model, the default, becomes known or changes.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str = "",
        timeouts: Timeouts | None = None,
        memory: RefusalMemory | None = None,
        renamed: Callable[[], None] = lambda: None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self.host, at, self.where = _address(self._base_url)
        self.placeholder_name = f"model at {at}" if at else "model"  # of the first model, until its name is known
        self.timeouts = timeouts or Timeouts()
        self._api_key = api_key.strip()
        self.memory = RefusalMemory() if memory is None else memory  # an empty one is false
        self.contexts = ContextMemory()
        self._replies: dict[OpenAIReply, None] = {}  # those that run, in the order of their requests
        self._renamed = renamed
        self._first_name = ""
        self._names: tuple[str, ...] = ()
        self._listed_at = 0.0

    def model(self, name: str = "", *, room: str = "") -> OpenAIModel:
        """Return the model of this name, to answer in a room. An empty name means the first model the server lists."""
        return OpenAIModel(self, name, room)

    @property
    def first_name(self) -> str:
        """The name of the server's first model, the default; empty until it is known."""
        return self._first_name

    @first_name.setter
    def first_name(self, name: str) -> None:
        known, self._first_name = self._first_name, name
        if name != known:
            self._renamed()

    def names(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the names of the server's models, from a cache unless `refresh`. Raises ModelError."""
        if refresh or not self._names or time.monotonic() - self._listed_at > LIST_MAX_AGE_SECONDS:
            self._names = self.fetch_names(LIST_TIMEOUT_SECONDS)
            self._listed_at = time.monotonic()
            self.first_name = self._names[0] if self._names else ""
        return self._names

    def fetch_names(self, seconds: float) -> tuple[str, ...]:
        """Fetch the names of the server's models within so many seconds. Raises ModelError."""
        connection = AbortableConnection()
        with Deadline(connection, seconds), open_session(connection, local=self.local) as session:
            return self._fetch_names(session, seconds)

    def first(self, session: requests.Session) -> str:
        """Return the name of the first model; fetch it if it is not known. Raises ModelError."""
        if not self.first_name:
            names = self._fetch_names(session, self.timeouts.first)
            if not names:
                raise ModelError(f"{self.where} lists no models. Load one there, or set OPENAI_MODEL.")
            self.first_name = names[0]
        return self.first_name

    def post(self, session: requests.Session, request: Mapping[str, object]) -> requests.Response:
        """Send a chat request and return the response, whatever its status. Raises ModelError if there is none.

        The caller limits the time until the response, which may have to wait for other answers.
        """
        return self._request(session, "POST", "/chat/completions", self.timeouts.total, json=request)

    @contextmanager
    def running(self, reply: OpenAIReply) -> Iterator[None]:
        """Count the reply among those that the server is answering."""
        self._replies[reply] = None
        try:
            yield
        finally:
            del self._replies[reply]

    def answers_before(self, reply: OpenAIReply) -> int:
        """Return how many replies of the same model that began before this one still run."""
        same = [one for one in list(self._replies) if one.asked_for == reply.asked_for]
        return next((n for n, one in enumerate(same) if one is reply), 0)

    def is_answering_others(self, reply: OpenAIReply) -> bool:
        """Return whether the server is sending another reply than this one."""
        return any(one.has_begun for one in list(self._replies) if one is not reply)

    def read_error(self, response: requests.Response) -> ErrorResponse:
        """Read and close a response with another status than 200."""
        with closing(response):
            try:
                body = response.raw.read(READ_BYTES)
            except (urllib3.exceptions.HTTPError, OSError):
                body = b""
        return ErrorResponse(self.where, response.status_code, response.headers, body)

    def no_response(self) -> ModelError:
        """Return the error for a server that sent nothing in time."""
        return ModelError(f"{self.where} said nothing for {self.timeouts.first:g} s. Is it still loading? Then Retry.")

    @property
    def local(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(self.host)

    @property
    def secret(self) -> str:
        """The API key, which no output may contain."""
        return self._api_key

    def sanitize(self, text: str) -> str:
        """Return a server's own words, shortened and without the key or passwords, fit to be shown and logged."""
        if self._api_key:
            text = text.replace(self._api_key, REDACTED)
        text = re.sub(r"(?<=://)[^/\s@]+@", "", text)
        text = " ".join(clean(text).split())
        return text if len(text) <= MAX_ERROR_CHARS else text[: MAX_ERROR_CHARS - 1] + "…"

    def _contains_key(self, name: str) -> bool:
        return len(self._api_key) >= MIN_SECRET_CHARS and self._api_key in name

    def _fetch_names(self, session: requests.Session, seconds: float) -> tuple[str, ...]:
        with closing(self._request(session, "GET", "/models", seconds)) as response:
            if response.status_code != 200:
                raise self.read_error(response).to_exception(self.sanitize)
            try:
                entries = json.loads(response.raw.read(MAX_LIST_BYTES))["data"]
                valid = [one for one in entries if _is_valid_name(one["id"]) and not self._contains_key(one["id"])]
                for entry in valid[:MAX_MODELS]:
                    self.contexts.set_length(entry["id"], listed_context(entry))
                return tuple(entry["id"] for entry in valid[:MAX_MODELS])
            except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError, RecursionError):
                raise ModelError(f"{self.where} did not list its models. Set OPENAI_MODEL.") from None

    def _request(
        self, session: requests.Session, method: str, path: str, seconds: float, **kwargs: Any
    ) -> requests.Response:
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise ModelError("OPENAI_API_KEY contains characters that no key has. Copy it again, then restart.")
        headers = {"Accept-Encoding": "identity", "Accept": "text/event-stream, application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        url = self._base_url + path
        try:
            return session.request(
                method,
                url,
                headers=headers,
                stream=True,
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
                allow_redirects=False,
                **kwargs,
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            raise no_response(url, self.where, error) or self.no_response() from None
        except (requests.RequestException, ValueError, UnicodeError) as error:
            raise ModelError(f"OPENAI_BASE_URL is not a valid address: {self.sanitize(str(error))}") from None


class OpenAIModel:
    """One model of a server, used in one room."""

    offline = False

    def __init__(self, server: OpenAIServer, name: str = "", room: str = "") -> None:
        self._server = server
        self._name = name
        self._room = room

    @property
    def name(self) -> str:
        return short_model_name(self._name or self._server.first_name) or self._server.placeholder_name

    @property
    def where(self) -> str:
        """The server's address, as it may be shown."""
        return self._server.where

    @property
    def context(self) -> ModelContext:
        return self._server.contexts.get(self._name or self._server.first_name)

    def note_prompt(self, *, estimated: int, counted: int) -> None:
        self._server.contexts.set_ratio(self._name or self._server.first_name, estimated=estimated, counted=counted)

    def answer(
        self,
        history: Sequence[Message],
        tools: Iterable[ToolDescription],
        *,
        system: str = "",
        temperature: float | None = None,
    ) -> OpenAIReply:
        return OpenAIReply(
            self._server, self._name, history, tools, system=system, temperature=temperature, room=self._room
        )


def _is_valid_name(name: object) -> bool:
    """Return whether a model's name can be shown, stored and sent."""
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS and clean(name) == name


def _address(url: str) -> tuple[str, str, str]:
    """Return the host of an address, the host with its port, and the address without user and password."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "", "", "OPENAI_BASE_URL"
    host = parts.hostname or ""
    at = f"[{host}]{port}" if ":" in host else f"{host}{port}"
    return host, at, f"{parts.scheme}://{at}{parts.path}"
