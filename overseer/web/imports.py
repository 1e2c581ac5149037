"""The routes of imports: upload files, follow what becomes of them, and read the report."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, g, request
from werkzeug.datastructures import FileStorage

from overseer.domain.errors import StorageUnavailable
from overseer.domain.records import Import, Imported
from overseer.domain.text import Invalid, clean
from overseer.web.extensions import fragments, overseer
from overseer.web.responses import html_response, is_htmx, redirect, wants_page, wants_redirect
from overseer.web.views import number_arg, page_with

bp = Blueprint("imports", __name__)

MAX_UPLOAD_BYTES = 2_000_000_000
MAX_UPLOAD_FIELDS = 100
MAX_WAIT_SECONDS = 600
PAGE_LINES = 100
REFRESH_SECONDS = 2  # of the page without JavaScript
MAX_FILE_NAME_CHARS = 120
UPLOADS = ("imports.create_import",)  # endpoints whose files are stored as they arrive
TOO_LARGE = (
    f"An upload has at most {MAX_UPLOAD_BYTES // 10**9} GB. "
    "Import larger files on the server, with: overseer import FILE"
)
NO_FILE = "Choose a file to import."


def init_app(app: Flask) -> None:
    """Register the routes."""
    app.register_blueprint(bp)


def init_uploads(app: Flask) -> None:
    """Let the files of uploads be stored as they arrive, and removed unless an import takes them."""
    app.before_request(prepare_upload)
    app.teardown_request(lambda _: remove_upload())


def prepare_upload() -> None:
    """Make a directory for the files of the request, if it is an upload."""
    if request.endpoint not in UPLOADS or request.method != "POST":
        return
    if (request.content_length or 0) > MAX_UPLOAD_BYTES:
        abort(413, TOO_LARGE)
    request.max_content_length = MAX_UPLOAD_BYTES
    request.max_form_parts = MAX_UPLOAD_FIELDS
    g.upload_directory = overseer().imports.new_directory()
    request.upload_directory = g.upload_directory  # type: ignore[attr-defined]  # of BoundedRequest
    try:
        request.files  # noqa: B018 - it reads the body
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageUnavailable("The disk is full. Free some space, and import the files again.") from error
        raise


def remove_upload() -> None:
    """Remove the files of the request, unless an import took them."""
    directory: Path | None = g.pop("upload_directory", None)
    for stream in getattr(request, "upload_streams", ()):
        stream.close()
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)
        with suppress(OSError):
            directory.parent.rmdir()


@bp.get("/import")
def show_imports() -> Response:
    html = fragments().imports(overseer().imports.all())
    html = page_with(html, None, title="Import") if wants_page() else html
    return html_response(html, headers={"Vary": "HX-Request"})


@bp.post("/import")
def create_import() -> Response:
    """Import the files of the form.

    A client that is no browser gets the report when the import has ended, or with `Prefer: respond-async` at once.
    """
    files = [file for some in request.files.listvalues() for file in some if file.filename]
    if not files:
        raise Invalid(NO_FILE)
    directory: Path = g.upload_directory
    stored = [(stored_at(file), shown_name(file)) for file in files]
    imports = overseer().imports
    import_id = imports.start(directory, stored)
    g.pop("upload_directory")
    if wants_redirect() or wants_page():
        return redirect("imports.show_import", import_id=import_id)
    if not is_htmx() and "respond-async" not in request.headers.get("Prefer", ""):
        imports.wait(import_id, MAX_WAIT_SECONDS)
    found = imports.find(import_id)
    nothing = found.ended and not found.count("imported") + found.count("skipped")
    response = report(found, status=202 if not found.ended else 422 if nothing else 201)
    response.headers["Location"] = fragments().url("imports.show_import", import_id=import_id)
    return response


@bp.get("/imports/<import_id>")
def show_import(import_id: str) -> Response:
    return report(overseer().imports.find(import_id))


@bp.delete("/imports/<import_id>")
def cancel_import(import_id: str) -> Response:
    overseer().imports.cancel(import_id)
    if wants_redirect():
        return redirect("imports.show_import", import_id=import_id)
    return report(overseer().imports.find(import_id))


def report(found: Import, *, status: int = 200) -> Response:
    """Return the report of an import: as a page, as a fragment, as lines of text, or as JSON."""
    headers = {"Vary": "Accept, HX-Request", "Cache-Control": "no-store"}
    kind = request.accept_mimetypes.best
    after, limit = number_arg("after") or 0, number_arg("limit")
    if kind in ("application/json", "text/plain"):
        lines = overseer().imports.lines(found.id, after=after, limit=-1 if limit is None else limit)
        body = as_json(found, lines) if kind == "application/json" else "".join(as_text(found, lines))
        return Response(body, status, headers, mimetype=kind)
    lines = overseer().imports.lines(found.id, after=after, limit=PAGE_LINES + 1)
    html = fragments().import_report(found, lines[:PAGE_LINES], more=len(lines) > PAGE_LINES, whole=wants_page())
    if wants_page():
        html = page_with(html, None, title="Import", refresh=0 if found.ended else REFRESH_SECONDS)
    return html_response(html, status, headers)


def as_text(found: Import, lines: list[Imported]) -> Iterator[str]:
    """Yield the report: a line for each conversation, and the sums."""
    for line in lines:
        room = fragments().url("rooms.show_room", room_id=line.room) if line.room else ""
        fields = (line.outcome, str(line.messages), line.name, room, line.place, line.reason)
        yield "\t".join(" ".join(field.split()) for field in fields) + "\n"
    yield f"{found.sentence}\n"


def as_json(found: Import, lines: list[Imported]) -> str:
    """Return the report as JSON."""
    return json.dumps(
        {
            "id": found.id,
            "state": found.state,
            "reason": found.reason,
            "files": found.files,
            "created_at": found.created_at,
            "ended_at": found.ended_at,
            "size": found.size,
            "read": found.read,
            "imported": found.count("imported"),
            "skipped": found.count("skipped"),
            "failed": found.count("failed"),
            "conversations": [
                {
                    "outcome": line.outcome,
                    "name": line.name,
                    "messages": line.messages,
                    "room": line.room or None,
                    "url": fragments().url("rooms.show_room", room_id=line.room) if line.room else None,
                    "place": line.place,
                    "reason": line.reason,
                }
                for line in lines
            ],
        },
        ensure_ascii=False,
    )


def stored_at(file: FileStorage) -> Path:
    """Return where a file of the form is stored."""
    file.stream.flush()
    path = Path(file.stream.name)
    file.close()
    return path


def shown_name(file: FileStorage) -> str:
    """Return the name that a client gave a file, as text."""
    name = clean(file.filename or "").replace("\\", "/").rpartition("/")[2]
    return " ".join(name.split())[-MAX_FILE_NAME_CHARS:] or "file"
