"""The meaning of a server's error: a sentence for the user, what the request can omit, whether to ask again."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from overseer.llm import ModelBusy, ModelError, ModelOverflow
from overseer.llm.context import overflow_numbers

FORGET_AFTER_SECONDS = 600.0
MAX_REMEMBERED = 4096  # pairs of a room and a model

# DeepSeek and Moonshot require the model's own reasoning in the history. The value is stored in rooms' files.
REASONING_OMITTED = "silence"
OPTIONAL = (REASONING_OMITTED, "stream_options", "temperature", "tools", "system")  # what a request can omit
OPTIONAL_STATUS = (400, 422)
OTHER_STATUS = {404: ("tools",), 500: ("tools", "system")}  # OpenRouter; llama.cpp when a chat template fails

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
ALLOWED = r"(?:supported|allowed|permitted|enabled|accepted|available)"
UNKNOWN = r"(?:unsupported|unknown|unrecogni[sz]ed|unexpected|extra|additional)"
NOT = r"(?: currently| yet)? not(?: currently| yet)?"
LISTED = r":?(?: [\w.]+,)*"
REFUSALS = (
    rf"F(?: {KIND})?(?: is| are| was| were)?{NOT} {ALLOWED}",
    rf"F(?: {KIND})? (?:is|are|was|were) {UNKNOWN}",
    rf"F: (?:{UNKNOWN}|not {ALLOWED})",
    rf"F(?: {KIND})? requires? --\w",
    rf"{NOT} (?:support|accept|allow|permit|take)(?: the| any| use of)*(?: {KIND})?{LISTED} F",
    r"no \w+ found that support F",
    rf"{UNKNOWN}(?: request| keyword| body| input)? {KIND}(?: \w+)?{LISTED} F",
    rf"{KIND} (?:is|are) not {ALLOWED}{LISTED} F",
)
ROLES = (
    r"(?:unsupported|unexpected|unknown|invalid) role:? (?:system|developer)",
    rf"role:? (?:system|developer) (?:is )?(?:not {ALLOWED}|{UNKNOWN}|invalid)",
    r"role does not support (?:system|developer)",
    r"only user(?:,| and) assistant(?:,? and \w+)? roles are supported",
)


def _refusal_pattern(name: str) -> re.Pattern[str]:
    field = rf"(?<![\w.-])(?:{NAMED[name]})(?![\w-])"
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
OVERFLOW = re.compile(
    r"context.{0,12}(length|window|size|limit|exceed|overflow)|exceed.{0,24}context|n_ctx|longer than the model"
    r"|(too many|maximum|less than).{0,20}tokens|(prompt|input).{0,12}too (long|large)|reduce the length",
    re.I,
)
OVERFLOW_STATUS = (400, 422, 500)
# Not "billing" alone: OpenAI links to that page in ordinary rate-limit errors, too.
QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|(no|insufficient|out of|more|add \d+) credit", re.I)
BUSY_STATUS = (503, 529)
LOADING = re.compile(r"loading model|model is loading", re.I)
OVERLOADED = re.compile(r"overloaded|server busy|at capacity", re.I)
MAX_ERROR_CHARS = 20_000  # characters of an error that are parsed
ECHO = re.compile(r"""["']input["']\s*:|\binput_value=""")  # what follows repeats the request


class RefusalMemory:
    """What each model was found not to support, by room. An entry expires after FORGET_AFTER_SECONDS.

    Keeps the MAX_REMEMBERED most recent pairs of a room and a model.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._expiry: OrderedDict[tuple[str, str], dict[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._expiry)

    def unsupported(self, room: str, model: str) -> frozenset[str]:
        """Return the optional things that the model does not support in this room."""
        with self._lock:
            now = self._clock()
            return frozenset(name for name, expiry in self._expiry.get((room, model), {}).items() if now < expiry)

    def add(self, room: str, model: str, names: Collection[str]) -> None:
        """Remember that the model does not support these."""
        with self._lock:
            now = self._clock()
            if names:
                known = self._expiry.setdefault((room, model), {})
                known.update(dict.fromkeys(names, now + FORGET_AFTER_SECONDS))
                self._expiry.move_to_end((room, model))
            while self._expiry and (
                len(self._expiry) > MAX_REMEMBERED or max(next(iter(self._expiry.values())).values()) <= now
            ):
                self._expiry.popitem(last=False)

    def forget(self, room: str) -> None:
        """Discard the entries of a deleted room."""
        with self._lock:
            for key in [key for key in self._expiry if key[0] == room]:
                del self._expiry[key]


class ErrorResponse:
    """A server's error: its status, headers and body."""

    def __init__(self, where: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._where = where
        self._status = status
        self._headers = headers
        self._body = body
        self._message, self._searched_text, self._complaints = _parse_body(body)

    def unsupported(self, sent: Collection[str]) -> str | None:
        """Return the first of the optional things that were `sent` that the error refuses, or None."""
        return next((name for name, _ in self._refused() if name in sent), None)

    def is_permanent(self, name: str) -> bool:
        """Return whether the error refuses the thing altogether, rather than one value of it."""
        return (name, True) in self._refused()

    def _refused(self) -> list[tuple[str, bool]]:
        """Return the name of each thing that is refused, with `is_permanent` for it."""
        if self._is_overflow():
            return []
        possible = OPTIONAL if self._status in OPTIONAL_STATUS else OTHER_STATUS.get(self._status, ())
        return [one for complaint in self._complaints for one in complaint.refused() if one[0] in possible]

    def to_exception(self, sanitize: Callable[[str], str]) -> ModelError:
        """Return the error to raise. `sanitize` makes the server's own words fit to be shown."""
        where, status = self._where, self._status
        said = sanitize(self._message)
        quoted = f" The server said: “{said}”" if said else ""
        if self._is_overflow():
            return overflow(said, self._body.decode(errors="replace"))
        if status in (401, 403):
            return ModelError(f"API key rejected ({status}). Check OPENAI_API_KEY.{quoted}")
        if status == 404:
            return ModelError(
                f"{where} has no such model or address (404). Check the model in the room's settings, OPENAI_MODEL"
                f" and OPENAI_BASE_URL.{quoted}"
            )
        if status == 429 and not QUOTA.search(self._searched_text):
            return rate_limited(self._retry_after(), said)
        if status == 429:
            return ModelError(f"The account at {where} has no credit left (429).{quoted}")
        if status in BUSY_STATUS and LOADING.search(self._searched_text):
            return ModelBusy(f"The model is still loading ({status}).", self._retry_after(), said=said, loading=True)
        if status in BUSY_STATUS and (OVERLOADED.search(self._searched_text) or self._retry_after() is not None):
            return ModelBusy(f"The model server is overloaded ({status}).", self._retry_after(), said=said)
        if status >= 500:
            return ModelError(
                f"The model server failed ({status}): “{said}”"
                if said
                else f"The model server failed ({status}). Look at its log, or try again."
            )
        if 300 <= status < 400:
            return ModelError(f"{where} redirects to another address ({status}). Set OPENAI_BASE_URL to that address.")
        return ModelError(f"The model server rejected the request ({status}).{quoted}")

    def _is_overflow(self) -> bool:
        if self._status == 413:
            return True
        return self._status in OVERFLOW_STATUS and OVERFLOW.search(self._searched_text) is not None

    def _retry_after(self) -> float | None:
        """Return the seconds of Retry-After, which may be a number or a date (RFC 9110, 10.2.3)."""
        value = self._headers.get("Retry-After", "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII):
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None


def refusal_in_stream(error: object) -> ErrorResponse:
    """Return an error that a server reported within a stream, as LM Studio does, as if it were a response."""
    try:
        return ErrorResponse("", 400, {}, json.dumps({"error": error}).encode())
    except RecursionError:
        return ErrorResponse("", 400, {}, b"")


def error_in_stream(error: object, sanitize: Callable[[str], str]) -> ModelError:
    """Return the exception for an error that a server reported within a stream."""
    said, searched_text = sanitize(_message(error)), " ".join(_relevant_texts(error))
    if OVERFLOW.search(searched_text):
        return overflow(said, error)
    if isinstance(error, Mapping) and str(error.get("code")) == "429" and not QUOTA.search(searched_text):
        return rate_limited(None, said)
    return ModelError(f"The model server failed: “{said}”")


def rate_limited(seconds: float | None, said: str) -> ModelBusy:
    """Return the error for too many requests."""
    return ModelBusy("Rate limited (429).", seconds, said=said)


def overflow(said: str, error: object) -> ModelOverflow:
    """Return the exception for an `error` about a conversation over the context length."""
    numbers = overflow_numbers(error)
    return ModelOverflow(
        f"Too long for this model. Start a new room, or lower OVERSEER_CONTEXT_TOKENS. The server said: “{said}”",
        needed=numbers.needed,
        limit=numbers.limit,
        said=said,
    )


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
            name = FIELDS.get(re.split(r"\W", self.field)[0], "")
            if name and (REFUSED_CODE.search(self.code) or REFUSED_FIELD.search(_normalize(self.words))):
                yield name, True
            elif name == "temperature":
                yield name, False
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


def _complaints(error: object, depth: int = 8) -> Iterator[Complaint]:
    """Yield the statements of an error, without the parts that only repeat the request."""
    if not depth or error is None:
        return
    if isinstance(error, list):
        for one in error[:20]:
            yield from _complaints(one, depth - 1)
    elif isinstance(error, dict):
        param, loc = error.get("param"), error.get("loc")
        field = param if isinstance(param, str) and param != "None" else _path(loc if isinstance(loc, list) else ())
        code = f"{error.get('code')} {error.get('type')}"
        for name in ("message", "msg"):
            for complaint in _complaints(error.get(name), depth - 1):
                yield Complaint(field or complaint.field, code, complaint.words)
        for name in ("detail", "metadata", "raw", "error"):
            yield from _complaints(error.get(name), depth - 1)
    else:
        yield from _complaints_in_text(str(error)[:MAX_ERROR_CHARS], depth)


def _complaints_in_text(text: str, depth: int) -> Iterator[Complaint]:
    """Yield the statements of a text, which may be JSON itself, or the repr of a list of errors."""
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        inner = None
    if isinstance(inner, dict | list):
        yield from _complaints(inner, depth - 1)
        return
    words = ECHO.split(text, maxsplit=1)[0][:2000]
    loc = LOCATION.search(words)
    yield Complaint(_path(re.findall(r"\w+", loc[1])) if loc else "", "", words)


def _path(loc: Sequence[object]) -> str:
    """Return the path of a field in the request body, with dots."""
    return ".".join(str(name) for name in loc[loc[:1] == ["body"] :])


def _parse_body(body: bytes) -> tuple[str, str, tuple[Complaint, ...]]:
    """Return the message for a person (empty for an HTML page), the text to search for causes, and the complaints."""
    text = body.decode("utf-8", "replace")
    try:
        whole = error = json.loads(text)
    except (ValueError, RecursionError):
        return ("", "", ()) if text.lstrip().startswith("<") else (text, text, tuple(_complaints(text)))
    if isinstance(error, dict):
        error = next((error[name] for name in ("error", "detail", "message") if name in error), error)
    return _message(error), " ".join(_relevant_texts(error)), tuple(_complaints(whole))


def _message(error: object) -> str:
    if isinstance(error, dict) and error.get("message"):
        return str(error["message"])
    return "" if error is None else str(error)


def _relevant_texts(error: object, depth: int = 8) -> Iterator[str]:
    """Yield the texts of an error that describe it, without those that only repeat the request."""
    if not depth:
        return
    if isinstance(error, dict):
        for name in ("message", "msg", "param", "code", "type", "loc", "detail", "metadata", "raw", "error"):
            yield from _relevant_texts(error.get(name), depth - 1)
    elif isinstance(error, list):
        for one in error[:20]:
            yield from _relevant_texts(one, depth - 1)
    elif error is not None:
        yield ECHO.split(str(error), maxsplit=1)[0][:2000]
