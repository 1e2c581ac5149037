"""The files under static/: each with a version of its content in its address, and so kept by browsers for good.

The style sheets under css/ and the behaviours under js/ are sent joined, as one file each.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from flask import Flask, Response, request

ENDPOINTS = ("static", "joined")
MAX_AGE_SECONDS = 365 * 24 * 3600  # seconds
JOINED = {"style.css": ("css", "text/css"), "app.js": ("js", "text/javascript")}
COMMENT = re.compile(rb"^[ \t]*(?://.*|/\*\*.*\*/[ \t]*)\n", re.M)  # on a line of its own
DRAWING = re.compile(rb'(?<=url\(")([\w-]+\.svg)(?="\))')


class Assets:
    """What is sent for a name under static/."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions: dict[str, tuple[int, str]] = {}

    def version(self, name: str) -> str:
        """A hash of the content, so that a browser may keep it for good."""
        files = self._files(name) + (list(self._folder.glob("*.svg")) if name == "style.css" else [])
        changed = max(path.stat().st_mtime_ns for path in files)
        known = self._versions.get(name)
        if known is None or known[0] != changed:
            known = self._versions[name] = (changed, sha256(self.content(name)).hexdigest()[:12])
        return known[1]

    def content(self, name: str) -> bytes:
        """The file, or all those that are joined in it, by name.

        Each script keeps its names to itself and its comments on the server; what a style sheet names has its version
        in its address too.
        """
        pieces = [path.read_bytes() for path in self._files(name)]
        if name == "app.js":
            pieces = [b"{\n%s}\n" % COMMENT.sub(b"", piece) for piece in pieces]
        return DRAWING.sub(self._versioned, b"".join(pieces)) if name == "style.css" else b"".join(pieces)

    def _versioned(self, found: re.Match[bytes]) -> bytes:
        return found[0] + b"?v=" + self.version(found[1].decode()).encode()

    def _files(self, name: str) -> list[Path]:
        if name not in JOINED:
            return [self._folder / name]
        folder, _ = JOINED[name]
        return sorted((self._folder / folder).glob(f"*.{folder}"))


def init_app(app: Flask) -> None:
    """Serve the joined files; the others are Flask's."""
    assets = Assets(Path(app.static_folder or ""))

    def joined(name: str) -> Response:
        response = Response(assets.content(name), mimetype=JOINED[name][1])
        response.cache_control.public, response.cache_control.max_age = True, MAX_AGE_SECONDS
        response.set_etag(assets.version(name))
        response.make_conditional(request)
        return response

    names = ", ".join(f"'{name}'" for name in JOINED)
    app.add_url_rule(f"/static/<any({names}):name>", endpoint="joined", view_func=joined)
