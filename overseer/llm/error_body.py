"""The errors that servers report, in a body of their own or within an answer, as one message."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from overseer.llm.complaint import ECHO, Complaint, complaints

MESSAGES = ("message", "msg", "status_msg", "error_msg", "errorMessage", "detail", "description", "errors", "error")
OK_CODES = (None, 0, 200, "", "0", "200", "success", "Success", "OK", "ok")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a body says: a message for a person (empty for an HTML page), a text to search for causes, complaints."""

    message: str = ""
    searched_text: str = ""
    complaints: tuple[Complaint, ...] = ()


def parse_body(body: bytes) -> ErrorBody:
    """Parse the body of an error, which may have any form."""
    text = body.decode("utf-8", "replace")
    try:
        whole = error = json.loads(text)
    except (ValueError, RecursionError):
        return ErrorBody() if text.lstrip().startswith("<") else ErrorBody(text, text, tuple(complaints(text)))
    if isinstance(error, dict) and (isinstance(error.get("error"), dict | list) or not _has_message(error)):
        error = error.get("error", error)  # beside a message, "error" is only the name of the status
    return ErrorBody(message(error), " ".join(relevant_texts(error)), tuple(complaints(whole)))


def reported_error(chunk: Mapping[str, object], choice: Mapping[str, object] | None) -> object:
    """Return the error that a chunk of an answer reports; None if it reports none.

    OpenRouter reports a failed provider within the choice, MiniMax in `base_resp`. Gateways send an error as a body
    without choices, in the forms of their frameworks.
    """
    if error := chunk.get("error") or chunk.get("errors") or (choice or {}).get("error"):
        return error
    base = chunk.get("base_resp")
    if isinstance(base, dict) and base.get("status_code") not in OK_CODES:
        return base
    if chunk.get("object") == "error":
        return chunk
    if "choices" in chunk:
        return None
    if chunk.get("detail") or isinstance(chunk.get("message"), str):
        return chunk
    code = next((chunk[name] for name in ("code", "error_code", "status_code") if name in chunk), None)
    return chunk if code not in OK_CODES and message(chunk) else None


def message(error: object, depth: int = 8) -> str:
    """Return the message of an error for a person."""
    if isinstance(error, dict):
        found = next((error[name] for name in MESSAGES if error.get(name)), None)
        if found is None or not depth:
            return str(error)
        loc = error.get("loc")
        where = ".".join(map(str, loc)) + ": " if isinstance(loc, list) and loc else ""
        return where + message(found, depth - 1)
    if isinstance(error, list) and error and depth:
        return "; ".join(message(one, depth - 1) for one in error[:20])
    return "" if error is None else str(error)


def _has_message(error: Mapping[str, object]) -> bool:
    return any(error.get(name) for name in MESSAGES if name != "error")


def relevant_texts(error: object, depth: int = 8) -> Iterator[str]:
    """Yield the texts of an error that describe it, without those that only repeat the request."""
    if not depth:
        return
    if isinstance(error, dict):
        for name in (*MESSAGES, "param", "code", "type", "loc", "metadata", "raw"):
            yield from relevant_texts(error.get(name), depth - 1)
    elif isinstance(error, list):
        for one in error[:20]:
            yield from relevant_texts(one, depth - 1)
    elif error is not None:
        yield ECHO.split(str(error), maxsplit=1)[0][:2000]
