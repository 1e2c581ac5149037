"""Check that the files of an instance directory or a backup are intact and agree with each other."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from overseer.domain.errors import StorageError
from overseer.domain.records import Room
from overseer.storage import message_tree, registry, room_rows, room_store, schema
from overseer.storage.database import version_of
from overseer.storage.instance_lock import REGISTRY_FILE, owner, require_instance, room_file, room_ids
from overseer.storage.room_rows import unfinished_numbers
from overseer.storage.snapshot import faults, inspect

COMPANION = re.compile(r"(room-[0-9a-f]{12}\.sqlite)-(wal|shm)", re.ASCII)
RECHECKS = 4  # of a finding that a running server may be about to correct
RECHECK_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence that says what was found and what to do.

    What a crash left and the next start corrects is no `fault`. A missing or damaged registry is one, although the next
    start rebuilds it.
    """

    sentence: str
    fault: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """The findings in a number of rooms. `server` is the process that uses the directory, if any."""

    rooms: int
    findings: tuple[Finding, ...]
    server: str | None


@dataclass(frozen=True, slots=True)
class RegistryContent:
    """The rooms in the registry, and whether the last run was shut down cleanly, so that all summaries are current."""

    rooms: dict[str, Room]
    clean: bool


@dataclass(frozen=True, slots=True)
class RoomContent:
    """What a room's file says. `preview` and `flags` are None if the file has an older schema.

    The flags are whether the room is pinned, archived and temporary.
    """

    name: str
    messages: int
    preview: str | None
    flags: tuple[bool, bool, bool] | None
    unfinished: int


def check(directory: Path, *, progress: Callable[[int, int], None]) -> Report:
    """Check every file and compare the registry with the rooms. Changes nothing; a server may be running.

    Raises InstanceError if the directory is not an instance.
    """
    require_instance(directory)
    checker = Check(directory, server=owner(directory))
    listed, findings = checker.read_registry()
    rooms = sorted(room_ids(directory) | listed.rooms.keys())
    for number, room_id in enumerate(rooms, 1):
        findings += checker.room(room_id, listed)
        progress(number, len(rooms))
    findings += checker.leftovers()
    return Report(len(rooms), tuple(findings), checker.server)


class Check:
    """One check of a directory."""

    def __init__(self, directory: Path, *, server: str | None) -> None:
        self.server = server
        self._directory = directory

    def read_registry(self) -> tuple[RegistryContent, list[Finding]]:
        """Return the content of the registry and the faults of its file."""
        again = "The next start rebuilds it from the rooms."
        try:
            listed, errors = inspect(self._directory / REGISTRY_FILE, _read_registry)
        except FileNotFoundError:
            return RegistryContent({}, clean=False), [Finding(f"{REGISTRY_FILE} is missing. {again}")]
        except StorageError as error:
            return RegistryContent({}, clean=False), [Finding(_sentence(error, REGISTRY_FILE))]
        return listed, [Finding(f"{REGISTRY_FILE} is damaged: {error}. {again}") for error in errors]

    def room(self, room_id: str, listed: RegistryContent) -> list[Finding]:
        """Return the findings about a room.

        The registry and the room's file are read one after the other, so a room that a running server is changing
        may seem wrong. Only findings that every recheck repeats are returned.
        """
        findings = list(self._room(room_id, listed.rooms.get(room_id), listed.clean))
        for _ in range(RECHECKS if self.server else 0):
            if not findings:
                break
            time.sleep(RECHECK_SECONDS)
            now, errors = self.read_registry()
            if errors:
                break
            if room_id not in now.rooms and not room_file(self._directory, room_id).exists():
                return []
            found = list(self._room(room_id, now.rooms.get(room_id), now.clean))
            findings = [finding for finding in findings if finding in found]
        return findings

    def leftovers(self) -> list[Finding]:
        """Return findings about WAL and shared-memory files without a database."""
        return [
            Finding(f"{path.name} belongs to no file. Move it out of the directory.")
            for path in sorted((self._directory / "facets").glob("room-*"))
            if (match := COMPANION.fullmatch(path.name)) and not path.with_name(match[1]).exists() and path.exists()
        ]

    # In call order

    def _room(self, room_id: str, row: Room | None, clean: bool) -> Iterator[Finding]:
        path = room_file(self._directory, room_id)
        name = path.name
        label = f"{name} (“{row.name}”)" if row else name
        try:
            content, errors = inspect(path, _read_room)
        except FileNotFoundError:
            yield Finding(f"{label} is missing. Put back a copy from a backup, or delete the room on its page.")
            return
        except StorageError as error:
            yield Finding(_sentence(error, label))
            return
        for message in errors:
            yield Finding(f"{label} is damaged: {message}. Put back a copy from a backup.")
        if errors and row is not None:
            return
        if content is None:
            yield Finding(
                f"{label} holds no room: creating it was interrupted. The next start removes it.", fault=False
            )
        elif row is None:
            yield Finding(f"{name} (“{content.name}”) is not in the list. The next start adds it.", fault=False)
        else:
            yield from self._compare(label, row, content, clean)

    def _compare(self, label: str, row: Room, content: RoomContent, clean: bool) -> Iterator[Finding]:
        streaming = content.unfinished and self.server  # then the registry does not have the newest text
        same = row.name == content.name and row.messages == content.messages
        if not streaming and content.preview is not None:
            flags = (row.pinned, row.archived, row.temporary)
            same = same and (row.preview, flags) == (content.preview, content.flags)
        if not same and not clean and not self.server:
            yield Finding(f"{label} is newer than its row in the list. The next start updates the list.", fault=False)
        elif not same:
            yield Finding(
                f"{label} has {content.messages} messages and the list says {row.messages}, or another name or preview."
                f" Stop the server, move {REGISTRY_FILE} away, and start: the list is rebuilt."
            )
        if content.unfinished and not self.server:
            answers = "an answer" if content.unfinished == 1 else f"{content.unfinished} answers"
            yield Finding(f"{label} has {answers} cut off. The next start marks it as interrupted.", fault=False)


def _read_registry(db: sqlite3.Connection) -> tuple[RegistryContent, list[str]]:
    version, errors = version_of(db, registry.MIGRATIONS, registry.APPLICATION_ID), faults(db)
    if not version:
        raise StorageError(f"{REGISTRY_FILE} is empty. The next start rebuilds it from the rooms.")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as migrated:
        migrated.row_factory = sqlite3.Row
        db.backup(migrated)
        for migration in registry.MIGRATIONS[version:]:
            migration(migrated)
        return RegistryContent(registry.load_rooms(migrated), registry.was_shut_down_cleanly(migrated)), errors


def _read_room(db: sqlite3.Connection) -> tuple[RoomContent | None, list[str]]:
    version = version_of(db, schema.MIGRATIONS, schema.APPLICATION_ID)
    errors = faults(db)
    room = db.execute("SELECT name, (SELECT count(*) FROM messages) AS count FROM room").fetchone() if version else None
    if room is None or errors:
        return (None if room is None else RoomContent(room["name"], room["count"], None, None, 0)), errors
    if version < len(schema.MIGRATIONS):
        return RoomContent(room["name"], room["count"], None, None, len(unfinished_numbers(db))), errors
    summary = room_store.summary(db)
    errors += message_tree.faults(db)
    room_rows.read_all(db)
    unfinished = len(unfinished_numbers(db))
    flags = (summary.pinned, summary.archived, summary.temporary)
    return RoomContent(summary.name, summary.messages, summary.preview, flags, unfinished), errors


def _sentence(error: StorageError, label: str) -> str:
    said = str(error)
    return said if said.startswith(label.split(" ")[0]) else f"{label} {said}"
