"""gzip for text responses, which shrink to a third."""

from __future__ import annotations

import gzip

from cachetools import LRUCache
from flask import Flask, Response, request

from overseer.render.assets import ENDPOINTS

TYPES = ("text/html", "text/css", "text/javascript", "application/javascript", "image/svg+xml")
MIN_BYTES = 1000  # less fits into one packet anyway
LEVEL = 5
FILE_LEVEL = 9  # for static files, which are compressed once
MAX_FILES = 64  # static files that are kept compressed


def init_app(app: Flask) -> None:
    """Compress the responses of the app for clients that accept gzip."""
    files: LRUCache[tuple[str, str], bytes] = LRUCache(MAX_FILES)

    def compress(response: Response) -> Response:
        is_static = request.endpoint in ENDPOINTS
        if (
            response.mimetype not in TYPES
            or response.status_code in (206, 304)
            or response.is_streamed
            and not is_static
        ):
            return response
        if is_static:
            response.vary.add("Accept-Encoding")
        if request.accept_encodings["gzip"] and "Content-Encoding" not in response.headers:
            # Errors are not kept: they have no version, and may contain data of one request.
            _compress(response, files if is_static and response.status_code == 200 else None)
        return response

    app.after_request(compress)


def _compress(response: Response, files: LRUCache[tuple[str, str], bytes] | None) -> None:
    response.direct_passthrough = False  # otherwise the server sends the file itself
    key = (request.path, response.headers.get("ETag", ""))
    body = files.get(key) if files is not None else None
    if body is None:
        plain = response.get_data()
        if len(plain) < MIN_BYTES:
            return
        body = gzip.compress(plain, LEVEL if files is None else FILE_LEVEL, mtime=0)
        if files is not None:
            files[key] = body
    if hasattr(response.response, "close"):
        response.response.close()  # the file, if it was compressed before
    response.set_data(body)
    response.headers["Content-Encoding"] = "gzip"
