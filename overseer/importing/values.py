"""Take what is usable from the values of an export, which may be missing or of any type."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from overseer.domain.text import clean

LARGEST_NUMBER = 10**30  # Python refuses to write very large ones
NOTHING: Mapping[str, Any] = {}
EARLIEST, LATEST = 0, 253_402_300_800_000  # 1970 and 10000, in milliseconds
SMALLEST_MILLISECONDS = 100_000_000_000  # smaller numbers are seconds: as milliseconds, this is 1973


def mapping(value: object) -> Mapping[str, Any]:
    """Return the object, or an empty one."""
    return value if isinstance(value, dict) else NOTHING


def items(value: object) -> Sequence[Any]:
    """Return the list, or an empty one."""
    return value if isinstance(value, list) else ()


def text(value: object) -> str:
    """Return the string, cleaned of what HTML cannot represent, or an empty one. A number becomes its digits."""
    if isinstance(value, str):
        return clean(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    return str(value) if isinstance(value, float) or abs(value) < LARGEST_NUMBER else ""


def identifier(value: object) -> str | None:
    """Return a string or number that names something, or None."""
    return text(value)[:200] or None


def milliseconds(value: object) -> int | None:
    """Return a time as UTC milliseconds: of seconds or milliseconds since 1970, or of an ISO 8601 text. None if it is
    none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            if value.strip().replace(".", "", 1).isdigit():
                return milliseconds(float(value))
            moment = datetime.fromisoformat(value.strip())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            value = moment.timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if (found := number(value)) is None:
        return None
    result = round(found * 1000 if abs(found) < SMALLEST_MILLISECONDS else found)
    return result if EARLIEST < result < LATEST else None


def number(value: object) -> float | None:
    """Return the number, or None if it is none or not finite."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if math.isfinite(found) else None
    return None


def digest(*values: object) -> str:
    """Return an id that is made of values, the same in every run."""
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()[:24]
