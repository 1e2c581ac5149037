"""Hits of a search as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from overseer.domain.search import Found
from overseer.render.fragments import HitsOfRoom


def as_lines(
    groups: Iterable[HitsOfRoom], found: Found, url: Callable[..., str], *, sentence: str = ""
) -> Iterator[str]:
    """Yield a line for each hit: the path of the message or room, the room's name and the snippet, between tabs.

    Without any, yield why: the `sentence`, or that nothing was found, which may be because the index is being built.
    """
    if not found.hits:
        yield f"{sentence or 'Nothing was found.'}\n"
    if found.progress:
        yield "The search index is being built: {:,} of {:,} rooms. More may be found later.\n".format(*found.progress)
    for room, hits in groups:
        for hit in hits:
            path = (
                url("rooms.show_message", room_id=room.id, number=hit.message)
                if hit.message
                else url("rooms.show_room", room_id=room.id)
            )
            words = "".join(piece.text for piece in hit.snippet).replace("\t", " ").strip()
            yield f"{path}\t{room.name}\t{words}\n"
