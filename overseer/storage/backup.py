"""A copy of an instance directory, made while a server may be using it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from overseer.domain.errors import StorageError, StorageFull
from overseer.storage.database import flush
from overseer.storage.instance_lock import LIST, is_instance, room_file, room_ids
from overseer.storage.registry import load_rooms, mark_as_backup
from overseer.storage.snapshot import copy, inspect

UNFINISHED = "overseer.sqlite.unfinished"  # the list of a backup that is not whole yet
ANEW = "A server that is started on the copy makes the list anew from the rooms."


class BackupError(Exception):
    """No backup was made; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied, and a sentence for each file that could not be."""

    rooms: int
    size: int
    problems: tuple[str, ...]


def backup(source: Path, target: Path, *, progress: Callable[[int, int], None]) -> Backup:
    """Copy the list and then its rooms, each file as it is at one moment and verified, into an empty directory.

    A room that is deleted meanwhile is in neither. `progress` is told how many rooms of how many are done. Raises
    BackupError, and leaves the directory as empty as it was.
    """
    _check(source, target)
    made = not target.exists()
    try:
        for directory in (target, target / "facets"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = _copy_all(source, target, progress)
        for directory in (target / "facets", target, target.parent):
            flush(directory)
        return done
    except BaseException as error:
        _empty(target, remove=made)
        if isinstance(error, StorageError | OSError):
            raise BackupError(f"Nothing was kept in {target}. {error}") from error
        raise


def _check(source: Path, target: Path) -> None:
    if not is_instance(source):
        raise BackupError(f"There are no rooms in {source}. Set OVERSEER_INSTANCE to the directory that has them.")
    if target.resolve() == source.resolve() or source.resolve() in target.resolve().parents:
        raise BackupError(f"{target} is inside of {source}. Choose a directory elsewhere, best on another disk.")
    if target.exists() and not target.is_dir():
        raise BackupError(f"{target} is no directory. Choose another.")
    if target.is_dir() and any(target.iterdir()):
        raise BackupError(f"{target} is not empty. Choose a new directory for each backup.")


def _copy_all(source: Path, target: Path, progress: Callable[[int, int], None]) -> Backup:
    size, copied, problems, missing = 0, 0, list[str](), set[str]()
    rooms = room_ids(source)
    try:
        size += copy(source / LIST, target / UNFINISHED)
        rooms |= inspect(target / UNFINISHED, load_rooms).keys()
    except FileNotFoundError:
        problems.append(f"{LIST} is missing. {ANEW}")
    except StorageFull:
        raise
    except StorageError as error:
        problems.append(f"{error} {ANEW}")
    for number, room_id in enumerate(sorted(rooms), 1):
        try:
            size += copy(room_file(source, room_id), room_file(target, room_id))
            copied += 1
        except FileNotFoundError:
            missing.add(room_id)
        except StorageFull:
            raise
        except StorageError as error:
            problems.append(str(error))
        progress(number, len(rooms))
    if (target / UNFINISHED).exists():
        lost = missing & inspect(source / LIST, load_rooms).keys()  # the others were deleted meanwhile
        problems += [f"room-{room_id}.sqlite is missing. Put back a copy from a backup." for room_id in sorted(lost)]
        _finish(target, without=missing - lost)
    return Backup(copied, size, tuple(problems))


def _finish(target: Path, *, without: set[str]) -> None:
    """Let the list be that of the rooms that were copied, and give it its name."""
    unfinished = target / UNFINISHED
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as db:
        mark_as_backup(db, without=without)
    flush(unfinished)
    os.rename(unfinished, target / LIST)


def _empty(target: Path, *, remove: bool) -> None:
    with suppress(OSError):
        shutil.rmtree(target / "facets", ignore_errors=True)
        for path in target.glob("overseer.sqlite*"):
            path.unlink()
        if remove:
            target.rmdir()
