"""The SQL of a room's file: what was said, in order, and what the room is called."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from overseer.domain.context import newest_within_budget
from overseer.domain.errors import KeyReused, NoSuchMessage, Outdated
from overseer.domain.messages import Message, Part, State, Text, Usage, abandon_if_running
from overseer.domain.records import MAX_NUMBER, Asked, Page, Summary
from overseer.domain.settings import Settings
from overseer.domain.text import strip_markdown
from overseer.storage import room_rows
from overseer.storage.database import Storage
from overseer.storage.schema import APPLICATION_ID, MIGRATIONS

PREVIEW = 120  # characters


class RoomStore:
    """One room's file. Every command is one transaction, committed when it returns."""

    def __init__(self, storage: Storage, *, create: bool) -> None:
        self._storage = storage
        storage.migrate(MIGRATIONS, application_id=APPLICATION_ID, create=create)

    # Commands

    def begin(self, name: str, *, by_person: bool) -> None:
        """Name a new room."""
        with self._storage.write() as db:
            named_by = "person" if by_person else "nobody"
            db.execute(
                "INSERT INTO room (one, name, named_by, created_at) VALUES (1, ?, ?, ?)",
                (name, named_by, room_rows.now()),
            )

    def rename(self, name: str) -> None:
        """Call the room what a person wants it called."""
        with self._storage.write() as db:
            db.execute("UPDATE room SET name = ?, named_by = 'person'", (name,))

    def configure(self, settings: Settings, *, name: str | None) -> None:
        """Keep these settings, and what a person wants the room called if there is a name."""
        with self._storage.write() as db:
            db.execute(
                "UPDATE room SET model = ?, system_prompt = ?, temperature = ?, pinned = ?",
                (settings.model, settings.system_prompt, settings.temperature, settings.pinned),
            )
            if name is not None:
                db.execute("UPDATE room SET name = ?, named_by = 'person'", (name,))

    def add(self, text: str, key: str | None, *, name: str) -> Asked:
        """Store a question and the row of its answer; the room is called `name` if nobody has named it yet.

        A key that was used before finds what was stored then. Raises KeyReused if the text was another.
        """
        with self._storage.write() as db:
            if key is not None and (
                known := db.execute("SELECT number FROM messages WHERE key = ?", (key,)).fetchone()
            ):
                number = known["number"]
                if next(iter(room_rows.read(db, [number]))).text != text:
                    raise KeyReused("This key was used for another text. Send the new text with a new key.")
                return Asked(number, number + 1, repeated=True)
            question = room_rows.insert(db, "user", "complete", key)
            room_rows.put(db, question, [Text(text)])
            answer = room_rows.insert(db, "assistant", "waiting", None)
            named = db.execute("UPDATE room SET name = ?, named_by = 'first words' WHERE named_by = 'nobody'", (name,))
            return Asked(question, answer, named_room=named.rowcount > 0)

    def edit(self, number: int, text: str, *, last: int | None) -> None:
        """Change a question and drop what follows, but for the row of its answer. Raises NoSuchMessage.

        Raises Outdated if the room's last message is not `last` any more.
        """
        with self._storage.write() as db:
            question = db.execute("SELECT 1 FROM messages WHERE number = ? AND role = 'user'", (number,)).fetchone()
            if question is None:
                raise NoSuchMessage(f"There is no question {number} in this room.")
            if last not in (None, room_rows.last(db)):
                raise Outdated("More was said in this room meanwhile. Look at it, and edit again.")
            db.execute("DELETE FROM messages WHERE number > ?", (number + 1,))
            room_rows.put(db, number, [Text(text)])
            # The key it was sent with stands for the old text.
            db.execute("UPDATE messages SET key = NULL WHERE number = ?", (number,))
            room_rows.reset(db, number + 1)

    def reset_last(self) -> int:
        """Empty the last answer, to be made anew; returns its number. Raises NoSuchMessage in an empty room."""
        with self._storage.write() as db:
            last = room_rows.last(db)
            if not last:
                raise NoSuchMessage("There is no question to answer yet.")
            room_rows.reset(db, last)
            return last

    def resume_last(self) -> Message:
        """Let the last answer be gone on with; returns it as it was. Raises Outdated if it is not `resumable`."""
        with self._storage.write() as db:
            for message in room_rows.read(db, [room_rows.last(db)]):
                if message.resumable:
                    room_rows.wait(db, message.number)
                    return message
            raise Outdated("The last answer did not break off in its text, so there is nothing to go on with.")

    def note_reading(self, number: int) -> bool:
        """Keep from which message the model reads, 0 for all; returns whether that is another than before."""
        with self._storage.write(durable=False) as db:
            done = db.execute("UPDATE room SET reads_from = ? WHERE reads_from != ?", (number, number))
            return done.rowcount > 0

    def save(
        self, number: int, parts: Sequence[Part], *, first: int, model: str, left_out: Collection[str] = ()
    ) -> None:
        """Write the parts of a growing answer, from position `first` on."""
        with self._storage.write() as db:
            db.execute(
                "UPDATE messages SET state = 'streaming', model = ?, left_out = ? WHERE number = ?",
                (model, room_rows.names(left_out), number),
            )
            room_rows.put(db, number, parts, first)

    def end(
        self,
        number: int,
        parts: Sequence[Part],
        *,
        state: State,
        reason: str,
        model: str,
        usage: Usage | None,
        left_out: Collection[str] = (),
    ) -> None:
        """Write an answer whole, with its last state. One that was not begun, without parts or a model, keeps what it
        has."""
        with self._storage.write() as db:
            room_rows.put(db, number, parts)
            room_rows.end(db, number, state, reason, model=model or None, left_out=left_out or None)
            if usage is not None:
                room_rows.note_usage(db, number, usage)

    def end_all(self, *, state: State, reason: str) -> list[int]:
        """Give every answer that is not finished this last state; returns their numbers."""
        with self._storage.write() as db:
            numbers = room_rows.unfinished(db)
            for number in numbers:
                for message in room_rows.read(db, [number]):
                    room_rows.put(db, number, list(map(abandon_if_running, message.parts)))
                room_rows.end(db, number, state, reason)
            return numbers

    def clear(self) -> None:
        """Remove all messages. Their numbers are not used again."""
        with self._storage.write() as db:
            db.execute("DELETE FROM messages")
            db.execute("UPDATE room SET reads_from = 0")

    # Queries

    def page(self, before: int | None, limit: int) -> Page:
        """The newest `limit` messages, or those before number `before`."""
        with self._storage.read() as db:
            found = db.execute(
                "SELECT number FROM messages WHERE number < ? ORDER BY number DESC LIMIT ?",
                (MAX_NUMBER if before is None else before, limit + 1),
            )
            numbers = [row["number"] for row in found]
            messages = tuple(room_rows.read(db, numbers[:limit][::-1]))
            more = len(numbers) > limit
            return Page(
                messages, more, room_rows.last_used(db), reads_from=room_rows.reads_from(db), first=room_rows.first(db)
            )

    def after(self, number: int, limit: int) -> tuple[Message, ...]:
        """The `limit` messages after a number, in order."""
        with self._storage.read() as db:
            found = db.execute(
                "SELECT number FROM messages WHERE number > ? ORDER BY number LIMIT ?", (min(number, MAX_NUMBER), limit)
            )
            return tuple(room_rows.read(db, [row["number"] for row in found]))

    def reads_from(self) -> int:
        """From which message the model reads; 0 stands for all of them."""
        with self._storage.read() as db:
            return room_rows.reads_from(db)

    def following(self, number: int, enough: int = MAX_NUMBER) -> tuple[int, int]:
        """How many messages come after a question and its answer, and the number of the room's last message.

        Nobody counts further than what is `enough` to know.
        """
        with self._storage.read() as db:
            after = "SELECT 1 FROM messages WHERE number > ? LIMIT ?"
            count = db.execute(f"SELECT count(*) FROM ({after})", (number + 1, enough)).fetchone()[0]  # noqa: S608 - ours
            return count, room_rows.last(db)

    def settings(self) -> Settings:
        """The room's settings."""
        with self._storage.read() as db:
            room = db.execute("SELECT model, system_prompt, temperature, pinned FROM room").fetchone()
            if room is None:
                return Settings()
            return Settings(room["model"], room["system_prompt"], room["temperature"], bool(room["pinned"]))

    def message(self, number: int) -> Message:
        """One message. Raises NoSuchMessage."""
        with self._storage.read() as db:
            for message in room_rows.read(db, [number]):
                return message
        raise NoSuchMessage(f"There is no message {number} in this room.")

    def history(self, number: int, budget: int) -> tuple[Message, ...]:
        """The messages before `number`, the newest that fit into a budget of tokens; see `context.newest`."""
        with self._storage.read() as db:
            return newest_within_budget(room_rows.upwards(db, number), budget)

    def first(self) -> int:
        """The number of the room's first message, or 0."""
        with self._storage.read() as db:
            return db.execute("SELECT min(number) FROM messages").fetchone()[0] or 0

    def summary(self) -> Summary:
        """What the registry keeps of the room."""
        with self._storage.read() as db:
            return summary(db)


def summary(db: sqlite3.Connection) -> Summary:
    """What the registry keeps of the room whose file this is; it has the newest schema."""
    room = db.execute("SELECT * FROM room").fetchone()
    said = db.execute(
        "SELECT substr(text, 1, ?) AS words FROM parts WHERE kind = 'text' ORDER BY message DESC, position LIMIT 1",
        (PREVIEW,),
    ).fetchone()
    created_at = room["created_at"] if room else room_rows.now()
    return Summary(
        name=room["name"] if room else "",
        created_at=created_at,
        active_at=room_rows.active_at(db) or created_at,
        messages=room["messages"] if room else 0,
        preview=strip_markdown(said["words"]) if said else "",
        answering=bool(room_rows.unfinished(db, 1)),
        pinned=bool(room and room["pinned"]),
    )
