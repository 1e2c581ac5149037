"""Serve the files under static/, which browsers cache for good: each URL contains a hash of the content.

The style sheets under css/, the scripts under js/, and htmx with its extension are each sent as one joined file. So are
the scripts of a live share, and the style of an exported page. All files of a first page are sent from here, with few
headers; Flask sends the others.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from flask import Flask, Response, request

ENDPOINTS = ("static", "joined")
MAX_AGE_SECONDS = 365 * 24 * 3600
SHARE_SCRIPTS = "js/formulas.js js/growing.js js/messages.js js/scroll.js js/times.js share.js"
JOINED = {  # each of which files, those of a pattern in the order of their names, and its media type
    "style.css": ("css/*.css", "text/css"),
    "export.css": ("css/tokens.css export.css css/markdown.css css/formulas.css", "text/css"),
    "app.js": ("js/*.js", "text/javascript"),
    "share.js": (SHARE_SCRIPTS, "text/javascript"),
    "htmx.js": ("vendor/h*.min.js", "text/javascript"),
    "store.js": ("store.js", "text/javascript"),
    "icons.svg": ("icons.svg", "image/svg+xml"),
}
# On a line of its own, or after code, where it is one only if no quotation mark follows: it may be part of a text.
SCRIPT_COMMENT = re.compile(rb"^[ \t]*(?://.*|/\*\*.*\*/[ \t]*)\n|[ \t]+// [^\"'`\n]*$", re.M)
STYLE_COMMENT = re.compile(rb"/\*.*?\*/", re.S)
STYLE_SPACE = re.compile(rb"\s*([{};])\s*|(?<=[:,])\s+")
INDENTATION = re.compile(rb"^[ \t\n]+", re.M)
FONT_FACE = re.compile(rb"@font-face\s*\{[^}]*\}\s*")
IMAGE_URL = re.compile(rb'(?<=url\(")[\w-]+\.svg(?="\))')


class Assets:
    """Returns the content and version of files under static/, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[int, str, bytes]] = {}  # by name: the newest change, the version, the content

    def version(self, name: str) -> str:
        """Return a hash of the content. It is computed again when a file has changed."""
        return self._current(name)[1]

    def content(self, name: str) -> bytes:
        """Return a file, or the files that are joined in it. They are read again when one has changed."""
        return self._current(name)[2]

    def _current(self, name: str) -> tuple[int, str, bytes]:
        files = self._files(name) + (list(self._folder.glob("*.svg")) if name == "style.css" else [])
        changed = max(path.stat().st_mtime_ns for path in files)
        known = self._known.get(name)
        if known is None or known[0] != changed:
            content = self._read(name)
            known = self._known[name] = (changed, sha256(content).hexdigest()[:12], content)
        return known

    def _read(self, name: str) -> bytes:
        """Return a file, or the files that are joined in it, in the order of their names.

        Each script gets a block of its own, which scopes its names. Images in style sheets get their version in the
        URL. Comments and indentation are left out, and spaces in style sheets: no script has a text over several lines,
        and no style sheet one with braces or colons.
        """
        parts = [path.read_bytes() for path in self._files(name)]
        if name in ("app.js", "share.js"):
            return INDENTATION.sub(b"", b"".join(b"{\n%s}\n" % SCRIPT_COMMENT.sub(b"", part) for part in parts))
        if name == "store.js":
            return INDENTATION.sub(b"", SCRIPT_COMMENT.sub(b"", parts[0]))
        if name in ("style.css", "export.css"):
            style = b"".join(STYLE_SPACE.sub(rb"\1", STYLE_COMMENT.sub(b"", part)) for part in parts)
            # An exported page may load no font.
            return FONT_FACE.sub(b"", style) if name == "export.css" else IMAGE_URL.sub(self._versioned, style)
        return b"\n".join(parts)

    def _versioned(self, name: re.Match[bytes]) -> bytes:
        return name[0] + b"?v=" + self.version(name[0].decode()).encode()

    def _files(self, name: str) -> list[Path]:
        if name not in JOINED:
            return [self._folder / name]
        return [path for pattern in JOINED[name][0].split() for path in sorted(self._folder.glob(pattern))]


def init_app(app: Flask) -> None:
    """Serve the files of JOINED. Flask serves the others."""
    assets = app.extensions["assets"] = Assets(Path(app.static_folder or ""))

    def joined(name: str) -> Response:
        response = Response(assets.content(name), mimetype=JOINED[name][1])
        response.cache_control.public, response.cache_control.max_age = True, MAX_AGE_SECONDS
        response.set_etag(assets.version(name))
        response.make_conditional(request)
        return response

    names = ", ".join(f"'{name}'" for name in JOINED)
    app.add_url_rule(f"/static/<any({names}):name>", endpoint="joined", view_func=joined)
