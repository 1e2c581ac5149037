"""Fixtures: a room with a scripted model, and an Overseer with a model server, without the web application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.overseer import Overseer
from tests.support.model_server import ModelServer
from tests.support.room_harness import RoomHarness, join_turn_threads

MakeHarness = Callable[..., RoomHarness]


@pytest.fixture
def make_harness(tmp_path: Path) -> Iterator[MakeHarness]:
    """Open the room in a subdirectory, or create it."""
    harnesses: list[RoomHarness] = []

    def make(name: str = "harness", *, by_person: bool = True) -> RoomHarness:
        harnesses.append(RoomHarness(tmp_path / name, by_person=by_person))
        return harnesses[-1]

    yield make
    for harness in harnesses:
        harness.facets.close("the test is over")
    join_turn_threads()


@pytest.fixture
def harness(make_harness: MakeHarness) -> RoomHarness:
    """A room that was named by a person."""
    return make_harness()


def models(server: ModelServer) -> Models:
    return Models(ModelSettings(base_url=server.url, name="stand-in"))


@pytest.fixture
def overseer(instance: Path, model_server: ModelServer) -> Iterator[Overseer]:
    overseer = Overseer(instance, models=models(model_server))
    overseer.open()
    yield overseer
    overseer.close()
