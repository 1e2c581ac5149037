"""The meaning of a server's error: a sentence for the user, what the request can omit, whether to ask again."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from email.utils import parsedate_to_datetime

from overseer.llm import ModelBusy, ModelError, ModelOverflow
from overseer.llm.complaint import OPTIONAL
from overseer.llm.context import overflow_numbers
from overseer.llm.error_body import message, parse_body, relevant_texts

FORGET_AFTER_SECONDS = 600.0
MAX_REMEMBERED = 4096  # pairs of a room and a model

OPTIONAL_STATUS = (400, 422)
OTHER_STATUS = {404: ("tools",), 500: ("tools", "system")}  # OpenRouter; llama.cpp when a chat template fails

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
# llama.cpp, Ollama and Groq, when the model's tool call cannot be parsed.
MALFORMED_CALL = re.compile(
    r"expected peg-[\w-]+ format|output\b.{0,30} not match the expected [\w-]+ format"
    r"|failed to parse (?:the )?tool call|error parsing tool call|tool_use_failed",
    re.I,
)


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
        parsed = parse_body(body)
        self._message, self._searched_text, self._complaints = parsed.message, parsed.searched_text, parsed.complaints

    def unsupported(self, sent: Collection[str]) -> str | None:
        """Return the first of the optional things that were `sent` that the error refuses, or None."""
        return next((name for name, _ in self._refused() if name in sent), None)

    @property
    def is_malformed_call(self) -> bool:
        """Whether the model called a tool in a form that its server cannot parse."""
        return MALFORMED_CALL.search(self._searched_text) is not None

    def is_permanent(self, name: str) -> bool:
        """Return whether the error refuses the thing altogether, rather than one value of it."""
        return (name, True) in self._refused()

    def _refused(self) -> list[tuple[str, bool]]:
        """Return the name of each thing that is refused, with `is_permanent` for it."""
        if self.is_malformed_call:
            return [("tools", False)]
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
            return overflow(said, self._body.decode(errors="replace"), self._searched_text)
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
    said, searched_text = sanitize(message(error)), " ".join(relevant_texts(error))
    if OVERFLOW.search(searched_text):
        return overflow(said, error, searched_text)
    if isinstance(error, Mapping) and str(error.get("code")) == "429" and not QUOTA.search(searched_text):
        return rate_limited(None, said)
    return ModelError(f"The model server failed: “{said}”")


def rate_limited(seconds: float | None, said: str) -> ModelBusy:
    """Return the error for too many requests."""
    return ModelBusy("Rate limited (429).", seconds, said=said)


def overflow(said: str, error: object, searched_text: str) -> ModelOverflow:
    """Return the exception for an `error` about a conversation over the context length."""
    numbers = overflow_numbers(error, searched_text)
    return ModelOverflow(
        f"Too long for this model. Start a new room, or lower OVERSEER_CONTEXT_TOKENS. The server said: “{said}”",
        needed=numbers.needed,
        limit=numbers.limit,
        said=said,
    )
