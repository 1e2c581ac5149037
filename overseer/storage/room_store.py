"""One room's file: its messages, its name and its settings."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from overseer.domain.context import message_tokens, newest_within_budget
from overseer.domain.errors import (
    KeyReused,
    NoSuchFile,
    NoSuchMessage,
    Outdated,
    StorageDamaged,
    StorageUnavailable,
)
from overseer.domain.messages import UNFINISHED, File, Message, Part, Source, State, Usage, abandon_if_running
from overseer.domain.records import MAX_NUMBER, Asked, Page, Summary
from overseer.domain.settings import MAX_LANES, Settings
from overseer.domain.shares import VISIT_INTERVAL_MS, Share, Visit
from overseer.domain.text import strip_markdown
from overseer.storage import message_tree, new_room, room_rows, shares
from overseer.storage.database import Storage
from overseer.storage.message_tree import HEAD
from overseer.storage.schema import APPLICATION_ID, MIGRATIONS

PREVIEW_CHARS = 120
FORKED_AT_QUESTION = "The room was forked here. Retry answers the question."
FORKED = "The room was forked during this answer. What had arrived is here."
MESSAGES_AFTER = 25  # of a message that is looked up, on its page

LAST_USED = "(SELECT seq FROM sqlite_sequence WHERE name = 'messages')"
# One statement each, since they are needed for every question. The newest text is in the head, or in its question.
SELECT_ROOM = f"""
    SELECT room.*, m.number AS shown, m.depth, {LAST_USED} AS last_used,
      (SELECT number FROM messages WHERE key = :key) AS known
    FROM room LEFT JOIN messages m ON m.number = {HEAD}"""  # noqa: S608 - a constant
SELECT_SUMMARY = f"""
    SELECT room.*, m.depth, m.created_at AS asked_at, m.ended_at, m.state,
      EXISTS (SELECT 1 FROM messages WHERE state IN {UNFINISHED}) AS answering,
      (SELECT substr(text, 1, {PREVIEW_CHARS}) FROM parts WHERE message IN (m.number, m.parent) AND kind = 'text'
       ORDER BY message DESC, position LIMIT 1) AS words
    FROM room LEFT JOIN messages m ON m.number = {HEAD}"""  # noqa: S608 - constants

SELECT_EMPTY_ANSWERS = """
    SELECT number FROM messages m WHERE parent = ? AND role = 'assistant' AND state = 'stopped'
      AND NOT EXISTS (SELECT 1 FROM parts WHERE message = m.number)"""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a turn needs to know of the room. `context_start` is the first message that the model received last."""

    settings: Settings
    context_start: int


class RoomStore:
    """Store and query one room. Every command is one transaction, committed when it returns."""

    def __init__(self, storage: Storage, *, create: bool) -> None:
        self._storage = storage
        storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=create)

    # Commands

    def initialize(self, name: str, *, by_person: bool, temporary: bool = False) -> None:
        """Insert the row of a new room."""
        with self._storage.write() as db:
            named_by = "person" if by_person else "nobody"
            db.execute(
                "INSERT INTO room (one, name, named_by, created_at, temporary) VALUES (1, ?, ?, ?, ?)",
                (name, named_by, room_rows.now(), temporary),
            )

    def configure(self, settings: Settings, *, name: str | None) -> None:
        """Store the settings, and the name that a person chose unless it is None."""
        with self._storage.write() as db:
            db.execute(
                "UPDATE room SET model = :model, system_prompt = :system_prompt, temperature = :temperature,"
                " pinned = :pinned, archived = :archived, temporary = :temporary",
                asdict(settings),
            )
            if name is not None:
                db.execute("UPDATE room SET name = ?, named_by = 'person'", (name,))

    def add_question(
        self, text: str, key: str | None, *, name: str, models: Sequence[str] = ()
    ) -> tuple[Asked, Configuration, Summary]:
        """Store a question and an empty answer after the head. Set the room's name to `name` if it has none yet.

        An archived room is not archived any more.

        With `models`, there is an answer of each; several are side by side, and the first is the head.
        `key` is an idempotency key: a repeated key returns the stored question. Raises KeyReused if its text differs.
        """
        with self._storage.write() as db:
            room = db.execute(SELECT_ROOM, {"key": key}).fetchone()
            if room is None or (room["last_used"] or 0) > MAX_NUMBER - 1 - MAX_LANES:
                raise StorageDamaged(f"{self._storage.path.name} is damaged. Put back a copy from a backup.")
            if room["known"]:
                return _repeated(db, room["known"], text), _configuration(room), summary(db)
            number, parent = (room["last_used"] or 0) + 1, room["shown"]
            named_room = room["named_by"] == "nobody"
            messages = room_rows.insert_exchange(db, number, parent=parent, key=key, text=text, models=models or ("",))
            hidden = room["hidden"] + len(messages) - 2
            db.execute(
                "UPDATE room SET head = ?, hidden = ?, name = ?, named_by = ?, archived = 0",
                (
                    number + 1,
                    hidden,
                    name if named_room else room["name"],
                    "first words" if named_room else room["named_by"],
                ),
            )
        beside = tuple(message.number for message in messages[2:])
        asked = Asked(
            number,
            number + 1,
            named_room=named_room,
            messages=messages,
            beside=beside,
            unarchived=bool(room["archived"]),
        )
        now = Summary(
            name=name if named_room else room["name"],
            created_at=room["created_at"],
            active_at=messages[0].created_at,
            messages=(room["depth"] or 0) + 2,
            preview=strip_markdown(text[:PREVIEW_CHARS]),
            answering=True,
            pinned=bool(room["pinned"]),
            hidden=hidden,
            forked_from=room["forked_from"],
            forked_at=room["forked_at"],
            temporary=bool(room["temporary"]),
        )
        return asked, _configuration(room), now

    def edit_question(self, number: int, text: str) -> Asked:
        """Store another version of a question, with an empty answer, and show it. The room is not archived any more.

        Raises NoSuchMessage if the room has no such question.
        """
        with self._storage.write() as db:
            row = db.execute("SELECT parent FROM messages WHERE number = ? AND role = 'user'", (number,)).fetchone()
            if row is None:
                raise NoSuchMessage(f"There is no question {number} in this room.")
            question = db.execute(f"SELECT {LAST_USED}").fetchone()[0] + 1
            if question > MAX_NUMBER - 2:
                raise StorageDamaged(f"{self._storage.path.name} is damaged. Put back a copy from a backup.")
            room_rows.insert_exchange(db, question, parent=row["parent"], key=None, text=text)
            message_tree.set_head(db, question + 1, added=2)
            unarchived = db.execute("UPDATE room SET archived = 0 WHERE archived").rowcount > 0
            return Asked(question, question + 1, unarchived=unarchived)

    def retry_last_answer(self, number: int | None = None) -> Asked:
        """Store another, empty version of the last answer, and show it.

        With `number`, of that answer, which must be the last one or beside it; the new version takes its place. An
        answer without content is not kept: it is emptied. Raises NoSuchMessage in an empty room, or Outdated.
        """
        with self._storage.write() as db:
            head = message_tree.head(db)
            last = db.execute(
                "SELECT *, EXISTS (SELECT 1 FROM parts WHERE message = number) AS has_parts"
                " FROM messages WHERE number = ?",
                (_at_end(db, head, number),),
            ).fetchone()
            if last is None:
                if number is not None:
                    raise Outdated("Only the last answer can be generated again.")
                raise NoSuchMessage("There is no question to answer yet.")
            question = last["parent"] if last["role"] == "assistant" else last["number"]
            if last["role"] == "assistant" and not last["has_parts"]:
                room_rows.empty_answer(db, last["number"], model=last["asked_model"] if last["lane"] else "")
                return Asked(question or 0, last["number"])
            lane = last["lane"]
            db.execute("UPDATE messages SET lane = NULL WHERE number = ?", (last["number"],))
            model = last["asked_model"] if lane else ""
            answer = room_rows.insert_answer(db, question, model=model, lane=lane)
            message_tree.set_head(db, answer if last["number"] == head else head or answer, added=1)
            return Asked(question or 0, answer)

    def resume_last_answer(self, number: int | None = None) -> Message:
        """Mark the last answer as waiting and return it as it was. With `number`, that one, which may be beside it.

        Raises Outdated if it is not `resumable`, or not at the end of the shown path.
        """
        with self._storage.write() as db:
            last = _at_end(db, message_tree.head(db), number)
            message = room_rows.select_message(db, last) if last else None
            if message is not None and message.resumable:
                room_rows.mark_waiting(db, message.number)
                return message
            raise Outdated("The last answer is not cut off, so it can’t be continued.")

    def show(self, number: int) -> bool:
        """Show the newest path through a message. Return whether that changed anything. Raises NoSuchMessage.

        If the message is side by side with other answers, it alone is shown from now on. A question whose answers are
        side by side is shown with them.
        """
        with self._storage.write() as db:
            message = _require_message(db, number)
            if message["lane"] is not None:
                message_tree.end_lanes(db, message["parent"])
            head = message_tree.head(db)
            if message_tree.at_or_below(db, head, number) == number:
                lanes = message_tree.lanes(db, number)
                if not lanes or message_tree.ancestor(db, head, message["depth"] + 1) in (None, *lanes):
                    return message["lane"] is not None
                number = lanes[0]
            message_tree.set_head(db, message_tree.newest_path(db, number))
            return True

    def set_context_start(self, number: int) -> None:
        """Store the number of the first message that the model receives."""
        with self._storage.write(durable=False) as db:
            db.execute("UPDATE room SET reads_from = ?", (number,))

    def save_parts(
        self, number: int, parts: Sequence[Part], *, first: int, model: str, left_out: Collection[str] = ()
    ) -> None:
        """Store the parts of a streaming answer from position `first` on."""
        with self._storage.write() as db:
            db.execute(
                "UPDATE messages SET state = 'streaming', model = ?, left_out = ? WHERE number = ?",
                (model, room_rows.encode_names(left_out), number),
            )
            room_rows.upsert_parts(db, number, parts, first)

    def add_file(self, number: int, parts: Sequence[Part], content: bytes, *, model: str) -> None:
        """Store the parts of a streaming answer, of which the last is a file with this content."""
        file = parts[-1]
        assert isinstance(file, File)
        with self._storage.write() as db:
            db.execute("UPDATE messages SET state = 'streaming', model = ? WHERE number = ?", (model, number))
            room_rows.insert_file(db, file, content)
            room_rows.upsert_parts(db, number, parts)

    def finish_answer(
        self,
        number: int,
        parts: Sequence[Part],
        *,
        state: State,
        reason: str,
        model: str,
        usage: Usage | None,
        left_out: Collection[str] = (),
        continuable: bool = True,
        sources: Sequence[Source] = (),
    ) -> None:
        """Store all parts and the final state of an answer. Without parts or a model, the stored ones are kept."""
        with self._storage.write() as db:
            room_rows.upsert_parts(db, number, parts)
            room_rows.mark_finished(
                db,
                number,
                state,
                reason,
                model=model or None,
                left_out=left_out or None,
                continuable=continuable,
                sources=sources,
                usage=usage,
            )

    def finish_all_answers(self, *, state: State, reason: str) -> list[int]:
        """Set the final state of every unfinished answer and return their numbers."""
        with self._storage.read() as db:
            if not room_rows.unfinished_numbers(db, 1):
                return []
        with self._storage.write() as db:
            numbers = room_rows.unfinished_numbers(db)
            _finish(db, numbers, state, reason)
            return numbers

    def withdraw(self, question: int, answers: Sequence[int]) -> None:
        """Delete these answers and those that were stopped without content, and their question if it has no other one.

        Of other versions, the newest is shown.

        The messages after the answers follow the one before.
        """
        with self._storage.write() as db:
            head = message_tree.head(db)
            before = db.execute("SELECT parent FROM messages WHERE number = ?", (question,)).fetchone()["parent"]
            empty = db.execute(SELECT_EMPTY_ANSWERS, (question,)).fetchall()
            answers = [*answers, *(row["number"] for row in empty if row["number"] not in answers)]
            db.executemany("DELETE FROM messages WHERE number = ?", [(answer,) for answer in answers])
            if len(message_tree.lanes(db, question)) == 1:
                message_tree.end_lanes(db, question)
            kept = message_tree.newest_child(db, question)
            if kept is None:
                db.execute("DELETE FROM messages WHERE number = ?", (question,))
                kept = message_tree.newest_child(db, before)
            last = before if kept is None else message_tree.newest_path(db, kept)
            for answer in answers:
                message_tree.move_up(db, answer, last)
            db.execute("UPDATE room SET head = ?", (last if head in answers else head,))
            message_tree.count_hidden(db)

    def clear(self, *, name: str) -> tuple[bool, list[int]]:
        """Delete all messages and shares. Their numbers are not reused.

        A name that was made of the first question becomes `name`. Return whether it did, and the numbers of the shares.
        """
        with self._storage.write() as db:
            db.execute("DELETE FROM messages")
            db.execute("UPDATE room SET reads_from = 0, head = NULL, hidden = 0")
            done = db.execute("UPDATE room SET name = ?, named_by = 'nobody' WHERE named_by = 'first words'", (name,))
            return done.rowcount > 0, shares.delete_all(db)

    def add_share(self, room_id: str, page: bytes | None, *, expires_at: int | None, now: int) -> Share:
        """Store a share: a snapshot with this page, or a live one. Raises TooManyShares."""
        with self._storage.write() as db:
            return shares.add(db, room_id, page=page, expires_at=expires_at, now=now)

    def delete_share(self, number: int) -> None:
        """Delete a share. Raises NoSuchShare."""
        with self._storage.write() as db:
            shares.delete(db, number)

    def visit_share(self, room_id: str, secret: str, *, now: int) -> Visit | None:
        """Return the share with this secret and its page, and note the visit; None if there is none.

        That visit may be lost in a crash, or if the file cannot be written at the moment.
        """
        with self._storage.read() as db:
            share = shares.find(db, room_id, secret, now=now)
            page = shares.page(db, share.number) if share else None
        if share is None:
            return None
        if share.visited_at is None or not 0 <= now - share.visited_at < VISIT_INTERVAL_MS:
            with suppress(StorageUnavailable), self._storage.write(durable=False) as db:
                shares.note_visit(db, share.number, now=now)
        return Visit(share, page)

    def merge(self, path: Path) -> int:
        """Add the messages of a later export, the file of a whole room. Return how many; see `new_room.merge`."""
        with self._storage.write() as db:
            return new_room.merge(db, path)

    # Queries

    def source(self) -> str:
        """Return the format and id of the conversation that was imported, or an empty text."""
        with self._storage.read() as db:
            row = db.execute("SELECT source FROM room").fetchone()
            return row["source"] if row else ""

    def holds(self, path: Path) -> bool:
        """Return whether the room has all messages of another file of it."""
        with self._storage.read() as db:
            return new_room.holds(db, path)

    def page(self, before: int | None, limit: int) -> Page:
        """Return the newest `limit` messages of the shown path, or those before message `before` on its path."""
        with self._storage.read() as db:
            head = message_tree.head(db)
            if before is None:
                return _page(db, head, head, limit)
            row = db.execute("SELECT parent, lane FROM messages WHERE number = ?", (before,)).fetchone()
            if row is None:
                last = message_tree.at_or_below(db, head, before - 1)
                return replace(_page(db, head, last, limit), newest=False)
            number = before if row["lane"] is None else _lane_on_path(db, before, row["parent"], head)
            hidden = message_tree.at_or_below(db, head, number) != number
            end = message_tree.newest_path(db, number) if hidden else head
            return replace(_page(db, end, row["parent"], limit), newest=False, hidden=hidden)

    def page_with(self, number: int, limit: int) -> Page:
        """Return a page with a message and at most MESSAGES_AFTER later ones, of the newest path through it.

        Raises NoSuchMessage.
        """
        with self._storage.read() as db:
            message = _require_message(db, number)
            depth, head = message["depth"], message_tree.head(db)
            if message["lane"] is not None:
                number = _lane_on_path(db, number, message["parent"], head)
            hidden = message_tree.at_or_below(db, head, number) != number
            end = message_tree.newest_path(db, number) if hidden else head
            last = message_tree.ancestor(db, end, depth + MESSAGES_AFTER) or end
            page = _page(db, end, last, limit)
            if all(message.number != number for message in page.messages):  # the path has a hole
                return replace(_page(db, number, number, limit), newest=False, hidden=True)
            return replace(page, newest=not hidden and last == end, hidden=hidden)

    def end_of_path(self) -> int | None:
        """Return the number of the last message of the shown path, or None in an empty room."""
        with self._storage.read() as db:
            return message_tree.head(db)

    def path(self, end: int | None, after: int, limit: int) -> tuple[Message, ...]:
        """Return at most `limit` messages of the path that ends at `end`, after its first `after`, in order."""
        with self._storage.read() as db:
            last = message_tree.ancestor(db, end, after + limit)
            count = limit
            if last is None:
                row = db.execute("SELECT depth FROM messages WHERE number = ?", (end,)).fetchone()
                last, count = end, row["depth"] - after if row else 0
            return tuple(room_rows.select_path(db, last, count))

    def configuration(self) -> Configuration:
        """Return the room's settings, and the first message that the model received."""
        with self._storage.read() as db:
            room = db.execute("SELECT * FROM room").fetchone()
            return _configuration(room) if room else Configuration(Settings(), 0)

    def message(self, number: int) -> Message:
        """Return one message. Raises NoSuchMessage."""
        with self._storage.read() as db:
            message = room_rows.select_message(db, number)
        if message is not None:
            return message
        raise NoSuchMessage(f"There is no message {number} in this room.")

    def file(self, sha256: str) -> tuple[str, bytes]:
        """Return the media type and the content of a file. Raises NoSuchFile."""
        with self._storage.read() as db:
            found = db.execute("SELECT media_type, content FROM files WHERE sha256 = ?", (sha256,)).fetchone()
        if found is None:
            raise NoSuchFile("There is no such file in this room.")
        return found["media_type"], found["content"]

    def shares(self, room_id: str, *, now: int) -> tuple[Share, ...]:
        """Return the shares that have not expired, the newest first."""
        with self._storage.read() as db:
            return shares.select(db, room_id, now=now)

    def find_share(self, room_id: str, secret: str, *, now: int) -> Share | None:
        """Return the share with this secret, or None."""
        with self._storage.read() as db:
            return shares.find(db, room_id, secret, now=now)

    def is_file_shown(self, sha256: str) -> bool:
        """Return whether a message that is shown has this file."""
        with self._storage.read() as db:
            return shares.is_file_shown(db, sha256)

    def history(self, number: int, budget: int) -> tuple[Message, tuple[Message, ...]]:
        """Return an answer, and the messages before it that fit into `budget` tokens beside it."""
        with self._storage.read() as db:
            found = room_rows.select_history(db, number, budget)
            if not found:
                raise NoSuchMessage(f"There is no message {number} in this room.")
            *earlier, answer = found
            left = budget - (message_tokens(answer) if answer.parts else 0)
            return answer, newest_within_budget(reversed(earlier), left)

    def summary(self) -> Summary:
        """Return the summary for the registry."""
        with self._storage.read() as db:
            return summary(db)


def summary(db: sqlite3.Connection) -> Summary:
    """Return the summary of the room in this database, which must have the newest schema."""
    room = db.execute(SELECT_SUMMARY).fetchone()
    if room is None:
        return Summary("", room_rows.now(), room_rows.now(), 0, "", answering=False)
    room_rows.require(room, str, "name")
    room_rows.require(room, str | None, "words", "forked_from")
    room_rows.require(room, int, "created_at", "hidden")
    return Summary(
        name=room["name"],
        created_at=room["created_at"],
        active_at=max(room["asked_at"] or room["created_at"], room["ended_at"] or 0),
        messages=room["depth"] or 0,
        preview=strip_markdown(room["words"] or ""),
        answering=bool(room["answering"]),
        pinned=bool(room["pinned"]),
        failed=room["state"] in ("failed", "interrupted"),
        hidden=room["hidden"],
        forked_from=room["forked_from"],
        forked_at=room["forked_at"],
        archived=bool(room["archived"]),
        temporary=bool(room["temporary"]),
    )


def make_fork(db: sqlite3.Connection, *, origin: str, upto: int | None, name: str) -> None:
    """Turn the copy of a room into a fork of it, cut after message `upto`, in a transaction of the caller.

    The fork of a temporary room is temporary too. It is neither pinned nor archived.
    After a question, there is an answer that offers to generate one. `origin` is the id of the room that was copied.
    Raises NoSuchMessage.
    """
    last = message_tree.head(db)
    if upto is not None:
        message = _require_message(db, upto)
        role = message["role"]
        message_tree.delete_below(db, upto)
        if message["lane"] is not None:
            message_tree.end_lanes(db, message["parent"])
        last = room_rows.insert_answer(db, upto) if role == "user" else upto
        if role == "user":
            room_rows.mark_finished(db, last, "stopped", FORKED_AT_QUESTION)
        db.execute("UPDATE room SET head = ?", (last,))
    message_tree.count_hidden(db)
    _finish(db, room_rows.unfinished_numbers(db), "interrupted", FORKED)
    db.execute("UPDATE messages SET key = NULL, source = NULL WHERE key IS NOT NULL OR source IS NOT NULL")
    db.execute("DELETE FROM shares")
    db.execute(
        "UPDATE room SET name = ?, named_by = 'person', created_at = ?, pinned = 0, archived = 0,"
        " source = '', forked_from = ?, forked_at = ?",
        (name, room_rows.now(), origin, last if upto is None else upto),
    )


def _finish(db: sqlite3.Connection, numbers: Sequence[int], state: State, reason: str) -> None:
    for number in numbers:
        message = room_rows.select_message(db, number)
        room_rows.upsert_parts(db, number, list(map(abandon_if_running, message.parts if message else ())))
        room_rows.mark_finished(db, number, state, reason)


def _repeated(db: sqlite3.Connection, question: int, text: str) -> Asked:
    """Return the question that was stored with a key, and its newest answer, or that of each model that was asked.

    Raises KeyReused if its text differs.
    """
    known = room_rows.select_message(db, question)
    if known is None or known.text != text:
        raise KeyReused("This key was used for another text. Send the new text with a new key.")
    answers = message_tree.lanes(db, question) or message_tree.newest_of_each_model(db, question)
    if len(answers) < 2:
        answers = [message_tree.newest_child(db, question) or 0]
    return Asked(question, answers[0], repeated=True, beside=tuple(answers[1:]))


def _at_end(db: sqlite3.Connection, head: int | None, number: int | None) -> int | None:
    """Return `number` if it is the head or an answer beside it, the head for None, and otherwise None."""
    if number in (None, head):
        return head
    found = db.execute(
        "SELECT b.number FROM messages a JOIN messages b ON b.parent = a.parent"
        " WHERE a.number = ? AND a.lane IS NOT NULL AND b.number = ? AND b.lane IS NOT NULL",
        (head, number),
    ).fetchone()
    return found["number"] if found else None


def _lane_on_path(db: sqlite3.Connection, number: int, question: int, head: int | None) -> int:
    """Return the one of the answers beside `number` that is on the shown path, or the first of them."""
    lanes = message_tree.lanes(db, question) or [number]
    return next((one for one in lanes if message_tree.at_or_below(db, head, one) == one), lanes[0])


def _configuration(room: sqlite3.Row) -> Configuration:
    settings = Settings(
        room["model"],
        room["system_prompt"],
        room["temperature"],
        bool(room["pinned"]),
        bool(room["archived"]),
        bool(room["temporary"]),
    )
    return Configuration(settings, room["reads_from"])


def _require_message(db: sqlite3.Connection, number: int) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute("SELECT * FROM messages WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise NoSuchMessage(f"There is no message {number} in this room.")
    return row


def _page(db: sqlite3.Connection, end: int | None, last: int | None, limit: int) -> Page:
    """Return the messages of the path to `end` that are not after `last`, at most `limit`, and those beside them."""
    found = tuple(room_rows.select_path(db, last, limit + 1))
    messages, more = found[-limit:], len(found) > limit
    asked_several = [message.parent for message in messages if message.lane is not None and message.parent]
    room = db.execute(f"SELECT reads_from, {LAST_USED} AS last_used FROM room").fetchone()  # noqa: S608 - a constant
    first = messages[0].number if messages and not more else message_tree.ancestor(db, last, 1)
    return Page(
        messages,
        more=more,
        first=first or (messages[0].number if messages else 0),
        end=end or 0,
        last_used=room["last_used"] or 0 if room else 0,
        context_start=room["reads_from"] if room else 0,
        missing=messages[0].parent if messages and not more else None,
        beside=room_rows.select_beside(db, asked_several) if asked_several else {},
    )
