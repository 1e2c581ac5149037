"""Fixtures of the storage tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.overseer import Overseer
from tests.storage.rooms import Open
from tests.support.model_server import ModelServer
from tests.support.server import Server, StartServer

SHORT_WAITS: dict[str, object] = {"short_waits": {}}


@pytest.fixture
def opened(model_server: ModelServer) -> Iterator[Open]:
    """Opens an Overseer on a directory, as a start of the server does; all are closed at the end."""
    overseers: list[Overseer] = []

    def open_it(directory: Path, *, open_facets: int = 50) -> Overseer:
        models = Models(ModelSettings(base_url=model_server.url, name="stand-in"))
        overseers.append(Overseer(directory, models=models, open_facets=open_facets))
        overseers[-1].open()
        return overseers[-1]

    yield open_it
    for overseer in overseers:
        overseer.close()


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """A server with short timeouts."""
    return start_server(altered=SHORT_WAITS)
