"""Whether the files of an instance directory, or of a backup, are whole and agree with each other."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from overseer.domain.errors import StorageError
from overseer.domain.records import Room
from overseer.storage import registry, room_store, schema
from overseer.storage.database import version_of
from overseer.storage.instance_lock import LIST, is_instance, owner, room_file, room_ids
from overseer.storage.room_rows import unfinished_numbers
from overseer.storage.snapshot import faults, inspect

COMPANION = re.compile(r"(room-[0-9a-f]{12}\.sqlite)-(wal|shm)", re.ASCII)
LOOKS = 4  # at what a server may just be changing
BETWEEN_LOOKS = 0.3  # seconds


class CheckError(Exception):
    """There is nothing to check; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence that says what was found and what to do; no `fault` if the next start does it by itself."""

    sentence: str
    fault: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in so many rooms. `server` is the process that uses the directory, if there is one."""

    rooms: int
    findings: tuple[Finding, ...]
    server: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """What the list's file says: its rooms, and whether their summaries are as new as they are."""

    rooms: dict[str, Room]
    in_order: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What a room's file says; the words are None in one of an older version, which is changed when it is opened."""

    name: str
    messages: int
    preview: str | None
    pinned: bool | None
    unfinished: int


def check(directory: Path, *, progress: Callable[[int, int], None]) -> Report:
    """Read every file whole and compare the list with the rooms; changes nothing, and a server may run meanwhile.

    Raises CheckError for a directory that is none of ours.
    """
    if not is_instance(directory):
        raise CheckError(f"There are no rooms in {directory}. Set OVERSEER_INSTANCE to the directory that has them.")
    found = Check(directory, server=owner(directory))
    listed, findings = found.read_list()
    rooms = sorted(room_ids(directory) | listed.rooms.keys())
    for number, room_id in enumerate(rooms, 1):
        findings += found.room(room_id, listed)
        progress(number, len(rooms))
    findings += found.leftovers()
    return Report(len(rooms), tuple(findings), found.server)


class Check:
    """One look through a directory."""

    def __init__(self, directory: Path, *, server: str | None) -> None:
        self.server = server
        self._directory = directory

    def read_list(self) -> tuple[Listed, list[Finding]]:
        """What the list says, and what is wrong with its file."""
        again = "The next start makes it anew from the rooms."
        try:
            listed, wrong = inspect(self._directory / LIST, _read_list)
        except FileNotFoundError:
            return Listed({}, in_order=False), [Finding(f"{LIST} is missing. {again}")]
        except StorageError as error:
            return Listed({}, in_order=False), [Finding(_sentence(error, LIST))]
        return listed, [Finding(f"{LIST} is damaged: {one}. {again}") for one in wrong]

    def room(self, room_id: str, listed: Listed) -> list[Finding]:
        """What is wrong with a room.

        The list and the room's file are read one after the other, so a room that a server is changing may seem wrong.
        What is wrong with it is what every look finds, word for word.
        """
        findings = list(self._room(room_id, listed.rooms.get(room_id), listed.in_order))
        for _ in range(LOOKS if self.server else 0):
            if not findings:
                break
            time.sleep(BETWEEN_LOOKS)
            now, wrong = self.read_list()
            if wrong:
                break
            if room_id not in now.rooms and not room_file(self._directory, room_id).exists():
                return []
            found = list(self._room(room_id, now.rooms.get(room_id), now.in_order))
            findings = [finding for finding in findings if finding in found]
        return findings

    def leftovers(self) -> list[Finding]:
        """Companions of files that are not there."""
        return [
            Finding(f"{path.name} belongs to no file. Move it out of the directory.")
            for path in sorted((self._directory / "facets").glob("room-*"))
            if (match := COMPANION.fullmatch(path.name)) and not path.with_name(match[1]).exists() and path.exists()
        ]

    # In call order

    def _room(self, room_id: str, row: Room | None, in_order: bool) -> Iterator[Finding]:
        path = room_file(self._directory, room_id)
        name = path.name
        called = f"{name} (“{row.name}”)" if row else name
        try:
            kept, wrong = inspect(path, _read_room)
        except FileNotFoundError:
            yield Finding(f"{called} is missing. Put back a copy from a backup, or delete the room on its page.")
            return
        except StorageError as error:
            yield Finding(_sentence(error, called))
            return
        for one in wrong:
            yield Finding(f"{called} is damaged: {one}. Put back a copy from a backup.")
        if kept is None:
            yield Finding(f"{called} holds no room: its making was cut off. The next start removes it.", fault=False)
        elif row is None:
            yield Finding(f"{name} (“{kept.name}”) is not in the list. The next start takes it in.", fault=False)
        else:
            yield from self._compared(called, row, kept, in_order)

    def _compared(self, called: str, row: Room, kept: Kept, in_order: bool) -> Iterator[Finding]:
        settled = not (kept.unfinished and self.server)  # the words of a growing answer go ahead of the list
        same = row.name == kept.name and row.messages == kept.messages
        if settled and kept.preview is not None:
            same = same and (row.preview, row.pinned) == (kept.preview, kept.pinned)
        if not same and not in_order and not self.server:
            yield Finding(f"{called} is newer than its row in the list. The next start takes it over.", fault=False)
        elif not same:
            yield Finding(
                f"{called} has {kept.messages} messages and the list says {row.messages}, or another name or preview."
                f" Stop the server, move {LIST} away, and start: the list is made anew."
            )
        if kept.unfinished and not self.server:
            answers = "an answer" if kept.unfinished == 1 else f"{kept.unfinished} answers"
            yield Finding(f"{called} has {answers} cut off. The next start marks it as interrupted.", fault=False)


def _read_list(db: sqlite3.Connection) -> tuple[Listed, list[str]]:
    version_of(db, registry.MIGRATIONS, registry.APPLICATION_ID)
    return Listed(registry.load_rooms(db), registry.was_shut_down_cleanly(db)), faults(db)


def _read_room(db: sqlite3.Connection) -> tuple[Kept | None, list[str]]:
    version = version_of(db, schema.MIGRATIONS, schema.APPLICATION_ID)
    wrong = faults(db)
    room = db.execute("SELECT name, messages FROM room").fetchone() if version else None
    if room is None or wrong:
        return (None if room is None else Kept(room["name"], room["messages"], None, None, 0)), wrong
    if version < len(schema.MIGRATIONS):
        return Kept(room["name"], room["messages"], None, None, len(unfinished_numbers(db))), wrong
    summary = room_store.summary(db)
    (count,) = db.execute("SELECT count(*) FROM messages").fetchone()
    if count != summary.messages:
        wrong.append(f"it counts {summary.messages} messages and has {count}")
    return Kept(summary.name, summary.messages, summary.preview, summary.pinned, len(unfinished_numbers(db))), wrong


def _sentence(error: StorageError, called: str) -> str:
    said = str(error)
    return said if said.startswith(called.split(" ")[0]) else f"{called} {said}"
