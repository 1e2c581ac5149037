"""Back up an instance directory, also while a server is using it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from overseer.domain.errors import StorageError, StorageUnavailable
from overseer.storage.database import flush
from overseer.storage.instance_lock import REGISTRY_FILE, require_instance, room_file, room_ids
from overseer.storage.registry import load_rooms, mark_as_backup
from overseer.storage.snapshot import copy, inspect

UNFINISHED = "overseer.sqlite.unfinished"  # the registry while the rooms are being copied
REBUILT = "A server started on the copy rebuilds the list from the rooms."


class BackupError(Exception):
    """No backup was made; the message is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Backup:
    """The number of rooms and bytes that were copied, and a sentence for each file that could not be."""

    rooms: int
    size: int
    problems: tuple[str, ...]


def backup(source: Path, target: Path, *, progress: Callable[[int, int], None]) -> Backup:
    """Copy the registry and then the rooms to a new or empty directory. Each copy is a verified snapshot of its file.

    A room that is deleted meanwhile is left out of both, and so are temporary ones. `progress` is called with the
    number of rooms done and the total. On an error, everything copied is removed and BackupError is raised.
    Raises InstanceError if `source` is not an instance.
    """
    _check(source, target)
    created = not target.exists()
    try:
        for directory in (target, target / "facets"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = _copy_all(source, target, progress)
        for directory in (target / "facets", target, target.parent):
            flush(directory)
        return done
    except BaseException as error:
        _remove_backup(target, remove=created)
        if isinstance(error, StorageError | OSError):
            raise BackupError(f"Nothing was kept in {target}. {error}") from error
        raise


def _check(source: Path, target: Path) -> None:
    require_instance(source)
    if target.resolve() == source.resolve() or source.resolve() in target.resolve().parents:
        raise BackupError(f"{target} is inside {source}. Choose a directory elsewhere, preferably on another disk.")
    if target.exists() and not target.is_dir():
        raise BackupError(f"{target} is not a directory. Choose another.")
    if target.is_dir() and any(target.iterdir()):
        raise BackupError(f"{target} is not empty. Choose a new directory for each backup.")


def _copy_all(source: Path, target: Path, progress: Callable[[int, int], None]) -> Backup:
    size, copied, problems, missing, temporary = 0, 0, list[str](), set[str](), set[str]()
    rooms = room_ids(source)
    try:
        size += copy(source / REGISTRY_FILE, target / UNFINISHED)
        listed = inspect(target / UNFINISHED, load_rooms)
        temporary = {room.id for room in listed.values() if room.temporary}
        rooms = (rooms | listed.keys()) - temporary
    except FileNotFoundError:
        problems.append(f"{REGISTRY_FILE} is missing. {REBUILT}")
    except StorageUnavailable:
        raise
    except StorageError as error:
        problems.append(f"{error} {REBUILT}")
    for number, room_id in enumerate(sorted(rooms), 1):
        try:
            size += copy(room_file(source, room_id), room_file(target, room_id))
            copied += 1
        except FileNotFoundError:
            missing.add(room_id)
        except StorageUnavailable:
            raise
        except StorageError as error:
            problems.append(str(error))
        progress(number, len(rooms))
    if (target / UNFINISHED).exists():
        # The other missing rooms were deleted meanwhile.
        lost = missing & inspect(source / REGISTRY_FILE, load_rooms).keys()
        problems += [f"room-{room_id}.sqlite is missing. Put back a copy from a backup." for room_id in sorted(lost)]
        _finish_registry(target, without=(missing - lost) | temporary)
    return Backup(copied, size, tuple(problems))


def _finish_registry(target: Path, *, without: set[str]) -> None:
    """Remove the rooms that were deleted from the copied registry, and give it its final name."""
    unfinished = target / UNFINISHED
    finish_registry(unfinished, without=without)
    os.rename(unfinished, target / REGISTRY_FILE)


def finish_registry(path: Path, *, without: Iterable[str] = ()) -> None:
    """Turn a copied registry into that of a backup, without some rooms, and flush it to disk."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        mark_as_backup(db, without=without)
    flush(path)


def _remove_backup(target: Path, *, remove: bool) -> None:
    with suppress(OSError):
        shutil.rmtree(target / "facets", ignore_errors=True)
        for path in target.glob("overseer.sqlite*"):
            path.unlink()
        if remove:
            target.rmdir()
