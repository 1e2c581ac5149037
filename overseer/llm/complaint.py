"""Which optional part of a request a server's error refuses, from the field that the error names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# DeepSeek and Moonshot require the model's own reasoning in the history. The value is stored in rooms' files.
REASONING_OMITTED = "silence"
OPTIONAL = (REASONING_OMITTED, "stream_options", "temperature", "tools", "system")  # what a request can omit
MAX_ERROR_CHARS = 20_000  # characters of an error that are parsed
ECHO = re.compile(r"""["']input["']\s*:|\binput_value=""")  # what follows repeats the request

# An error names a field in an attribute of its own, or in its message. The optional thing each field belongs to:
FIELDS = {
    "stream_options": "stream_options",
    "temperature": "temperature",
    **dict.fromkeys(("tools", "tool_choice", "functions", "function_call"), "tools"),
}
FIRST_ROLE = re.compile(r"messages\W+0\W+role")
NAMED = {
    "stream_options": r"stream_options(?:\.include_usage)?|include_usage",
    "temperature": r"temperature",
    "tools": r"tools|tool[ _-](?:choice|use|usage|calling)|functions|function[ _-]call(?:ing)?",
    "system": r"(?:system|developer)[ _-](?:role|message|prompt|instruction)s?",
}
# Sentences that refuse a field F, without quotes and brackets. Looser patterns would match too much: "tool",
# "unexpected" and "not allowed" also occur in errors about the order of messages and about accounts.
KIND = r"(?:parameter|param|field|argument|option|property|properties|key|name)s?"
ALLOWED = r"(?:supported|allowed|permitted|enabled|accepted|available|recogni[sz]ed|implemented|known)"
UNKNOWN = r"(?:unsupported|unknown|unrecogni[sz]ed|unexpected|extra|additional|forbidden|disallowed)"
NOT = r"(?: currently| yet)? not(?: currently| yet)?"
LISTED = r":?(?: [\w.]+,)*"
REFUSALS = (
    rf"F(?: {KIND})?(?: is| are| was| were)?{NOT} {ALLOWED}",
    rf"F(?: {KIND})? (?:is|are|was|were) {UNKNOWN}",
    rf"F: (?:{UNKNOWN}|not {ALLOWED})",
    rf"F(?: {KIND})? requires? --\w",
    rf"F(?: {KIND})? (?:should|must) not (?:exist|be (?:sent|set|present|used|given|specified))",
    rf"{NOT} (?:support|accept|allow|permit|take)(?: the| any| use of)*(?: {KIND})?{LISTED} F",
    r"no \w+ found that support F",
    rf"{UNKNOWN}(?: request| keyword| body| input)? {KIND}(?: \w+)?{LISTED} F",
    rf"{KIND} (?:is|are) not {ALLOWED}{LISTED} F",
    rf"F is not an? (?:valid|{ALLOWED}) {KIND}",
    rf"invalid {KIND}{LISTED} F(?! (?:must|should|value))",
)
ROLES = (
    r"(?:unsupported|unexpected|unknown|invalid) role:? (?:system|developer)",
    rf"role:? (?:system|developer) (?:is )?(?:not {ALLOWED}|{UNKNOWN}|invalid)",
    r"role does not support (?:system|developer)",
    r"only user(?:,| and) assistant(?:,? and \w+)? roles are supported",
)


def _refusal_pattern(name: str) -> re.Pattern[str]:
    field = rf"(?<![\w.-])(?:body\.)?(?:{NAMED[name]})(?![\w-])"
    patterns = [pattern.replace("F", field) for pattern in REFUSALS]
    return re.compile("|".join([*patterns, *(ROLES if name == "system" else ())]), re.I)


REFUSED = {name: _refusal_pattern(name) for name in NAMED}
# A refusal of one value of the temperature. Only this request omits it.
REFUSED_VALUE = re.compile(
    r"\btemperature\b.{0,40}\b(?:must|should|range|between|above|below|less|greater|only)\b", re.I
)
REFUSED_CODE = re.compile(r"unsupported_|unknown_|unrecognized_|extra_forbidden")
REFUSED_FIELD = re.compile(rf"not {ALLOWED}|not support|{UNKNOWN}|cannot find|requires? --|only the default", re.I)
REASONING_REQUIRED = re.compile(
    r"reasoning_content.*\b(?:missing|must|required)|\b(?:missing|must|required).*reasoning_content", re.I
)
ORDER = re.compile(r"\b(?:after|before|preceded|followed by|alternate|consecutive)\b|\bmessages?\.?[1-9]", re.I)
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
QUOTES_AND_BRACKETS = re.compile(r"""['"`\[\](){}]""")
LOCATION = re.compile(r"""['"]loc['"]:\s*[(\[]([^)\]]*)[)\]]""")


@dataclass(frozen=True, slots=True)
class Complaint:
    """One statement of an error: its `field` and `code` if they have attributes of their own, and its words."""

    field: str
    code: str
    words: str

    def refused(self) -> Iterator[tuple[str, bool]]:
        """Yield the name of each optional thing that this refuses, with whether that holds for every value."""
        if FIRST_ROLE.match(self.field) and "system" in self.words:
            yield "system", True
        elif self.field and not self.field.startswith("messages"):
            if name := FIELDS.get(re.split(r"\W", self.field)[0]):
                refused = REFUSED_CODE.search(self.code) or REFUSED_FIELD.search(_normalize(self.words))
                yield name, name != "temperature" or refused is not None  # of a temperature, perhaps only the value
        else:
            yield from self._refused_in_words()

    def _refused_in_words(self) -> Iterator[tuple[str, bool]]:
        for sentence in map(_normalize, SENTENCE.split(self.words)):
            if REASONING_REQUIRED.search(sentence):
                yield REASONING_OMITTED, True
            if self.field or ORDER.search(sentence):
                continue
            refused = [name for name, pattern in REFUSED.items() if pattern.search(sentence)]
            yield from ((name, True) for name in refused)
            if "temperature" not in refused and REFUSED_VALUE.search(sentence):
                yield "temperature", False


def _normalize(sentence: str) -> str:
    """Return the sentence without quotes and brackets, and with "not" written out."""
    return " ".join(QUOTES_AND_BRACKETS.sub("", re.sub("n[’']t\\b", " not", sentence)).split())


def complaints(error: object, depth: int = 8) -> Iterator[Complaint]:
    """Yield the statements of an error, without the parts that only repeat the request."""
    if not depth or error is None:
        return
    if isinstance(error, list):
        for one in error[:20]:
            yield from complaints(one, depth - 1)
    elif isinstance(error, dict):
        field = _named_field(error)
        code = f"{error.get('code')} {error.get('type')}"
        for name in ("message", "msg", "description"):
            for complaint in complaints(error.get(name), depth - 1):
                yield Complaint(field or complaint.field, code, complaint.words)
        for name in ("detail", "details", "errors", "fieldViolations", "metadata", "raw", "error"):
            yield from complaints(error.get(name), depth - 1)
    else:
        yield from _complaints_in_text(str(error)[:MAX_ERROR_CHARS], depth)


def _complaints_in_text(text: str, depth: int) -> Iterator[Complaint]:
    """Yield the statements of a text, which may be JSON itself, or the repr of a list of errors."""
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        inner = None
    if isinstance(inner, dict | list):
        yield from complaints(inner, depth - 1)
        return
    words = ECHO.split(text, maxsplit=1)[0][:2000]
    loc = LOCATION.search(words)
    yield Complaint(_path(re.findall(r"\w+", loc[1])) if loc else "", "", words)


def _named_field(error: dict[str, object]) -> str:
    """Return the field of the request that an error names in an attribute of its own, or an empty text."""
    for name in ("param", "field", "parameter"):
        if isinstance(field := error.get(name), str) and field != "None":
            return field
    loc = error.get("loc")
    return _path(loc if isinstance(loc, list) else ())


def _path(loc: Sequence[object]) -> str:
    """Return the path of a field in the request body, with dots."""
    return ".".join(str(name) for name in loc[loc[:1] == ["body"] :])
