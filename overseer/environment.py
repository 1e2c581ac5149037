"""What the environment says of the model, of how much it may do, and of how many may watch."""

from __future__ import annotations

import re
from collections.abc import Mapping

from overseer.chat_room import Limits
from overseer.llm.choice import ModelSettings, ollama_url
from overseer.llm.openai import Patience
from overseer.seats import House

LEAST = {"OVERSEER_CONTEXT_TOKENS": 256, "OVERSEER_MAX_ANSWER_CHARS": 1}
MOST = 10**9
NUMBER = re.compile(r"\d{1,3}([_,]\d{3})*|\d{1,20}", re.ASCII)  # 32768, 32,768 or 32_768, but not 1,5


class BadEnvironment(Exception):
    """A setting in the environment cannot be used; the message is a sentence that says which, and what would do."""


def model_settings(environment: Mapping[str, str]) -> ModelSettings:
    """OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL, OLLAMA_HOST, and the seconds to wait. Raises BadEnvironment."""
    usual = Patience()
    return ModelSettings(
        base_url=environment.get("OPENAI_BASE_URL", ""),
        api_key=environment.get("OPENAI_API_KEY", ""),
        name=environment.get("OPENAI_MODEL", ""),
        ollama_url=ollama_url(environment.get("OLLAMA_HOST", "")),
        patience=Patience(
            first=_number(environment, "OVERSEER_FIRST_BYTE_SECONDS", usual.first),
            gap=_number(environment, "OVERSEER_SILENCE_SECONDS", usual.gap),
            total=_number(environment, "OVERSEER_ANSWER_SECONDS", usual.total),
        ),
    )


def limits(environment: Mapping[str, str]) -> Limits:
    """OVERSEER_CONTEXT_TOKENS and OVERSEER_MAX_ANSWER_CHARS. Raises BadEnvironment."""
    usual = Limits()
    return Limits(
        context_tokens=int(_number(environment, "OVERSEER_CONTEXT_TOKENS", usual.context_tokens)),
        answer_chars=int(_number(environment, "OVERSEER_MAX_ANSWER_CHARS", usual.answer_chars)),
    )


def house(environment: Mapping[str, str]) -> House:
    """OVERSEER_MAX_TABS and OVERSEER_MAX_TABS_EACH. Raises BadEnvironment."""
    usual = House()
    return House(
        all=int(_number(environment, "OVERSEER_MAX_TABS", usual.all)),
        each=int(_number(environment, "OVERSEER_MAX_TABS_EACH", usual.each)),
    )


def _number(environment: Mapping[str, str], name: str, usual: float) -> float:
    given = environment.get(name, "").strip()
    if not given:
        return usual
    least = LEAST.get(name, 1)
    number = int(re.sub("[_,]", "", given)) if NUMBER.fullmatch(given) else -1
    if not least <= number <= MOST:
        shown = given if len(given) <= 40 else given[:39] + "…"
        raise BadEnvironment(f"{name}={shown} cannot be used. Set it to a whole number from {least} to {MOST}.")
    return float(number)
