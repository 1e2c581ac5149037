"""Fixtures: everything real, in a directory of its own, ended by the test that began it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings

from overseer import create_app
from overseer.llm.choice import ModelSettings
from overseer.rooms.overseer import Overseer
from tests.support.model_server import ModelServer
from tests.support.raw import Caller, Listening
from tests.support.server import Server
from tests.support.server_pool import ServerPool
from tests.support.tab import Tab
from tests.support.templates import compile_once

compile_once()
# Normal runs use a few fixed examples, so that a failure repeats. SEARCH=1 searches for new ones.
SEARCH = bool(os.environ.get("SEARCH"))
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not SEARCH,
    max_examples=500 if SEARCH else 20,
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs it."""
    for name in (
        "OPENAI_BASE_URL",
        "OPENAI_API_KEY",
        "OPENAI_MODEL",
        "OLLAMA_HOST",
        "OVERSEER_INSTANCE",
        "OVERSEER_PORT",
        "OVERSEER_PASSWORD",
        "OVERSEER_PASSWORD_FILE",
        "OVERSEER_HOSTS",
        "OVERSEER_TRUSTED_PROXIES",
        "OVERSEER_CONTEXT_TOKENS",
        "OVERSEER_MAX_ANSWER_CHARS",
        "OVERSEER_MAX_TABS",
        "OVERSEER_MAX_TABS_EACH",
        "OVERSEER_FIRST_BYTE_SECONDS",
        "OVERSEER_SILENCE_SECONDS",
        "OVERSEER_ANSWER_SECONDS",
        "OVERSEER_TOOL_SECONDS",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A stand-in model server on a real port."""
    server = ModelServer()
    yield server
    server.close()


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """An instance directory."""
    return tmp_path / "instance"


@pytest.fixture
def app(instance: Path, model_server: ModelServer) -> Iterator[Flask]:
    """The app, answered by the stand-in."""
    app = create_app(instance, models=ModelSettings(base_url=model_server.url, name="stand-in"))
    app.extensions["overseer"].open()
    yield app
    app.extensions["overseer"].close()


@pytest.fixture
def overseer(app: Flask) -> Overseer:
    """The Overseer of the app."""
    found = app.extensions["overseer"]
    assert isinstance(found, Overseer)
    return found


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A plain HTTP client, as curl is one."""
    return app.test_client()


@pytest.fixture(scope="session")
def server_pool() -> Iterator[ServerPool]:
    """Where servers come from that have nothing to prove about their start."""
    server_pool = ServerPool()
    yield server_pool
    server_pool.close()


@pytest.fixture
def server(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    """The real server, answered by the stand-in."""
    environment = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
    server = Server(instance, environment=environment, server_pool=server_pool).start()
    yield server
    server.stop()


@pytest.fixture
def tab(server: Server) -> Iterator[Callable[..., Tab]]:
    """Opens tabs on the real server."""
    tabs: list[Tab] = []

    def open_tab(room_id: str | None = None, query: str = "", **options: object) -> Tab:
        tabs.append(Tab(server.url, f"room={room_id}{query}" if room_id else query, **options))
        return tabs[-1]

    yield open_tab
    for one in tabs:
        one.close()


@pytest.fixture
def call() -> Iterator[Callable[..., Caller]]:
    """Opens sockets to servers, on which anything can be sent."""
    with ExitStack() as ends:

        def call(to: Listening, **options: Any) -> Caller:
            return ends.enter_context(closing(Caller(to, **options)))

        yield call
