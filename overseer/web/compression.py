"""Answers in gzip for who takes it: htmx, styles and pages are text, and shrink to a third."""

from __future__ import annotations

import gzip
from collections import OrderedDict

from flask import Flask, Response, request

from overseer.render.assets import ENDPOINTS

TYPES = ("text/html", "text/css", "text/javascript", "application/javascript", "image/svg+xml")
WORTH = 1000  # bytes; less fits in one packet anyway
LEVEL = 5
FILE_LEVEL = 9  # of static files, which are compressed once
FILES = 64  # static files that are kept compressed


def init_app(app: Flask) -> None:
    """Compress what the app answers."""
    files: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def compress(response: Response) -> Response:
        static = request.endpoint in ENDPOINTS
        if response.mimetype not in TYPES or response.status_code in (206, 304) or response.is_streamed and not static:
            return response
        if static:
            response.vary.add("Accept-Encoding")
        if request.accept_encodings["gzip"] and "Content-Encoding" not in response.headers:
            # An error has no version, and may show what is for one reader only.
            _shrink(response, files if static and response.status_code == 200 else None)
        return response

    app.after_request(compress)


def _shrink(response: Response, files: OrderedDict[tuple[str, str], bytes] | None) -> None:
    response.direct_passthrough = False  # a file is sent by the server itself otherwise
    key = (request.path, response.headers.get("ETag", ""))
    body = files.get(key) if files is not None else None
    if body is None:
        plain = response.get_data()
        if len(plain) < WORTH:
            return
        body = gzip.compress(plain, LEVEL if files is None else FILE_LEVEL, mtime=0)
        if files is not None:
            files[key] = body
            while len(files) > FILES:
                files.popitem(last=False)
    if hasattr(response.response, "close"):
        response.response.close()  # the file, when it was compressed before
    response.set_data(body)
    response.headers["Content-Encoding"] = "gzip"
