"""Archived rooms: not in the list, found by search, and back in the list with the next question."""

from __future__ import annotations

from pathlib import Path

import pytest

from overseer.domain.events import RoomConfigured, RoomEvent, RoomSynced
from overseer.domain.search import parse
from overseer.domain.text import Invalid
from overseer.rooms.overseer import Overseer
from overseer.storage.instance_lock import REGISTRY_FILE, room_file
from tests.storage.rooms import ask
from tests.support.answers import Open
from tests.support.files import column, remove_with_companions
from tests.support.model_server import ModelServer, answer
from tests.support.waiting import join_turn_threads, until


def names(overseer: Overseer, *, archived: bool = False) -> list[str]:
    page = overseer.archived_rooms() if archived else overseer.rooms()
    return [room.name for room in page.rooms]


@pytest.fixture
def rooms(overseer: Overseer) -> dict[str, str]:
    """The ids of three rooms by name; "Third" is at the top of the list."""
    return {name: overseer.create(name).id for name in ("First", "Second", "Third")}


def archive(overseer: Overseer, room_id: str, *, archived: bool = True) -> None:
    overseer.room(room_id).configure({"archived": archived})


def test_archived_room_leaves_the_list_and_comes_back_to_its_place(
    overseer: Overseer, rooms: dict[str, str], instance: Path
) -> None:
    overseer.room(rooms["Second"]).configure({"pinned": True})
    archive(overseer, rooms["Second"])
    archive(overseer, rooms["First"])
    assert (names(overseer), names(overseer, archived=True)) == (["Third"], ["Second", "First"])
    assert column(room_file(instance, rooms["First"]), "SELECT archived FROM room") == [1]
    assert overseer.record(rooms["First"]).archived and overseer.room(rooms["First"]).settings().archived
    assert overseer.rooms(q="first").rooms == () and overseer.rooms(q="first").archived
    assert overseer.rooms(open_room=rooms["First"]).apart == overseer.record(rooms["First"])
    for name in ("First", "Second"):
        archive(overseer, rooms[name], archived=False)
    assert names(overseer) == ["Second", "Third", "First"], "pinned stays pinned"
    assert not overseer.rooms().archived


def test_list_that_is_rebuilt_knows_archived_rooms(
    overseer: Overseer, rooms: dict[str, str], instance: Path, opened: Open
) -> None:
    archive(overseer, rooms["Second"])
    overseer.close()
    remove_with_companions(instance / REGISTRY_FILE)
    again = opened(instance)
    assert (sorted(names(again)), names(again, archived=True)) == (["First", "Third"], ["Second"])


@pytest.mark.parametrize("how", ["ask", "edit"])
def test_question_in_an_archived_room_unarchives_it(
    overseer: Overseer, rooms: dict[str, str], model_server: ModelServer, how: str
) -> None:
    """The list is told that a room has come back, and then that it is at the top."""
    first = rooms["First"]
    model_server.will(answer("One."), answer("Two."))
    ask(overseer, first, "One?")
    archive(overseer, first)
    seen: list[RoomEvent] = []
    overseer.subscribe(seen.append, first)
    if how == "ask":
        assert overseer.room(first).ask("Two?").unarchived
    else:
        assert overseer.room(first).edit(1, "Two?").unarchived
    join_turn_threads(first)
    assert names(overseer)[0] == "First" and names(overseer, archived=True) == []
    assert seen[:2] == [RoomSynced(first, moved_to_top=False, moved=True), RoomConfigured(first)]
    assert not overseer.room(first).settings().archived


def test_answer_clear_and_rename_leave_a_room_archived(
    overseer: Overseer, rooms: dict[str, str], model_server: ModelServer
) -> None:
    first = overseer.room(rooms["First"])
    model_server.will(answer("One."), answer("Again."))
    ask(overseer, first.id, "One?")
    archive(overseer, first.id)
    first.retry()
    join_turn_threads(first.id)
    first.configure({}, name="Cellar")
    first.clear()
    assert names(overseer) == ["Third", "Second"] and names(overseer, archived=True) == ["Cellar"]
    overseer.delete(first.id)
    assert not overseer.rooms().archived


def test_fork_of_an_archived_room_is_in_the_list(overseer: Overseer, rooms: dict[str, str]) -> None:
    archive(overseer, rooms["First"])
    fork = overseer.fork(rooms["First"])
    assert not fork.archived and names(overseer)[0] == "First (fork)"


def test_archived_room_is_found_by_its_text_and_by_a_typed_name(
    overseer: Overseer, rooms: dict[str, str], model_server: ModelServer
) -> None:
    model_server.will(answer("A quince."))
    ask(overseer, rooms["First"], "Which fruit?")
    archive(overseer, rooms["First"])
    until(lambda: [hit.room_id for hit in overseer.search(parse("quince")).hits] == [rooms["First"]])
    assert [room.name for room in overseer.rooms_named("", limit=8).rooms] == ["Third", "Second"]
    assert [room.name for room in overseer.rooms_named("ir", limit=8).rooms] == ["Third", "First"]
    assert [room.name for room in overseer.rooms_named("ir", limit=1).rooms] == ["Third"]


def test_temporary_room_cannot_be_archived_before_it_is_kept(overseer: Overseer) -> None:
    room = overseer.create(temporary=True)
    with pytest.raises(Invalid, match="Keep it first"):
        archive(overseer, room.id)
    overseer.room(room.id).configure({"archived": True, "temporary": False})
    assert names(overseer, archived=True) == [room.name]
