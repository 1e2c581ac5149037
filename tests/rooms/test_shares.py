"""Shares of a room in its file: their secrets, expiry, visits, and when they end."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from hmac import compare_digest
from pathlib import Path

import pytest

from overseer.domain.errors import NoSuchRoom, NoSuchShare, StorageError, TooManyShares
from overseer.domain.events import RoomEvent, ShareRevoked
from overseer.domain.messages import File, Text
from overseer.domain.shares import ADDRESS, MAX_EXPIRY_SECONDS, MAX_SHARES, VISIT_INTERVAL_MS, parse_expiry, parse_live
from overseer.domain.text import Invalid
from overseer.rooms.overseer import Overseer
from overseer.storage import room_rows
from overseer.storage.instance_lock import room_file
from tests.support.answers import Open, ask, ended_answer
from tests.support.files import column
from tests.support.work_counter import WorkCounter

PAGE = b"a page"


@pytest.fixture
def room_id(overseer: Overseer) -> str:
    return overseer.create("Kitchen").id


@pytest.fixture
def clock(overseer: Overseer) -> list[int]:
    """The time of the Overseer's shares, in UTC milliseconds."""
    times = [1_700_000_000_000]
    overseer.clock = lambda: times[0]
    return times


def test_share_is_found_by_its_address_alone(overseer: Overseer, room_id: str) -> None:
    snapshot = overseer.room(room_id).share(PAGE, seconds=None)
    live = overseer.room(room_id).share(None, seconds=60)
    assert [(one.number, one.live) for one in overseer.room(room_id).shares()] == [(2, True), (1, False)]
    assert ADDRESS.fullmatch(snapshot.address) and snapshot.address.startswith(room_id)
    assert len(snapshot.secret) == 32 and snapshot.secret != live.secret
    visits = [overseer.visit_share(share.address) for share in (snapshot, live)]
    assert [visit and (visit.share.number, visit.page) for visit in visits] == [(1, PAGE), (2, None)]
    other = overseer.create().id
    wrong = (
        *("", room_id, room_id + "A" * 32, snapshot.secret, snapshot.address + "x", snapshot.address[:-1]),
        *(other + snapshot.secret, snapshot.address.swapcase(), "../" + snapshot.address, room_id + "é" * 32),
    )
    for address in wrong:
        assert overseer.visit_share(address) is None and overseer.find_share(address) is None, address


def test_share_compares_its_secret_in_constant_time(
    overseer: Overseer, room_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each secret of the room, whichever of them matches."""
    made = [overseer.room(room_id).share(None, seconds=None) for _ in range(3)]
    compared: Counter[str] = Counter()

    def count(one: bytes, other: bytes) -> bool:
        compared[other.decode()] += 1
        return compare_digest(one, other)

    monkeypatch.setattr("overseer.storage.shares.hmac.compare_digest", count)
    for share in made:
        assert overseer.find_share(share.address) == share
    overseer.find_share(room_id + "A" * 32)
    assert set(compared.values()) == {3} and len(compared) == 4


def test_share_of_an_unknown_room_opens_no_file(overseer: Overseer, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = overseer.create().id
    overseer.shrink()
    counter = WorkCounter(monkeypatch)
    unknown = counter.count(lambda: overseer.visit_share("0" * 12 + "A" * 32))
    wrong = counter.count(lambda: overseer.visit_share(room_id + "A" * 32))
    assert (unknown.opened, wrong.opened) == ([], [f"room-{room_id}.sqlite"])


def test_share_expires(overseer: Overseer, room_id: str, clock: list[int], instance: Path) -> None:
    share = overseer.room(room_id).share(PAGE, seconds=60)
    assert share.expires_at == clock[0] + 60_000
    clock[0] += 59_999
    assert overseer.visit_share(share.address) and overseer.room(room_id).shares()
    clock[0] += 1
    assert overseer.visit_share(share.address) is None and overseer.room(room_id).shares() == ()
    overseer.room(room_id).share(PAGE, seconds=None)
    assert column(room_file(instance, room_id), "SELECT number FROM shares") == [2], "it is deleted with the next one"


def test_visit_is_noted_once_a_minute(overseer: Overseer, room_id: str, clock: list[int]) -> None:
    """Also after the clock was set back."""
    share = overseer.room(room_id).share(PAGE, seconds=None)

    def visited_at() -> int | None:
        overseer.visit_share(share.address)
        return overseer.room(room_id).shares()[0].visited_at

    first = clock[0]
    assert share.visited_at is None and visited_at() == first
    clock[0] += VISIT_INTERVAL_MS - 1
    assert visited_at() == first
    clock[0] += 1
    assert visited_at() == first + VISIT_INTERVAL_MS
    clock[0] = first
    assert visited_at() == first


def test_revoked_share_is_not_found_and_is_an_event(overseer: Overseer, room_id: str) -> None:
    room, events = overseer.room(room_id), list[RoomEvent]()
    one, other = room.share(PAGE, seconds=None), room.share(None, seconds=None)
    overseer.subscribe(events.append)
    room.revoke_share(one.number)
    assert overseer.find_share(one.address) is None and overseer.find_share(other.address) == other
    assert events == [ShareRevoked(room_id, one.number)]
    for number in (one.number, 99):
        with pytest.raises(NoSuchShare):
            room.revoke_share(number)
    assert room.share(PAGE, seconds=None).number == 3, "a number is not used again"


def test_clear_revokes_all_shares(overseer: Overseer, room_id: str, instance: Path) -> None:
    room, events = overseer.room(room_id), list[RoomEvent]()
    made = [room.share(page, seconds=None) for page in (PAGE, None)]
    overseer.subscribe(events.append)
    room.clear()
    assert not room.shares() and not any(overseer.find_share(share.address) for share in made)
    assert [event.number for event in events if isinstance(event, ShareRevoked)] == [1, 2]
    assert column(room_file(instance, room_id), "SELECT count(*) FROM shares") == [0]


def test_share_of_a_deleted_room_is_not_found(overseer: Overseer, room_id: str) -> None:
    share = overseer.room(room_id).share(PAGE, seconds=None)
    overseer.delete(room_id)
    assert overseer.visit_share(share.address) is None
    with pytest.raises(NoSuchRoom):
        overseer.room(room_id).share(PAGE, seconds=None)


def test_fork_has_no_shares(overseer: Overseer, room_id: str, instance: Path) -> None:
    share = overseer.room(room_id).share(PAGE, seconds=None)
    fork = overseer.fork(room_id)
    assert not overseer.room(fork.id).shares() and overseer.find_share(fork.id + share.secret) is None
    assert column(room_file(instance, fork.id), "SELECT count(*) FROM shares") == [0]
    assert overseer.find_share(share.address)


def test_shares_outlast_a_restart(opened: Open, tmp_path: Path) -> None:
    first = opened(tmp_path)
    room_id = first.create().id
    made = [first.room(room_id).share(page, seconds=seconds) for page, seconds in ((PAGE, None), (None, 3600))]
    first.visit_share(made[0].address)
    kept = first.room(room_id).shares()
    first.close()
    second = opened(tmp_path)
    assert second.room(room_id).shares() == kept and kept[1].visited_at
    visit = second.visit_share(made[0].address)
    assert visit is not None and visit.page == PAGE


def test_room_has_a_bounded_number_of_shares(overseer: Overseer, room_id: str, clock: list[int]) -> None:
    room = overseer.room(room_id)
    for _ in range(MAX_SHARES):
        room.share(None, seconds=60)
    with pytest.raises(TooManyShares, match="50"):
        room.share(None, seconds=60)
    clock[0] += 60_000
    assert room.share(None, seconds=60).number == MAX_SHARES + 1, "those that have expired do not count"


def test_share_with_a_foreign_value_breaks_only_its_room(overseer: Overseer, room_id: str, instance: Path) -> None:
    share = overseer.room(room_id).share(PAGE, seconds=None)
    overseer.shrink()
    with closing(sqlite3.connect(room_file(instance, room_id))) as db, db:
        db.execute("UPDATE shares SET created_at = 'never'")
    with pytest.raises(StorageError, match="cannot be read"):
        overseer.find_share(share.address)
    assert overseer.find_share(overseer.create().id + share.secret) is None


def test_file_is_shown_if_a_message_of_the_shown_path_has_it(overseer: Overseer, room_id: str, instance: Path) -> None:
    """Or an answer beside one. Files of other versions are not."""
    room = overseer.room(room_id)
    first = ask(overseer, room_id=room_id).number
    second = ended_answer(overseer, room_id, room.retry()).number
    beside = [ended_answer(overseer, room_id, one).number for one in room.ask("?", models=["one", "two"]).answers]
    overseer.close()
    with closing(sqlite3.connect(room_file(instance, room_id))) as db, db:
        db.row_factory = sqlite3.Row
        for number, letter in zip((first, second, *beside), "abcd", strict=True):
            file = File(letter * 64, "image/png", width=1, height=1)
            room_rows.insert_file(db, file, b"x")
            room_rows.upsert_parts(db, number, [Text("x"), file])
    overseer.open()
    shown = {letter: overseer.room(room_id).is_file_shown(letter * 64) for letter in "abcde"}
    assert shown == {"a": False, "b": True, "c": True, "d": True, "e": False}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("", None), (" ", None), ("1", 1), ("86400", 86400), (str(MAX_EXPIRY_SECONDS), MAX_EXPIRY_SECONDS)],
)
def test_expiry_is_a_number_of_seconds(given: str, seconds: int | None) -> None:
    assert parse_expiry(given) == seconds


@pytest.mark.parametrize(
    "given", ["0", "-1", "1.5", "1e3", "x", "2026-11-29", "٣", "9" * 5000, str(MAX_EXPIRY_SECONDS + 1)]
)
def test_expiry_that_is_invalid_is_rejected(given: str) -> None:
    with pytest.raises(Invalid, match="number of seconds"):
        parse_expiry(given)
    with pytest.raises(Invalid):
        parse_live(given if given != "0" else "yes")
