"""Fixtures: a room with a scripted model, and an Overseer with a model server, without the web application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overseer.rooms.overseer import Overseer
from tests.support.answers import Open
from tests.support.room_harness import RoomHarness
from tests.support.waiting import join_turn_threads

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


@pytest.fixture
def overseer(instance: Path, opened: Open) -> Overseer:
    return opened(instance)
