"""The media type of an imported file."""

from __future__ import annotations

import mimetypes
import re

MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,60}/[a-z0-9][a-z0-9!#$&^_.+-]{0,60}")
UNKNOWN = "application/octet-stream"


def media_type_of(name: str, given: str) -> str:
    """Return the media type of a file that is no picture, from its name or what the export says.

    It is never that of a picture: what is shown as one is recognised by its content.
    """
    known = mimetypes.types_map.get("." + name.rpartition(".")[2].lower()) or given.partition(";")[0].strip().lower()
    return known if MEDIA_TYPE.fullmatch(known) and not known.startswith("image/") else UNKNOWN
