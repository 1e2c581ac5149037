"""What a server's error means: in words for a person, and for who could ask again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from email.utils import parsedate_to_datetime

from overseer.llm import ModelBusy, ModelError, ModelOverflow

# What a request can do without, and how servers say that they do not take it. DeepSeek wants to hear what it thought.
OPTIONAL = {
    "silence": re.compile(r"reasoning_content"),
    "stream_options": re.compile(r"stream_options|include_usage"),
    "temperature": re.compile(r"temperature"),
    "tools": re.compile(r"\btools?\b|\btool[_ -]|function[_ -]?call", re.I),
    "system": re.compile(
        r"system (role|message|prompt|instruction)|\brole\b.{0,24}\bsystem\b|developer instruction", re.I
    ),
}
OPTIONAL_STATUS = (400, 422)
# OpenRouter and llama.cpp say it with these, which mean other things too.
OPTIONAL_ELSEWHERE = {
    404: {"tools": re.compile(r"support tool use")},
    500: {
        "tools": re.compile(r"--jinja|not support tools"),
        "system": re.compile(r"system role not supported", re.I),
    },
}
OVERFLOW = re.compile(
    r"context.{0,12}(length|window|size|limit|exceed|overflow)|exceed.{0,24}context|n_ctx|longer than the model"
    r"|(too many|maximum|less than).{0,20}tokens|(prompt|input).{0,12}too (long|large)|reduce the length",
    re.I,
)
LASTING = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|extra|not (permitted|allowed)|requires|--jinja|only the default", re.I
)
OVERFLOW_STATUS = (400, 422, 500)
# Not "billing" alone: OpenAI names that page to whoever only asks too fast.
QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|(no|insufficient|out of|more|add \d+) credit", re.I)
NO_TIME_STATUS = (503, 529)
LOADING = re.compile(r"loading model|model is loading", re.I)
OVERLOADED = re.compile(r"overloaded|server busy|at capacity", re.I)
ECHO = re.compile(r"""["']input["']\s*:|\binput_value=""")  # from here on an error repeats the request


class Refusal:
    """A server's refusal: its status, headers and body. `shown` makes its own words fit to be shown."""

    def __init__(self, where: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._where = where
        self._status = status
        self._headers = headers
        self._said, self._meant = _understood(body)

    def unwanted(self, sent: Collection[str]) -> str | None:
        """What of the optional things that were sent the server does not take, if it is that."""
        if self._overflows():
            return None
        known = OPTIONAL if self._status in OPTIONAL_STATUS else OPTIONAL_ELSEWHERE.get(self._status, {})
        return next((name for name, meant in known.items() if name in sent and meant.search(self._meant)), None)

    def lasting(self, name: str) -> bool:
        """Whether it is about the thing as such, and not only about this value of it or this conversation."""
        if name in ("silence", "system"):
            return True
        return LASTING.search(self._meant) is not None and "messages[" not in self._meant

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


def refusal_in_stream(error: object) -> Refusal:
    """A refusal that came within an answer, as LM Studio's do."""
    try:
        return Refusal("", 400, {}, json.dumps({"error": error}).encode())
    except RecursionError:
        return Refusal("", 400, {}, b"")


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


def _understood(body: bytes) -> tuple[str, str]:
    """What a body says to a person (nothing if it is a page), and all of it that names what is wrong."""
    text = body.decode("utf-8", "replace")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return ("", "") if text.lstrip().startswith("<") else (text, text)
    if isinstance(said, dict):
        said = next((said[name] for name in ("error", "detail", "message") if name in said), said)
    return _words(said), " ".join(_told(said))


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
