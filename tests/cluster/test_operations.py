"""What an operator does with a cluster: move a single machine in and out, remove, drain, and ask where something is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from overseer.cli import main
from overseer.cluster import operations
from overseer.cluster.bucket import Bucket
from overseer.cluster.node import create_overseer, read_owner
from overseer.cluster.replicas import Daemon
from overseer.cluster.tenure import owner_key
from overseer.domain.errors import InstanceError, NoSuchOverseer, OverseerExists, StorageUnavailable
from overseer.storage.check import check
from overseer.storage.instance_lock import REGISTRY_FILE
from overseer.storage.sessions import SessionStorage
from tests.cluster.conftest import NewNode, Store
from tests.cluster.litestream import Litestream
from tests.cluster.test_node import OpenTenure, open_tenure, said  # noqa: F401 - a fixture
from tests.support.answers import Open, ask


def nothing(done: int, total: int) -> None:
    """Report no progress."""


@pytest.fixture
def single(tmp_path: Path, opened: Open) -> Path:
    """The instance directory of a single machine that was shut down."""
    overseer = opened(tmp_path / "single")
    for number in range(3):
        ask(overseer, f"Question {number}", room_id=overseer.create(f"Room {number}").id)
    overseer.close()
    return tmp_path / "single"


def test_single_machine_moves_in_and_out(
    single: Path,
    tmp_path: Path,
    bucket: Bucket,
    daemon: Daemon,
    name: str,
    new_node: NewNode,
    open_tenure: OpenTenure,  # noqa: F811
    opened: Open,
) -> None:
    sessions = SessionStorage(single, "scrypt:the hash")
    token, session = sessions.create("127.0.0.1", "a browser")
    sessions.close()
    before = {path.name: path.read_bytes() for path in single.rglob("*.sqlite")}
    assert operations.upload(bucket, daemon, name, single, "scrypt:the hash", nothing) == 3
    assert {path.name: path.read_bytes() for path in single.rglob("*.sqlite")} == before

    node = new_node().node
    overseer = open_tenure(node, name)
    tenure = node.require(name)
    found = SessionStorage(tenure.directory, "scrypt:the hash", replication=tenure).find(token)
    assert found is not None and found.id == session.id
    rooms = overseer.rooms().rooms
    assert sorted(said(overseer, room.id)[0] for room in rooms) == [f"Question {number}" for number in range(3)]
    ask(overseer, "Asked in the cluster", room_id=rooms[0].id)
    node.release(name)

    assert operations.download(bucket, daemon, name, tmp_path / "out") == 3
    assert (tmp_path / "out" / "password").read_text() == "scrypt:the hash\n"
    assert not [finding for finding in check(tmp_path / "out", progress=nothing).findings if finding.fault]
    back = opened(tmp_path / "out")
    assert said(back, rooms[0].id)[2] == "Asked in the cluster"
    assert back.record(rooms[0].id).messages == 4


def test_upload_is_refused_with_a_sentence_and_leaves_nothing(
    single: Path, bucket: Bucket, daemon: Daemon, name: str, opened: Open, tmp_path: Path
) -> None:
    create_overseer(bucket, f"{name}-taken", "")
    with pytest.raises(OverseerExists, match="already"):
        operations.upload(bucket, daemon, f"{name}-taken", single, "", nothing)
    with pytest.raises(InstanceError, match="no rooms"):
        operations.upload(bucket, daemon, name, tmp_path / "nowhere", "", nothing)
    running = opened(single)
    with pytest.raises(InstanceError, match="in use"):
        operations.upload(bucket, daemon, name, single, "", nothing)
    running.close()
    (room, *_) = sorted((single / "facets").glob("room-*.sqlite"))
    room.write_bytes(b"not a database" * 100)
    with pytest.raises(Exception, match=room.name):
        operations.upload(bucket, daemon, name, single, "", nothing)
    assert list(bucket.keys(f"o/{name}/")) == [owner_key(name)]
    with pytest.raises(NoSuchOverseer):
        read_owner(bucket, name)
    create_overseer(bucket, name, "")  # the name can be used


def test_upload_whose_name_is_taken_meanwhile_leaves_the_other_overseer_alone(
    single: Path, bucket: Bucket, daemon: Daemon, name: str
) -> None:
    other = f"o/{name}/{REGISTRY_FILE}/e7/file"

    def take_it(done: int, total: int) -> None:
        if done == 1:
            create_overseer(bucket, name, "of somebody else")
            bucket.put(other, {}, None)

    with pytest.raises(OverseerExists, match="already"):
        operations.upload(bucket, daemon, name, single, "", take_it)
    assert sorted(bucket.keys(f"o/{name}/")) == sorted([other, owner_key(name)])
    assert read_owner(bucket, name)[0].password == "of somebody else"


def test_download_needs_a_new_directory(bucket: Bucket, daemon: Daemon, name: str, tmp_path: Path) -> None:
    create_overseer(bucket, name, "")
    (tmp_path / "file").touch()
    with pytest.raises(InstanceError, match="not empty"):
        operations.download(bucket, daemon, name, tmp_path)
    with pytest.raises(InstanceError, match="no files"):
        operations.download(bucket, daemon, name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_removed_overseer_leaves_nothing_and_one_of_the_same_name_has_none_of_its_rooms(
    bucket: Bucket,
    name: str,
    new_node: NewNode,
    open_tenure: OpenTenure,  # noqa: F811
) -> None:
    node = new_node().node
    create_overseer(bucket, name, "")
    ask(open_tenure(node, name), "Words to be forgotten")
    leftover = next(key for key in bucket.keys(f"o/{name}/{REGISTRY_FILE}/"))
    node.release(name)
    operations.remove(bucket, name)
    assert list(bucket.keys(f"o/{name}/")) == [owner_key(name)]
    with pytest.raises(NoSuchOverseer):
        node.require(name)
    bucket.put(leftover, {}, None)  # as a node would that has not noticed yet
    create_overseer(bucket, name, "")
    assert open_tenure(node, name).rooms().rooms == ()
    assert node.require(name).owner.epoch == 3


def test_removal_waits_until_the_node_has_ended_copying(
    bucket: Bucket, name: str, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a node copies after the first deletion is deleted too; one that never ends is an error."""
    monkeypatch.setattr(operations, "QUIET_SECONDS", 0.5)
    monkeypatch.setattr(operations, "NOTICE_SECONDS", 0.2)
    node = new_node().node
    create_overseer(bucket, name, "")
    node.require(name)
    late, delete = [f"o/{name}/{number}" for number in range(3)], bucket.delete

    def delete_and_copy_again(keys: list[str]) -> None:
        delete(keys)
        if late:
            bucket.put(late.pop(), {}, None)

    bucket.put(f"o/{name}/first", {}, None)
    monkeypatch.setattr(bucket, "delete", delete_and_copy_again)
    operations.remove(bucket, name)
    assert list(bucket.keys(f"o/{name}/")) == [owner_key(name)] and not late
    late += [f"o/{name}/{number}" for number in range(1000)]
    monkeypatch.setattr(operations, "DELETE_SECONDS", 0.5)
    bucket.put(f"o/{name}/first", {}, None)
    with pytest.raises(StorageUnavailable, match="goes on copying"):
        operations._delete_files(bucket, name, quiet_seconds=0.5)


def test_commands_say_what_they_did(
    single: Path,
    store: Store,
    bucket: Bucket,
    daemon: Daemon,
    litestream: Litestream,
    name: str,
    new_node: NewNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*arguments: str, typed: str = "") -> tuple[int, str]:
        result = CliRunner().invoke(main, arguments, input=typed)
        return result.exit_code, result.output

    monkeypatch.delenv("OVERSEER_BUCKET", raising=False)
    assert run("check-bucket") == (1, "Error: Set OVERSEER_BUCKET to the URL of the bucket of the cluster.\n")
    monkeypatch.setenv("OVERSEER_BUCKET", store.url)
    monkeypatch.setenv("OVERSEER_LITESTREAM", str(litestream.socket))
    assert run("check-bucket") == (0, "The bucket can be used.\n")
    assert run("where", name) == (
        1,
        "Error: There is no Overseer of this name. Check the address that you were given.\n",
    )
    code, output = run("add", name, typed="secret\nsecret\n")
    assert code == 0 and output.endswith(f"Made {name}. Its address ends with /o/{name}/.\n")
    assert run("add", name, "--no-password")[1].startswith("Error: There is an Overseer of this name already.")
    assert run("add", "No", "--no-password")[1].startswith("Error: A name has 1 to 63 letters")
    assert run("where", name) == (0, f"Nobody has {name} open (epoch 0).\n")
    node = new_node().node
    node.require(name)
    assert run("where", name) == (0, f"{node.address} (epoch 1)\n")
    assert run("drain", node.address) == (0, f"{node.address} gives its Overseers up within seconds.\n")
    assert run("drain", "127.0.0.1:1")[1].startswith("Error: There is no node at 127.0.0.1:1.")
    assert run("remove", name, "--yes") == (0, f"Deleted {name} and all its rooms.\n")
    shutil.copy(tmp_path / "single" / REGISTRY_FILE, tmp_path / "copy")
    code, output = run("upload", f"{name}-2", str(single), "--no-password")
    assert (code, output) == (0, f"{name}-2 is in the cluster, with 3 rooms. {single} was not changed.\n")
    out = tmp_path / "out"
    assert run("download", f"{name}-2", str(out)) == (0, f"Copied {name}-2, 3 rooms, into {out}.\n")
