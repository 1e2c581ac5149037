"""Copies of SQLite files in the bucket, made and restored by Litestream (https://litestream.io, 0.5)."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from overseer.cluster.bucket import Bucket
from overseer.domain.errors import StorageUnavailable
from overseer.storage.database import PRIVATE_MODE, FileIdentity, beside, file_identity, remove

PROGRAM = "litestream"
SYNC_SECONDS = 4  # for a commit to be copied
WHOLE_SECONDS = 120  # for a whole file to be copied
CONTROL_SECONDS = 1.0  # for everything else that is asked of the daemon
RESTORE_SECONDS = 120.0
RESTORED_AT_ONCE = 8
REGISTERED_AT_MOST = 50  # times, before a file gets a new whole copy
COPIES = re.compile(r"e(\d+)(?:\.(\d+))?", re.ASCII)


class CopyFailed(StorageUnavailable):
    """Litestream does not answer, or did not copy or restore a file."""


class Copies(NamedTuple):
    """A folder with a whole copy of a file, and what was committed after it."""

    epoch: int
    number: int

    @property
    def folder(self) -> str:
        """The name of the folder."""
        return f"e{self.epoch}.{self.number}" if self.number else f"e{self.epoch}"


class Copied(NamedTuple):
    """The last transaction that was copied, and the WAL file after it."""

    transaction: int
    wal: FileIdentity | None


class Daemon:
    """The Litestream daemon of this machine, through its control socket. Methods raise CopyFailed."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path

    def is_running(self) -> bool:
        """Return whether the daemon answers."""
        try:
            self._ask("GET", "/info", {})
        except CopyFailed:
            return False
        return True

    def register(self, path: Path, url: str) -> None:
        """Copy a file from now on. Return before the first copy is made."""
        self._ask("POST", "/register", {"path": str(path), "replica_url": url})

    def unregister(self, path: Path) -> None:
        """Copy what is left and end. Does nothing for a file that is not registered."""
        self._ask("POST", "/unregister", {"path": str(path), "timeout": SYNC_SECONDS}, seconds=SYNC_SECONDS + 1)

    def unregister_below(self, folder: Path) -> None:
        """Unregister all files in a folder: an earlier process may have left them."""
        databases = self._ask("GET", "/list", {}).get("databases") or []
        paths = [Path(str(database.get("path"))) for database in databases]
        for path in paths:
            if path.is_relative_to(folder):
                with suppress(CopyFailed):
                    self.unregister(path)

    def copy(self, path: Path, *, seconds: int) -> int:
        """Copy all that is committed in a file, and return the number of the last transaction that was copied."""
        answer = self._ask("POST", "/sync", {"path": str(path), "wait": True, "timeout": seconds}, seconds=seconds + 1)
        if not isinstance(copied := answer.get("replicated_txid"), int) or copied != answer.get("txid"):
            raise CopyFailed(f"Litestream has not copied {path.name}. Try again in a moment.")
        return copied

    def _ask(self, method: str, what: str, body: dict[str, Any], *, seconds: float = CONTROL_SECONDS) -> dict[str, Any]:
        try:
            with closing(_UnixConnection(self._socket_path, seconds)) as connection:
                connection.request(method, what, json.dumps(body), {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CopyFailed("Litestream does not answer on this machine. Try again in a moment.") from error
        if response.status != 200 or not isinstance(answer, dict):
            reason = answer.get("error") if isinstance(answer, dict) else answer
            raise CopyFailed(f"Litestream could not do its work ({reason}). Try again in a moment.")
        return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("litestream", timeout=seconds)
        self._path = path
        self._seconds = seconds

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self._seconds)
        self.sock.connect(self._path)


class Replicas:
    """The copies of one Overseer's files, each below `o/<name>/<file>/e<epoch>/` in the bucket.

    An epoch has one writer, and its copy of a file is whole. Files are copied below the current epoch, and restored
    from the newest one, which is not before epoch `since`. Litestream compacts only what is registered: a file that is
    opened and closed often begins a whole copy anew, below `e<epoch>.1/` and so on. Methods raise CopyFailed and
    BucketUnavailable.
    """

    def __init__(self, bucket: Bucket, daemon: Daemon, directory: Path, prefix: str, *, epoch: int, since: int) -> None:
        self._bucket = bucket
        self._daemon = daemon
        self._directory = directory
        self._prefix = prefix
        self._epoch = epoch
        self._since = since
        self._begun: dict[Path, Copied] = {}  # the files that have a whole copy of this epoch
        self._registered: set[Path] = set()
        self._times: dict[Path, int] = {}  # that a file was registered in this epoch
        self._restoring: dict[Path, threading.Lock] = {}
        self.is_over = False  # then nothing is restored any more, also not what was begun

    def is_begun(self, path: Path) -> bool:
        """Return whether there is a whole copy of this epoch."""
        return path in self._begun

    def restore(self, paths: Iterable[Path]) -> None:
        """Restore those files that are not here from their newest copies. Those without a copy are left out."""
        missing = [path for path in paths if not path.exists()]
        if len(missing) == 1:
            self._restore(missing[0])
        elif missing:
            with ThreadPoolExecutor(RESTORED_AT_ONCE) as pool:
                list(pool.map(self._restore, missing))

    def note(self, path: Path) -> None:
        """Copy a file within about a second."""
        if path not in self._registered:
            self._register(path)

    def copy(self, path: Path) -> Copies | None:
        """Return when all that was committed in a file is in the bucket; the copies, if this was a whole one.

        That Litestream takes notice of a WAL file that has changed is checked, and that the bucket has the transaction.
        """
        self.note(path)
        written = file_identity(beside(path, "-wal"))
        known = self._begun.get(path, Copied(0, None))
        copied = self._daemon.copy(path, seconds=SYNC_SECONDS if known.transaction else WHOLE_SECONDS)
        if copied == known.transaction and written == known.wal:
            return None  # a commit that changed nothing writes nothing
        if copied <= known.transaction or not self._bucket.has(self._transaction(path, copied)):
            raise CopyFailed(f"Litestream takes no notice of what is stored in {path.name}. Try again in a moment.")
        # Litestream itself may have written.
        self._begun[path] = Copied(copied, file_identity(beside(path, "-wal")))
        return None if known.transaction else self._current(path)

    def close(self, path: Path) -> None:
        """Copy what is left of a file, and end."""
        if path in self._registered:
            self._registered.discard(path)
            self._daemon.unregister(path)

    def close_all(self) -> None:
        """End all copying."""
        for path in list(self._registered):
            self.close(path)

    def delete(self, path: Path) -> None:
        """Delete all copies of a file."""
        with self._restoring.setdefault(path, threading.Lock()):
            with suppress(CopyFailed):  # the file is not there any more
                self.close(path)
            self._begun.pop(path, None)
            shutil.rmtree(_working_directory(path), ignore_errors=True)
            self._bucket.delete_below(f"{self._key(path)}/")
            remove(path)  # it may have been restored meanwhile

    def delete_older(self, path: Path, than: Copies) -> None:
        """Delete the copies of a file that are older than a whole one."""
        for copies in self._all_copies(path):
            if copies < than:
                self._bucket.delete_below(f"{self._key(path)}/{copies.folder}/")

    def _current(self, path: Path) -> Copies:
        return Copies(self._epoch, max(0, self._times.get(path, 0) - 1) // REGISTERED_AT_MOST)

    def _register(self, path: Path) -> None:
        before = self._current(path)
        self._times[path] = self._times.get(path, 0) + 1
        is_new = path not in self._begun or self._current(path) != before
        if is_new:
            self._begun.pop(path, None)
            with suppress(CopyFailed):  # what an earlier tenure may have left, perhaps without its files
                self._daemon.unregister(path)
            shutil.rmtree(_working_directory(path), ignore_errors=True)
        self._daemon.register(path, self._url(f"{self._key(path)}/{self._current(path).folder}"))
        self._registered.add(path)

    def _restore(self, path: Path) -> None:
        with self._restoring.setdefault(path, threading.Lock()):
            self._restore_once(path)

    def _restore_once(self, path: Path) -> None:
        if path.exists():
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for copies in reversed(self._all_copies(path)):
            # A store may list a folder whose copies were deleted.
            if copies.epoch >= self._since and self._restore_copies(path, copies):
                return

    def _restore_copies(self, path: Path, copies: Copies) -> bool:
        """Restore a file from these copies. Return whether there are any."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise CopyFailed("The program litestream is not on the PATH of the server. Install it.")
        url = self._url(f"{self._key(path)}/{copies.folder}")
        restored = path.with_name(f".{path.name}-restored-{self._epoch}")
        restored.unlink(missing_ok=True)
        command = [program, "restore", "-if-replica-exists", "-o", str(restored), url]
        # AWS_CA_BUNDLE keeps Litestream 0.5.17 from connecting at all.
        environment = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        try:
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, timeout=RESTORE_SECONDS, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CopyFailed(f"{path.name} could not be brought here. Try again in a moment.") from error
        if done.returncode:
            reason = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
            raise CopyFailed(f"{path.name} could not be brought here ({reason}). Try again in a moment.")
        if not restored.exists():
            return False
        if self.is_over:  # another tenure may have begun here, for which this copy is too old
            restored.unlink()
            raise CopyFailed(f"{path.name} is not needed here any more.")
        restored.chmod(PRIVATE_MODE)
        restored.rename(path)
        return True

    def _all_copies(self, path: Path) -> list[Copies]:
        """Return which copies of a file there are, the newest last."""
        found = map(COPIES.fullmatch, self._bucket.folders(f"{self._key(path)}/"))
        return sorted(Copies(int(match[1]), int(match[2] or 0)) for match in found if match)

    def _transaction(self, path: Path, number: int) -> str:
        """Return the key of a transaction, as Litestream 0.5 names it until it is compacted minutes later."""
        return f"{self._key(path)}/{self._current(path).folder}/0000/{number:016x}-{number:016x}.ltx"

    def _key(self, path: Path) -> str:
        return f"{self._prefix}/{path.relative_to(self._directory).as_posix()}"

    def _url(self, key: str) -> str:
        bucket = self._bucket
        return f"s3://{bucket.name}/{key}?endpoint={bucket.endpoint}&region={bucket.region}&force-path-style=true"


def _working_directory(path: Path) -> Path:
    """Return where Litestream keeps what it knows of a file."""
    return path.with_name(f".{path.name}-litestream")
