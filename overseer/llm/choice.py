"""The choice of the model: the configured one, else an Ollama on its usual port, else the offline responder."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address

from overseer.domain.addresses import parse_address
from overseer.llm import Model, ModelError
from overseer.llm.offline import OfflineResponder
from overseer.llm.openai import DEFAULT_BASE_URL, OpenAIServer, Timeouts
from overseer.llm.refusal import RefusalMemory

OLLAMA = "http://127.0.0.1:11434/v1"
PROBE_TIMEOUT_SECONDS = 0.5
PROBE_INTERVAL_SECONDS = 5.0  # short, so that an Ollama that starts is found without a restart


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The settings of the model from the environment. If address and key are empty, an Ollama is looked for."""

    base_url: str = ""
    api_key: str = ""
    name: str = ""
    ollama_url: str = OLLAMA
    timeouts: Timeouts = Timeouts()
    offline_pace: float = 0.02  # seconds between words


def ollama_url(host: str) -> str:
    """Return the URL for the value of OLLAMA_HOST: a host, optionally with scheme and port."""
    if isinstance(parse_address(host), IPv6Address):
        host = f"[{host}]"
    address = (host if "://" in host else f"http://{host}").rstrip("/")
    address = address.replace("//0.0.0.0", "//127.0.0.1").replace("//[::]", "//[::1]")
    has_port = "://" in host or re.search(r":\d+$", address)
    return f"{address}/v1" if has_port else f"{address}:11434/v1"


class Models:
    """Chooses the model that answers, by name or by default."""

    def __init__(self, settings: ModelSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._probe_lock = threading.Lock()
        self._offline = OfflineResponder(pace=settings.offline_pace)
        self._memory = RefusalMemory(clock)
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._configured = self._configured_server()
        self._ollama = OpenAIServer(settings.ollama_url, timeouts=settings.timeouts, memory=self._memory)
        self._ollama_names: tuple[str, ...] = ()
        self._probed_at: float | None = None

    def pick(self, name: str = "", *, room: str = "") -> Model:
        """Return the model of this name, or the default model. The offline responder has any name.

        What the server refuses is remembered for the `room` only.
        """
        return self._model(name, self._probed_ollama(), room)

    def forget(self, room: str) -> None:
        """Discard what is remembered for a deleted room."""
        self._memory.forget(room)

    def names(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the names of the available models, from a cache unless `refresh`. Raises ModelError."""
        if self._configured is not None:
            return self._configured.names(refresh=refresh)
        return self._probed_ollama(refresh=refresh)

    def shown(self, name: str = "") -> Model:
        """Return the same model as `pick`, as last known, so that no page or push waits for a server.

        If the knowledge is outdated, it is renewed in the background; see `watch`.
        """
        if self._configured is not None:
            self._fetch_first_name(self._configured)
        elif self._probed_at is not None and self._is_outdated():
            threading.Thread(target=self._probed_ollama, daemon=True).start()
        return self._model(name, self._ollama_names if self._probed_at is not None else self._probed_ollama())

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever the default model changes or its name becomes known. Return what ends this."""
        self._listeners = (*self._listeners, listener)

        def end() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not listener)

        return end

    def _configured_server(self) -> OpenAIServer | None:
        settings = self._settings
        if not settings.base_url and not settings.api_key:
            return None
        return OpenAIServer(
            settings.base_url or DEFAULT_BASE_URL,
            api_key=settings.api_key,
            timeouts=settings.timeouts,
            memory=self._memory,
            renamed=self._notify,
        )

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    def _fetch_first_name(self, server: OpenAIServer) -> None:
        """Fetch the server's models in the background if the first one is the default and its name is not known."""
        if self._settings.name or server.first_name or not self._is_outdated():
            return
        if not self._probe_lock.acquire(blocking=False):
            return

        def fetch() -> None:
            try:
                server.names()
            except ModelError:
                pass  # the next question shows the error
            finally:
                self._probed_at = time.monotonic()
                self._probe_lock.release()

        threading.Thread(target=fetch, name="models", daemon=True).start()

    def _model(self, name: str, ollama_names: tuple[str, ...], room: str = "") -> Model:
        if self._configured is not None:
            return self._configured.model(name or self._settings.name, room=room)
        if ollama_names:
            return self._ollama.model(name or self._settings.name or ollama_names[0], room=room)
        return self._offline

    def _probed_ollama(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the names of Ollama's models. Ask for them if they are outdated, unless another thread does."""
        if self._configured is not None:
            return ()
        if (refresh or self._is_outdated()) and self._probe_lock.acquire(blocking=self._probed_at is None):
            known = self._ollama_names
            try:
                self._ollama_names = self._ollama.fetch_names(PROBE_TIMEOUT_SECONDS)
            except ModelError:
                self._ollama_names = ()
            finally:
                self._probed_at = time.monotonic()
                self._probe_lock.release()
            if self._ollama_names[:1] != known[:1]:
                self._notify()
        return self._ollama_names

    def _is_outdated(self) -> bool:
        return self._probed_at is None or time.monotonic() - self._probed_at >= PROBE_INTERVAL_SECONDS
