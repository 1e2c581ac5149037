"""A node of a cluster: its lease, and the Overseers that it owns.

The owner record of an Overseer is only ever replaced by compare-and-swap, so each epoch has one owner. That a node is
alive, which its lease says, decides when others may become the owner, but nothing depends on its being right.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

from overseer.cluster.bucket import Bucket, BucketUnavailable, Conflict, Stored
from overseer.cluster.replicas import Daemon, Replicas
from overseer.cluster.tenure import EPOCH_FILE, MOVING, Owner, Tenure, owner_key
from overseer.domain.errors import Elsewhere, InstanceError, NoSuchOverseer, OverseerExists, StorageUnavailable

log = logging.getLogger(__name__)

FENCED = 3  # the exit code of a node whose lease has lapsed
CONNECT_SECONDS = 0.5
KEPT_SECONDS = 3600.0  # between two looks for files that are out of date
MAX_KNOWN = 10_000  # owners that are not asked for again at once
KNOWN_SECONDS = 1.0  # for which the leases, and the records of one's own Overseers, are not read again
ELSEWHERE_SECONDS = 0.3  # for which the owner of another Overseer is not asked for again; a proxy remembers it too
# Of the kernel: it goes on while the machine is suspended.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
NO_SUCH_OVERSEER = "There is no Overseer of this name. Check the address that you were given."
OVERSEER_EXISTS = "There is an Overseer of this name already. Choose another name."
NO_NODE = "No machine can open this Overseer at the moment. Try again in a moment."


def clock() -> float:
    """Return seconds since an arbitrary moment."""
    return time.clock_gettime(CLOCK)


@dataclass(frozen=True, slots=True)
class Lease:
    """What a node says of itself: that it is alive until a time (UTC seconds), and whether it takes no Overseers."""

    session: str = ""
    until: float = 0.0
    draining: bool = False

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Return the lease from JSON."""
        return cls(str(value["session"]), float(value["until"]), bool(value.get("draining")))


def lease_key(address: str) -> str:
    """Return the key of the lease of a node."""
    return f"nodes/{address}"


def read_owner(bucket: Bucket, name: str) -> tuple[Owner, Stored]:
    """Return the owner record of an Overseer. Raises NoSuchOverseer and StorageUnavailable."""
    found = bucket.get(owner_key(name))
    if found is None or found.value.get("removed"):
        raise NoSuchOverseer(NO_SUCH_OVERSEER)
    return Owner.read(found.value), found


def create_overseer(bucket: Bucket, name: str, password: str) -> None:
    """Make an Overseer; the node that is asked for it first makes its files. Raises OverseerExists."""
    found = bucket.get(owner_key(name))
    before = Owner.read(found.value) if found is not None else Owner(removed=True)
    try:
        if not before.removed:
            raise Conflict(name)
        bucket.put(owner_key(name), asdict(Owner(epoch=before.epoch, password=password, since=before.epoch + 1)), found)
    except Conflict:
        raise OverseerExists(OVERSEER_EXISTS) from None


def is_live(lease: Lease) -> bool:
    """Return whether a lease has not lapsed."""
    return lease.until > time.time()


class Lock:
    """The lock of one name, for as long as somebody uses it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


class Node:
    """This process as a node at `address`, with its files below `folder`.

    `close_overseer` closes an Overseer that this node has open; it must not raise.
    """

    def __init__(self, address: str, folder: Path, *, bucket: Bucket, daemon: Daemon, lease_seconds: float) -> None:
        self.address = address
        self.session = secrets.token_hex(8)
        self.close_overseer: Callable[[str], None] = lambda name: None
        self._folder = folder
        self._bucket = bucket
        self._daemon = daemon
        self._lease_seconds = lease_seconds
        self._lease: Stored | None = None
        self._until = 0.0  # by `clock`: the lease lapses
        self._tenures: dict[str, Tenure] = {}
        self._records: dict[str, Stored] = {}  # the owner records of the tenures, as they were written
        self._verified_at: dict[str, float] = {}
        self._locks: WeakValueDictionary[str, Lock] = WeakValueDictionary()
        self._elsewhere: dict[str, tuple[str, float]] = {}  # addresses of other owners, and until when they are known
        self._leases: tuple[dict[str, Lease], float] = ({}, 0.0)
        self._is_draining = False
        self._stopping = threading.Event()
        self._chores: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    # Start and stop

    def start(self, *, probe: bool = True) -> None:
        """Take the lease of this address, and keep it. Raises InstanceError if the bucket cannot be used.

        Without `probe`, the bucket is known to keep conditions.
        """
        try:
            if probe:
                self._bucket.require_conditions()
            self._lease = self._bucket.get(lease_key(self.address))
            self._renew()
        except (StorageUnavailable, Conflict) as error:
            raise InstanceError(str(error) or f"Another process uses the address {self.address}.") from error
        with suppress(StorageUnavailable):  # without the daemon, this node takes no Overseers
            self._daemon.unregister_below(self._folder)
        for work in (self._keep_lease, self._keep_files, self._do_chores):
            threading.Thread(target=work, name="node", daemon=True).start()

    def drain(self) -> None:
        """Give all Overseers up, and take none any more."""
        self._is_draining = True
        self.release_all()

    def close(self) -> None:
        """Give all Overseers up, and the lease."""
        self.drain()
        self._stopping.set()
        self._chores.put(None)
        with suppress(StorageUnavailable, Conflict):
            self._lease = self._bucket.put(lease_key(self.address), asdict(Lease(self.session)), self._lease)

    def check_lease(self) -> None:
        """End the process if the lease has lapsed: another node may own its Overseers."""
        if self._until and clock() > self._until:
            self._fence("its lease has lapsed: it was stopped, or the bucket was out of reach")

    # Ownership

    def require(self, name: str) -> Tenure:
        """Return the tenure of this node over an Overseer, and become the owner if nobody is.

        Raises Elsewhere, NoSuchOverseer, or StorageUnavailable.
        """
        tenure = self._tenures.get(name)
        if tenure is not None and not tenure.is_over:
            return tenure
        address, until = self._elsewhere.get(name, ("", 0.0))
        if clock() < until:
            raise Elsewhere(address)
        try:
            with self._locked(name):
                tenure = self._tenures.get(name)
                if tenure is not None and not tenure.is_over:
                    return tenure
                if tenure is not None:
                    self._close(tenure)
                return self._claim(name)
        except Elsewhere as elsewhere:
            if len(self._elsewhere) >= MAX_KNOWN:
                self._elsewhere.clear()
            self._elsewhere[name] = elsewhere.address, clock() + ELSEWHERE_SECONDS
            raise

    def whose(self, name: str) -> str:
        """Return the address of the node to ask for an Overseer: this one if there is none of this name.

        Raises StorageUnavailable.
        """
        try:
            tenure = self.require(name)
        except Elsewhere as elsewhere:
            return elsewhere.address
        except NoSuchOverseer:
            return self.address
        if clock() - self._verified_at.get(name, 0.0) > KNOWN_SECONDS:
            self._verified_at[name] = clock()
            with suppress(BucketUnavailable):  # while the lease lasts, what is stored may be shown
                tenure.verify()
        return self.address

    def tenure(self, name: str) -> Tenure:
        """Return the tenure of this node over an Overseer that it owns. Raises StorageUnavailable."""
        tenure = self._tenures.get(name)
        if tenure is None or tenure.is_over:
            raise StorageUnavailable(MOVING)
        return tenure

    def owns(self, name: str) -> bool:
        """Return whether this node owns the Overseer."""
        tenure = self._tenures.get(name)
        return tenure is not None and not tenure.is_over

    def release(self, name: str, to: str = "") -> None:
        """Close an Overseer and stop being its owner, in favour of the node at address `to` or of any."""
        with self._locked(name):
            tenure = self._tenures.get(name)
            if tenure is None or tenure.is_over:
                return
            self.close_overseer(name)
            tenure.close()
            self._give_up(tenure, to)

    def release_all(self) -> None:
        """Release all Overseers, each in favour of the node that will be asked for it."""
        threads = [
            threading.Thread(target=self._release_to_other, args=(name,), daemon=True) for name in list(self._tenures)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _release_to_other(self, name: str) -> None:
        to = ""
        with suppress(StorageUnavailable):
            to = self._choose_other(name) or ""
        try:
            self.release(name, to)
        except Exception:
            log.exception("%s could not be released", name)

    # In call order

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        lock = self._locks.setdefault(name, Lock())
        with lock.lock:
            yield

    def _claim(self, name: str) -> Tenure:
        owner, found = read_owner(self._bucket, name)
        if owner.session not in ("", self.session) and self._is_alive(owner):
            raise Elsewhere(owner.url)
        if not owner.session and owner.to not in ("", self.address) and self._takes_overseers(owner.to):
            raise Elsewhere(owner.to)
        if self._is_draining or not self._daemon.is_running():
            if (other := self._choose_other(name)) is not None:
                raise Elsewhere(other)
            raise StorageUnavailable(NO_NODE)
        return self._take(name, owner, found)

    def _take(self, name: str, owner: Owner, found: Stored) -> Tenure:
        """Become the owner. Raises Elsewhere if another node was faster."""
        taken = replace(owner, url=self.address, session=self.session, epoch=owner.epoch + 1, to="")
        try:
            record = self._bucket.put(owner_key(name), asdict(taken), found)
        except Conflict:
            winner, _ = read_owner(self._bucket, name)
            raise Elsewhere(winner.url or self.address) from None
        directory = self._folder / name
        tenure = Tenure(
            name,
            directory,
            taken,
            bucket=self._bucket,
            replicas=Replicas(self._bucket, self._daemon, directory, f"o/{name}", epoch=taken.epoch, since=taken.since),
            on_end=self._on_end,
            make_ready=lambda tenure: self._write(name, replace(tenure.owner, ready=True)),
            do_later=self._chores.put,
        )
        tenure.begin()
        threading.Thread(target=tenure.fetch_first, daemon=True).start()  # while the request is on its way
        self._tenures[name], self._records[name], self._verified_at[name] = tenure, record, clock()
        log.info("%s is owned, in epoch %d", name, taken.epoch)
        return tenure

    def _write(self, name: str, owner: Owner) -> None:
        """Replace the owner record, whose session and epoch stay ours. Raises StorageUnavailable if it is not ours."""
        for _ in range(3):
            try:
                self._records[name] = self._bucket.put(owner_key(name), asdict(owner), self._records[name])
            except Conflict:
                current, found = read_owner(self._bucket, name)
                mine = self._tenures[name].owner
                if (current.session, current.epoch) != (mine.session, mine.epoch):
                    self._tenures[name].end()
                    raise StorageUnavailable(MOVING) from None
                self._records[name], owner = found, replace(owner, password=current.password)
            else:
                if owner.session:
                    self._tenures[name].owner = owner
                return
        raise StorageUnavailable(MOVING)

    def _give_up(self, tenure: Tenure, to: str) -> None:
        try:
            self._write(tenure.name, tenure.owner.freed(to))
            log.info("%s is released%s", tenure.name, f" to {to}" if to else "")
        except (StorageUnavailable, NoSuchOverseer) as error:
            log.warning("%s could not be released: %s", tenure.name, error)
        finally:
            self._forget(tenure)

    def _forget(self, tenure: Tenure) -> None:
        if self._tenures.get(tenure.name) is tenure:
            del self._tenures[tenure.name], self._records[tenure.name]
            self._verified_at.pop(tenure.name, None)

    def _on_end(self, tenure: Tenure) -> None:
        threading.Thread(target=self._drop, args=(tenure,), daemon=True).start()

    def _drop(self, tenure: Tenure) -> None:
        with self._locked(tenure.name):
            if self._tenures.get(tenure.name) is tenure:
                self._close(tenure)

    def _close(self, tenure: Tenure) -> None:
        """Close an Overseer whose tenure is over. If it is still ours, any node may take it, also this one."""
        self.close_overseer(tenure.name)
        self._give_up(tenure, "")
        self._chores.put(tenure.replicas.close_all)  # which may take long

    # Other nodes

    def _is_alive(self, owner: Owner) -> bool:
        """Return whether the owner of an Overseer may still serve it."""
        found = self._bucket.get(lease_key(owner.url))
        lease = Lease.read(found.value) if found is not None else Lease()
        if lease.session != owner.session or not is_live(lease) or owner.url == self.address:
            return False
        host, _, port = owner.url.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        except ConnectionRefusedError:
            return False  # its machine answers, and the process is gone
        except OSError:
            pass  # perhaps only this node cannot reach it: its lease decides
        return True

    def _takes_overseers(self, address: str) -> bool:
        lease = self._live_nodes().get(address, Lease())
        return is_live(lease) and not lease.draining

    def _live_nodes(self) -> dict[str, Lease]:
        leases, until = self._leases
        if clock() >= until:
            prefix = lease_key("")
            found = ((key.removeprefix(prefix), self._bucket.get(key)) for key in self._bucket.keys(prefix))
            leases = {address: Lease.read(stored.value) for address, stored in found if stored is not None}
            self._leases = leases, clock() + KNOWN_SECONDS
        return {address: lease for address, lease in leases.items() if is_live(lease)}

    def _choose_other(self, name: str) -> str | None:
        """Return which other node shall have an Overseer: the same for every node that asks. None if there is none."""
        others = (address for address in self._live_nodes() if address != self.address)
        takers = [address for address in others if self._takes_overseers(address)]
        return max(takers, key=lambda address: hashlib.sha256(f"{name} {address}".encode()).digest(), default=None)

    # The lease

    def _renew(self) -> None:
        began = clock()
        lease = Lease(self.session, time.time() + self._lease_seconds, self._is_draining)
        self._lease = self._bucket.put(lease_key(self.address), asdict(lease), self._lease)
        self._until = began + self._lease_seconds

    def _keep_lease(self) -> None:
        seconds = self._lease_seconds / 3
        while not self._stopping.wait(seconds):
            seconds = self._lease_seconds / 3
            self.check_lease()
            try:
                self._renew()
            except Conflict:
                self._read_lease()
            except StorageUnavailable as error:
                log.warning("the lease could not be renewed: %s", error)
                seconds = self._lease_seconds / 20
            self.check_lease()

    def _read_lease(self) -> None:
        """Read the lease that somebody else has written: an operator may have asked this node to drain."""
        try:
            self._lease = found = self._bucket.get(lease_key(self.address))
        except StorageUnavailable:
            return  # the next renewal reads it
        lease = Lease.read(found.value) if found is not None else Lease(self.session)
        if lease.session != self.session:
            self._fence("another process has this address")
        if lease.draining and not self._is_draining:
            log.info("draining: all Overseers are given up")
            threading.Thread(target=self.release_all, daemon=True).start()
        self._is_draining = lease.draining
        with suppress(StorageUnavailable, Conflict):
            self._renew()

    def _fence(self, reason: str) -> None:
        log.error("this node ends at once: %s", reason)
        logging.shutdown()
        os._exit(FENCED)

    def _keep_files(self) -> None:
        """Delete the files here of Overseers that other nodes have had since, or that were removed, every hour.

        Those of Overseers that nobody has had since are kept: they need not be brought again.
        """
        while not self._stopping.is_set():
            self._chores.put(self._delete_old_files)
            self._stopping.wait(KEPT_SECONDS)

    def _delete_old_files(self) -> None:
        for directory in list(self._folder.iterdir()) if self._folder.is_dir() else []:
            stamp = directory / EPOCH_FILE
            if not stamp.exists():
                continue
            try:
                epoch = read_owner(self._bucket, directory.name)[0].epoch
            except NoSuchOverseer:
                epoch = -1
            with self._locked(directory.name):
                if not self.owns(directory.name) and stamp.read_text() != str(epoch):
                    shutil.rmtree(directory, ignore_errors=True)

    def _do_chores(self) -> None:
        while (chore := self._chores.get()) is not None:
            try:
                chore()
            except StorageUnavailable as error:
                log.warning("what was left to do could not be done: %s", error)
            except Exception:
                log.exception("a chore failed")
