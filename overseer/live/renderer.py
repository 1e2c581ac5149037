"""What a tab shows, and the WebSocket frames that bring it up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from overseer.domain.errors import NoSuchMessage, NoSuchRoom, StorageError
from overseer.domain.messages import Usage
from overseer.live.invalidation import (
    ContextLineInvalidated,
    DefaultModelInvalidated,
    ExchangeAdded,
    GrowingPartInvalidated,
    HeaderInvalidated,
    ListInvalidation,
    MessageInvalidated,
    MessagesInvalidated,
    MovedToTop,
    PartInvalidated,
    RoomGone,
    RoomInvalidation,
    RowInvalidated,
)
from overseer.live.socket_writer import text_frame
from overseer.render.fragments import Cursor, Fragments, dom_id, partial
from overseer.render.streaming_answers import StreamingAnswers
from overseer.rooms.overseer import Overseer

SHARE_ENDED = "This share has ended."
ASK_OWNER = "Ask the person who sent you the address for a new one."
CANNOT_BE_SHOWN = "This conversation can’t be shown at the moment."
ROOM_DELETED = "This room was deleted. What you typed is still in the box below: copy it before you go to another room."


@dataclass(frozen=True, slots=True)
class TabState:
    """What a tab shows of a topic, the open room or the list of rooms. Tabs with equal states are sent the same bytes.

    `room_id` is the open room, or empty. Of that room, `cursors` say how much of each streaming answer the tab has, and
    `gone` is set when the tab shows that it was deleted. `share` is the address of the share that a visitor reads.
    """

    prefix: str
    room_id: str
    revision: int
    cursors: tuple[Cursor, ...] = ()
    gone: bool = False
    share: str = ""

    # Each token makes some of these, and `dataclasses.replace` takes several times as long.

    def at(self, revision: int) -> TabState:
        """Return the same state at another revision."""
        return TabState(self.prefix, self.room_id, revision, self.cursors, self.gone, self.share)

    def with_cursor(self, number: int, cursor: Cursor | None) -> TabState:
        """Return the same state with another part of the streaming answer `number`."""
        cursors = tuple([known for known in self.cursors if known.number != number] + ([cursor] if cursor else []))
        return TabState(self.prefix, self.room_id, self.revision, cursors, self.gone, self.share)

    def without_cursors(self) -> TabState:
        """Return the same state without the streaming answers."""
        return TabState(self.prefix, self.room_id, self.revision, (), self.gone, self.share)


class FrameRenderer:
    """Renders stale fragments, as they are now, into WebSocket frames.

    htmx looks up all targets of a frame before it swaps any, so a fragment that is swapped into another one needs a
    later frame.
    """

    def __init__(self, overseer: Overseer, fragments: Fragments, answers: StreamingAnswers) -> None:
        self._overseer = overseer
        self._fragments = fragments
        self._answers = answers

    def list_frame(
        self, state: TabState, stale: Sequence[ListInvalidation] | None, revision: str, *, shared: dict[object, str]
    ) -> bytes:
        """Return the frame that brings a list of rooms to `revision`. `stale` is None for the whole list.

        It is a single frame with the revision in it, so that a tab has all of it or reports the old revision.
        `shared` caches HTML for tabs that have other rooms open.
        """
        if stale is None:
            rooms = self._fragments.rooms(self._overseer.rooms(open_room=state.room_id), active=state.room_id, q="")
            html = partial("rooms", "outerMorph", rooms) + self._default_model()
        else:
            moved = {one.room_id for one in stale if isinstance(one, MovedToTop)}
            # A row that moves is not rendered at its old position.
            needed = (one for one in stale if not (isinstance(one, RowInvalidated) and one.room_id in moved))
            html = "".join(self._shared_change(state, one, shared) for one in needed)
        return text_frame(html + partial("rooms-place", "outerHTML", self._fragments.list_revision(revision)))

    def room_frames(self, state: TabState, stale: Sequence[RoomInvalidation] | None) -> tuple[bytes, TabState]:
        """Return the frames for a room, and the state they lead to. `stale` is None for the whole room."""
        if stale is None:
            stale = (HeaderInvalidated(), MessagesInvalidated()) if self._exists(state.room_id) else (RoomGone(),)
        frames = []
        for one in stale:
            try:
                html, state = self._room_change(state, one, stale)
            except (NoSuchMessage, NoSuchRoom):
                continue  # deleted meanwhile, which is an event of its own
            except StorageError as error:
                sentence = CANNOT_BE_SHOWN if state.share else str(error)
                html = partial("messages", "outerHTML", self._fragments.notice(sentence))
            if html:
                frames.append(text_frame(html))
        return b"".join(frames), state

    def ended_frame(self) -> bytes:
        """Return the last frame for a tab whose share has ended."""
        return text_frame(self._ended())

    def _ended(self) -> str:
        return partial("room", "outerHTML", self._fragments.share_ended(SHARE_ENDED, ASK_OWNER))

    def _fragments_for(self, state: TabState) -> Fragments:
        return self._fragments.for_share(state.share) if state.share else self._fragments

    def _shared_change(self, state: TabState, stale: ListInvalidation, shared: dict[object, str]) -> str:
        is_open = not isinstance(stale, DefaultModelInvalidated) and stale.room_id == state.room_id
        key = (stale, is_open, state.prefix)
        if key not in shared:
            shared[key] = self._list_change(state, stale)
        return shared[key]

    def _default_model(self) -> str:
        return partial("model", "outerMorph", self._fragments.default_model())

    def _list_change(self, state: TabState, stale: ListInvalidation) -> str:
        if isinstance(stale, DefaultModelInvalidated):
            return self._default_model()
        target = dom_id("room", stale.room_id)
        try:
            room = self._overseer.record(stale.room_id)
        except NoSuchRoom:
            # It may have been the last archived room.
            link = self._fragments.archive_link(self._overseer.rooms(limit=1))
            return partial(target, "delete", "") + partial("rooms-archived", "outerHTML", link)
        if not room.listed and room.id != state.room_id:  # a tab is told of such a room only while it shows it
            return ""
        row = self._fragments.row(room, active=state.room_id)
        if isinstance(stale, MovedToTop) and room.listed:
            top = dom_id("rooms", "pinned" if room.pinned else "today")
            return partial(target, "delete", "") + partial(top, "afterend", row)
        return partial(target, "outerMorph", row)

    def _room_change(
        self, state: TabState, change: RoomInvalidation, stale: Sequence[RoomInvalidation]
    ) -> tuple[str, TabState]:
        room_id, fragments = state.room_id, self._fragments_for(state)
        room = self._overseer.room(room_id)
        match change:
            case GrowingPartInvalidated(number, position):
                if MessageInvalidated(number) in stale:
                    return "", state
                return self._growth(state, number, position)
            case MessageInvalidated(number):
                return self._message(state, number)
            case PartInvalidated(number, position):
                parts = room.message(number).parts
                if MessageInvalidated(number) in stale or position >= len(parts):
                    return "", state  # part of the whole message, or deleted by a retry
                target = dom_id("part", number, position)
                return partial(target, "outerMorph", fragments.part(room_id, number, position, parts[position])), state
            case ExchangeAdded(number, answer, beside):
                question, *answers = map(room.message, (number, answer, *beside))
                html = fragments.exchange(room_id, question, answers)
                return partial(dom_id("after", number - 1), "outerHTML", html), state
            case MessagesInvalidated():
                page = room.messages()
                html = partial("messages", "outerMorph", fragments.messages(room_id, page))
                return html + self._context(state, page.usage), state.without_cursors()
            case ContextLineInvalidated():
                if state.share:
                    return "", state
                line = fragments.context_line() if (number := room.context_start()) else ""
                inserted = partial(dom_id("message", number), "beforebegin", line) if line else ""
                return partial("reading", "delete", "") + inserted, state
            case HeaderInvalidated():
                record = room.record()
                header = fragments.share_header(record) if state.share else fragments.header(record, room.settings())
                return partial("header", "outerMorph", header), state
            case RoomGone():
                if state.share:
                    return self._ended(), replace(state, gone=True)
                return partial("messages", "outerHTML", fragments.notice(ROOM_DELETED)), replace(state, gone=True)

    def _message(self, state: TabState, number: int) -> tuple[str, TabState]:
        room = self._overseer.room(state.room_id)
        message = room.message(number)
        html, cursor = self._fragments_for(state).message_and_cursor(state.room_id, message)
        frame = partial(dom_id("message", number), "outerMorph", html)
        usage = message.usage if message.finished else None
        if usage and message.lane:  # it need not be the one that the conversation goes on with
            usage = room.messages().usage
        return frame + (self._context(state, usage) if usage else ""), state.with_cursor(number, cursor)

    def _context(self, state: TabState, usage: Usage | None) -> str:
        if state.share:
            return ""
        return partial("context", "outerMorph", self._fragments.context(usage))

    def _growth(self, state: TabState, number: int, position: int) -> tuple[str, TabState]:
        cursor = next((one for one in state.cursors if (one.number, one.position) == (number, position)), None)
        if cursor is None:
            return self._message(state, number)
        growth = self._answers.growth(state.room_id, number, position, since=cursor.blocks)
        if growth is None:
            return "", state
        target = dom_id("part", number, position)
        html = partial(f"{target}-open", "innerHTML", growth.open)
        if growth.done:
            html = partial(f"{target}-done", "beforeend", growth.done) + html
        return html, state.with_cursor(number, Cursor(number, position, growth.blocks))

    def _exists(self, room_id: str) -> bool:
        try:
            self._overseer.record(room_id)
        except NoSuchRoom:
            return False
        return True
