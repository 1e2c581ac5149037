"""Make parts of messages of what an export has: links, files, arguments of tools, and content of unknown types."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from overseer.domain.addresses import MAX_URL_CHARS, split_url
from overseer.domain.messages import Source, Text
from overseer.domain.text import clean
from overseer.importing import values
from overseer.importing.conversations import Attachment, Unreadable

MAX_WORDS = 2000  # values that are looked at in content of an unknown type
MAX_WORDS_CHARS = 20_000  # of what is shown of it
MAX_BASE64_CHARS = 140_000_000
WORDY_KEYS = frozenset(
    ("text", "content", "parts", "title", "name", "summary", "snippet", "description", "message", "result", "results")
    + (
        "output",
        "output_str",
        "value",
        "url",
        "uri",
        "caption",
        "prompt",
        "transcript",
        "transcription",
        "code",
        "query",
    )
    + ("markdown", "body", "items", "error")
)
# The text of a link into the sandbox of the tool that made a file; the file is gone.
DEAD_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\(<?sandbox:[^()\n]*(?:\([^()\n]*\)[^()\n]*)?\)")
BACKTICKS = re.compile(r"`+")
FENCE = "```"
LINK_END = str.maketrans({"(": "%28", ")": "%29", "<": "%3C", ">": "%3E", " ": "%20", "\\": "%5C"})
DATA_URL = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)?(?:;[a-z0-9=.+-]+)*;base64,", re.IGNORECASE)


def source(url: object, title: object = "") -> Source | None:
    """Return the page with this address, or None if it is no address of a page."""
    address = values.text(url).strip()
    if len(address) > MAX_URL_CHARS:
        return None
    found = split_url(address)
    if found is None or found.scheme not in ("http", "https") or not found.hostname:
        return None
    return Source(address, " ".join(values.text(title).split())[:500])


def link(page: Source) -> str:
    """Return a link to the page, as Markdown."""
    words = (page.title or page.host).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    return f"[{words}]({page.url.translate(LINK_END)})"


def without_dead_links(text: str) -> str:
    """Return the text with the words of links to files that no longer exist instead of the links."""
    return DEAD_LINK.sub(r"\1", text) if "](" in text else text


def code_block(code: str, language: str = "") -> str:
    """Return the code as a block of Markdown."""
    longest = max((len(found) for found in BACKTICKS.findall(code)), default=0)
    fence = "`" * max(len(FENCE), longest + 1)
    words = re.sub(r"[^\w+#.-]", "", language)[:30]
    return f"{fence}{words}\n{code.rstrip()}\n{fence}"


def json_of(value: object) -> str:
    """Return a value of the export as JSON."""
    try:
        return clean(json.dumps(value, ensure_ascii=False))
    except (ValueError, TypeError, RecursionError):
        return "{}"


def arguments(given: object, name: str) -> str:
    """Return the arguments of a tool call as the JSON of an object."""
    if isinstance(given, dict):
        return json_of(given)
    if not isinstance(given, str):
        return json_of({"input": given}) if given else "{}"
    words = clean(given)
    if not words.strip():
        return "{}"
    if words.lstrip().startswith("{") and not name.startswith("python"):
        try:
            if isinstance(json.loads(words), dict):
                return words
        except (ValueError, RecursionError):
            pass
    return json_of({"code": words})


def words_of(value: object) -> str:
    """Return the words that are found in content of an unknown type."""
    return "\n\n".join(dict.fromkeys(filter(None, map(str.strip, _words(value)))))


def _words(value: object) -> Iterator[str]:
    left: list[object] = [value]
    chars = MAX_WORDS_CHARS
    for _ in range(MAX_WORDS):
        if not left or chars <= 0:
            return
        one = left.pop()
        if isinstance(one, str) and one[:5].lower() != "data:":
            yield clean(one[:chars])
            chars -= len(one)
        elif isinstance(one, list):
            left.extend(reversed(one[:MAX_WORDS]))
        elif isinstance(one, dict):
            left.extend(reversed([found for key, found in one.items() if key in WORDY_KEYS][:MAX_WORDS]))


def unknown(kind: object, value: object) -> Text:
    """Return the words of content of an unknown type, which is named."""
    name = " ".join(values.text(kind).split())[:100] or "unnamed"
    words = words_of(value)
    return Text(f"[unknown content of type “{name}”]" + (f"\n\n{words}" if words else ""))


def text_file(name: str, text: str, media_type: str = "") -> Attachment:
    """Return a file whose content is a text."""
    return Attachment(name, media_type or "text/plain", partial(_encode, text))


def base64_file(name: str, data: object, media_type: object = "", text: str = "") -> Attachment:
    """Return a file whose content is in Base64, perhaps in a data URL. It is decoded when it is read."""
    kind = values.text(media_type).strip()
    if not isinstance(data, str) or not data:
        return Attachment(name, kind, None, text)
    if found := DATA_URL.match(data[:200]):
        return Attachment(name, kind or found[1] or "", partial(decode_base64, data, found.end()), text)
    return Attachment(name, kind, partial(decode_base64, data, 0), text)


def first_found(find: Callable[[str], Callable[[], bytes] | None], *names: str) -> Callable[[], bytes] | None:
    """Return what reads the first of these files that the export has."""
    return next((read for name in names if name and (read := find(name)) is not None), None)


def plain(value: object) -> object:
    """Return a value that the extended JSON of MongoDB wraps, such as {"$date": {"$numberLong": "1"}}."""
    for _ in range(4):
        if not isinstance(value, dict) or len(value) != 1:
            break
        key = next(iter(value))
        if key not in ("$date", "$oid", "$numberLong", "$numberInt", "$numberDouble", "$uuid"):
            break
        value = value[key]
    return value


def unique(ids: Iterable[str]) -> list[str]:
    """Return the ids, with a number after those that occurred before."""
    seen: dict[str, int] = {}
    made: list[str] = []
    for one in ids:
        seen[one] = count = seen.get(one, 0) + 1
        made.append(one if count == 1 else f"{one}#{count}")
    return made


def parents_by_children(mapping: Mapping[str, Any], key: str = "children") -> dict[str, str]:
    """Return the parent of each node that is among the children of another."""
    parents: dict[str, str] = {}
    for node_id, node in mapping.items():
        for child in values.items(values.mapping(node).get(key)):
            if isinstance(child, str) and child != node_id:
                parents.setdefault(child, node_id)
    return parents


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def decode_base64(data: str, start: int = 0) -> bytes:
    """Return the bytes of Base64 of either alphabet, with or without spaces and padding. Raises Unreadable."""
    if len(data) - start > MAX_BASE64_CHARS:
        raise Unreadable(f"It is larger than {MAX_BASE64_CHARS * 3 // 4_000_000} MB.")
    plain = re.sub(r"\s+", "", data[start:]).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("Its Base64 is damaged.") from None
