"""The finish reasons of different servers, and the errors they stand for."""

from __future__ import annotations

import re

from overseer.llm import ModelCut, ModelError

# Without capitals and punctuation: MAX_TOKENS, maxTokens and max-tokens are the same word.
LENGTH = ("length", "maxtokens", "maxoutputtokens", "maxlength", "maxcompletiontokens", "modellength", "tokenlimit")
LENGTH_OF_CONTEXT = ("modelcontextwindowexceeded", "contextlength", "contextlengthexceeded")
FILTER = (
    *("contentfilter", "contentfiltered", "safety", "imagesafety", "recitation", "blocklist", "prohibitedcontent"),
    *("spii", "sensitive", "refusal", "guardrailintervened", "moderation", "errortoxic", "blocked"),
)
# Of OpenRouter, vLLM, DeepSeek, Zhipu, Cohere and Gemini.
INCOMPLETE = (
    *("error", "abort", "aborted", "cancelled", "canceled", "cancel", "interrupted", "failed", "timeout", "errorlimit"),
    *("insufficientsystemresource", "networkerror", "malformedfunctioncall", "unexpectedtoolcall", "incomplete"),
)


def error_of_finish_reason(reason: str) -> ModelError | None:
    """Return the error that a finish reason stands for; None if the answer is complete."""
    word = re.sub(r"[^a-z]", "", reason.rpartition(".")[2].lower())  # after "FinishReason." in the name of an enum
    word = word.removeprefix("finishreason")
    if word in LENGTH or word in LENGTH_OF_CONTEXT:
        return ModelCut("The answer reached the model's length limit.")
    if word in FILTER:
        return ModelError("The model server's content filter ended the answer. Rephrase your message.")
    if word in INCOMPLETE:
        return ModelCut(f"The model server aborted the answer ({reason}). Continue, or try again.")
    return None
