"""What a server's error means: in words for a person, and for who could ask again."""

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

FORGET_AFTER = 600.0  # seconds
MAX_REMEMBERED = 4096

OPTIONAL = ("silence", "stream_options", "temperature", "tools", "system")  # what a request can do without
OPTIONAL_STATUS = (400, 422)
OPTIONAL_ELSEWHERE = {404: ("tools",), 500: ("tools", "system")}  # OpenRouter and llama.cpp, by a template that fails

# An error names a field in a place of its own, or in words. What of a request each such name belongs to:
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
# The sentences that refuse a field F, without quotes and brackets. Less does not count: "tool", "unexpected" and "not
# allowed" stand in errors about the order of messages and about accounts, too.
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


def _refusals(name: str) -> re.Pattern[str]:
    field = rf"(?<![\w.-])(?:{NAMED[name]})(?![\w-])"
    patterns = [pattern.replace("F", field) for pattern in REFUSALS]
    return re.compile("|".join([*patterns, *(ROLES if name == "system" else ())]), re.I)


REFUSED = {name: _refusals(name) for name in NAMED}
# What is wrong with one value of it: that costs this request the value, and no later one.
VALUE = re.compile(r"\btemperature\b.{0,40}\b(?:must|should|range|between|above|below|less|greater|only)\b", re.I)
REFUSED_CODE = re.compile(r"unsupported_|unknown_|unrecognized_|extra_forbidden")
REFUSED_FIELD = re.compile(rf"not {ALLOWED}|not support|{UNKNOWN}|cannot find|requires? --|only the default", re.I)
# DeepSeek and Moonshot want to hear what their model thought.
SILENCE = re.compile(
    r"reasoning_content.*\b(?:missing|must|required)|\b(?:missing|must|required).*reasoning_content", re.I
)
ORDER = re.compile(r"\b(?:after|before|preceded|followed by|alternate|consecutive)\b|\bmessages?\.?[1-9]", re.I)
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
MARKS = re.compile(r"""['"`\[\](){}]""")
LOCATION = re.compile(r"""['"]loc['"]:\s*[(\[]([^)\]]*)[)\]]""")
OVERFLOW = re.compile(
    r"context.{0,12}(length|window|size|limit|exceed|overflow)|exceed.{0,24}context|n_ctx|longer than the model"
    r"|(too many|maximum|less than).{0,20}tokens|(prompt|input).{0,12}too (long|large)|reduce the length",
    re.I,
)
OVERFLOW_STATUS = (400, 422, 500)
# Not "billing" alone: OpenAI names that page to whoever only asks too fast.
QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|(no|insufficient|out of|more|add \d+) credit", re.I)
NO_TIME_STATUS = (503, 529)
LOADING = re.compile(r"loading model|model is loading", re.I)
OVERLOADED = re.compile(r"overloaded|server busy|at capacity", re.I)
MAX_TEXT = 20_000  # characters of an error that are looked at
ECHO = re.compile(r"""["']input["']\s*:|\binput_value=""")  # from here on an error repeats the request


class Memory:
    """What a server was found not to take, by room and model. It is forgotten after FORGET_AFTER seconds.

    At most MAX_REMEMBERED rooms and models are remembered, the latest ones.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: OrderedDict[tuple[str, str], dict[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def of(self, room: str, model: str) -> frozenset[str]:
        """What the model does not take in this room."""
        with self._lock:
            now = self._clock()
            return frozenset(name for name, until in self._until.get((room, model), {}).items() if now < until)

    def add(self, room: str, model: str, names: Collection[str]) -> None:
        """The model does not take these in this room."""
        with self._lock:
            now = self._clock()
            if names:
                known = self._until.setdefault((room, model), {})
                known.update(dict.fromkeys(names, now + FORGET_AFTER))
                self._until.move_to_end((room, model))
            while self._until and (
                len(self._until) > MAX_REMEMBERED or max(next(iter(self._until.values())).values()) <= now
            ):
                self._until.popitem(last=False)

    def forget(self, room: str) -> None:
        """The room is gone."""
        with self._lock:
            for key in [key for key in self._until if key[0] == room]:
                del self._until[key]


class ErrorResponse:
    """A server's refusal: its status, headers and body. `shown` makes its own words fit to be shown."""

    def __init__(self, where: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._where = where
        self._status = status
        self._headers = headers
        self._said, self._meant, self._complaints = _understood(body)

    def unwanted(self, sent: Collection[str]) -> str | None:
        """Which of the optional things that were sent the server does not take, if the error names one."""
        return next((name for name, _ in self._refused() if name in sent), None)

    def lasting(self, name: str) -> bool:
        """Whether this is not taken at all, rather than one value of it."""
        return (name, True) in self._refused()

    def _refused(self) -> list[tuple[str, bool]]:
        """What is not taken, and whether that is about more than a value."""
        if self._overflows():
            return []
        known = OPTIONAL if self._status in OPTIONAL_STATUS else OPTIONAL_ELSEWHERE.get(self._status, ())
        return [one for complaint in self._complaints for one in complaint.refused() if one[0] in known]

    def error(self, shown: Callable[[str], str]) -> ModelError:
        """The error to raise, with a sentence that says what to do."""
        where, status = self._where, self._status
        said = shown(self._said)
        told = f" It said: {said}" if said else ""
        if self._overflows():
            return overflow(where, said)
        if status in (401, 403):
            return ModelError(f"{where} refused the key ({status}). Check OPENAI_API_KEY.{told}")
        if status == 404:
            return ModelError(
                f"{where} knows no such model or address (404). Check the model in the room's settings, OPENAI_MODEL"
                f" and OPENAI_BASE_URL.{told}"
            )
        if status == 429 and not QUOTA.search(self._meant):
            return busy(where, self._wait(), said)
        if status == 429:
            return ModelError(f"{where} says that the account has no credit left (429).{told}")
        if status in NO_TIME_STATUS and LOADING.search(self._meant):
            return ModelBusy(f"{where} is still loading its model ({status}).", self._wait(), said=said)
        if status in NO_TIME_STATUS and (OVERLOADED.search(self._meant) or self._wait() is not None):
            return ModelBusy(f"{where} has no time just now ({status}).", self._wait(), said=said)
        if status >= 500:
            return ModelError(f"{where} failed ({status}). Retry, or look at its log.{told}")
        if 300 <= status < 400:
            return ModelError(f"{where} sent us elsewhere ({status}). Set OPENAI_BASE_URL to its real address.")
        return ModelError(f"{where} did not accept the request ({status}).{told}")

    def _overflows(self) -> bool:
        if self._status == 413:
            return True
        return self._status in OVERFLOW_STATUS and OVERFLOW.search(self._meant) is not None

    def _wait(self) -> float | None:
        """The seconds of Retry-After, which may be a number or a date (RFC 9110, 10.2.3)."""
        given = self._headers.get("Retry-After", "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", given, re.ASCII):
            return float(given)
        try:
            return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None


def refusal_in_stream(error: object) -> ErrorResponse:
    """A refusal that came within an answer, as LM Studio's do."""
    try:
        return ErrorResponse("", 400, {}, json.dumps({"error": error}).encode())
    except RecursionError:
        return ErrorResponse("", 400, {}, b"")


def in_stream(where: str, error: object, shown: Callable[[str], str]) -> ModelError:
    """The error to raise for one that a server reported within its answer."""
    said, meant = _words(error), " ".join(_told(error))
    if OVERFLOW.search(meant):
        return overflow(where, shown(said))
    if isinstance(error, Mapping) and str(error.get("code")) == "429" and not QUOTA.search(meant):
        return busy(where, None, shown(said))
    return ModelError(f"The model server reported an error: {shown(said)}")


def busy(where: str, seconds: float | None, said: str) -> ModelBusy:
    """What is to be said of a server that is asked too much."""
    return ModelBusy(f"{where} is asked too much just now (429).", seconds, said=said)


def overflow(where: str, said: str) -> ModelOverflow:
    """What is to be said of a conversation that is too long."""
    return ModelOverflow(
        "The conversation is longer than the model can read. Set OVERSEER_CONTEXT_TOKENS lower, or go on in a new room."
        f" {where} said: {said}"
    )


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that an error says: a `field` and a `code` if they have a place of their own, and words."""

    field: str
    code: str
    words: str

    def refused(self) -> Iterator[tuple[str, bool]]:
        """What of the optional things this refuses, and whether that is about more than a value."""
        if FIRST_ROLE.match(self.field) and "system" in self.words:
            yield "system", True
        elif self.field and not self.field.startswith("messages"):
            name = FIELDS.get(re.split(r"\W", self.field)[0], "")
            if name and (REFUSED_CODE.search(self.code) or REFUSED_FIELD.search(_plain(self.words))):
                yield name, True
            elif name == "temperature":
                yield name, False
        else:
            yield from self._refused_in_words()

    def _refused_in_words(self) -> Iterator[tuple[str, bool]]:
        for sentence in map(_plain, SENTENCE.split(self.words)):
            if SILENCE.search(sentence):
                yield "silence", True
            if self.field or ORDER.search(sentence):
                continue
            refused = [name for name, pattern in REFUSED.items() if pattern.search(sentence)]
            yield from ((name, True) for name in refused)
            if "temperature" not in refused and VALUE.search(sentence):
                yield "temperature", False


def _plain(sentence: str) -> str:
    """A sentence without marks around names, and without short forms."""
    return " ".join(MARKS.sub("", re.sub("n[’']t\\b", " not", sentence)).split())


def _complaints(error: object, depth: int = 8) -> Iterator[Complaint]:
    """What an error says, without what in it only repeats the request."""
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
            for said in _complaints(error.get(name), depth - 1):
                yield Complaint(field or said.field, code, said.words)
        for name in ("detail", "metadata", "raw", "error"):
            yield from _complaints(error.get(name), depth - 1)
    else:
        yield from _in_text(str(error)[:MAX_TEXT], depth)


def _in_text(text: str, depth: int) -> Iterator[Complaint]:
    """The same of a text, which may be JSON again, or a list of errors as Python writes it."""
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
    """Where in the body a field is."""
    return ".".join(str(name) for name in loc[loc[:1] == ["body"] :])


def _understood(body: bytes) -> tuple[str, str, tuple[Complaint, ...]]:
    """What a body says to a person (nothing if it is a page), all that names what is wrong, and each complaint."""
    text = body.decode("utf-8", "replace")
    try:
        whole = said = json.loads(text)
    except (ValueError, RecursionError):
        return ("", "", ()) if text.lstrip().startswith("<") else (text, text, tuple(_complaints(text)))
    if isinstance(said, dict):
        said = next((said[name] for name in ("error", "detail", "message") if name in said), said)
    return _words(said), " ".join(_told(said)), tuple(_complaints(whole))


def _words(error: object) -> str:
    if isinstance(error, dict) and error.get("message"):
        return str(error["message"])
    return "" if error is None else str(error)


def _told(error: object, depth: int = 8) -> Iterator[str]:
    """The texts of an error that are about it; what only repeats the request is left out."""
    if not depth:
        return
    if isinstance(error, dict):
        for name in ("message", "msg", "param", "code", "type", "loc", "detail", "metadata", "raw", "error"):
            yield from _told(error.get(name), depth - 1)
    elif isinstance(error, list):
        for one in error[:20]:
            yield from _told(one, depth - 1)
    elif error is not None:
        yield ECHO.split(str(error), maxsplit=1)[0][:2000]
