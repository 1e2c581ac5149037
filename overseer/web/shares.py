"""Export a room as one HTML page, share it, and show shares to visitors, who need no log-in."""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Iterator
from gzip import decompress
from io import BytesIO

from flask import Blueprint, Flask, Response, abort, request, send_file

from overseer.domain.errors import NoSuchFile, NoSuchRoom, StorageError, TooManyShares
from overseer.domain.messages import PICTURE_TYPES, File
from overseer.domain.shares import MAX_SHARES, Share, parse_expiry, parse_live
from overseer.domain.text import TooLarge
from overseer.live.renderer import SHARE_ENDED
from overseer.render.fragments import EXPORT_POLICY
from overseer.rooms.room_handle import RoomHandle
from overseer.web.exports import download_headers
from overseer.web.extensions import fragments, hub, overseer
from overseer.web.responses import (
    CANNOT_BE_OPENED,
    VISITOR_HEADERS,
    html_response,
    is_htmx,
    redirect,
    wants_page,
    wants_redirect,
)
from overseer.web.views import ROOM, number_in, page_with

bp = Blueprint("shares", __name__)

MAX_EMBEDDED_BYTES = 4_000_000  # of a file in an exported page; larger ones are only named
MAX_SNAPSHOT_CHARS = 16_000_000
GZIP_WBITS = 31
COMPRESSION_LEVEL = 6
COMPRESSED_AT_ONCE_BYTES = 100_000
SHARES = f"{ROOM}/shares"
SHARE = "/shares/<address>"

# An exported page runs nothing and loads nothing. A link may open another page.
PAGE_POLICY = f"{EXPORT_POLICY}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
LIVE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILE_POLICY = "default-src 'none'; sandbox"


def init_app(app: Flask) -> None:
    """Register the routes."""
    app.register_blueprint(bp)


@bp.get(f"{ROOM}/export.html")
def export_html(room_id: str) -> Response:
    """Return the shown path as one page that needs nothing else."""
    room = overseer().room(room_id)
    name = room.record().name
    pieces = exported(room)
    headers = {**download_headers(name, "html"), "Content-Security-Policy": PAGE_POLICY}
    return Response((piece.encode() for piece in pieces), mimetype="text/html", headers=headers)


@bp.get(SHARES)
def list_shares(room_id: str) -> Response:
    room = overseer().room(room_id)
    shares = room.shares()
    if wants_page():
        return html_response(page_with(fragments().sharing(room.record(), shares), room_id, reloads=False))
    return html_response(fragments().shares(room_id, shares))


@bp.post(SHARES)
def create_share(room_id: str) -> Response:
    """Share the room as it is now, or with `live=1` as it will be."""
    live, seconds = parse_live(request.form.get("live", "")), parse_expiry(request.form.get("expires", ""))
    room = overseer().room(room_id)
    if len(room.shares()) >= MAX_SHARES:  # before the work
        raise TooManyShares(f"A room has at most {MAX_SHARES} shares. Revoke one that is not needed any more.")
    share = room.share(None if live else snapshot(room), seconds=seconds)
    if wants_redirect():
        return redirect("shares.list_shares", room_id=room_id)
    url = fragments().url("shares.show_share", address=share.address)
    return html_response(fragments().shares(room_id, room.shares()), 201, {"Location": url})


@bp.delete(f"{SHARES}/<number:number>")
def destroy_share(room_id: str, number: int) -> Response:
    room = overseer().room(room_id)
    room.revoke_share(number)
    if wants_redirect():
        return redirect("shares.list_shares", room_id=room_id)
    return html_response(fragments().shares(room_id, room.shares()))


@bp.get(SHARE)
def show_share(address: str) -> Response:
    """Show a share to a visitor: its snapshot, or the room as it is now, with `before=` earlier messages."""
    try:
        visit = overseer().visit_share(address)
        if visit is None:
            abort(404, SHARE_ENDED)
        return snapshot_response(visit.page) if visit.page is not None else live_response(visit.share)
    except NoSuchRoom:  # deleted at this moment
        abort(404, SHARE_ENDED)
    except StorageError:  # its message is for the owner
        abort(503, CANNOT_BE_OPENED)


@bp.get(f"{SHARE}/files/<sha256>")
def show_shared_file(address: str, sha256: str) -> Response:
    """Return a file of a live share that is shown in the room."""
    try:
        share = overseer().find_share(address)
        if share is None or not share.live or not overseer().room(share.room_id).is_file_shown(sha256):
            abort(404, SHARE_ENDED)
        media_type, content = overseer().room(share.room_id).file(sha256)
    except (NoSuchRoom, NoSuchFile):
        abort(404, SHARE_ENDED)
    except StorageError:
        abort(503, CANNOT_BE_OPENED)
    is_picture = media_type in PICTURE_TYPES
    response = send_file(
        BytesIO(content),
        mimetype=media_type if is_picture else "application/octet-stream",
        as_attachment=not is_picture,
        download_name=None if is_picture else "file",
        etag=sha256,
        conditional=True,
    )
    response.headers.update({**VISITOR_HEADERS, "Content-Security-Policy": FILE_POLICY})
    return response


def snapshot_response(page: bytes) -> Response:
    """Return a stored page, which is compressed with gzip."""
    accepts_gzip = bool(request.accept_encodings["gzip"])
    headers = {**VISITOR_HEADERS, "Content-Security-Policy": PAGE_POLICY, "Vary": "Accept-Encoding"}
    if accepts_gzip:
        headers["Content-Encoding"] = "gzip"
    return Response(page if accepts_gzip else decompress(page), headers=headers, mimetype="text/html")


def live_response(share: Share) -> Response:
    """Return the page of a live share, or to htmx the messages before a number. Other versions are not shown."""
    room, shared = overseer().room(share.room_id), fragments().for_share(share.address)
    before = number_in(request.args.get("before"), name="before")
    revision = hub().revision(share.room_id)
    page = room.messages(before=before)
    if page.hidden:
        abort(404, SHARE_ENDED)
    html = (
        shared.messages(share.room_id, page)
        if before is not None and is_htmx()
        else shared.live_share(room.record(), page, revision=revision)
    )
    return html_response(html, headers={**VISITOR_HEADERS, "Content-Security-Policy": LIVE_POLICY})


def exported(room: RoomHandle) -> Iterator[str]:
    """Return the page of a room that stands alone, in pieces, with the messages that have ended.

    The first messages are read at once, so that an error is raised here.
    """
    record, messages = room.record(), room.transcript()
    renderer = fragments().for_export(lambda file: data_url(room, file))
    return renderer.export(record, (one for one in messages if one.finished), now=overseer().clock())


def snapshot(room: RoomHandle) -> bytes:
    """Return the page of a room that stands alone, compressed with gzip. Raises TooLarge."""
    compressor, size = zlib.compressobj(COMPRESSION_LEVEL, wbits=GZIP_WBITS), 0
    compressed = []
    for piece in exported(room):
        size += len(piece)
        if size > MAX_SNAPSHOT_CHARS:
            raise TooLarge(
                f"A snapshot has at most {MAX_SNAPSHOT_CHARS // 1_000_000} MB with its pictures and files; this "
                "conversation has more. Share it live, or export it as a file."
            )
        data = piece.encode()
        for start in range(0, len(data), COMPRESSED_AT_ONCE_BYTES):
            compressed.append(compressor.compress(data[start : start + COMPRESSED_AT_ONCE_BYTES]))
            time.sleep(0)  # other greenlets may run
    return b"".join([*compressed, compressor.flush()])


def data_url(room: RoomHandle, file: File) -> str:
    """Return a file as a URL that contains it, or an empty string if it is missing or too large.

    What is not a picture gets no media type that a browser would show.
    """
    try:
        media_type, content = room.file(file.sha256)
    except NoSuchFile:
        return ""
    if len(content) > MAX_EMBEDDED_BYTES:
        return ""
    media_type = media_type if media_type in PICTURE_TYPES else "application/octet-stream"
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
