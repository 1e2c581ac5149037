"""Which model answers: the configured one, else an Ollama on its usual port, else the offline responder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from overseer.llm import Model, ModelError
from overseer.llm.offline import OfflineResponder
from overseer.llm.openai import DEFAULT_BASE_URL, OpenAIServer, Timeouts
from overseer.llm.refusal import Memory

OLLAMA = "http://127.0.0.1:11434/v1"
PROBE_SECONDS = 0.5
PROBE_AGAIN = 5.0  # seconds; starting Ollama is noticed without a restart


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What the environment says of the model; all empty means: look for Ollama."""

    base_url: str = ""
    api_key: str = ""
    name: str = ""
    ollama_url: str = OLLAMA
    timeouts: Timeouts = Timeouts()
    offline_pace: float = 0.02


def ollama_url(host: str) -> str:
    """The address behind Ollama's own setting OLLAMA_HOST: a host, maybe with a scheme and a port, or empty."""
    if not host:
        return OLLAMA
    address = (host if "://" in host else f"http://{host}").rstrip("/").replace("//0.0.0.0", "//127.0.0.1")
    has_port = "://" in host or address.rpartition(":")[2].isdecimal()
    return f"{address}/v1" if has_port else f"{address}:11434/v1"


class Models:
    """Chooses who answers the next question."""

    def __init__(self, settings: ModelSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._probing = threading.Lock()
        self._offline = OfflineResponder(pace=settings.offline_pace)
        self._refused = Memory(clock)
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._configured = _configured(settings, refused=self._refused, renamed=self._renamed)
        self._ollama = OpenAIServer(settings.ollama_url, timeouts=settings.timeouts, refused=self._refused)
        self._ollama_names: tuple[str, ...] = ()
        self._probed: float | None = None

    def pick(self, name: str = "", *, room: str = "") -> Model:
        """The model of this name, or the one to use where nobody has named one; offline there is but one.

        What its server refuses is remembered for the `room` alone.
        """
        return self._chosen(name, self._local(), room)

    def forget(self, room: str) -> None:
        """The room is gone."""
        self._refused.forget(room)

    def names(self, *, refresh: bool = False) -> tuple[str, ...]:
        """The names that can be picked; may be some minutes old unless it is to `refresh`. Raises ModelError."""
        if self._configured is not None:
            return self._configured.names(refresh=refresh)
        return self._local(refresh=refresh)

    def shown(self, name: str = "") -> Model:
        """The same as `pick`, as it was last known: no page and no push waits for a server.

        If that is old, or the name of the model is not known yet, it is looked for meanwhile: see `watch`.
        """
        if self._configured is not None:
            self._look(self._configured)
        elif self._probed is not None and self._stale():
            threading.Thread(target=self._local, daemon=True).start()
        return self._chosen(name, self._ollama_names if self._probed is not None else self._local())

    def watch(self, listener: Callable[[], None]) -> None:
        """Call `listener` when another model answers by default, or its name became known."""
        self._listeners = (*self._listeners, listener)

    def _renamed(self) -> None:
        for listener in self._listeners:
            listener()

    def _look(self, server: OpenAIServer) -> None:
        """Ask a server for its models in the background if the first one answers and its name is not known."""
        if self._settings.name or server.first_name or not self._stale() or not self._probing.acquire(blocking=False):
            return

        def look() -> None:
            try:
                server.names()
            except ModelError:
                pass  # a question will tell
            finally:
                self._probed = time.monotonic()
                self._probing.release()

        threading.Thread(target=look, name="models", daemon=True).start()

    def _chosen(self, name: str, ollama: tuple[str, ...], room: str = "") -> Model:
        if self._configured is not None:
            return self._configured.model(name or self._settings.name, room=room)
        if ollama:
            return self._ollama.model(name or self._settings.name or ollama[0], room=room)
        return self._offline

    def _local(self, *, refresh: bool = False) -> tuple[str, ...]:
        if self._configured is not None:
            return ()
        if (refresh or self._stale()) and self._probing.acquire(blocking=self._probed is None):
            known = self._ollama_names
            try:
                self._ollama_names = self._ollama.listed(PROBE_SECONDS)
            except ModelError:
                self._ollama_names = ()
            finally:
                self._probed = time.monotonic()
                self._probing.release()
            if self._ollama_names[:1] != known[:1]:
                self._renamed()
        return self._ollama_names

    def _stale(self) -> bool:
        return self._probed is None or time.monotonic() - self._probed >= PROBE_AGAIN


def _configured(settings: ModelSettings, *, refused: Memory, renamed: Callable[[], None]) -> OpenAIServer | None:
    if not settings.base_url and not settings.api_key:
        return None
    return OpenAIServer(
        settings.base_url or DEFAULT_BASE_URL,
        api_key=settings.api_key,
        timeouts=settings.timeouts,
        refused=refused,
        renamed=renamed,
    )
