"""Find the conversations in a file, whatever format it has: formats are recognised by content, not by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from overseer.importing import values
from overseer.importing.archives import MAX_NESTED, ZIP_ERRORS, Member, SingleFile, ZipArchive
from overseer.importing.conversations import Conversation, Files, Unreadable
from overseer.importing.formats import (
    ai_studio,
    chat_ui,
    chatgpt,
    claude,
    grok,
    librechat,
    llama_cpp,
    llm_logs,
    lm_studio,
    open_webui,
    session_lines,
)
from overseer.importing.json_items import JsonReader

ZIP_MARK, SQLITE_MARK = b"PK\x03\x04", b"SQLite format 3\0"
OWN_FORMAT = "overseer-room"
OWN_DATABASE = (0x4F565252).to_bytes(4)  # the application id of a room's file
APPLICATION_ID_AT = 68  # https://sqlite.org/fileformat2.html
HEADER_BYTES = 100
READ_IN_ZIP = (".json", ".jsonl", ".ndjson", ".sqlite", ".sqlite3", ".db", ".zip")
MAX_DATABASE_BYTES = 4_000_000_000  # of a database in a zip
MAX_SESSION_BYTES = 64_000_000  # of a session, or of all responses of llm in a file, which are read at once
NAMES = (
    "Overseer, ChatGPT, Claude, Open WebUI, LibreChat, llama.cpp, STS, llm, HF chat-ui, LM Studio, AI Studio and Grok"
)
UNKNOWN = f"No conversation of a known format is in it. Known are exports of {NAMES}."


class Format(Protocol):
    """A module that reads one format of conversations."""

    NAME: str

    def recognizes(self, item: Mapping[str, Any]) -> bool:
        """Return whether a JSON object is a conversation of this format."""

    def read(self, item: Mapping[str, Any], files: Files) -> Conversation:
        """Return the conversation. Raises Unreadable."""


FORMATS: tuple[Format, ...] = (
    chatgpt,
    claude,
    open_webui,
    librechat,
    llama_cpp,
    chat_ui,
    lm_studio,
    ai_studio,
    grok,
)


class OwnRoom(NamedTuple):
    """A room that Overseer exported: as a JSON object, or as the path of a database."""

    item: Mapping[str, Any] | None = None
    path: Path | None = None


class Found(NamedTuple):
    """What was found at a place of the export, or why it cannot be read. `name` is the title if it is known."""

    place: str
    content: Conversation | OwnRoom | Unreadable
    name: str = ""


class Export:
    """A file that a person wants to import. `scratch` is a path for a database that has to be unpacked.

    `size` and `position` say how many bytes there are to read, and how many were read.
    """

    def __init__(self, path: Path, name: str, *, scratch: Path) -> None:
        self._path, self._name, self._scratch = path, name, scratch
        self.size, self._done = path.stat().st_size, 0
        self._reader: JsonReader | None = None

    @property
    def position(self) -> int:
        """The bytes that were read."""
        return self._done + (self._reader.position if self._reader is not None else 0)

    def conversations(self) -> Iterator[Found]:
        """Yield the conversations, and what cannot be read."""
        found = False
        try:
            for one in self._file(self._path, self._name, nested=0):
                found = True
                yield one
        except Unreadable as error:
            found = True
            yield Found(_join(self._name, error.place), error)
        if not found:
            yield Found(self._name, Unreadable(UNKNOWN))

    def _file(self, path: Path, name: str, *, nested: int) -> Iterator[Found]:
        with path.open("rb") as stream:
            header = stream.read(HEADER_BYTES)
        if header.startswith(ZIP_MARK):
            yield from self._zip(path, name, nested=nested)
        elif header.startswith(SQLITE_MARK):
            yield from self._database(path, header, name)
        elif not header.strip():
            raise Unreadable("The file is empty.")
        else:
            single = SingleFile(path, name)
            for member in single.members():
                yield from self._json(member, single, in_zip=False)

    def _zip(self, path: Path, name: str, *, nested: int) -> Iterator[Found]:
        archive = ZipArchive(path)
        members = [member for member in archive.members() if _may_hold_conversations(member)]
        if not nested:
            self.size = sum(member.size for member in members)
        for member in members:
            try:
                yield from self._member(member, archive, nested=nested)
            except Unreadable as error:
                yield Found(_join(member.name, error.place), error)
            if not nested:
                self._done, self._reader = self._done + member.size, None

    def _member(self, member: Member, archive: ZipArchive, *, nested: int) -> Iterator[Found]:
        name = member.name.lower()
        if name.endswith((".json", ".jsonl", ".ndjson")) or not name.endswith(READ_IN_ZIP):
            yield from self._json(member, archive, in_zip=True)
            return
        if nested >= MAX_NESTED and name.endswith(".zip"):
            raise Unreadable("It is a zip within a zip within a zip. Unpack it first.")
        if member.size > MAX_DATABASE_BYTES:
            raise Unreadable(f"It is larger than {MAX_DATABASE_BYTES // 10**9} GB.")
        unpacked = self._scratch.with_name(f"{self._scratch.name}-{nested}")
        try:
            with member.open() as stream, unpacked.open("wb") as target:
                _copy(stream, target, member.size)
            yield from self._file(unpacked, member.name, nested=nested + 1)
        except ZIP_ERRORS as error:
            raise Unreadable(f"It cannot be unpacked ({error}).") from None
        finally:
            unpacked.unlink(missing_ok=True)

    def _database(self, path: Path, header: bytes, name: str) -> Iterator[Found]:
        if header[APPLICATION_ID_AT : APPLICATION_ID_AT + 4] == OWN_DATABASE:
            yield Found(name, OwnRoom(path=path))
        elif llm_logs.recognizes(path):
            for conversation in llm_logs.read(path):
                yield Found(name, conversation, conversation.title)
        else:
            raise Unreadable("It is an SQLite database, but neither a room of Overseer nor the log of llm.")

    def _json(self, member: Member, files: Files, *, in_zip: bool) -> Iterator[Found]:
        """Yield the conversations of a JSON file. In a zip, other JSON may be beside them."""
        place, unknown, found, responses = member.name, list[str](), False, list[Mapping[str, Any]]()
        session: list[Mapping[str, Any]] = []
        with member.open() as stream:
            self._reader = reader = JsonReader(_ZipErrors(stream))
            started, ended_early = 0, None  # where the session, or the responses, begin
            items = reader.items()
            while True:
                try:
                    item = next(items)
                except StopIteration:
                    break
                except Unreadable as error:
                    ended_early = error
                    break
                where = _join(place, item.place)
                value = values.mapping(item.value)
                if item.error is not None:
                    found = True
                    yield Found(where, item.error)
                elif session_lines.recognizes(value):
                    if session:
                        yield _read(session_lines.read, session, files, place)
                    found, session, started = True, [value], reader.position
                elif session or llm_logs.recognizes_json(value):
                    if reader.position - started > MAX_SESSION_BYTES:
                        raise Unreadable(f"It has more than {MAX_SESSION_BYTES // 1_000_000} MB in one piece.")
                    (session or responses).append(value)
                elif one := self._conversation(value, member.name, where, files):
                    found = True
                    yield one
                else:
                    unknown.append(item.place)
        if session:
            yield _read(session_lines.read, session, files, place)
        if ended_early is not None:
            raise ended_early
        if responses:
            found = True
            for conversation in llm_logs.read_json(responses):
                yield Found(place, conversation, conversation.title)
        if unknown and not in_zip:
            if not found:
                raise Unreadable(UNKNOWN)
            words = f"{len(unknown)} items are" if len(unknown) > 1 else "This item is"
            yield Found(_join(place, unknown[0]), Unreadable(f"{words} no conversation of a known format."))

    def _conversation(self, value: Mapping[str, Any], name: str, where: str, files: Files) -> Found | None:
        if value.get("format") == OWN_FORMAT:
            return Found(where, OwnRoom(item=value), values.text(value.get("name")))
        for one in FORMATS:
            if one.recognizes(value):
                found = _read(one.read, value, files, where)
                if one is ai_studio and isinstance(found.content, Conversation) and not found.content.title:
                    found.content.title = Path(name).stem  # the file is called as the prompt
                return found
        return None


def _may_hold_conversations(member: Member) -> bool:
    """Return whether a member of a zip has such a name, or, without an extension, begins as JSON does."""
    if "." in member.name.rsplit("/", 1)[-1]:
        return member.name.lower().endswith(READ_IN_ZIP)
    try:
        with member.open() as stream:
            return stream.read(HEADER_BYTES).lstrip()[:1] in (b"{", b"[")
    except (Unreadable, *ZIP_ERRORS):
        return False


class _ZipErrors:
    """A stream whose errors are Unreadable: those of a damaged zip come while it is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes."""
        try:
            return self._stream.read(size)
        except ZIP_ERRORS as error:
            raise Unreadable(f"It cannot be read ({error or type(error).__name__}).") from None


def _read(read: Callable[[Any, Files], Conversation], given: object, files: Files, where: str) -> Found:
    """Return a conversation, or why it cannot be read."""
    try:
        conversation = read(given, files)
    except Unreadable as error:
        title = values.text(values.mapping(given).get("title") or values.mapping(given).get("name"))
        return Found(_join(where, error.place), error, title)
    except RecursionError:
        return Found(where, Unreadable("It is nested too deeply."))
    except MemoryError:
        return Found(where, Unreadable("It needs more memory than an import may use."))
    except Exception as error:  # one conversation does not keep the others from being read
        return Found(where, Unreadable(f"It could not be read ({type(error).__name__})."))
    return Found(where, conversation, conversation.title)


def _join(*places: str) -> str:
    return ", ".join(filter(None, places))


def _copy(stream: IO[bytes], target: IO[bytes], size: int) -> None:
    """Unpack a member. It must not be larger than the zip says."""
    shutil.copyfileobj(stream, target, 1_000_000)
    if target.tell() > size:
        raise Unreadable("It is larger than the zip says.")
