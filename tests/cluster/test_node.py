"""Nodes and the Overseers that they own: with a real bucket and a real Litestream, each node in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from overseer.cluster.bucket import Bucket, Credentials
from overseer.cluster.node import Node, create_overseer, lease_key, read_owner
from overseer.cluster.placement import Cluster
from overseer.cluster.replicas import Daemon
from overseer.cluster.tenure import AWAY, EPOCH_FILE, MISSING, MOVING, owner_key
from overseer.domain.errors import Elsewhere, InstanceError, NoSuchOverseer, OverseerExists, StorageUnavailable
from overseer.domain.messages import Text
from overseer.rooms.overseer import Overseer
from overseer.storage.instance_lock import REGISTRY_FILE, room_file
from overseer.storage.sessions import SessionStorage
from tests.cluster.conftest import LEASE_SECONDS, NewNode
from tests.cluster.litestream import Litestream
from tests.support.answers import Open, ask
from tests.support.waiting import until

OpenTenure = Callable[[Node, str], Overseer]


@pytest.fixture
def open_tenure(opened: Open) -> OpenTenure:
    """Return a function that lets a node claim an Overseer, and opens it as the server would."""

    def open_it(node: Node, name: str) -> Overseer:
        tenure = node.require(name)
        overseer = opened(tenure.directory, replication=tenure)
        node.close_overseer = lambda closed: overseer.close() if closed == name else None
        return overseer

    return open_it


def said(overseer: Overseer, room_id: str) -> list[str]:
    """Return the texts of a room."""
    messages = overseer.room(room_id).messages().messages
    return ["".join(part.text for part in message.parts if isinstance(part, Text)) for message in messages]


def test_overseer_is_owned_by_the_first_node_that_is_asked_for_it(new_node: NewNode, bucket: Bucket, name: str) -> None:
    first, second = new_node().node, new_node().node
    with pytest.raises(NoSuchOverseer):
        first.require(name)
    assert first.whose(name) == first.address
    create_overseer(bucket, name, "hash")
    with pytest.raises(OverseerExists):
        create_overseer(bucket, name, "another")
    assert first.require(name).owner.epoch == 1
    with pytest.raises(Elsewhere) as elsewhere:
        second.require(name)
    assert elsewhere.value.address == second.whose(name) == first.whose(name) == first.address
    assert (first.require(name).directory / "password").read_text() == "hash\n"


def test_released_overseer_moves_with_everything_and_rooms_come_when_they_are_opened(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure
) -> None:
    first, second = new_node().node, new_node().node
    create_overseer(bucket, name, "")
    overseer = open_tenure(first, name)
    rooms = [overseer.create(f"Room {number}").id for number in range(3)]
    for room_id in rooms:
        ask(overseer, f"Question in {room_id}", room_id=room_id)
    sessions = SessionStorage(first.require(name).directory, "password", replication=first.require(name))
    token, session = sessions.create("127.0.0.1", "a browser")
    sessions.close()
    listed = overseer.rooms()
    first.release(name)
    with pytest.raises(StorageUnavailable, match=MOVING):
        first.tenure(name)

    tenure = second.require(name)
    assert tenure.owner.epoch == 2 and tenure.owner.ready
    moved = open_tenure(second, name)
    assert [(room.id, room.name, room.messages, room.preview) for room in moved.rooms().rooms] == [
        (room.id, room.name, room.messages, room.preview) for room in listed.rooms
    ]
    assert said(moved, rooms[1])[0] == f"Question in {rooms[1]}"
    assert SessionStorage(tenure.directory, "password", replication=tenure).find(token) == session
    second.release(name)


def test_overseer_of_a_node_that_is_gone_is_taken_over_with_what_was_acknowledged(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure
) -> None:
    """Rooms that were in use have their summaries of the last moment; others are not even brought."""
    first, second = new_node(), new_node().node
    create_overseer(bucket, name, "")
    overseer = open_tenure(first.node, name)
    idle, used = overseer.create("Idle").id, overseer.create("Used").id
    ask(overseer, "Before", room_id=idle)
    overseer.shrink()
    ask(overseer, "The last words", room_id=used)
    first.vanish()

    moved = open_tenure(second, name)
    directory = second.require(name).directory
    assert moved.record(used).messages == 2
    assert room_file(directory, used).exists()
    assert said(moved, used)[0] == "The last words"
    assert said(moved, idle)[0] == "Before"


def test_node_that_was_replaced_stores_and_shows_nothing_more(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure
) -> None:
    first, second = new_node(), new_node().node
    create_overseer(bucket, name, "")
    stale = open_tenure(first.node, name)
    room_id = stale.create("Room").id
    first.vanish()
    current = open_tenure(second, name)
    with pytest.raises(StorageUnavailable):
        stale.room(room_id).ask("Is this stored?")
    for use in (lambda: said(stale, room_id), stale.rooms, lambda: stale.create("More")):
        with pytest.raises(StorageUnavailable):
            use()
    assert said(current, room_id) == []
    until(lambda: not first.node.owns(name))
    assert read_owner(bucket, name)[0].url == second.address


def test_overseer_that_is_claimed_again_at_once_is_closed_first(
    new_node: NewNode, bucket: Bucket, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the thread comes to it that the end of a tenure starts."""
    node, closed = new_node().node, list[str]()
    create_overseer(bucket, name, "")
    node.close_overseer = closed.append
    tenure = node.require(name)
    monkeypatch.setattr(node, "_on_end", lambda tenure: None)
    tenure._on_end = lambda tenure: None
    tenure.end()
    assert node.require(name).owner.epoch == 2 and closed == [name]


def test_node_keeps_its_files_if_nobody_had_the_overseer_meanwhile(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure
) -> None:
    first, second = new_node().node, new_node().node
    create_overseer(bucket, name, "")
    directory = first.require(name).directory
    open_tenure(first, name)
    for node, is_kept in ((first, True), (second, False), (first, False)):
        first.release(name)
        second.release(name)
        (directory / "trace").touch()
        node.require(name)
        if node is first:
            assert (directory / "trace").exists() is is_kept
    assert (directory / EPOCH_FILE).read_text() == "4"


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_commit_that_litestream_cannot_copy_is_not_acknowledged_and_lands_once(
    new_node: NewNode,
    bucket: Bucket,
    name: str,
    open_tenure: OpenTenure,
    litestream: Litestream,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("overseer.cluster.replicas.SYNC_SECONDS", 1)
    monkeypatch.setattr("overseer.cluster.replicas.CONTROL_SECONDS", 0.5)
    monkeypatch.setattr("overseer.cluster.node.ELSEWHERE_SECONDS", 0.0)
    node = new_node().node
    create_overseer(bucket, name, "")
    overseer = open_tenure(node, name)
    room_id = overseer.create("Room").id
    try:
        litestream.program.kill() if fault == "killed" else litestream.program.freeze()
        with pytest.raises(StorageUnavailable):
            overseer.room(room_id).ask("Is this stored?", key="the key")
        with pytest.raises(StorageUnavailable):
            said(overseer, room_id)
        until(lambda: not node.owns(name))
        with pytest.raises((StorageUnavailable, Elsewhere)):  # other tests have nodes too
            node.require(name)
    finally:
        litestream.program.thaw()
        litestream.program.start()
    opened: list[Overseer] = []

    def opens() -> bool:
        """Open it. A Litestream that goes on may do late what it was asked before, and so the first try may fail."""
        with suppress(InstanceError, StorageUnavailable):
            opened.append(open_tenure(node, name))
        return bool(opened)

    until(opens)
    again = opened[0]
    again.room(room_id).ask("Is this stored?", key="the key")
    assert said(again, room_id)[::2] == ["Is this stored?"]


@pytest.mark.parametrize("increase", [0, 1])
def test_litestream_that_takes_no_notice_of_a_commit_is_noticed(
    new_node: NewNode,
    bucket: Bucket,
    name: str,
    open_tenure: OpenTenure,
    monkeypatch: pytest.MonkeyPatch,
    increase: int,
) -> None:
    """Also one that says that it has copied what the bucket does not have."""
    node = new_node().node
    create_overseer(bucket, name, "")
    overseer = open_tenure(node, name)
    replicas = node.require(name).replicas
    room_id = overseer.create("Room").id
    with monkeypatch.context() as patched:
        patched.setattr(replicas._daemon, "copy", lambda path, seconds: replicas._begun[path].transaction + increase)
        with pytest.raises(StorageUnavailable):
            overseer.room(room_id).ask("Is this stored?")
    until(lambda: not node.owns(name))


def test_one_of_two_nodes_wins_a_race_for_an_overseer(new_node: NewNode, bucket: Bucket, name: str) -> None:
    nodes = [new_node().node, new_node().node]
    create_overseer(bucket, name, "")

    def claim(node: Node) -> int | None:
        try:
            return node.require(name).owner.epoch
        except Elsewhere:
            return None

    with ThreadPoolExecutor(2) as pool:
        for epoch in range(1, 6):
            assert sorted(pool.map(claim, nodes), key=str) == [epoch, None]
            for node in nodes:
                node.release(name)


def test_one_of_several_who_make_an_overseer_at_once_wins(bucket: Bucket, name: str) -> None:
    def make(password: str) -> bool:
        try:
            create_overseer(bucket, name, password)
        except OverseerExists:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(make, "abc"))
    assert sum(made) == 1 and read_owner(bucket, name)[0].password == "abc"[made.index(True)]


def test_deleted_room_is_deleted_from_the_bucket(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure
) -> None:
    create_overseer(bucket, name, "")
    overseer = open_tenure(new_node().node, name)
    ask(overseer, "Words to be forgotten")
    (listed,) = overseer.rooms().rooms
    prefix = f"o/{name}/facets/room-{listed.id}.sqlite/"
    assert list(bucket.keys(prefix))
    overseer.delete(listed.id)
    assert not list(bucket.keys(prefix))
    fork_of = overseer.create("A").id
    fork = overseer.fork(fork_of)
    assert list(bucket.keys(f"o/{name}/facets/room-{fork.id}.sqlite/"))


def test_file_that_is_restored_too_late_is_not_used(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure
) -> None:
    """After the tenure is over, the directory may be that of another one."""
    first, second = new_node().node, new_node().node
    create_overseer(bucket, name, "")
    open_tenure(first, name)
    first.release(name)
    tenure = second.require(name)
    path = tenure.directory / REGISTRY_FILE
    until(path.exists)  # it is brought first
    path.unlink()
    tenure.replicas.is_over = True
    with pytest.raises(StorageUnavailable):
        tenure.replicas.restore([path])
    assert not path.exists() and not list(tenure.directory.glob(".*restored*"))


def test_copies_of_earlier_epochs_are_deleted_when_there_is_a_newer_one(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure
) -> None:
    node = new_node().node
    create_overseer(bucket, name, "")
    for _ in range(3):
        open_tenure(node, name)
        node.release(name)
    prefix = f"o/{name}/{REGISTRY_FILE}/"
    until(lambda: {key.removeprefix(prefix)[:2] for key in bucket.keys(prefix)} == {"e3"})


def test_room_that_is_opened_often_gets_a_new_copy_instead_of_ever_more_pieces(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overseer.cluster.replicas.REGISTERED_AT_MOST", 2)
    first, second = new_node(), new_node().node
    create_overseer(bucket, name, "")
    overseer = open_tenure(first.node, name)
    room_id = overseer.create("Room").id
    for number in range(5):
        ask(overseer, f"Question {number}", room_id=room_id)
        overseer.shrink()
    prefix = f"o/{name}/facets/room-{room_id}.sqlite/"
    until(lambda: {key.removeprefix(prefix).partition("/")[0] for key in bucket.keys(prefix)} == {"e1.2"})
    first.vanish()
    assert said(open_tenure(second, name), room_id)[::2] == [f"Question {number}" for number in range(5)]


def test_copies_are_not_deleted_for_a_whole_copy_that_is_not_made_yet(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting older copies waits in a queue. A file may be about to begin the next copy when its turn comes."""
    monkeypatch.setattr("overseer.cluster.replicas.REGISTERED_AT_MOST", 1)
    node = new_node().node
    create_overseer(bucket, name, "")
    tenure, later = node.require(name), list[Callable[[], object]]()
    tenure._do_later = later.append
    overseer = open_tenure(node, name)
    overseer.create("Room")
    path = tenure.directory / REGISTRY_FILE
    tenure.replicas.close(path)
    monkeypatch.setattr(tenure.replicas._daemon, "register", lambda path, url: None)
    tenure.replicas.note(path)  # the next copy begins, and nothing of it is in the bucket
    for work in later:
        work()
    assert list(bucket.keys(f"o/{name}/{REGISTRY_FILE}/e1/"))


def test_overseer_whose_files_are_missing_in_the_bucket_is_not_shown_as_an_empty_one(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure
) -> None:
    first, second = new_node().node, new_node().node
    create_overseer(bucket, name, "")
    open_tenure(first, name).create("Room")
    first.release(name)
    bucket.delete_below(f"o/{name}/{REGISTRY_FILE}/")
    with pytest.raises(Exception, match=MISSING):
        open_tenure(second, name)


def test_new_password_ends_in_the_file_that_the_server_watches(new_node: NewNode, bucket: Bucket, name: str) -> None:
    node = new_node().node
    create_overseer(bucket, name, "old")
    tenure = node.require(name)
    found = bucket.get(owner_key(name))
    assert found is not None
    bucket.put(owner_key(name), {**found.value, "password": "new"}, found)
    tenure.verify()
    assert (tenure.directory / "password").read_text() == "new\n"
    node.release(name)
    assert read_owner(bucket, name)[0].password == "new"
    assert not node.owns(name)


def test_draining_node_gives_all_to_the_others_and_names_them(
    new_node: NewNode, bucket: Bucket, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overseer.cluster.node.ELSEWHERE_SECONDS", 0.0)
    first, second = new_node().node, new_node().node
    create_overseer(bucket, name, "")
    first.require(name)
    found = bucket.get(lease_key(first.address))
    assert found is not None
    bucket.put(lease_key(first.address), {**found.value, "draining": True}, found)
    until(lambda: not first.owns(name))
    others = {address for address in first._live_nodes() if not first._live_nodes()[address].draining}
    assert first.address not in others and first.whose(name) in others
    to = read_owner(bucket, name)[0].to
    assert to in others and (to != second.address or second.require(name).owner.epoch == 2)


def test_files_that_are_out_of_date_are_deleted(new_node: NewNode, bucket: Bucket, name: str) -> None:
    """Rooms that were deleted on another node must not stay here."""
    first, second = new_node().node, new_node().node
    create_overseer(bucket, name, "")
    directory = first.require(name).directory
    first.release(name)
    first._delete_old_files()
    assert directory.exists()
    second.require(name)
    first._delete_old_files()
    second._delete_old_files()
    assert not directory.exists() and second.require(name).directory.exists()


def test_lease_that_has_lapsed_ends_the_process(new_node: NewNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node, codes = new_node().node, list[int]()
    monkeypatch.setattr("os._exit", codes.append)
    monkeypatch.setattr("logging.shutdown", lambda: None)
    node.check_lease()
    assert not codes
    node._until = 1.0
    node.check_lease()
    assert codes == [3]


def test_files_of_a_tenure_are_brought_again_if_somebody_deletes_them(
    new_node: NewNode, bucket: Bucket, name: str, open_tenure: OpenTenure
) -> None:
    node = new_node().node
    create_overseer(bucket, name, "")
    overseer = open_tenure(node, name)
    room_id = overseer.create("Room").id
    ask(overseer, "Kept?", room_id=room_id)
    overseer.shrink()
    shutil.rmtree(node.require(name).directory / "facets")
    assert said(overseer, room_id)[0] == "Kept?"


@pytest.mark.parametrize("ask", [lambda cluster, name: cluster.claim(name), lambda cluster, name: cluster.whose(name)])
def test_errors_that_people_see_name_no_address_of_the_store(
    tmp_path: Path, daemon: Daemon, name: str, ask: Callable[[Cluster, str], object]
) -> None:
    """Also those who are not logged in may see them."""
    away = Bucket("http://127.0.0.1:1/secret-bucket", Credentials("key", "secret", "region"), seconds=1)
    cluster = Cluster(tmp_path, "127.0.0.1:2", away, daemon, lease_seconds=LEASE_SECONDS)
    with pytest.raises(StorageUnavailable) as error:
        ask(cluster, name)
    assert str(error.value) == AWAY
    with pytest.raises(StorageUnavailable, match=AWAY):
        cluster.directory.require(name)
    with pytest.raises(StorageUnavailable, match=AWAY):
        cluster.directory.add(name, "hash")
