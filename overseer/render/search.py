"""Hits of a search as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from overseer.render.fragments import HitsOfRoom


def as_lines(groups: Iterable[HitsOfRoom], url: Callable[..., str]) -> Iterator[str]:
    """Yield a line for each hit: the path of the message or room, the room's name and the snippet, between tabs."""
    for room, hits in groups:
        for hit in hits:
            path = (
                url("rooms.show_message", room_id=room.id, number=hit.message)
                if hit.message
                else url("rooms.show_room", room_id=room.id)
            )
            words = "".join(piece.text for piece in hit.snippet).replace("\t", " ").strip()
            yield f"{path}\t{room.name}\t{words}\n"
