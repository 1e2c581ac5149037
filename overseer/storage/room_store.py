"""One room's file: its messages, its name and its settings."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from overseer.domain.context import newest_within_budget
from overseer.domain.errors import KeyReused, NoSuchFile, NoSuchMessage, Outdated
from overseer.domain.messages import File, Message, Part, Source, State, Text, Usage, abandon_if_running
from overseer.domain.records import MAX_NUMBER, Asked, Page, Summary
from overseer.domain.settings import Settings
from overseer.domain.text import strip_markdown
from overseer.storage import room_rows
from overseer.storage.database import Storage
from overseer.storage.schema import APPLICATION_ID, MIGRATIONS

PREVIEW_CHARS = 120


class RoomStore:
    """Store and query one room. Every command is one transaction, committed when it returns."""

    def __init__(self, storage: Storage, *, create: bool) -> None:
        self._storage = storage
        storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=create)

    # Commands

    def initialize(self, name: str, *, by_person: bool) -> None:
        """Insert the row of a new room."""
        with self._storage.write() as db:
            named_by = "person" if by_person else "nobody"
            db.execute(
                "INSERT INTO room (one, name, named_by, created_at) VALUES (1, ?, ?, ?)",
                (name, named_by, room_rows.now()),
            )

    def configure(self, settings: Settings, *, name: str | None) -> None:
        """Store the settings, and the name that a person chose unless it is None."""
        with self._storage.write() as db:
            db.execute(
                "UPDATE room SET model = ?, system_prompt = ?, temperature = ?, pinned = ?",
                (settings.model, settings.system_prompt, settings.temperature, settings.pinned),
            )
            if name is not None:
                db.execute("UPDATE room SET name = ?, named_by = 'person'", (name,))

    def add_question(self, text: str, key: str | None, *, name: str) -> Asked:
        """Store a question and an empty answer. Set the room's name to `name` if it has none yet.

        `key` is an idempotency key: a repeated key returns the stored question. Raises KeyReused if its text differs.
        """
        with self._storage.write() as db:
            if key is not None and (
                known := db.execute("SELECT number FROM messages WHERE key = ?", (key,)).fetchone()
            ):
                number = known["number"]
                if next(iter(room_rows.select_messages(db, [number]))).text != text:
                    raise KeyReused("This key was used for another text. Send the new text with a new key.")
                return Asked(number, number + 1, repeated=True)
            question = room_rows.insert_message(db, "user", "complete", key)
            room_rows.upsert_parts(db, question, [Text(text)])
            answer = room_rows.insert_message(db, "assistant", "waiting", None)
            named = db.execute("UPDATE room SET name = ?, named_by = 'first words' WHERE named_by = 'nobody'", (name,))
            return Asked(question, answer, named_room=named.rowcount > 0)

    def edit_question(self, number: int, text: str, *, last: int | None) -> None:
        """Change a question, reset its answer and delete all later messages.

        Raises NoSuchMessage, or Outdated if `last` is given and is not the number of the room's last message.
        """
        with self._storage.write() as db:
            question = db.execute("SELECT 1 FROM messages WHERE number = ? AND role = 'user'", (number,)).fetchone()
            if question is None:
                raise NoSuchMessage(f"There is no question {number} in this room.")
            if last not in (None, room_rows.last_number(db)):
                raise Outdated("This room has new messages. Read them, then edit again.")
            db.execute("DELETE FROM messages WHERE number > ?", (number + 1,))
            room_rows.upsert_parts(db, number, [Text(text)])
            # The idempotency key belongs to the old text.
            db.execute("UPDATE messages SET key = NULL WHERE number = ?", (number,))
            room_rows.reset_answer(db, number + 1)

    def reset_last_answer(self) -> int:
        """Reset the last answer and return its number. Raises NoSuchMessage in an empty room."""
        with self._storage.write() as db:
            last = room_rows.last_number(db)
            if not last:
                raise NoSuchMessage("There is no question to answer yet.")
            room_rows.reset_answer(db, last)
            return last

    def resume_last_answer(self) -> Message:
        """Mark the last answer as waiting and return it as it was. Raises Outdated if it is not `resumable`."""
        with self._storage.write() as db:
            for message in room_rows.select_messages(db, [room_rows.last_number(db)]):
                if message.resumable:
                    room_rows.mark_waiting(db, message.number)
                    return message
            raise Outdated("The last answer is not cut off, so it can’t be continued.")

    def set_context_start(self, number: int) -> bool:
        """Store the number of the first message that the model receives. Return whether it changed."""
        with self._storage.write(durable=False) as db:
            done = db.execute("UPDATE room SET reads_from = ? WHERE reads_from != ?", (number, number))
            return done.rowcount > 0

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
                db, number, state, reason, model=model or None, left_out=left_out or None, continuable=continuable
            )
            if sources:
                room_rows.set_sources(db, number, sources)
            if usage is not None:
                room_rows.set_usage(db, number, usage)

    def finish_all_answers(self, *, state: State, reason: str) -> list[int]:
        """Set the final state of every unfinished answer and return their numbers."""
        with self._storage.write() as db:
            numbers = room_rows.unfinished_numbers(db)
            for number in numbers:
                for message in room_rows.select_messages(db, [number]):
                    room_rows.upsert_parts(db, number, list(map(abandon_if_running, message.parts)))
                room_rows.mark_finished(db, number, state, reason)
            return numbers

    def delete_exchange(self, question: int) -> None:
        """Delete a question and its answer."""
        with self._storage.write() as db:
            db.execute("DELETE FROM messages WHERE number IN (?, ?)", (question, question + 1))

    def clear(self, *, name: str) -> bool:
        """Delete all messages. Their numbers are not reused.

        A name that was made of the first question becomes `name`. Return whether it did.
        """
        with self._storage.write() as db:
            db.execute("DELETE FROM messages")
            db.execute("UPDATE room SET reads_from = 0")
            done = db.execute("UPDATE room SET name = ?, named_by = 'nobody' WHERE named_by = 'first words'", (name,))
            return done.rowcount > 0

    # Queries

    def page(self, before: int | None, limit: int) -> Page:
        """Return the newest `limit` messages, or the newest ones below number `before`."""
        with self._storage.read() as db:
            found = db.execute(
                "SELECT number FROM messages WHERE number < ? ORDER BY number DESC LIMIT ?",
                (MAX_NUMBER if before is None else before, limit + 1),
            )
            numbers = [row["number"] for row in found]
            messages = tuple(room_rows.select_messages(db, numbers[:limit][::-1]))
            last_used = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
            return Page(
                messages,
                more=len(numbers) > limit,
                last=last_used["seq"] if last_used else 0,
                context_start=room_rows.context_start(db),
                first=room_rows.first_number(db),
            )

    def messages_after(self, number: int, limit: int) -> tuple[Message, ...]:
        """Return at most `limit` messages after a number, in order."""
        with self._storage.read() as db:
            found = db.execute(
                "SELECT number FROM messages WHERE number > ? ORDER BY number LIMIT ?", (min(number, MAX_NUMBER), limit)
            )
            return tuple(room_rows.select_messages(db, [row["number"] for row in found]))

    def context_start(self) -> int:
        """Return the number of the first message that the model receives; 0 means all messages."""
        with self._storage.read() as db:
            return room_rows.context_start(db)

    def count_after(self, number: int, enough: int = MAX_NUMBER) -> tuple[int, int]:
        """Count the messages after a question and its answer, up to `enough`.

        Return the count and the number of the room's last message.
        """
        with self._storage.read() as db:
            after = "SELECT 1 FROM messages WHERE number > ? LIMIT ?"
            count = db.execute(f"SELECT count(*) FROM ({after})", (number + 1, enough)).fetchone()[0]  # noqa: S608 - a constant
            return count, room_rows.last_number(db)

    def settings(self) -> Settings:
        """Return the room's settings."""
        with self._storage.read() as db:
            room = db.execute("SELECT model, system_prompt, temperature, pinned FROM room").fetchone()
            if room is None:
                return Settings()
            return Settings(room["model"], room["system_prompt"], room["temperature"], bool(room["pinned"]))

    def message(self, number: int) -> Message:
        """Return one message. Raises NoSuchMessage."""
        with self._storage.read() as db:
            for message in room_rows.select_messages(db, [number]):
                return message
        raise NoSuchMessage(f"There is no message {number} in this room.")

    def file(self, sha256: str) -> tuple[str, bytes]:
        """Return the media type and the content of a file. Raises NoSuchFile."""
        with self._storage.read() as db:
            found = db.execute("SELECT media_type, content FROM files WHERE sha256 = ?", (sha256,)).fetchone()
        if found is None:
            raise NoSuchFile("There is no such file in this room.")
        return found["media_type"], found["content"]

    def history(self, number: int, budget: int) -> tuple[Message, ...]:
        """Return the newest messages below `number` that fit into `budget` tokens."""
        with self._storage.read() as db:
            return newest_within_budget(room_rows.iterate_backwards(db, number), budget)

    def first_number(self) -> int:
        """Return the number of the room's first message, or 0."""
        with self._storage.read() as db:
            return room_rows.first_number(db)

    def summary(self) -> Summary:
        """Return the summary for the registry."""
        with self._storage.read() as db:
            return summary(db)


def summary(db: sqlite3.Connection) -> Summary:
    """Return the summary of the room in this database, which must have the newest schema."""
    room = db.execute("SELECT * FROM room").fetchone()
    said = db.execute(
        "SELECT substr(text, 1, ?) AS words FROM parts WHERE kind = 'text' ORDER BY message DESC, position LIMIT 1",
        (PREVIEW_CHARS,),
    ).fetchone()
    last = db.execute("SELECT created_at, ended_at, state FROM messages ORDER BY number DESC LIMIT 1").fetchone()
    created_at = room["created_at"] if room else room_rows.now()
    return Summary(
        name=room["name"] if room else "",
        created_at=created_at,
        active_at=max(last["created_at"], last["ended_at"] or 0) if last else created_at,
        messages=room["messages"] if room else 0,
        preview=strip_markdown(said["words"]) if said else "",
        answering=bool(room_rows.unfinished_numbers(db, 1)),
        pinned=bool(room and room["pinned"]),
        failed=bool(last and last["state"] in ("failed", "interrupted")),
    )
