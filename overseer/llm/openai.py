"""Any server that speaks OpenAI's `POST /chat/completions` with `stream: true`.

Format: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from overseer.domain.messages import Message
from overseer.domain.text import clean
from overseer.domain.tools import ToolDescription
from overseer.llm import ModelError
from overseer.llm.connection import CHUNK, AbortableConnection, Deadline, session
from overseer.llm.redaction import REDACTED, SHORTEST
from overseer.llm.refusal import ErrorResponse, Memory
from overseer.llm.reply import OpenAIReply

DEFAULT_BASE_URL = "https://api.openai.com/v1"
CONNECT_SECONDS = 10.0
LIST_SECONDS = 10.0  # to wait for a list of models that somebody looks at
LIST_AGAIN = 300.0  # seconds that a list is good for
MAX_LIST = 4_000_000  # bytes of a list of models that are read,
MAX_MODELS = 1000  # models of it that are shown,
MAX_NAME = 200  # and characters of a model's name
MAX_ERROR = 300  # characters of a server's error text that are shown


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for a server, in seconds: for its first byte (a local model loads slowly), between bytes, and
    for one whole answer."""

    first: float = 300.0
    gap: float = 120.0
    total: float = 3600.0


class OpenAIServer:
    """One server, whose address may be shown as `where`: its models, and what they were found not to take.

    `renamed` is called when the first of its models, which answers by default, is another one or becomes known.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str = "",
        timeouts: Timeouts | None = None,
        refused: Memory | None = None,
        renamed: Callable[[], None] = lambda: None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self.host, at, self.where = _address(self._base_url)
        self.unnamed = f"model at {at}" if at else "model"  # what its first model is called until its name is known
        self.timeouts = timeouts or Timeouts()
        self._api_key = api_key.strip()
        self.refused = Memory() if refused is None else refused  # an empty one is false
        self._renamed = renamed
        self._first_name = ""
        self._names: tuple[str, ...] = ()
        self._listed_at = 0.0

    def model(self, name: str = "", *, room: str = "") -> OpenAIModel:
        """The model of this name, to answer in a room; the empty name stands for the first one the server lists."""
        return OpenAIModel(self, name, room)

    @property
    def first_name(self) -> str:
        """The name of its first model; empty until it is known."""
        return self._first_name

    @first_name.setter
    def first_name(self, name: str) -> None:
        known, self._first_name = self._first_name, name
        if name != known:
            self._renamed()

    def names(self, *, refresh: bool = False) -> tuple[str, ...]:
        """The names of the server's models, kept for some minutes unless it is to `refresh`. Raises ModelError."""
        if refresh or not self._names or time.monotonic() - self._listed_at > LIST_AGAIN:
            self._names = self.listed(LIST_SECONDS)
            self._listed_at = time.monotonic()
            self.first_name = self._names[0] if self._names else ""
        return self._names

    def listed(self, seconds: float) -> tuple[str, ...]:
        """The names of the server's models as it lists them now, within so many seconds. Raises ModelError."""
        line = AbortableConnection()
        with Deadline(line, seconds), session(line, local=self.local) as connected:
            return self._list(connected, seconds)

    def first(self, session: requests.Session) -> str:
        """The name of its first model, asked for once. Raises ModelError."""
        if not self.first_name:
            names = self._list(session, self.timeouts.first)
            if not names:
                raise ModelError(f"{self.where} lists no models. Load one there, or set OPENAI_MODEL.")
            self.first_name = names[0]
        return self.first_name

    def post(self, session: requests.Session, request: Mapping[str, object]) -> requests.Response:
        """Send a chat request; the answer may be a refusal. Raises ModelError if there is none."""
        return self._request(session, "POST", "/chat/completions", self.timeouts.first, json=request)

    def refusal(self, response: requests.Response) -> ErrorResponse:
        """What a response other than 200 says; it is closed."""
        with closing(response):
            try:
                said = response.raw.read(CHUNK)
            except (urllib3.exceptions.HTTPError, OSError):
                said = b""
        return ErrorResponse(self.where, response.status_code, response.headers, said)

    def silent(self) -> ModelError:
        """What is to be said of a server that never began."""
        return ModelError(f"{self.where} said nothing for {self.timeouts.first:g} s. Is it still loading? Then Retry.")

    @property
    def local(self) -> bool:
        """Whether the server is on this machine."""
        return self.host in ("localhost", "127.0.0.1", "::1")

    @property
    def secret(self) -> str:
        """What must be told nobody."""
        return self._api_key

    def shown(self, text: str) -> str:
        """A server's own words, cut short and without the key, fit to be shown and logged."""
        if self._api_key:
            text = text.replace(self._api_key, REDACTED)
        text = re.sub(r"(?<=://)[^/\s@]+@", "", text)
        text = " ".join(clean(text).split())
        return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 1] + "…"

    def _tells(self, name: str) -> bool:
        return len(self._api_key) >= SHORTEST and self._api_key in name

    def _list(self, session: requests.Session, seconds: float) -> tuple[str, ...]:
        with closing(self._request(session, "GET", "/models", seconds)) as response:
            if response.status_code != 200:
                raise self.refusal(response).error(self.shown)
            try:
                names = [entry["id"] for entry in json.loads(response.raw.read(MAX_LIST))["data"]]
                usable = (name for name in names if _usable(name) and not self._tells(name))
                return tuple(islice(usable, MAX_MODELS))
            except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError, RecursionError):
                raise ModelError(f"{self.where} did not list its models. Set OPENAI_MODEL.") from None

    def _request(
        self, session: requests.Session, method: str, path: str, seconds: float, **kwargs: Any
    ) -> requests.Response:
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise ModelError("OPENAI_API_KEY holds what no key does. Copy it again, then restart.")
        headers = {"Accept-Encoding": "identity", "Accept": "text/event-stream, application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            return session.request(
                method,
                self._base_url + path,
                headers=headers,
                stream=True,
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
                allow_redirects=False,
                **kwargs,
            )
        except requests.ReadTimeout:
            raise self.silent() from None
        except requests.ConnectionError as error:
            if not isinstance(error, requests.ConnectTimeout) and "NewConnectionError" not in repr(error):
                raise ModelError(
                    f"{self.where} closed the connection without an answer. Look at its log, then Retry."
                ) from None
            raise ModelError(f"Could not connect to {self.where}. Start the model server, then Retry.") from None
        except requests.Timeout:
            raise ModelError(f"Could not connect to {self.where}. Start the model server, then Retry.") from None
        except (requests.RequestException, ValueError, UnicodeError) as error:
            raise ModelError(f"OPENAI_BASE_URL is no usable address: {self.shown(str(error))}") from None


class OpenAIModel:
    """One model of a server."""

    offline = False

    def __init__(self, server: OpenAIServer, name: str = "", room: str = "") -> None:
        self._server = server
        self._name = name
        self._room = room

    @property
    def name(self) -> str:
        return self._name or self._server.first_name or self._server.unnamed

    @property
    def where(self) -> str:
        """The server's address, as it may be shown."""
        return self._server.where

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


def _usable(name: object) -> bool:
    """Whether a model can be called so: shown, stored and sent."""
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and clean(name) == name


def _address(url: str) -> tuple[str, str, str]:
    """The host of an address, the host with its port, and the address as it may be shown: without any password."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "", "", "OPENAI_BASE_URL"
    host = parts.hostname or ""
    at = f"[{host}]{port}" if ":" in host else f"{host}{port}"
    return host, at, f"{parts.scheme}://{at}{parts.path}"
