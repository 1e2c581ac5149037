"""Downloads: a room in several formats, and all rooms as a zip archive."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import RawIOBase
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import quote
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from flask import Blueprint, Flask, Response, abort, request

from overseer.domain.errors import NoSuchRoom, StorageError
from overseer.domain.records import Room
from overseer.domain.text import clean, file_name
from overseer.domain.times import utc
from overseer.render.export import as_markdown
from overseer.rooms.overseer import Overseer
from overseer.storage.room_copy import RoomCopy
from overseer.web.extensions import fragments, overseer
from overseer.web.responses import html_response, wants_page
from overseer.web.views import ROOM, page_with

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

bp = Blueprint("exports", __name__)

CHUNK_BYTES = 2**16
PROBLEMS = "problems.txt"  # names the rooms that are not in the archive
PROBLEM = "{name} (room {id}) is not here: {sentence}\n"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip archive can have


@dataclass(frozen=True, slots=True)
class Format:
    """A format of exports: its name, what it has, its media type, and how it is made."""

    name: str
    about: str
    media_type: str
    make: Callable[[RoomCopy], BinaryIO]


def _markdown(room: RoomCopy) -> BinaryIO:
    return room.file(as_markdown(room.name, room.transcript()))


FORMATS = {  # by the extension
    "md": Format("Markdown", "What is shown, to read", "text/markdown; charset=utf-8", _markdown),
    "json": Format("JSON", "Everything, to import again", "application/json", RoomCopy.json),
    "jsonl": Format("JSON Lines", "For other programs", "application/jsonl", RoomCopy.jsonl),
    "sqlite": Format("SQLite", "The room’s database", "application/vnd.sqlite3", RoomCopy.sqlite),
}


def init_app(app: Flask) -> None:
    """Register the routes."""
    app.register_blueprint(bp)


@bp.get(f"{ROOM}/export")
def list_formats(room_id: str) -> Response:
    """Show the formats that a room can be downloaded in: as menu items, or as a page."""
    room = overseer().record(room_id)
    html = fragments().exports(room, FORMATS, whole=wants_page())
    return html_response(page_with(html, room_id) if wants_page() else html)


@bp.get(f"{ROOM}/export.<any({', '.join(FORMATS)}):extension>")
def export_room(room_id: str, extension: str) -> Response:
    form = FORMATS[extension]
    name = overseer().record(room_id).name
    file = overseer().export(room_id, form.make)
    response = Response(_chunks(file), content_type=form.media_type, headers=download_headers(name, extension))
    response.content_length = os.fstat(file.fileno()).st_size
    response.call_on_close(file.close)  # also called if the client disconnects
    return response


@bp.get("/export.zip")
def export_all() -> Response:
    """Send all rooms but temporary ones, each as a file of the `format`."""
    extension = request.args.get("format") or "json"
    if extension not in FORMATS:
        abort(400, f"format must be one of {', '.join(FORMATS)}.")
    headers = download_headers(f"Overseer {datetime.now(UTC):%Y-%m-%d}", "zip")
    return Response(_archive(overseer(), extension), content_type="application/zip", headers=headers)


def download_headers(name: str, extension: str) -> dict[str, str]:
    """Return the headers that make a browser save a response, under a name that is safe to save (RFC 6266)."""
    name = file_name(name)
    plain = "".join(one if one.isascii() and one not in '"%\\' else "_" for one in name)
    disposition = f"attachment; filename=\"{plain}.{extension}\"; filename*=UTF-8''{quote(name, safe='')}.{extension}"
    return {"Content-Disposition": disposition, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Output(RawIOBase):
    """What ZipFile has written and nobody has taken yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: ReadableBuffer) -> int:
        self._pieces.append(bytes(piece))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _archive(rooms: Overseer, extension: str) -> Iterator[bytes]:
    """Yield a zip archive with a file for each room. Those that cannot be exported are named in PROBLEMS."""
    output, problems = Output(), []
    with ZipFile(cast(BinaryIO, output), "w", ZIP_DEFLATED) as archive:
        for room_id in rooms.room_ids():
            try:
                room = rooms.record(room_id)
                if room.temporary:
                    continue
                file = rooms.export(room_id, FORMATS[extension].make)
            except NoSuchRoom:
                continue  # deleted meanwhile
            except StorageError as error:
                name = " ".join(clean(room.name).split())
                problems.append(PROBLEM.format(name=name, id=room_id, sentence=error))
                continue
            with file, archive.open(_member(room, extension, file), "w") as member:
                for chunk in _chunks(file):
                    member.write(chunk)
                    yield output.take()
        if problems:
            archive.writestr(PROBLEMS, "".join(problems))
    yield output.take()


def _member(room: Room, extension: str, file: BinaryIO) -> ZipInfo:
    """Return the header of a room's file. Its name has the id of the room, so that no other has the same."""
    at = utc(room.active_at).timetuple()[:6]
    member = ZipInfo(f"{file_name(room.name)} {room.id}.{extension}", max(at, ZIP_EPOCH))
    member.compress_type = ZIP_DEFLATED
    member.file_size = os.fstat(file.fileno()).st_size  # decides whether it needs the form for more than 4 GB
    return member


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a file. Between chunks, other requests go on."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        time.sleep(0)
