"""Conversations of the command `llm`: its database `logs.db`, and what `llm logs --json` prints.

The database is read as data that is not trusted: its views, triggers, virtual tables, generated columns and functions
are never run, nothing is written, and time, rows and sizes are bounded. https://llm.datasette.io/en/stable/logging.html
"""

from __future__ import annotations

import mimetypes
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from overseer.domain.messages import Text
from overseer.importing import contents, message_parts, values
from overseer.importing.conversations import Attachment, Content, Conversation, Node, Role, ToolResult, Unreadable

NAME = "llm"
KIND = "llm"
THREAD_TABLES = ("threads", "turns", "messages", "parts")  # of llm 0.32 and newer
RESPONSE_TABLES = ("conversations", "responses")  # of older ones, which stay in the file
OTHER_TABLES = (
    *("attachments", "prompt_attachments", "fragments", "prompt_fragments", "system_fragments"),
    *("tool_calls", "tool_results"),
)
TABLES = frozenset({*THREAD_TABLES, *RESPONSE_TABLES, *OTHER_TABLES})
FUNCTIONS = frozenset({"length"})
ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool", "system": "system"}
MAX_ROWS = 300_000  # of a table
MAX_NODES = 100_000  # of a conversation
MAX_TOTAL_NODES = 1_000_000  # of all conversations: forks share messages
MAX_VALUE_BYTES = 100_000_000
MAX_QUERY_SECONDS = 20.0
MAX_TOTAL_SECONDS = 300.0  # in queries
STEPS = 20_000  # instructions of SQLite between looks at the clock
TOO_SLOW = "The database takes too long to read."

# A damaged file may have names, or cause messages, that are no UTF-8.
DATABASE_ERRORS = (sqlite3.Error, UnicodeError, OverflowError)

Row = dict[str, Any]


def recognizes(path: Path) -> bool:
    """Return whether the file is a database of llm."""
    try:
        with closing(_Log(path)) as log:
            return log.has(*THREAD_TABLES) or log.has(*RESPONSE_TABLES)
    except (*DATABASE_ERRORS, Unreadable):
        return False


def read(path: Path) -> Iterator[Conversation]:
    """Yield the conversations, the oldest of each kind of table first. Raises Unreadable."""
    try:
        with closing(_Log(path)) as log:
            seen: set[str] = set()
            if log.has(*THREAD_TABLES):
                for conversation in _Threads(log).read():
                    seen.add(conversation.source)
                    yield conversation
            if log.has(*RESPONSE_TABLES):
                yield from (one for one in _responses(log) if one.source not in seen)
    except DATABASE_ERRORS as error:
        raise _unreadable(error) from None


def recognizes_json(item: Mapping[str, Any]) -> bool:
    """Return whether the object is a response in what `llm logs --json` prints."""
    return {"conversation_id", "prompt", "response", "model"} <= item.keys() and "mapping" not in item


def read_json(responses: Sequence[Mapping[str, Any]]) -> Iterator[Conversation]:
    """Yield the conversations of all responses of a file."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for index, response in enumerate(map(values.mapping, responses)):
        key = values.identifier(response.get("conversation_id")) or values.identifier(response.get("id")) or str(index)
        if response:
            grouped.setdefault(key, []).append(response)
    for conversation_id, found in grouped.items():
        name = next((text for one in found if (text := values.text(one.get("conversation_name")))), "")
        model = next((text for one in found if (text := values.text(one.get("conversation_model")))), "")
        yield _conversation(conversation_id, name, model, found)


# A conversation of responses


def _conversation(conversation_id: str, name: str, model: str, responses: Sequence[Mapping[str, Any]]) -> Conversation:
    ordered = sorted(responses, key=lambda one: (_time(one) or 0, values.text(one.get("id"))))
    conversation = Conversation(f"{KIND}:{conversation_id}", name, model=model)
    parent: str | None = None
    system = ""
    for index, response in enumerate(ordered):
        response_id = values.identifier(response.get("id")) or values.digest(conversation_id, index)
        for node in _nodes(response_id, response):
            if node.role == "system":
                text = "\n\n".join(part.text for part in node.parts if isinstance(part, Text))
                if text == system:
                    continue
                system = text
            node.parent, parent = parent, node.id
            node.model = (node.model or model) if node.role == "assistant" else ""
            conversation.nodes.append(node)
        if conversation.temperature is None:
            options = values.mapping(message_parts.parsed(response.get("options_json")))
            conversation.temperature = values.number(options.get("temperature"))
    times = [node.created_at for node in conversation.nodes if node.created_at is not None]
    conversation.created_at, conversation.updated_at = min(times, default=None), max(times, default=None)
    conversation.head = parent
    return conversation


def _nodes(response_id: str, response: Mapping[str, Any]) -> Iterator[Node]:
    """Yield what was asked, or the results of tools that were sent, and the answer."""
    created_at = _time(response)
    system = _with_fragments(response.get("system"), response.get("system_fragments"))
    if system.strip():
        yield Node(f"{response_id}-system", None, "system", [Text(system)], created_at)
    results: list[Content] = []
    for one in map(values.mapping, values.items(response.get("tool_results"))):
        results.append(_result(one))
        results += [_content(file) for file in values.items(one.get("attachments"))]
    if results:
        yield Node(f"{response_id}-results", None, "tool", results, created_at)
    prompt = _with_fragments(response.get("prompt"), response.get("prompt_fragments"))
    asked: list[Content] = [Text(prompt)] if prompt.strip() else []
    asked += [_content(file) for file in values.items(response.get("attachments"))]
    if asked or not results:
        yield Node(f"{response_id}-prompt", None, "user", asked, created_at)
    parts: list[Content] = [*message_parts.reasoning(response.get("reasoning"))]
    parts += message_parts.markdown(values.text(response.get("response")))
    parts += message_parts.calls(response.get("tool_calls"))
    model = values.text(response.get("model"))
    yield Node(response_id, None, "assistant", parts, created_at, _ended_at(response), model)


def _with_fragments(text: object, fragments: object) -> str:
    found = [values.text(values.mapping(one).get("content")).rstrip("\n") for one in values.items(fragments)]
    return "\n".join(filter(None, [*found, values.text(text)]))


def _result(given: Mapping[str, Any]) -> ToolResult:
    exception = values.text(given.get("exception"))
    output = message_parts.result_text(given.get("output")) or exception
    call_id = values.identifier(given.get("tool_call_id")) or ""
    return ToolResult(call_id, values.text(given.get("name")), output, bool(exception))


def _content(given: Any) -> Content:
    return given if isinstance(given, Attachment | Text) else _attachment(values.mapping(given))


def _attachment(given: Mapping[str, Any], path: Path | None = None, row: int = 0) -> Content:
    """Return a file: its content is in the database, or it was a path or an address."""
    url, media_type = values.text(given.get("url")), values.text(given.get("type"))
    base = values.text(given.get("path")).replace("\\", "/").rsplit("/", 1)[-1]
    name = base or f"{values.text(given.get('id'))[:12] or 'file'}{mimetypes.guess_extension(media_type) or ''}"
    if path is not None and given.get("size"):
        return Attachment(name, media_type, partial(_read_attachment, path, row))
    if isinstance(given.get("content"), str):
        return message_parts.base64_file(given["content"], name, media_type)
    if message_parts.WEB_URL.fullmatch(url):
        return Text(message_parts.link(url, base or url))
    return Attachment(name, media_type)


def _time(response: Mapping[str, Any]) -> int | None:
    return values.milliseconds(response.get("datetime_utc"))


def _ended_at(response: Mapping[str, Any]) -> int | None:
    started, duration = _time(response), values.number(response.get("duration_ms"))
    return started + round(duration) if started and duration and 0 < duration < 10**9 else started


# The database


class _Log:
    """A database of llm that is open for reading, and rows of its ordinary tables."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._deadline, self._spent = 0.0, 0.0
        self._db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, isolation_level=None)
        try:
            self._db.row_factory = sqlite3.Row
            self._db.text_factory = partial(str, encoding="utf-8", errors="replace")
            self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            self._db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            self._db.set_progress_handler(self._is_late, STEPS)
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "query_only=ON", "mmap_size=0"):
                self._db.execute(f"PRAGMA {pragma}")
            self._start()
            found = self._db.execute("SELECT name, substr(sql, 1, 12) AS begins FROM sqlite_master WHERE rootpage > 0")
            tables = {values.text(row["name"]) for row in found.fetchmany(1000) if row["begins"] == "CREATE TABLE"}
            # Neither generated columns nor hidden ones are among these.
            self._columns = {table: self._columns_of(table) for table in sorted(tables & TABLES)}
            self._db.set_authorizer(_authorize)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def has(self, *tables: str) -> bool:
        """Return whether all of these are ordinary tables of the file."""
        return all(table in self._columns for table in tables)

    def rows(
        self, table: str, columns: Sequence[str], where: str = "", arguments: Sequence[object] = ()
    ) -> Iterator[Row]:
        """Yield the rows of a table; columns that it does not have are None. `row` is the rowid.

        Raises Unreadable if there are too many, or if it takes too long.
        """
        known = [column for column in columns if column in self._columns.get(table, ())]
        if not known:
            return
        shown = ", ".join(f'"{column}"' for column in known)
        self._start()
        count = 0
        cursor = self._db.execute(f'SELECT rowid AS row, {shown} FROM "{table}" {where}', arguments)  # noqa: S608 - constants
        while found := cursor.fetchmany(500):
            count += len(found)
            if count > MAX_ROWS:
                raise Unreadable(f"Its table {table} has more than {MAX_ROWS:,} rows.")
            self._stop()
            yield from ({**dict.fromkeys(columns), **dict(row)} for row in found)
            self._start()
        self._stop()

    def row(self, table: str, columns: Sequence[str], number: int) -> Row:
        """Return the row with this rowid, or an empty one."""
        return next(self.rows(table, columns, "WHERE rowid = ?", (number,)), {})

    def by(self, table: str, column: str) -> dict[str, list[int]]:
        """Return the rowids of a table by the texts in a column."""
        found: dict[str, list[int]] = {}
        for row in self.rows(table, [column]):
            found.setdefault(values.text(row[column]), []).append(row["row"])
        return found

    def attachment(self, number: int) -> Content:
        """Return the file in a row of the attachments."""
        given = self.row("attachments", ("id", "type", "path", "url"), number)
        given["size"] = next(
            self.rows("attachments", ["id"], "WHERE rowid = ? AND length(content) > 0", (number,)), None
        )
        return _attachment(given, self.path, number)

    def content(self, number: int) -> bytes:
        """Return the content of a row of the attachments. Raises Unreadable."""
        found = self.row("attachments", ("content",), number).get("content")
        if not isinstance(found, bytes):
            raise Unreadable("Its content is not in the database.")
        return found

    def _columns_of(self, table: str) -> frozenset[str]:
        rows = self._db.execute(f'PRAGMA table_info("{table}")').fetchmany(200)
        return frozenset(values.text(row["name"]) for row in rows)

    def _start(self) -> None:
        if self._spent > MAX_TOTAL_SECONDS:
            raise Unreadable(TOO_SLOW)
        self._started = time.monotonic()
        self._deadline = self._started + MAX_QUERY_SECONDS

    def _stop(self) -> None:
        self._spent += time.monotonic() - self._started

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline > 0


def _authorize(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    """Allow to read ordinary tables, not by way of a view or trigger, and nothing else."""
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and first in TABLES and source is None:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and second in FUNCTIONS and source is None:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _read_attachment(path: Path, number: int) -> bytes:
    try:
        with closing(_Log(path)) as log:
            return log.content(number)
    except DATABASE_ERRORS as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> Unreadable:
    return Unreadable(TOO_SLOW if "interrupted" in str(error) else f"The database cannot be read ({str(error)[:200]}).")


# Threads, of llm 0.32 and newer


class _Threads:
    """The threads of a database. Their messages are shared: a thread is the last message of a chain.

    A turn is a request and its answer, from the message after `parent_message_hash` to `tip_message_hash`.
    """

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._messages: dict[str, tuple[str, str]] = {}  # the hash of the parent, and the role
        for row in log.rows("messages", ("hash", "parent_hash", "role")):
            if message := values.text(row["hash"]):
                self._messages[message] = values.text(row["parent_hash"]), values.text(row["role"])
        self._turns: dict[str, list[Row]] = {}
        columns = ("thread_id", "parent_message_hash", "tip_message_hash", "model", "duration_ms", "datetime_utc")
        turns = sorted(log.rows("turns", (*columns, "options_json")), key=lambda one: _time(one) or 0)
        for turn in turns:
            self._turns.setdefault(values.text(turn["thread_id"]), []).append(turn)
        self._all_turns = self._by_message(turns)
        self._fragments, self._attachments = log.by("fragments", "id"), log.by("attachments", "id")

    def read(self) -> Iterator[Conversation]:
        """Yield the threads, the oldest first."""
        columns = ("id", "name", "tip_message_hash", "datetime_utc")
        total = 0
        for thread in sorted(self._log.rows("threads", columns), key=lambda one: _time(one) or 0):
            conversation = self._conversation(thread)
            yield conversation
            total += len(conversation.nodes)
            if total > MAX_TOTAL_NODES:
                raise Unreadable(f"Its conversations have more than {MAX_TOTAL_NODES:,} messages.")

    def _conversation(self, thread: Row) -> Conversation:
        thread_id = values.identifier(thread["id"]) or values.digest(values.text(thread["name"]), thread["row"])
        turns = self._turns.get(thread_id, [])
        head = values.text(thread["tip_message_hash"])
        conversation = Conversation(f"{KIND}:{thread_id}", values.text(thread["name"]), head=head or None)
        own, seen = self._by_message(turns), set[str]()
        for tip in (head, *(values.text(turn["tip_message_hash"]) for turn in turns)):
            chain = list(self._up(tip, seen))
            seen.update(chain)
            try:
                for message in reversed(chain):
                    conversation.nodes.append(self._node(message, own.get(message) or self._all_turns.get(message)))
            except DATABASE_ERRORS as error:
                conversation.notes.append(str(_unreadable(error)))
            if len(seen) > MAX_NODES:
                break
        for turn in turns:
            conversation.model = values.text(turn["model"]) or conversation.model
            if conversation.temperature is None:
                options = values.mapping(message_parts.parsed(turn["options_json"]))
                conversation.temperature = values.number(options.get("temperature"))
        times = [node.created_at for node in conversation.nodes if node.created_at is not None]
        conversation.created_at = min(times, default=_time(thread))
        conversation.updated_at = max(times, default=None)
        return conversation

    def _by_message(self, turns: Sequence[Row]) -> dict[str, Row]:
        """Return the turn in which each message was asked or answered first."""
        found: dict[str, Row] = {}
        for turn in turns:
            before = values.text(turn["parent_message_hash"])
            for message in self._up(before, found):
                if self._messages[message][1] == "assistant":
                    break
                found[message] = turn
            for message in self._up(values.text(turn["tip_message_hash"]), found):
                if message == before:
                    break
                found[message] = turn
        return found

    def _up(self, message: str, until: Collection[str]) -> Iterator[str]:
        """Yield a message and those before it, to one of `until`, or the first."""
        seen: set[str] = set()
        while message in self._messages and message not in until and message not in seen and len(seen) <= MAX_NODES:
            seen.add(message)
            yield message
            message = self._messages[message][0]

    def _node(self, message: str, turn: Row | None) -> Node:
        parent, given_role = self._messages[message]
        columns = ("type", "tool_name", "text", "payload")
        parts = [
            part
            for row in self._log.rows("parts", columns, "WHERE message_hash = ? ORDER BY position", (message,))
            for part in self._part(row)
        ]
        node = Node(message, parent or None, ROLES.get(given_role, "assistant"), parts)
        if turn is not None:
            node.created_at = _time(turn)
            if node.role == "assistant":
                node.ended_at, node.model = _ended_at(turn), values.text(turn["model"])
        return node

    def _part(self, row: Row) -> Iterator[Content]:
        payload = values.mapping(message_parts.parsed(row["payload"]))
        kind = values.text(row["type"])
        text = values.text(row["text"]) or self._text(payload)
        if kind == "reasoning":
            yield from message_parts.reasoning(text)
        elif kind == "tool_call":
            yield message_parts.call({"name": row["tool_name"], **payload})
        elif kind == "tool_result":
            yield _result({"name": row["tool_name"], **payload})
            for one in map(values.mapping, values.items(payload.get("attachments"))):
                yield self._attachment(one)
        elif kind == "attachment":
            yield self._attachment(values.mapping(payload.get("attachment")) or payload)
        elif kind == "text":
            if text.strip():
                yield Text(text)
        else:
            yield contents.unknown(kind, {**payload, "text": text})

    def _text(self, payload: Mapping[str, Any]) -> str:
        """Return the text of a part that is made of fragments, such as files that many prompts have in common."""
        pieces = []
        for piece in map(values.mapping, values.items(payload.get("text_ref"))):
            rows = self._fragments.get(values.text(piece.get("fragment")), ())
            fragment = self._log.row("fragments", ("content",), rows[0]) if rows else {}
            pieces.append(values.text(piece.get("literal", fragment.get("content"))))
        return "".join(pieces) or values.text(payload.get("text"))

    def _attachment(self, given: Mapping[str, Any]) -> Content:
        rows = self._attachments.get(values.text(given.get("id")), ())
        return self._log.attachment(rows[0]) if rows else _attachment(given)


# Responses, of llm before 0.32

RESPONSE_COLUMNS = (
    *("id", "model", "prompt", "system", "options_json", "response", "conversation_id", "duration_ms"),
    *("datetime_utc", "reasoning"),
)


def _responses(log: _Log) -> Iterator[Conversation]:
    rows = log.by("responses", "conversation_id")
    about = {values.text(row["id"]): row for row in log.rows("conversations", ("id", "name", "model"))}
    linked = {
        table: log.by(table, "response_id")
        for table in ("tool_calls", "tool_results", "prompt_attachments", "prompt_fragments", "system_fragments")
    }
    attachments, fragments = log.by("attachments", "id"), log.by("fragments", "id")
    for conversation_id, numbers in rows.items():
        known = about.get(conversation_id, {})
        responses, notes = [], []
        for number in numbers[:MAX_NODES]:
            try:
                responses.append(_response(log, number, linked, attachments, fragments))
            except DATABASE_ERRORS as error:
                notes.append(str(_unreadable(error)))
        groups = [responses] if conversation_id else [[one] for one in responses]
        for group in groups:
            name, model = values.text(known.get("name")), values.text(known.get("model"))
            key = conversation_id or next((values.text(one.get("id")) for one in group), "")
            conversation = _conversation(key, name, model, group)
            conversation.notes += dict.fromkeys(notes)
            yield conversation


def _response(
    log: _Log,
    number: int,
    linked: Mapping[str, Mapping[str, Sequence[int]]],
    attachments: Mapping[str, Sequence[int]],
    fragments: Mapping[str, Sequence[int]],
) -> Row:
    """Return a response as `llm logs --json` prints it, with the rows of its attachments in place of them."""
    response = log.row("responses", RESPONSE_COLUMNS, number)
    response_id = values.text(response.get("id"))

    def rows(table: str, *columns: str) -> list[Row]:
        found = [log.row(table, columns, one) for one in linked[table].get(response_id, ())[:10_000]]
        return sorted(found, key=lambda row: (values.number(row.get("order")) or 0, values.number(row.get("row")) or 0))

    def contents(table: str) -> list[Row]:
        ids = [values.text(row.get("fragment_id")) for row in rows(table, "fragment_id", "order")]
        return [log.row("fragments", ("content",), one) for key in ids for one in fragments.get(key, ())[:1]]

    files = [values.text(row.get("attachment_id")) for row in rows("prompt_attachments", "attachment_id", "order")]
    response["attachments"] = [log.attachment(one) for key in files for one in attachments.get(key, ())[:1]]
    response["tool_calls"] = rows("tool_calls", "name", "arguments", "tool_call_id")
    response["tool_results"] = rows("tool_results", "name", "output", "tool_call_id", "exception")
    response["prompt_fragments"] = contents("prompt_fragments")
    response["system_fragments"] = contents("system_fragments")
    return response
