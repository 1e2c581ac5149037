"""Words from outside: what of them can be kept at all, how many, and how they are shortened."""

from __future__ import annotations

import re

NEW_ROOM = "New room"
MAX_NAME_CHARS = 120  # characters of a room's name,
MAX_DERIVED_NAME_CHARS = 48  # of one that is made of the first words said in it,
MAX_TEXT_CHARS = 200_000  # of a question,
MAX_KEY_CHARS = 200  # and of the key it is sent with

# NUL, other control characters and lone surrogates: HTML cannot hold them.
INVALID_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
# HTML cannot hold these two either, but they end a line: a word processor's manual line break, and a page break.
VERTICAL_WHITESPACE = re.compile(r"[\v\f]")


class Invalid(Exception):
    """A name or a text that cannot be taken; the message is a sentence for a person."""


class TooLarge(Exception):
    """A text over the limit; the message is a sentence for a person."""


def clean(text: str) -> str:
    """Return the text with vertical tabs and form feeds as line feeds, and U+FFFD for each other unusable character."""
    text = VERTICAL_WHITESPACE.sub("\n", text)
    if INVALID_CHARACTERS.search(text):
        # Halves that were escaped one by one, as JSON may, belong together.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = INVALID_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text)
    return text


def escape_for_log(text: str) -> str:
    """Return text from outside as visible ASCII: it begins no line of its own in a log, and a terminal obeys none."""
    return text.encode("unicode_escape").decode()


def strip_markdown(markdown: str) -> str:
    """The words of a text, without line breaks and the commonest marks of Markdown."""
    return " ".join(re.sub(r"^[#>\s-]+|[*`|]+", "", markdown, flags=re.M).split())


def room_name(name: str) -> str:
    """A name as it is kept. Raises Invalid."""
    name = " ".join(clean(name).split())
    if not any(letter.isprintable() and not letter.isspace() for letter in name):
        raise Invalid("A room needs a name. Type at least one character that can be seen.")
    if len(name) > MAX_NAME_CHARS:
        raise Invalid(f"A room's name has at most {MAX_NAME_CHARS} characters; this one has {len(name)}.")
    return name


def question(text: str) -> str:
    """A question as it is kept. Raises Invalid or TooLarge."""
    text = clean(text).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise Invalid("There is nothing to send. Type a message first.")
    if len(text) > MAX_TEXT_CHARS:
        raise TooLarge(f"A message has at most {MAX_TEXT_CHARS:,} characters; this one has {len(text):,}. Send it in parts.")
    return text


def name_from_text(text: str) -> str:
    """A name for a room, from what was said first in it."""
    words = strip_markdown(text) or NEW_ROOM
    if len(words) <= MAX_DERIVED_NAME_CHARS:
        return words
    cut = words[:MAX_DERIVED_NAME_CHARS].rsplit(" ", 1)[0]
    return cut + "…"


def idempotency_key(key: str | None) -> str | None:
    """A key as it is kept; an empty one is none. Raises Invalid."""
    if key and len(key) > MAX_KEY_CHARS:
        raise Invalid(f"A key has at most {MAX_KEY_CHARS} characters; this one has {len(key)}.")
    return clean(key) if key else None
