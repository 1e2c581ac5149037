"""The files of an export: a single one, or the members of a zip, which is not trusted."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from overseer.importing.conversations import Unreadable

MAX_MEMBERS = 200_000
MAX_NESTED = 1  # zips within a zip
MAX_RATIO = 200  # of a member's size to what it takes in the zip
MAX_TOTAL_BYTES = 20_000_000_000  # of all members
MAX_FILE_BYTES = 100_000_000  # of an attachment
MAX_JSON_BYTES = 20_000_000  # of a list of names
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, struct.error)
SEPARATORS = str.maketrans("\\", "/")


class Member(NamedTuple):
    """A file of an export that may hold conversations."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


class SingleFile:
    """An export that is one file."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name

    def members(self) -> Iterator[Member]:
        """Yield the file."""
        yield Member(self._name, self._path.stat().st_size, lambda: self._path.open("rb"))

    def find(self, name: str) -> Callable[[], bytes] | None:
        """Return None: there are no other files."""
        return None

    def json(self, name: str) -> object:
        """Return None: there are no other files."""
        return None


class ZipArchive:
    """The members of a zip file. Nothing is ever written to a path that the zip names.

    Raises Unreadable if the file is no zip, or has more than is plausible.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
            infos = [info for info in self._zip.infolist() if not info.is_dir()]
        except ZIP_ERRORS as error:
            raise Unreadable(f"The zip cannot be read ({_words(error)}). Export it again.") from None
        except MemoryError:
            raise Unreadable("The zip lists more than can be read.") from None
        if len(infos) > MAX_MEMBERS:
            raise Unreadable(f"The zip has more than {MAX_MEMBERS:,} files.")
        if sum(info.file_size for info in infos) > MAX_TOTAL_BYTES:
            raise Unreadable(f"The zip holds more than {MAX_TOTAL_BYTES // 10**9} GB.")
        self._by_name: dict[str, zipfile.ZipInfo] = {}
        self._by_base: dict[str, zipfile.ZipInfo] = {}
        self._by_folder: dict[str, zipfile.ZipInfo] = {}  # by the names of the file and its folder
        for info in infos:
            name = info.filename.translate(SEPARATORS)
            self._by_name.setdefault(name, info)
            self._by_base.setdefault(name.rsplit("/", 1)[-1], info)
            if name.endswith("/content"):  # as in the exports of Grok
                self._by_folder.setdefault("/".join(name.rsplit("/", 2)[-2:]), info)
        self._sorted = sorted(self._by_base)

    def members(self) -> Iterator[Member]:
        """Yield all files, in the order of their names."""
        for name in sorted(self._by_name):
            info = self._by_name[name]
            yield Member(name, info.file_size, partial(self._open, info))

    def find(self, name: str) -> Callable[[], bytes] | None:
        """Return what reads the member with this path or name, or whose name begins with it, or None."""
        info = self._by_name.get(name) or self._by_base.get(name) or self._by_folder.get(name)
        info = info or self._beginning_with(name)
        return None if info is None else partial(self._read, info, MAX_FILE_BYTES)

    def json(self, name: str) -> object:
        """Return the parsed content of the member with this name, or None."""
        info = self._by_base.get(name)
        if info is None:
            return None
        try:
            return json.loads(self._read(info, MAX_JSON_BYTES).decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError, Unreadable):
            return None

    def _beginning_with(self, name: str) -> zipfile.ZipInfo | None:

        if len(name) < 6:
            return None
        at = bisect_left(self._sorted, name)
        found = self._sorted[at] if at < len(self._sorted) else ""
        return self._by_base[found] if found.startswith(name) else None

    def _read(self, info: zipfile.ZipInfo, limit: int) -> bytes:
        if info.file_size > limit:
            raise Unreadable(f"{_shown(info)} is larger than {limit // 1_000_000} MB.")
        with self._open(info) as stream:
            try:
                content = stream.read(limit + 1)
            except ZIP_ERRORS as error:
                raise Unreadable(f"{_shown(info)} cannot be read from the zip ({_words(error)}).") from None
        if len(content) > limit:
            raise Unreadable(f"{_shown(info)} is larger than {limit // 1_000_000} MB.")
        return content

    def _open(self, info: zipfile.ZipInfo) -> IO[bytes]:
        if info.file_size > max(1_000_000, info.compress_size * MAX_RATIO):
            raise Unreadable(f"{_shown(info)} is compressed more than {MAX_RATIO} times, as in a zip bomb.")
        if info.flag_bits & 1:
            raise Unreadable("The zip is encrypted. Unpack it, and import what was in it.")
        try:
            return self._zip.open(info)
        except ZIP_ERRORS as error:
            raise Unreadable(f"{_shown(info)} cannot be read from the zip ({_words(error)}).") from None


def _shown(info: zipfile.ZipInfo) -> str:
    name = info.filename.translate(SEPARATORS).rsplit("/", 1)[-1]
    return ascii(name[:80])[1:-1]


def _words(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
