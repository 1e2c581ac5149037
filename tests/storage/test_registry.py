"""The registry: which index a page of the list is read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from overseer.domain.records import Room, RoomList, Summary
from overseer.storage.database import Storage
from overseer.storage.registry import Registry

EMPTY = Summary("Kitchen", created_at=1, active_at=1, messages=0, preview="", answering=False)
COUNT = 10_000
Query = Callable[[], object]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with closing(Storage(tmp_path / "overseer.sqlite")) as storage:
        yield storage


@pytest.fixture
def registry(storage: Storage) -> Registry:
    return Registry(storage)


def plans(storage: Storage, query: Query) -> list[str]:
    """Return how SQLite runs each statement of a query."""
    statements: list[str] = []
    with storage.read() as db:
        db.set_trace_callback(statements.append)
        query()
        db.set_trace_callback(None)
        selects = [one for one in statements if one.lstrip().startswith("SELECT")]
        return ["; ".join(row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {one}")) for one in selects]


def steps(storage: Storage, query: Query) -> int:
    """Return how many hundreds of instructions SQLite needs for a query."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    with storage.read() as db:
        db.set_progress_handler(step, 100)
        query()
        db.set_progress_handler(None, 0)
    return count


def put_away(registry: Registry, *, archived: int = 0, temporary: int = 0) -> None:
    """Add rooms that are not in the list."""
    rooms = [(f"{n:012x}", replace(EMPTY, archived=True, active_at=n)) for n in range(archived)]
    rooms += [(f"a{n:011x}", replace(EMPTY, temporary=True, active_at=n)) for n in range(temporary)]
    registry.adopt(rooms)


def ids(found: RoomList) -> list[str]:
    return [room.id for room in found.rooms]


def test_pages_of_the_list_are_read_from_partial_indexes(storage: Storage, registry: Registry) -> None:
    put_away(registry, archived=120, temporary=3)
    registry.add("b" * 12, EMPTY)
    listed, has_archived = plans(storage, lambda: registry.rooms(after=10**9))
    assert "SEARCH rooms USING INDEX listed (rank<?)" in listed and "TEMP B-TREE" not in listed
    assert "USING COVERING INDEX archived" in has_archived or "USING INDEX archived" in has_archived
    (archived, _) = plans(storage, lambda: registry.rooms(archived=True, after=60))
    assert "SEARCH rooms USING INDEX archived (<expr><?)" in archived and "TEMP B-TREE" not in archived
    (temporary,) = plans(storage, registry.temporary_ids)
    assert "INDEX temporary" in temporary


def test_page_costs_the_same_beside_many_rooms_that_are_not_in_it(storage: Storage, registry: Registry) -> None:
    registry.add("b" * 12, EMPTY)
    put_away(registry, archived=100)
    queries: list[Query] = [registry.rooms, lambda: registry.rooms(archived=True), lambda: registry.room("b" * 12)]
    few = [steps(storage, one) for one in queries]
    registry.adopt((f"c{n:011x}", replace(EMPTY, archived=True, active_at=n)) for n in range(COUNT))
    assert [steps(storage, one) for one in queries] == pytest.approx(few, abs=2)


def test_archived_rooms_come_in_pages_by_activity_also_pinned_ones(registry: Registry) -> None:
    put_away(registry, archived=120, temporary=5)
    pinned = f"{7:012x}"
    registry.sync(pinned, replace(EMPTY, archived=True, pinned=True), active=False, taken_at=1)
    seen: list[Room] = []
    page = registry.rooms(archived=True)
    while page.after is not None:
        seen += page.rooms
        page = registry.rooms(archived=True, after=page.after)
    seen += page.rooms
    assert [room.id for room in seen] == [f"{n:012x}" for n in reversed(range(120))]
    assert ids(registry.rooms()) == [] and registry.rooms().archived


@pytest.mark.parametrize("flag", ["archived", "temporary"])
def test_room_that_leaves_the_list_comes_back_to_its_place(registry: Registry, flag: str) -> None:
    """A room that is active moves to the top also if the last one that was there has left the list."""
    for number in range(4):
        registry.add(f"{number:012x}", EMPTY)
    before = ids(registry.rooms())
    away = replace(EMPTY, archived=flag == "archived", temporary=flag == "temporary")
    for room_id in (before[0], before[2]):
        assert registry.sync(room_id, away, active=False, taken_at=1) == "elsewhere"
        assert registry.sync(room_id, away, active=False, taken_at=1) == ""
        assert ids(registry.rooms()) == [one for one in before if one != room_id]
        assert registry.sync(before[1], EMPTY, active=False, taken_at=1) == ""
        assert registry.sync(room_id, EMPTY, active=False, taken_at=2) == "elsewhere"
        assert ids(registry.rooms()) == before
    registry.sync(before[0], away, active=False, taken_at=3)
    assert registry.sync(before[0], away, active=True, taken_at=4) == ""
    assert registry.sync(before[3], EMPTY, active=True, taken_at=5) == "to top"
    registry.sync(before[0], EMPTY, active=False, taken_at=6)
    assert ids(registry.rooms()) == [before[3], before[0], before[1], before[2]]
    assert registry.sync(before[0], EMPTY, active=True, taken_at=7) == "to top"
