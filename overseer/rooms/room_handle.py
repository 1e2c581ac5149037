"""RoomHandle: one room, as views and renderers use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from overseer.domain.messages import Message
from overseer.domain.records import Asked, Room
from overseer.domain.settings import Changes, parse_models
from overseer.domain.text import idempotency_key, question, room_name
from overseer.rooms.chat_room import ChatRoom

if TYPE_CHECKING:
    from overseer.rooms.overseer import Overseer

P = ParamSpec("P")
R = TypeVar("R")


def _forward(method: Callable[Concatenate[ChatRoom, P], R]) -> Callable[Concatenate[RoomHandle, P], R]:
    def forward(handle: RoomHandle, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return handle.overseer.call(handle.id, method, *args, **kwargs)

    return wraps(method)(forward)


class RoomHandle:
    """A room of an Overseer, by its id. It holds no file open and need not exist.

    Each method runs the method of ChatRoom with the same name under the room's lock, then delivers the events that it
    queued. All raise NoSuchRoom if there is no such room, StorageError if its file cannot be used, and
    StorageUnavailable if it cannot be used at the moment. Those that take a text or a name check it first and raise
    Invalid or TooLarge.
    """

    def __init__(self, room_id: str, overseer: Overseer) -> None:
        self.id = room_id
        self.overseer = overseer

    # Commands

    def configure(self, changes: Changes, *, name: str | None = None) -> Room:
        """Change settings, and the name if given. Return the changed record."""
        self.overseer.call(self.id, ChatRoom.configure, changes, name=None if name is None else room_name(name))
        return self.record()

    def ask(self, text: str, *, key: str | None = None, models: Sequence[str] = ()) -> Asked:
        """Store a question and have it answered; see `ChatRoom.ask`."""
        models = parse_models(models)
        return self.overseer.call(self.id, ChatRoom.ask, question(text), key=idempotency_key(key), models=models)

    def edit(self, number: int, text: str) -> Asked:
        """Store another version of a question and have it answered; see `ChatRoom.edit`."""
        return self.overseer.call(self.id, ChatRoom.edit, number, question(text))

    def clear(self) -> None:
        """Delete all messages; see `ChatRoom.clear`."""
        self.overseer.clear(self.id)

    def resume(self, number: int | None = None) -> int:
        """Continue the last answer; see `ChatRoom.resume`."""
        return self.overseer.resume(self.id, number)

    stop = _forward(ChatRoom.stop)
    stop_all = _forward(ChatRoom.stop_all)
    withdraw = _forward(ChatRoom.withdraw)
    retry = _forward(ChatRoom.retry)
    show = _forward(ChatRoom.show)
    share = _forward(ChatRoom.share)
    revoke_share = _forward(ChatRoom.revoke_share)

    # Queries

    messages = _forward(ChatRoom.messages)
    messages_with = _forward(ChatRoom.messages_with)
    message = _forward(ChatRoom.message)
    end_of_path = _forward(ChatRoom.end_of_path)
    path = _forward(ChatRoom.path)
    context_start = _forward(ChatRoom.context_start)
    file = _forward(ChatRoom.file)
    settings = _forward(ChatRoom.settings)
    shares = _forward(ChatRoom.shares)
    is_file_shown = _forward(ChatRoom.is_file_shown)

    def record(self) -> Room:
        """Return the registry's record of the room, without opening the room's file."""
        return self.overseer.record(self.id)

    def transcript(self) -> Iterator[Message]:
        """Return the messages of the shown path, in order. The first page is read at once, the others as needed."""
        end = self.end_of_path()
        first = self.path(end)

        def read() -> Iterator[Message]:
            page, count, last = first, 0, 0
            while page and page[-1].number > last:
                # Pages of a path with a hole overlap.
                yield from (message for message in page if message.number > last)
                count, last = count + len(page), page[-1].number
                page = self.path(end, after=count)

        return read()
