"""Imports: files are read by a process of their own, and what it makes of them becomes rooms.

An import is a directory with the files until it has ended, and a row and a report in the registry. One runs at a time.
After a crash it goes on with the last conversations that were reported: what was imported is found again by where it is
from, and nothing is added twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from overseer.domain.errors import AnswerInProgress, NoSuchRoom, StorageError, StorageUnavailable
from overseer.domain.records import ROOM_ID, Import, Imported, ImportState, Outcome, Summary
from overseer.storage.import_log import ImportLog

log = logging.getLogger(__name__)

IMPORTS = "imports"  # the directory of the files
JOB_FILE = "job.json"
ROOT = Path(__file__).parents[2]  # of the package
WORKER = "overseer.importing.worker"
BATCH = 16  # conversations; the worker is at most 32 ahead
SHOW_SECONDS = 0.3  # after which fewer are taken
ID_ATTEMPTS = 8
HERE = "It is already here."
NOTHING = "Nothing was imported."
INTERRUPTED = "The files of this import are not here any more. Import them again."
BROKE_OFF = "The import broke off: {reason}. Import the files again; what is here already is not added twice."
CANCELLED = "You cancelled this import. What was imported before is here."


class NewFile(NamedTuple):
    """The file of a whole room, to be moved into place."""

    room_id: str
    path: Path
    summary: Summary


@dataclass(slots=True)
class Taking:
    """How far the running import is, and what of it is not reported yet."""

    import_id: str
    made: Path
    count: int = 0
    read: int = 0
    size: int = 0
    lines: list[Imported] = field(default_factory=list)
    new: dict[str, NewFile] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)


class Rooms(Protocol):
    """What an import needs of the Overseer."""

    def source_of(self, room_id: str) -> str | None:
        """Return where a room was imported from, empty if it was not; None if there is no such room."""

    def created_at(self, time: int) -> list[str]:
        """Return the ids of the rooms that were created at a time (UTC milliseconds)."""

    def holds(self, room_id: str, path: Path) -> bool:
        """Return whether a room has all messages of a file that was exported from it."""

    def add_files(self, files: Sequence[NewFile]) -> None:
        """Move the files of new rooms into place, and list them."""

    def merge(self, room_id: str, path: Path) -> int:
        """Add to a room what is not in it yet. Return how many messages that were."""

    def arrange(self, room_ids: Iterable[str]) -> None:
        """Order rooms by their last activity."""


class Imports:
    """The imports of one Overseer."""

    def __init__(self, directory: Path, rooms: Rooms) -> None:
        self._directory = directory / IMPORTS
        self._rooms = rooms
        self._log: ImportLog | None = None
        self._changed = threading.Condition()
        self._waiting: list[str] = []
        self._running: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled: set[str] = set()
        self._thread: threading.Thread | None = None
        self._stopping = False

    # Commands

    def open(self, report: ImportLog) -> None:
        """Begin with the imports that had not ended."""
        self._log, self._stopping = report, False
        for one in reversed(report.all()):
            if not one.ended:
                if self._job(one.id) is None:
                    report.set_state(one.id, "failed", INTERRUPTED)
                    self._forget(one.id)
                else:
                    self._waiting.append(one.id)
        for left in [path.name for path in self._directory.glob("*") if path.name not in self._waiting]:
            self._forget(left)  # of an upload that a crash cut off
        self._start_thread()

    def close(self) -> None:
        """Stop the running import, which begins anew with the next `open`."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify_all()
        self._kill()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._log = None

    def is_idle(self) -> bool:
        """Return whether no import waits or runs."""
        return self._running is None and not self._waiting

    def new_directory(self) -> Path:
        """Create and return a directory for the files of an import, which `start` begins."""
        path = self._directory / secrets.token_hex(6)
        path.mkdir(parents=True, mode=0o700)
        return path

    def start(self, directory: Path, files: Sequence[tuple[Path, str]]) -> str:
        """Import files that are in a directory of `new_directory`, with their names. Return the id of the import."""
        import_id = directory.name
        given = [(path.name, name) for path, name in files]
        (directory / JOB_FILE).write_text(json.dumps(given), encoding="utf-8")
        size = sum(path.stat().st_size for path, _ in files)
        self._require_log().add(import_id, [name for _, name in given], size=size)
        with self._changed:
            self._waiting.append(import_id)
            self._changed.notify_all()
        self._start_thread()
        return import_id

    def cancel(self, import_id: str) -> None:
        """End an import. What it has imported stays. Raises NoSuchImport."""
        if self._require_log().find(import_id).ended:
            return
        with self._changed:
            self._cancelled.add(import_id)
            if import_id in self._waiting:
                self._waiting.remove(import_id)
                self._end(import_id, "cancelled", CANCELLED)
        if self._running == import_id:
            self._kill()
        self.wait(import_id, 10)

    def wait(self, import_id: str, seconds: float | None = None) -> bool:
        """Wait until an import has ended, and return whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping or not self._is_pending(import_id), seconds)

    # Queries

    def find(self, import_id: str) -> Import:
        """Return an import. Raises NoSuchImport."""
        return self._require_log().find(import_id)

    def all(self) -> list[Import]:
        """Return the imports, the newest first."""
        return self._require_log().all()

    def lines(self, import_id: str, *, after: int = 0, limit: int = -1) -> list[Imported]:
        """Return the lines of the report after line `after`, at most `limit`; -1 means all."""
        return self._require_log().lines(import_id, after=after, limit=limit)

    # In call order

    def _require_log(self) -> ImportLog:
        if self._log is None:
            raise StorageUnavailable("The server is shutting down. Try again in a moment.")
        return self._log

    def _job(self, import_id: str) -> list[tuple[str, str]] | None:
        """Return the paths of an import's files and their names, or None if they are not there."""
        directory = self._directory / import_id
        try:
            given = json.loads((directory / JOB_FILE).read_text(encoding="utf-8"))
            files = [(str(directory / file), str(name)) for file, name in given]
        except (OSError, ValueError, TypeError):
            return None
        return files if all(Path(path).is_file() for path, _ in files) else None

    def _is_pending(self, import_id: str) -> bool:
        return import_id == self._running or import_id in self._waiting

    def _start_thread(self) -> None:
        with self._changed:
            if self._thread is None and self._waiting and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="imports", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._running = self._waiting.pop(0) if self._waiting and not self._stopping else None
                self._changed.notify_all()
                if self._running is None:
                    if not self._stopping:
                        self._thread = None
                    return
                import_id = self._running
            try:
                self._import(import_id)
            except Exception as error:
                if not self._stopping:
                    log.exception("the import %s failed", import_id)
                    reason = str(error).rstrip(".") or type(error).__name__
                    self._end(import_id, "failed", BROKE_OFF.format(reason=reason))

    def _import(self, import_id: str) -> None:
        """Run the worker, and take what it makes."""
        report, files, directory = self._require_log(), self._job(import_id), self._directory / import_id
        if files is None:
            return self._end(import_id, "failed", INTERRUPTED)
        report.set_state(import_id, "running")
        made = directory / "rooms"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        # The rooms of the last lines may be missing, since they are reported first.
        done = max(0, report.last_line(import_id) - BATCH)
        job = {"files": files, "directory": str(made), "skip": done}
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=made,
            env=_environment(),
        )
        self._process = process
        if import_id in self._cancelled or self._stopping:
            self._kill()
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        taking = Taking(import_id, made, count=done)
        try:
            _write(process.stdin, json.dumps(job).encode() + b"\n")
            batch: list[Mapping[str, Any]] = []
            taken_at = time.monotonic()
            for line in process.stdout:
                with suppress(ValueError):  # the worker was killed while it wrote this line
                    batch.append(json.loads(line))
                if len(batch) >= BATCH or time.monotonic() - taken_at > SHOW_SECONDS:
                    self._take(taking, batch)
                    _write(process.stdin, b"\n" * len(batch))
                    batch, taken_at = [], time.monotonic()
            self._take(taking, batch)
            said = process.stderr.read().decode(errors="replace")
            code = process.wait()
        finally:
            self._process = None
            if process.poll() is None:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                with suppress(BrokenPipeError):
                    stream.close()
        if self._stopping and import_id not in self._cancelled:
            return
        self._rooms.arrange(report.rooms(import_id))
        if import_id in self._cancelled:
            self._end(import_id, "cancelled", CANCELLED)
        elif code:
            log.error("the import worker ended with %s: %s", code, said[-2000:])
            reason = f"the process that reads the files ended with {code}"
            self._end(import_id, "failed", BROKE_OFF.format(reason=reason))
        else:
            self._end(import_id, "done", "")

    def _take(self, taking: Taking, batch: Sequence[Mapping[str, Any]]) -> None:
        """Make rooms of what the worker has read, and report it."""
        if self._stopping or taking.import_id in self._cancelled:
            return
        for line in batch:
            time.sleep(0)  # with greenlets, this lets others go first
            if line.get("source") in taking.sources:  # it is in the export twice: the first one becomes a room first
                self._flush(taking)
            taking.count += 1
            taking.read, taking.size = line["read"], line["size"]
            outcome: Outcome = "failed"
            room_id, messages, reason = "", 0, line.get("reason", "")
            if line["outcome"] == "ready":
                outcome, room_id, messages, reason = self._ready(line, taking)
            taking.lines.append(
                Imported(taking.count, outcome, line.get("name", ""), messages, room_id, line.get("place", ""), reason)
            )
        self._flush(taking)

    def _flush(self, taking: Taking) -> None:
        """Report what was read, then list the new rooms.

        After a crash in between, they are made when the import begins anew, and what was reported stays.
        """
        if not taking.lines:
            return
        self._require_log().report(taking.import_id, taking.lines, read=taking.read, size=taking.size)
        self._rooms.add_files(list(taking.new.values()))
        taking.lines, taking.new, taking.sources = [], {}, set()
        with self._changed:
            self._changed.notify_all()

    def _ready(self, line: Mapping[str, Any], taking: Taking) -> tuple[Outcome, str, int, str]:
        """Decide what becomes of the file of a room: a new room, more messages of one, or nothing."""
        path, source = taking.made / line["file"], line["source"]
        notes = " ".join(line.get("notes", ()))
        own = self._own_ids(line)
        for room_id in chain(own, room_ids(source)):
            if room_id in taking.new:
                continue
            known = self._rooms.source_of(room_id)
            if known is None:
                taking.new[room_id] = NewFile(room_id, path, Summary(**line["summary"]))
                taking.sources.add(source)
                return "imported", room_id, line["messages"], notes
            if room_id in own and self._rooms.holds(room_id, path):
                path.unlink()
                return "skipped", room_id, 0, HERE
            if known == source:
                return self._merge(room_id, path, notes)
        path.unlink()
        return "failed", "", 0, "No id is free for it."

    def _own_ids(self, line: Mapping[str, Any]) -> list[str]:
        """Return the ids of the room that an export of Overseer may be of: its own, and of rooms that are as old."""
        own, created_at = line.get("room_id", ""), line.get("created_at")
        ids = [own] if ROOM_ID.fullmatch(own) else []
        return ids if created_at is None else list(dict.fromkeys([*ids, *self._rooms.created_at(created_at)]))

    def _merge(self, room_id: str, path: Path, notes: str) -> tuple[Outcome, str, int, str]:
        try:
            added = self._rooms.merge(room_id, path)
        except (AnswerInProgress, StorageError, NoSuchRoom) as error:
            return "failed", room_id, 0, str(error)
        finally:
            path.unlink()
        return ("imported", room_id, added, notes) if added else ("skipped", room_id, 0, HERE)

    def _end(self, import_id: str, state: ImportState, reason: str) -> None:
        """Store how an import ended, and delete its files."""
        with suppress(StorageError):
            self._require_log().set_state(import_id, state, reason)
        self._forget(import_id)
        with self._changed:
            self._cancelled.discard(import_id)
            if self._running == import_id:
                self._running = None
            self._changed.notify_all()

    def _forget(self, import_id: str) -> None:
        shutil.rmtree(self._directory / import_id, ignore_errors=True)
        with suppress(OSError):
            self._directory.rmdir()

    def _kill(self) -> None:
        if (process := self._process) is not None:
            process.kill()


def room_ids(source: str) -> Iterator[str]:
    """Yield the ids that a room from `source` may have, the first choice first.

    They are made of the source, so that a second import finds the room.
    """
    for attempt in range(ID_ATTEMPTS):
        yield hashlib.sha256(f"import\0{source}\0{attempt}".encode()).hexdigest()[:12]


def _write(stream: IO[bytes], data: bytes) -> None:
    """Write to the worker, unless it has ended."""
    with suppress(BrokenPipeError):
        stream.write(data)
        stream.flush()


def _environment() -> dict[str, str]:
    """Return the environment of the worker, without secrets. It imports this same package."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
