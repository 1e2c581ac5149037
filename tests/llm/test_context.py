"""Context lengths: what lists of models and errors say about them."""

from __future__ import annotations

import json

import pytest

from overseer.domain.context import ModelContext
from overseer.llm.context import MAX_MODELS, ContextMemory, Overflow, listed_context, overflow_numbers


@pytest.mark.parametrize(
    ("entry", "tokens"),
    [
        ({"id": "m", "meta": {"n_ctx": 512, "n_ctx_train": 8192}}, 512),  # llama.cpp
        ({"id": "m", "max_model_len": 4096}, 4096),  # vLLM
        ({"id": "m", "context_window": 131072}, 131072),  # Groq
        ({"id": "m", "context_length": 200000, "top_provider": {"context_length": 100000}}, 100000),  # OpenRouter
        ({"id": "m", "max_context_length": 32768, "loaded_context_length": 4096}, 4096),  # LM Studio
        ({"id": "m"}, None),
        ({"id": "m", "context_length": None, "meta": "x"}, None),
        ({"id": "m", "context_length": -1, "max_model_len": "8192", "context_window": True}, None),
    ],
)
def test_context_length_is_read_from_a_list_of_models(entry: dict[str, object], tokens: int | None) -> None:
    assert listed_context(entry) == tokens


@pytest.mark.parametrize(
    ("error", "needed", "limit"),
    [
        ("maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", 9000, 8192),
        ("maximum context length is 4,096 tokens. However, you requested 5,000 tokens (4500 in", 5000, 4096),
        ("request (4476 tokens) exceeds the available context size (4096 tokens), try increasing it", 4476, 4096),
        ("prompt is too long: 210000 tokens > 200000 maximum", 210000, 200000),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1200000, 1048576),
        ("Input validation error: `inputs` must have less than 4096 tokens. Given: 5000", 5000, 4096),
        ("Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context "
         "length of only 4096 tokens, which is not enough.", 9000, 4096),
        ("maximum context length is 8192 tokens", None, 8192),
        ("the input length exceeds the context length", None, None),
        ({"error": {"code": 400, "message": "too long", "n_prompt_tokens": 931, "n_ctx": 512}}, 931, 512),
        ({"detail": json.dumps({"error": {"n_prompt_tokens": 931, "n_ctx": 512}})}, 931, 512),
        ({"error": {"n_prompt_tokens": 100, "n_ctx": 512}}, None, 512),
        ({"error": {"n_prompt_tokens": "931", "n_ctx": [512]}}, None, None),
        ("context size (" + "9" * 5000 + " tokens)", None, None),
        (None, None, None),
    ],
)  # fmt: skip
def test_overflow_numbers_are_read_from_fields_or_words(error: object, needed: int | None, limit: int | None) -> None:
    words = error if isinstance(error, str) else ""
    assert overflow_numbers(error, words) == Overflow(needed, limit)
    body = json.dumps(error if isinstance(error, dict) else {"error": {"message": error}})
    assert overflow_numbers(body, words) == Overflow(needed, limit)


def test_overflow_numbers_are_not_read_from_a_repeated_question() -> None:
    """Otherwise a question could shorten the context of every room."""
    echo = {"detail": [{"msg": "too long", "input": '{"n_ctx": 5}', "ctx": {"n_ctx": 5}}], "n_prompt_tokens": 931}
    assert overflow_numbers(echo, "too long") == Overflow(931, None)


def test_context_memory_keeps_length_and_ratio_of_the_latest_models() -> None:
    memory = ContextMemory()
    memory.set_length("m", 512)
    memory.set_ratio("m", estimated=1000, counted=1500)
    memory.set_ratio("m", estimated=20, counted=80)  # mostly the template's own tokens
    memory.set_length("m", None)
    assert memory.get("m") == ModelContext(512, 1.5)
    for n in range(MAX_MODELS):
        memory.set_length(f"m{n}", 1)
    assert memory.get("m") == memory.get("unknown") == ModelContext(None, 1.0)
