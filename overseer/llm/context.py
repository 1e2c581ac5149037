"""The context lengths of models, as their servers list them or name them in errors."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from overseer.domain.context import ModelContext
from overseer.llm.error_body import MESSAGES

MAX_MODELS = 1000  # whose context is remembered
MAX_CONTEXT_TOKENS = 10**9
MAX_JSON_CHARS = 20_000
MAX_WORDS_CHARS = 4000  # of an error that are searched

# The context length in an entry of `GET /models`: llama.cpp, vLLM, Groq, OpenRouter, LM Studio, Mistral. If a server
# says both, the loaded length counts.
LISTED = (
    ("meta", "n_ctx"),
    ("loaded_context_length",),
    ("max_model_len",),
    ("context_window",),
    ("top_provider", "context_length"),
    ("context_length",),
    ("max_context_length",),
)
LIMIT_FIELDS = ("n_ctx", "max_context_length", "context_length", "max_model_len")
NEEDED_FIELDS = ("n_prompt_tokens", "prompt_tokens")
# The fields of an error that describe it, rather than repeat the request.
DESCRIBING = (*MESSAGES, "metadata", "raw")
NUMBER = r"(\d{1,3}(?:,\d{3})+|\d+)"
LIMITS_IN_WORDS = re.compile(
    rf"context (?:length|window|size)(?: of| is|:)?(?: only)? ?\(?{NUMBER}|less than {NUMBER} tokens"
    rf"|> {NUMBER} maximum|maximum number of tokens allowed \({NUMBER}",
    re.I,
)
NEEDED_IN_WORDS = re.compile(
    rf"(?:resulted in|requested|the first|has)(?: about)? {NUMBER} (?:input )?tokens|\({NUMBER} tokens\) exceeds"
    rf"|{NUMBER} tokens >|token count \({NUMBER}|Given: {NUMBER}",
    re.I,
)


class Overflow(NamedTuple):
    """What an error says about a request over the context length: tokens of the request and of the context."""

    needed: int | None
    limit: int | None


class ContextMemory:
    """What is known of the context of each model of one server. Keeps the MAX_MODELS most recent ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: OrderedDict[str, ModelContext] = OrderedDict()

    def get(self, model: str) -> ModelContext:
        """Return what is known of a model."""
        with self._lock:
            return self._contexts.get(model, ModelContext())

    def set_length(self, model: str, tokens: int | None) -> None:
        """Remember the context length of a model, if one is given."""
        if tokens is not None:
            self._update(model, self.get(model)._replace(tokens=tokens))

    def set_ratio(self, model: str, *, estimated: int, counted: int) -> None:
        """Remember how many tokens the model counted for a request that was estimated at `estimated` tokens."""
        if estimated >= 100 and counted:  # a template's own tokens would distort the ratio of a short request
            self._update(model, self.get(model)._replace(ratio=min(max(counted / estimated, 0.25), 8.0)))

    def _update(self, model: str, context: ModelContext) -> None:
        with self._lock:
            self._contexts[model] = context
            self._contexts.move_to_end(model)
            while len(self._contexts) > MAX_MODELS:
                self._contexts.popitem(last=False)


def listed_context(entry: Mapping[str, object]) -> int | None:
    """Return the context length in an entry of a list of models, or None."""
    for path in LISTED:
        value: object = entry
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if tokens := _tokens(value):
            return tokens
    return None


def overflow_numbers(error: object, words: str) -> Overflow:
    """Return what an error says about the context length, in the fields of its parsed body or else in its words."""
    fields = dict(_numbers(error))
    needed = next((fields[name] for name in NEEDED_FIELDS if name in fields), None) or _find(NEEDED_IN_WORDS, words)
    limit = next((fields[name] for name in LIMIT_FIELDS if name in fields), None) or _find(LIMITS_IN_WORDS, words)
    return Overflow(needed if limit is None or (needed or 0) > limit else None, limit)


def _find(pattern: re.Pattern[str], words: str) -> int | None:
    found = pattern.search(words[:MAX_WORDS_CHARS])
    digits = next(filter(None, found.groups()), "") if found else ""
    return _tokens(int(digits.replace(",", "")[:12] or 0))


def _tokens(value: object) -> int | None:
    return value if type(value) is int and 0 < value <= MAX_CONTEXT_TOKENS else None


def _numbers(error: object, depth: int = 6) -> Iterator[tuple[str, int]]:
    """Yield the numbers in the objects that describe an error. Other objects may repeat what a person wrote."""
    if depth and isinstance(error, str) and error.lstrip().startswith("{"):
        try:
            error = json.loads(error[:MAX_JSON_CHARS])
        except (ValueError, RecursionError):
            return
    if depth and isinstance(error, Mapping):
        yield from ((name, tokens) for name, value in error.items() if (tokens := _tokens(value)))
        for name in DESCRIBING:
            yield from _numbers(error.get(name), depth - 1)
    elif depth and isinstance(error, list):
        for one in error[:20]:
            yield from _numbers(one, depth - 1)
