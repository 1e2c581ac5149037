"""The process that reads exports, `python -m overseer.importing.worker`.

It has its own memory and its own interpreter lock, so that what it reads neither delays the server nor takes it down.
Its first line of input is a job as JSON; see `Job`. For each conversation it writes a line of JSON: the file of a room
that is ready to be taken, or why there is none. Each further line of input says that one such line was dealt with; it
is at most WINDOW lines ahead. Nothing that it writes is a path or a name of the export, other than as text.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

from overseer.domain.errors import StorageError
from overseer.domain.records import Summary
from overseer.importing.conversations import Unreadable
from overseer.importing.exports import Export, Found, OwnRoom
from overseer.importing.tree import new_room
from overseer.storage.database import flush
from overseer.storage.own_formats import UnreadableExport, write_room_from_json, write_room_from_sqlite
from overseer.storage.room_writer import RoomWriter, set_source

OWN_SOURCE = "overseer:"  # before the id of a room
WINDOW = 32
FLUSHES = 12  # files at once
STACK_BYTES = 256 * 2**20  # of address space: nested JSON is parsed by recursion
RECURSION_LIMIT = 60_000
MEMORY_BYTES = 700 * 2**20
NICENESS = 10
PR_SET_PDEATHSIG = 1


class Job(TypedDict):
    """What to read: the paths of the files and their names, and the directory for the files of the rooms.

    The first `skip` conversations were dealt with before.
    """

    files: list[tuple[str, str]]
    directory: str
    skip: int


class Line(TypedDict, total=False):
    """A line of output.

    `outcome` is "ready" or "failed". `file` is the name of the room's file in the directory of the job, `source` where
    the room is from, and `room_id` and `created_at` those of a room of Overseer. `messages` are those of the export.
    `read` of `size` bytes of all files are read.
    """

    outcome: str
    name: str
    place: str
    reason: str
    file: str
    source: str
    room_id: str
    created_at: int
    messages: int
    summary: dict[str, object]
    notes: list[str]
    read: int
    size: int


class Flushed:
    """Passes lines on, in their order, when the files of their rooms are on the disk.

    Several files are flushed at once, since each takes the disk about as long as all together.
    """

    def __init__(self, directory: Path, flushes: Executor, write: Callable[[Line], None]) -> None:
        self._directory, self._flushes, self._write = directory, flushes, write
        self._waiting: deque[tuple[Line, Future[None] | None]] = deque()

    def write(self, line: Line) -> None:
        """Pass a line on as soon as its file is on the disk."""
        file = line.get("file")
        done = None if file is None else self._flushes.submit(flush, self._directory / file)
        self._waiting.append((line, done))
        while self._waiting and (len(self._waiting) > FLUSHES or self._is_first_done()):
            self._pass_on()

    def finish(self) -> None:
        """Pass all lines on."""
        while self._waiting:
            self._pass_on()

    def _is_first_done(self) -> bool:
        done = self._waiting[0][1]
        return done is None or done.done()

    def _pass_on(self) -> None:
        line, done = self._waiting.popleft()
        if done is not None:
            done.result()
        self._write(line)


class Worker:
    """Reads the files of one job, and passes a line for each conversation to `write`."""

    def __init__(self, job: Job, write: Callable[[Line], None]) -> None:
        self._job, self._write = job, write
        self._directory = Path(job["directory"])
        self._writer = RoomWriter(self._directory / "empty.sqlite")
        self._count = 0

    def run(self) -> None:
        """Read all files."""
        paths = [(Path(path), name) for path, name in self._job["files"]]
        sizes = [path.stat().st_size for path, _ in paths]
        for index, (path, name) in enumerate(paths):
            export = Export(path, name, scratch=self._directory / "unpacked")
            for found in export.conversations():
                self._count += 1
                if self._count <= self._job["skip"]:
                    continue
                line = self._line(found)
                sizes[index] = export.size
                self._write(
                    {"place": found.place, **line, "read": sum(sizes[:index]) + export.position, "size": sum(sizes)}
                )
            sizes[index] = export.size

    def _line(self, found: Found) -> Line:
        name = " ".join(found.name.split())[:200]
        try:
            return self._room(found)
        except Unreadable as error:
            place = ", ".join(filter(None, (found.place, error.place if error is not found.content else "")))
            return Line(outcome="failed", name=name, reason=str(error), place=place)
        except MemoryError:
            return Line(outcome="failed", name=name, reason="It needs more memory than an import may use.")
        except Exception as error:  # one conversation does not keep the others from being read
            return Line(outcome="failed", name=name, reason=f"It could not be read ({type(error).__name__}).")

    def _room(self, found: Found) -> Line:
        """Write the file of the room."""
        path, content = self._directory / f"{self._count}.sqlite", found.content
        if isinstance(content, Unreadable):
            raise content
        if isinstance(content, OwnRoom):
            return self._own_room(content, path)
        room, count, notes = new_room(content)
        summary = self._writer.write(path, room)
        return Line(
            outcome="ready",
            name=room.name,
            file=path.name,
            source=room.source,
            room_id=room.source.removeprefix(OWN_SOURCE) if room.source.startswith(OWN_SOURCE) else "",
            messages=count,
            summary=_plain(summary),
            notes=notes,
        )

    def _own_room(self, content: OwnRoom, path: Path) -> Line:
        """Write the file of a room that Overseer exported."""
        try:
            if content.path is not None:
                made = write_room_from_sqlite(content.path, path, source="")
            else:
                made = write_room_from_json(content.item or {}, path, source="")
        except (UnreadableExport, StorageError) as error:
            raise Unreadable(str(error)) from None
        # A SQLite file does not know its room's id. No two rooms are created in the same millisecond.
        source = f"{OWN_SOURCE}{made.room_id or made.created_at}"
        summary = set_source(path, source)
        return Line(
            outcome="ready",
            name=made.name,
            file=path.name,
            source=source,
            room_id=made.room_id,
            created_at=made.created_at,
            messages=made.messages,
            summary=_plain(summary),
        )


def _plain(summary: Summary) -> dict[str, object]:
    return {name: getattr(summary, name) for name in Summary.__slots__}  # `asdict` takes 80 µs


def main() -> None:
    """Run the job of the first line of input."""
    _restrict()
    job: Job = json.loads(sys.stdin.readline())
    ahead = threading.Semaphore(WINDOW)

    def count_answers() -> None:
        for _ in sys.stdin:
            ahead.release()
        os._exit(0)  # the server is gone, or wants no more

    def write(line: Line) -> None:
        ahead.acquire()
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def run() -> None:
        with ThreadPoolExecutor(FLUSHES) as flushes:
            flushed = Flushed(Path(job["directory"]), flushes, write)
            Worker(job, flushed.write).run()
            flushed.finish()

    threading.Thread(target=count_answers, daemon=True).start()
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=run)
    thread.start()
    threading.stack_size(0)
    thread.join()


def _restrict() -> None:
    """End with the parent, leave the processor to others, and bound the memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    sys.setrecursionlimit(RECURSION_LIMIT)


if __name__ == "__main__":
    main()
