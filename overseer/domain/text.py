"""Validation and normalisation of text from clients and models."""

from __future__ import annotations

import re
import unicodedata

NEW_ROOM = "New room"
MAX_NAME_CHARS = 120  # of a room
MAX_DERIVED_NAME_CHARS = 48  # of a name that is derived from the first question
MAX_TEXT_CHARS = 200_000  # of a question
MAX_KEY_CHARS = 200  # of an idempotency key
MAX_FILE_NAME_BYTES = 120  # of UTF-8, which leaves room for an id and an extension below the usual 255

# NUL, other control characters and lone surrogates, which HTML cannot represent.
INVALID_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
# HTML cannot represent these either. They become line feeds: word processors use them for line and page breaks.
VERTICAL_WHITESPACE = re.compile(r"[\v\f]")
# Separators of paths, and what Windows does not allow in names or has names for.
NOT_IN_FILE_NAMES = re.compile(r'[/\\:*?"<>|]+')
DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?![^.])", re.I)

FENCE_LINE = re.compile(r"^[ >]*(?:`{3,}|~{3,}).*$", re.M)
LINK = re.compile(r"!?\[([^\[\]]{0,200})\]\([^()\s]{0,500}\)")


class Invalid(Exception):
    """The input is not valid; the message is a sentence for a person."""


class TooLarge(Exception):
    """The text exceeds its limit; the message is a sentence for a person."""


def clean(text: str) -> str:
    """Replace vertical tabs and form feeds by line feeds, and each other invalid character by U+FFFD."""
    text = VERTICAL_WHITESPACE.sub("\n", text)
    if INVALID_CHARACTERS.search(text):
        # Join the halves of surrogate pairs, which JSON may escape separately.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = INVALID_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text)
    return text


def escape_for_log(text: str) -> str:
    """Escape text as printable ASCII, so that it cannot forge log lines or control a terminal."""
    return text.encode("unicode_escape").decode()


def strip_markdown(markdown: str) -> str:
    """Return the text in one line, without the most common Markdown syntax."""
    markdown = LINK.sub(r"\1", FENCE_LINE.sub("", markdown))
    return " ".join(re.sub(r"^[#>\s-]+|[*`|]+", "", markdown, flags=re.M).split())


def room_name(name: str) -> str:
    """Normalise the name of a room. Raises Invalid."""
    name = " ".join(clean(name).split())
    if not any(character.isprintable() and not character.isspace() for character in name):
        raise Invalid("A room needs a name. Type at least one character that can be seen.")
    if len(name) > MAX_NAME_CHARS:
        raise Invalid(f"A room's name has at most {MAX_NAME_CHARS} characters; this one has {len(name)}.")
    return name


def fork_name(name: str) -> str:
    """Return the name of a fork of a room with this name."""
    suffix = " (fork)"
    return name[: MAX_NAME_CHARS - len(suffix)] + suffix


def file_name(name: str, *, default: str = "room") -> str:
    """Return a name for a file, without an extension, that is safe in every folder: visible, short and no path."""
    name = " ".join(unicodedata.normalize("NFC", name).split())
    name = "".join(one for one in name if unicodedata.category(one)[0] != "C")
    name = " ".join(NOT_IN_FILE_NAMES.sub("-", name).split()).lstrip(".-~ ")
    name = name.encode()[:MAX_FILE_NAME_BYTES].decode(errors="ignore").rstrip(". ")
    return f"_{name}" if DEVICE_NAME.match(name) else name or default


def question(text: str) -> str:
    """Normalise the text of a question. Raises Invalid or TooLarge."""
    text = clean(text).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise Invalid("There is nothing to send. Type a message first.")
    if len(text) > MAX_TEXT_CHARS:
        raise TooLarge(
            f"A message has at most {MAX_TEXT_CHARS:,} characters; this one has {len(text):,}. Send it in parts."
        )
    return text


def name_from_text(text: str) -> str:
    """Return a room name that is made of the first words of a question."""
    words = strip_markdown(text) or NEW_ROOM
    if len(words) <= MAX_DERIVED_NAME_CHARS:
        return words
    cut = words[:MAX_DERIVED_NAME_CHARS].rsplit(" ", 1)[0]
    return cut + "…"


def idempotency_key(key: str | None) -> str | None:
    """Normalise an idempotency key; an empty one becomes None. Raises Invalid."""
    if key and len(key) > MAX_KEY_CHARS:
        raise Invalid(f"A key has at most {MAX_KEY_CHARS} characters; this one has {len(key)}.")
    return clean(key) if key else None
