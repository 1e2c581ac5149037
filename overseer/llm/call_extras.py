"""Fields of tool calls that only the model which sent them understands, such as Gemini's thought signatures.

Gemini rejects a later request without them: https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_EXTRA_CHARS = 64_000  # of one call
MAX_EXTRA_VALUES = 500  # lists and objects of one call, so that they are not nested deeper than JSON parsers allow
# LiteLLM keeps the signature in the id of the call: https://github.com/BerriAI/litellm/pull/16895
SIGNATURE_IN_ID = "__thought__"
KNOWN_FIELDS = frozenset(("id", "index", "type", "function"))
KNOWN_FUNCTION_FIELDS = frozenset(("name", "arguments"))


@dataclass(slots=True)
class CallExtras:
    """The unknown fields of one call and of its function, and whether its id contains a signature."""

    call: dict[str, Any] = field(default_factory=dict)
    function: dict[str, Any] = field(default_factory=dict)
    keep_id: bool = False

    def add(self, fragment: Mapping[str, Any], function: Mapping[str, Any]) -> None:
        """Add the unknown fields of a fragment."""
        self.call |= _unknown(fragment, KNOWN_FIELDS)
        self.function |= _unknown(function, KNOWN_FUNCTION_FIELDS)

    def encode(self, model: str) -> str:
        """Return JSON with the model's name, or an empty text if there are no extras or they are too large."""
        if not (self.call or self.function or self.keep_id):
            return ""
        extras = {"model": model, "call": self.call, "function": self.function, "keep_id": self.keep_id}
        try:
            encoded = json.dumps(extras, separators=(",", ":"), allow_nan=False)
        except (ValueError, RecursionError):
            return ""
        small = len(encoded) <= MAX_EXTRA_CHARS and encoded.count("[") + encoded.count("{") <= MAX_EXTRA_VALUES
        return encoded if small else ""


def extras_for(model: str, encoded: str) -> CallExtras:
    """Return the extras of a call that this model sent; none of a call of another model."""
    try:
        extras = json.loads(encoded or "{}")
        if extras["model"] == model:
            return CallExtras(dict(extras["call"]), dict(extras["function"]), bool(extras["keep_id"]))
    except (ValueError, KeyError, TypeError, RecursionError):  # a room's file may be written by anyone
        pass
    return CallExtras()


def _unknown(fields: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in known and value is not None}
