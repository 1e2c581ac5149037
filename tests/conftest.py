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
from overseer.config import SETTINGS
from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.overseer import Overseer
from overseer.storage.replication import Replication
from overseer.web.extensions import instance as instance_of
from tests.support.answers import Open
from tests.support.model_server import ModelServer
from tests.support.raw import Caller, Listening
from tests.support.server import Server, StartServer, running
from tests.support.server_pool import ServerPool
from tests.support.tab import Tab
from tests.support.templates import compile_once
from tests.support.waiting import join_turn_threads

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the test that takes longest, so that the others run beside it."""
    items.sort(key=lambda item: item.name != "test_cluster_loses_nothing")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs it."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)


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
    instance_of(app).overseer.open()
    yield app
    instance_of(app).overseer.close()


@pytest.fixture
def overseer(app: Flask) -> Overseer:
    """The Overseer of the app."""
    found = instance_of(app).overseer
    assert isinstance(found, Overseer)
    return found


@pytest.fixture
def opened(model_server: ModelServer) -> Iterator[Open]:
    """Opens an Overseer on a directory, as a start of the server does; all are closed at the end."""
    overseers: list[Overseer] = []

    def open_it(directory: Path, *, open_facets: int = 50, replication: Replication | None = None) -> Overseer:
        models = Models(ModelSettings(base_url=model_server.url, name="stand-in"))
        overseers.append(Overseer(directory, models=models, open_facets=open_facets, replication=replication))
        overseers[-1].open()
        return overseers[-1]

    yield open_it
    for overseer in overseers:
        overseer.close()
    join_turn_threads()


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
def start_server(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[StartServer]:
    """Starts real servers, answered by the stand-in; keyword arguments in capitals are environment variables.

    A traceback in a log fails the test. A test that causes one clears the log.
    """
    servers: list[Server] = []

    with ExitStack() as ends:

        def start(*, host: str = "127.0.0.1", altered: Any = None, **environment: str) -> Server:
            options: dict[str, Any] = {"host": host, "altered": altered, "server_pool": server_pool}
            servers.append(ends.enter_context(running(instance, model_server, environment=environment, **options)))
            return servers[-1]

        yield start
    for server in servers:
        log = "".join(server.log)
        assert "Traceback" not in log, log[log.find("Traceback") :]


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """The real server, answered by the stand-in."""
    return start_server()


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
