"""What an operator does with a cluster, from any machine that may use its bucket."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import requests

from overseer.cluster.bucket import Bucket, Conflict, Stored
from overseer.cluster.node import Lease, is_live, lease_key, read_owner
from overseer.cluster.replicas import Daemon, Replicas
from overseer.cluster.tenure import Owner, owner_key
from overseer.domain.errors import InstanceError, OverseerExists, StorageUnavailable
from overseer.multi.directory import PASSWORD_FILE
from overseer.storage.backup import finish_registry
from overseer.storage.instance_lock import REGISTRY_FILE, InstanceLock, require_instance, room_file, room_ids
from overseer.storage.registry import was_shut_down_cleanly
from overseer.storage.sessions import SESSIONS_FILE
from overseer.storage.snapshot import copy, inspect

ATTEMPTS = 5
QUIET_SECONDS = 3.0  # without a new copy, after which the node of a removed Overseer has ended copying
POLL_SECONDS = 0.2
DELETE_SECONDS = 60.0
NOTICE_SECONDS = 5.0  # for a node to take note that it does not own an Overseer any more

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an Overseer is: the address of its owner, which is empty if nobody has it open, and whether it is alive."""

    address: str
    epoch: int
    is_live: bool


def drain(bucket: Bucket, address: str) -> None:
    """Ask the node at an address to give all Overseers up and to take no more, until it is started again.

    Raises InstanceError if there is no such node, and StorageUnavailable.
    """
    for _ in range(ATTEMPTS):
        found = bucket.get(lease_key(address))
        lease = Lease.read(found.value) if found is not None else Lease()
        if not is_live(lease):
            raise InstanceError(f"There is no node at {address}. Give the address that is its OVERSEER_NODE.")
        with suppress(Conflict):  # it has renewed its lease meanwhile
            bucket.put(lease_key(address), asdict(replace(lease, draining=True)), found)
            return
    raise StorageUnavailable(f"The lease of {address} changes all the time. Try again.")


def where(bucket: Bucket, name: str) -> Place:
    """Return where an Overseer is. Raises NoSuchOverseer and StorageUnavailable."""
    owner, _ = read_owner(bucket, name)
    found = bucket.get(lease_key(owner.url)) if owner.session else None
    lease = Lease.read(found.value) if found is not None else Lease()
    return Place(owner.url, owner.epoch, is_live(lease) and lease.session == owner.session)


def remove(bucket: Bucket, name: str) -> None:
    """Delete an Overseer with all its files. Raises NoSuchOverseer and StorageUnavailable.

    The record is kept, so that no epoch is used a second time.
    """
    for _ in range(ATTEMPTS):
        owner, found = read_owner(bucket, name)
        with suppress(Conflict):
            gone = Owner(epoch=owner.epoch + 1, removed=True)
            bucket.put(owner_key(name), asdict(gone), found)
            break
    else:
        raise StorageUnavailable(f"{name} moves from node to node. Try again in a moment.")
    if owner.session:
        with suppress(requests.RequestException), requests.Session() as http:
            http.trust_env = False  # no proxy is meant for a node
            # Asked for it, the node looks at the record again, and closes it.
            uri = {"X-Original-URI": f"/o/{name}/"}
            http.get(f"http://{owner.url}/_owner", headers=uri, timeout=NOTICE_SECONDS)
    _delete_files(bucket, name, quiet_seconds=QUIET_SECONDS if owner.session else 0.0)


def _delete_files(bucket: Bucket, name: str, *, quiet_seconds: float) -> None:
    """Delete all objects of an Overseer but its record, until there are none for so long: its node may still copy."""
    deadline = time.monotonic() + DELETE_SECONDS
    quiet_until = time.monotonic() + quiet_seconds
    while time.monotonic() < deadline:
        if keys := [key for key in bucket.keys(f"o/{name}/") if key != owner_key(name)]:
            bucket.delete(keys)
            quiet_until = time.monotonic() + quiet_seconds
        elif time.monotonic() >= quiet_until:
            return
        else:
            time.sleep(POLL_SECONDS)
    raise StorageUnavailable(f"{name} is removed, but its node goes on copying its files. Stop that node.")


def upload(bucket: Bucket, daemon: Daemon, name: str, directory: Path, password: str, progress: Progress) -> int:
    """Bring the instance directory of a single machine into the cluster, as the Overseer `name`. Return its rooms.

    `password` is the hash of its password. The directory is not changed. Raises OverseerExists, InstanceError for a
    directory that is in use or was not shut down, StorageError and StorageUnavailable.
    """
    require_instance(directory)
    with _locked(directory):
        if not inspect(directory / REGISTRY_FILE, was_shut_down_cleanly):
            raise InstanceError(f"{directory} was not shut down in order. Start its server, stop it, and try again.")
        record, owner = _reserve(bucket, name)
        try:
            rooms = room_ids(directory)
            files = [*(room_file(directory, room_id) for room_id in sorted(rooms)), directory / REGISTRY_FILE]
            files += [directory / SESSIONS_FILE] if (directory / SESSIONS_FILE).exists() else []
            for number, file in enumerate(files, 1):
                _upload_file(bucket, daemon, f"o/{name}", owner.epoch, file.relative_to(directory), directory)
                progress(number, len(files))
            ready = replace(owner, session="", password=password, ready=True, removed=False)
            bucket.put(owner_key(name), asdict(ready), record)
        except BaseException as error:
            with suppress(StorageUnavailable):  # only what this upload has made: somebody may have made another one
                bucket.delete([key for key in bucket.keys(f"o/{name}/") if f"/e{owner.epoch}/" in key])
            if isinstance(error, Conflict):
                raise _exists(name) from None
            raise
    return len(rooms)


def download(bucket: Bucket, daemon: Daemon, name: str, directory: Path) -> int:
    """Copy an Overseer out of the cluster into a new directory, for a single machine. Return its rooms.

    Its summaries of rooms are read again when it is opened, since other files may be newer than the registry. Raises
    NoSuchOverseer, InstanceError and StorageUnavailable.
    """
    owner, _ = read_owner(bucket, name)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InstanceError(f"{directory} is not empty. Choose a new directory.")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replicas = Replicas(bucket, daemon, directory, f"o/{name}", epoch=owner.epoch, since=owner.since)
        files = [directory / REGISTRY_FILE, directory / SESSIONS_FILE]
        files += [directory / "facets" / file for file in bucket.folders(f"o/{name}/facets/")]
        replicas.restore(files)
        if not files[0].exists():
            raise InstanceError(f"{name} has no files in the bucket.")
        finish_registry(files[0])
        (directory / PASSWORD_FILE).touch(mode=0o600)
        (directory / PASSWORD_FILE).write_text(f"{owner.password}\n" if owner.password else "", encoding="utf-8")
        stack.pop_all()
    return len(room_ids(directory))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = InstanceLock(directory)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _reserve(bucket: Bucket, name: str) -> tuple[Stored, Owner]:
    """Reserve a name: there is no Overseer of this name until its files are in the bucket."""
    found = bucket.get(owner_key(name))
    before = Owner.read(found.value) if found is not None else Owner(removed=True)
    if not before.removed:
        raise _exists(name)
    epoch = before.epoch + 1
    owner = Owner(session=secrets.token_hex(8), epoch=epoch, removed=True, since=epoch)
    try:
        return bucket.put(owner_key(name), asdict(owner), found), owner
    except Conflict:
        raise _exists(name) from None


def _exists(name: str) -> OverseerExists:
    return OverseerExists(f"There is an Overseer {name} already. Choose another name.")


def _upload_file(bucket: Bucket, daemon: Daemon, prefix: str, epoch: int, path: Path, directory: Path) -> None:
    """Upload a copy of a file: Litestream writes in what it copies."""
    with tempfile.TemporaryDirectory(prefix="overseer-") as folder:
        copied = Path(folder) / path
        copied.parent.mkdir(exist_ok=True)
        copy(directory / path, copied)
        replicas = Replicas(bucket, daemon, Path(folder), prefix, epoch=epoch, since=epoch)
        try:
            replicas.copy(copied)
        finally:
            replicas.close(copied)
