"""What a tab shows, and the frames that bring it up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from overseer.domain.errors import NoSuchMessage, NoSuchRoom, StorageError
from overseer.live import invalidation
from overseer.live.socket_writer import text_frame
from overseer.render.fragments import Cursor, Fragments, dom_id, partial
from overseer.render.streaming_answers import StreamingAnswers
from overseer.rooms.overseer import Overseer

GONE = "This room was deleted. What you typed is still in the box below: copy it before you go to another room."


@dataclass(frozen=True, slots=True)
class ListState:
    """A tab's list of rooms: which room it has open, and how new the list is. -1 stands for nothing shown yet."""

    prefix: str
    room_id: str | None
    place: int

    @property
    def gone(self) -> bool:
        """There is always a list."""
        return False

    def at(self, place: int) -> ListState:
        """The same, as new as that."""
        return ListState(self.prefix, self.room_id, place)


@dataclass(frozen=True, slots=True)
class RoomState:
    """A tab's open room: how new it is, and how much of the growing part it has. `gone` if it was told of its end."""

    prefix: str
    room_id: str
    place: int
    cursor: Cursor | None = None
    gone: bool = False

    def at(self, place: int) -> RoomState:
        """The same, as new as that. (A token makes some of these, and `replace` takes several times as long.)"""
        return RoomState(self.prefix, self.room_id, place, self.cursor, self.gone)

    def with_cursor(self, cursor: Cursor | None) -> RoomState:
        """The same with so much of the growing part."""
        return RoomState(self.prefix, self.room_id, self.place, cursor, self.gone)


class FrameRenderer:
    """Renders what is stale in a sight, as it is now, into WebSocket frames.

    A frame finds all its targets before it changes anything, so what builds on another goes into a later frame.
    """

    def __init__(self, overseer: Overseer, fragments: Fragments, drafts: StreamingAnswers) -> None:
        self._overseer = overseer
        self._fragments = fragments
        self._drafts = drafts

    def of_list(
        self, sight: ListState, names: Sequence[invalidation.ListName] | None, place: str, *, changes: dict[object, str]
    ) -> bytes:
        """The frame that brings a list of rooms to `place`; names None stands for the whole list.

        It is one frame, so that a tab either has all of it or still says that it does not. `changes` keeps what tabs
        with other rooms open are sent as well.
        """
        if names is None:
            rooms = self._fragments.rooms(self._overseer.rooms(), active=sight.room_id, q="")
            html = partial("rooms", "outerMorph", rooms) + self._default_model()
        else:
            raised = {name.room_id for name in names if isinstance(name, invalidation.MovedToTop)}
            # A room that is raised need not be renewed where it was.
            needed = (name for name in names if not (isinstance(name, invalidation.Row) and name.room_id in raised))
            html = "".join(self._known_change(sight, name, changes) for name in needed)
        return text_frame(html + partial("rooms-place", "outerHTML", self._fragments.list_place(place)))

    def of_room(self, sight: RoomState, names: Sequence[invalidation.RoomName] | None) -> tuple[bytes, RoomState]:
        """The frames for a room, and the sight they lead to; names None stands for the whole room."""
        if names is None:
            names = (
                (invalidation.Header(), invalidation.Messages())
                if self._exists(sight.room_id)
                else (invalidation.RoomGone(),)
            )
        frames = []
        for name in names:
            try:
                html, sight = self._renewed(sight, name, names)
            except (NoSuchMessage, NoSuchRoom):
                continue  # gone since; what took it away has a name of its own
            except StorageError as error:
                html = partial("messages", "outerHTML", self._fragments.notice(str(error)))
            if html:
                frames.append(text_frame(html))
        return b"".join(frames), sight

    def _known_change(self, sight: ListState, name: invalidation.ListName, changes: dict[object, str]) -> str:
        here = not isinstance(name, invalidation.DefaultModel) and name.room_id == sight.room_id
        key = (name, here, sight.prefix)
        if key not in changes:
            changes[key] = self._row(sight, name)
        return changes[key]

    def _default_model(self) -> str:
        return partial("model", "outerMorph", self._fragments.default_model())

    def _row(self, sight: ListState, name: invalidation.ListName) -> str:
        if isinstance(name, invalidation.DefaultModel):
            return self._default_model()
        target = dom_id("room", name.room_id)
        try:
            room = self._overseer.room(name.room_id)
        except NoSuchRoom:
            return partial(target, "delete", "")
        row = self._fragments.row(room, active=sight.room_id)
        if isinstance(name, invalidation.MovedToTop):
            top = dom_id("rooms", "pinned" if room.pinned else "today")
            return partial(target, "delete", "") + partial(top, "afterend", row)
        return partial(target, "outerMorph", row)

    def _renewed(
        self, sight: RoomState, name: invalidation.RoomName, names: Sequence[invalidation.RoomName]
    ) -> tuple[str, RoomState]:
        room_id, overseer, fragments = sight.room_id, self._overseer, self._fragments
        match name:
            case invalidation.Growth(number, position):
                if invalidation.MessageInvalidated(number) in names:
                    return "", sight
                return self._grown(sight, number, position)
            case invalidation.MessageInvalidated(number):
                return self._whole(sight, number)
            case invalidation.PartInvalidated(number, position):
                parts = overseer.message(room_id, number).parts
                if invalidation.MessageInvalidated(number) in names or position >= len(parts):
                    return "", sight  # shown with the whole message, or gone with a retry
                target = dom_id("part", number, position)
                return partial(target, "outerMorph", fragments.part(number, position, parts[position])), sight
            case invalidation.Exchange(question):
                html = fragments.exchange(room_id, *overseer.exchange(room_id, question))
                return partial(dom_id("after", question - 1), "outerHTML", html), sight
            case invalidation.Messages():
                html = fragments.messages(room_id, overseer.messages(room_id))
                return partial("messages", "outerMorph", html), sight.with_cursor(None)
            case invalidation.Reading():
                line = fragments.reading() if (number := overseer.reads_from(room_id)) else ""
                moved = partial(dom_id("message", number), "beforebegin", line) if line else ""
                return partial("reading", "delete", "") + moved, sight
            case invalidation.Header():
                header = fragments.header(overseer.room(room_id), overseer.settings(room_id))
                return partial("header", "outerMorph", header), sight
            case invalidation.RoomGone():
                return partial("messages", "outerHTML", fragments.notice(GONE)), replace(sight, gone=True)

    def _whole(self, sight: RoomState, number: int) -> tuple[str, RoomState]:
        message = self._overseer.message(sight.room_id, number)
        html, cursor = self._fragments.message_and_cursor(sight.room_id, message)
        return partial(dom_id("message", number), "outerMorph", html), sight.with_cursor(cursor)

    def _grown(self, sight: RoomState, number: int, position: int) -> tuple[str, RoomState]:
        cursor = sight.cursor
        if cursor is None or (cursor.number, cursor.position) != (number, position):
            return self._whole(sight, number)
        growth = self._drafts.growth(sight.room_id, number, position, since=cursor.blocks)
        if growth is None:
            return "", sight
        target = dom_id("part", number, position)
        html = partial(f"{target}-open", "innerHTML", growth.open)
        if growth.done:
            html = partial(f"{target}-done", "beforeend", growth.done) + html
        return html, sight.with_cursor(Cursor(number, position, growth.blocks))

    def _exists(self, room_id: str) -> bool:
        try:
            self._overseer.room(room_id)
        except NoSuchRoom:
            return False
        return True
