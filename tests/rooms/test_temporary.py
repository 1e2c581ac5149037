"""Temporary rooms: in no list, not in the search index, and deleted when nobody uses them any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from overseer.domain.errors import NoSuchRoom, StorageError, StorageUnavailable
from overseer.domain.search import parse
from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.chat_room import ChatRoom
from overseer.rooms.overseer import Overseer
from overseer.rooms.temporary import TemporaryRooms
from overseer.storage.backup import backup
from overseer.storage.check import check
from overseer.storage.instance_lock import REGISTRY_FILE, room_file, room_ids
from overseer.storage.search_index import SEARCH_FILE
from tests.storage.rooms import ask
from tests.support.answers import Open
from tests.support.files import remove_with_companions, replace_by_junk
from tests.support.model_server import ModelServer, answer, held, text
from tests.support.waiting import join_turn_threads, until

SECONDS = 0.05
THREAD = "temporary rooms"


@pytest.fixture
def brief(instance: Path, model_server: ModelServer) -> Iterator[Callable[..., Overseer]]:
    """Opens an Overseer whose temporary rooms are deleted at once."""
    opened: list[Overseer] = []

    def open_it(seconds: float = SECONDS) -> Overseer:
        models = Models(ModelSettings(base_url=model_server.url, name="stand-in"))
        opened.append(Overseer(instance, models=models, temporary_seconds=seconds))
        opened[-1].open()
        return opened[-1]

    yield open_it
    for overseer in opened:
        overseer.close()
    join_turn_threads()


def is_gone(overseer: Overseer, room_id: str) -> bool:
    with suppress(NoSuchRoom):
        overseer.record(room_id)
        return False
    return not any((overseer.directory / "facets").glob(f"room-{room_id}*"))


def is_waiting() -> bool:
    return any(thread.name == THREAD for thread in threading.enumerate())


def found(overseer: Overseer, q: str) -> list[str]:
    try:
        return [hit.room_id for hit in overseer.search(parse(q)).hits]
    except StorageUnavailable:
        return ["the index is being built"]


# Lists


def test_temporary_room_is_in_no_list(overseer: Overseer) -> None:
    listed = overseer.create("Kitchen")
    room = overseer.create("Cellar", temporary=True)
    assert room.temporary and overseer.room(room.id).settings().temporary
    assert overseer.rooms().rooms == overseer.rooms_named("", limit=9).rooms == (listed,)
    assert overseer.rooms(q="cellar").rooms == overseer.rooms_named("cellar", limit=9).rooms == ()
    assert overseer.archived_rooms().rooms == () and overseer.empty_room() is None
    assert overseer.rooms(open_room=room.id).apart == room


def test_kept_room_is_an_ordinary_one(overseer: Overseer, model_server: ModelServer) -> None:
    model_server.will(answer("A quince."))
    room = overseer.create("Cellar", temporary=True)
    ask(overseer, room.id, "Which fruit?")
    overseer.room(room.id).configure({"temporary": False})
    assert [one.id for one in overseer.rooms().rooms] == [room.id]
    until(lambda: found(overseer, "quince") == found(overseer, "cellar") == [room.id])


def test_fork_of_a_temporary_room_is_temporary(overseer: Overseer) -> None:
    room = overseer.create("Cellar", temporary=True)
    assert overseer.fork(room.id).temporary


# Search


def test_temporary_room_is_never_indexed(
    overseer: Overseer, instance: Path, model_server: ModelServer, opened: Open
) -> None:
    """Neither while it is used, nor after a crash, nor by `reindex`. Its name is not either."""
    model_server.will(answer("A quince."), answer("A medlar."))
    room, other = overseer.create("Cellar", temporary=True).id, overseer.create("Kitchen").id
    ask(overseer, room, "Which fruit?")
    overseer.room(room).configure({}, name="Attic")
    ask(overseer, other, "Which one?")

    def only_the_other_is_found(searched: Overseer) -> None:
        until(lambda: found(searched, "medlar") == [other])
        for word in ("quince", "fruit", "cellar", "attic"):
            assert found(searched, word) == []

    only_the_other_is_found(overseer)
    overseer.close()
    (instance / SEARCH_FILE).unlink()
    remove_with_companions(instance / REGISTRY_FILE)
    again = opened(instance)
    only_the_other_is_found(again)
    again.close()
    again.reindex(lambda done, total: None)
    content = b"".join(path.read_bytes() for path in instance.glob(f"{SEARCH_FILE}*"))
    assert b"medlar" in content and b"quince" not in content and b"attic" not in content
    last = opened(instance)
    assert last.record(room).temporary
    only_the_other_is_found(last)


# Deletion


def test_room_that_nobody_uses_is_deleted_with_its_files(brief: Callable[..., Overseer]) -> None:
    overseer = brief()
    kept = overseer.create("Kitchen")
    room = overseer.create(temporary=True)
    until(lambda: is_gone(overseer, room.id))
    assert overseer.rooms().rooms == (kept,)
    until(lambda: not is_waiting())


def test_nothing_waits_while_there_is_no_temporary_room(overseer: Overseer) -> None:
    overseer.create("Kitchen")
    assert not is_waiting()
    overseer.create(temporary=True)
    assert is_waiting()
    overseer.close()
    assert not is_waiting()


def test_running_answer_is_stopped_by_the_deletion(brief: Callable[..., Overseer], model_server: ModelServer) -> None:
    overseer = brief()
    reply = model_server.will(held(text("On and")))
    room = overseer.create(temporary=True)
    overseer.room(room.id).ask("Go on?")
    until(lambda: is_gone(overseer, room.id))
    assert reply.begun.is_set()
    assert reply.closed.wait(20)
    join_turn_threads()


def test_room_with_a_tab_is_deleted_only_when_it_has_left(brief: Callable[..., Overseer]) -> None:
    overseer = brief()
    shown = threading.Event()
    asked = threading.Semaphore(0)

    def has_tab(room_id: str) -> bool:
        asked.release()
        return not shown.is_set()

    overseer.temporary_rooms.has_tab = has_tab
    room = overseer.create(temporary=True)
    for _ in range(3):
        assert asked.acquire(timeout=20)
    assert not is_gone(overseer, room.id)
    shown.set()
    until(lambda: is_gone(overseer, room.id))


def test_each_start_gives_a_temporary_room_its_time_anew(
    brief: Callable[..., Overseer], overseer: Overseer, instance: Path
) -> None:
    room = overseer.create(temporary=True)
    overseer.close()
    remove_with_companions(instance / REGISTRY_FILE)
    again = brief(3600.0)
    assert again.record(room.id).temporary and is_waiting()
    again.close()
    last = brief()
    until(lambda: is_gone(last, room.id))
    assert room_ids(instance) == set()


def test_room_that_is_kept_at_the_last_moment_is_not_deleted(
    brief: Callable[..., Overseer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keeping waits for the room's lock, or the deletion does: whichever has it first decides."""
    overseer = brief(3600.0)
    for _ in range(20):
        room = overseer.create("Cellar", temporary=True)
        began = threading.Barrier(2)

        def expire(room_id: str = room.id, began: threading.Barrier = began) -> None:
            began.wait()
            with suppress(NoSuchRoom):
                overseer._delete_temporary(room_id)

        thread = threading.Thread(target=expire)
        thread.start()
        began.wait()
        try:
            overseer.room(room.id).configure({"temporary": False})
            kept = True
        except NoSuchRoom:
            kept = False
        thread.join()
        assert is_gone(overseer, room.id) is not kept
    room = overseer.create("Cellar", temporary=True)
    overseer.room(room.id).configure({"temporary": False})
    overseer._delete_temporary(room.id)
    assert overseer.record(room.id).name == "Cellar"


def test_decision_to_delete_is_made_with_the_lock_of_the_room(
    overseer: Overseer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that does not know yet that the room was kept does not delete it."""
    room = overseer.create("Cellar", temporary=True)

    def keep(chat_room: ChatRoom) -> None:
        chat_room.configure({"temporary": False})
        assert overseer.record(room.id).temporary, "the event is delivered after the lock was released"
        overseer._delete_temporary(room.id)

    overseer.call(room.id, keep)
    assert not overseer.record(room.id).temporary and room_file(overseer.directory, room.id).exists()


def test_damaged_temporary_room_is_left_alone(brief: Callable[..., Overseer], instance: Path) -> None:
    """Nobody can tell whether it was kept."""
    overseer = brief(3600.0)
    room = overseer.create(temporary=True)
    overseer.close()
    replace_by_junk(room_file(instance, room.id))
    again = brief()
    until(lambda: not is_waiting())
    assert room_file(instance, room.id).exists()
    with pytest.raises(StorageError):
        again.room(room.id).messages()


def test_temporary_rooms_are_deleted_in_the_order_of_their_last_use() -> None:
    deleted: list[str] = []
    done = threading.Event()

    def delete(room_id: str) -> None:
        deleted.append(room_id)
        if len(deleted) == 3:
            done.set()

    rooms = TemporaryRooms(delete, seconds=0.2)
    rooms.add("early")
    assert not is_waiting(), "before it is started"
    rooms.start(["a", "b", "c", "d"])
    rooms.touch("a")
    rooms.touch("unknown")
    rooms.discard("b")
    assert done.wait(20)
    assert deleted == ["c", "d", "a"]
    rooms.stop()


def test_room_that_cannot_be_deleted_now_is_tried_again() -> None:
    tries: list[float] = []
    done = threading.Event()

    def delete(room_id: str) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise StorageUnavailable("The disk is full.")
        done.set()

    rooms = TemporaryRooms(delete, seconds=SECONDS)
    rooms.start(["a"])
    assert done.wait(20)
    assert tries[1] - tries[0] >= SECONDS
    rooms.stop()


# Other programs


def test_backup_leaves_temporary_rooms_out(overseer: Overseer, instance: Path, tmp_path: Path) -> None:
    kept, room = overseer.create("Kitchen"), overseer.create(temporary=True)
    target = tmp_path / "backup"
    backup(instance, target, progress=lambda done, total: None)
    assert room_ids(target) == {kept.id}
    assert check(target, progress=lambda done, total: None).findings == ()
    assert overseer.record(room.id).temporary
