"""The settings of a room, and their validation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from overseer.domain.text import Invalid, TooLarge, clean

MAX_MODEL_CHARS = 200
MAX_SYSTEM_PROMPT_CHARS = 32_000
MAX_LANES = 4  # models that are asked at once
MAX_TEMPERATURE = 2.0
NUMBER = re.compile(r"\+?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.I)  # float() also accepts 0_1 and -0


@dataclass(frozen=True, slots=True)
class Settings:
    """A room's settings. An empty `model` means the server's default, `temperature` None the model's default.

    A `pinned` room stays at the top of the list. An `archived` one is not in the list. A `temporary` one is not either,
    and is deleted when it has not been used for a while.
    """

    model: str = ""
    system_prompt: str = ""
    temperature: float | None = None
    pinned: bool = False
    archived: bool = False
    temporary: bool = False


class Changes(TypedDict, total=False):
    """The settings to change."""

    model: str
    system_prompt: str
    temperature: float | None
    pinned: bool
    archived: bool
    temporary: bool


def parse_changes(form: Mapping[str, str]) -> Changes:
    """Return the settings in a form; an empty field resets its setting. Raises Invalid and TooLarge."""
    found = Changes()
    if "model" in form:
        found["model"] = _model(form["model"])
    if "system_prompt" in form:
        found["system_prompt"] = _system_prompt(form["system_prompt"])
    if "temperature" in form:
        found["temperature"] = _temperature(form["temperature"])
    if "pinned" in form:
        found["pinned"] = _flag(
            form["pinned"], "pinned is 1 for a room that stays on top, and 0 for one that does not."
        )
    if "archived" in form:
        found["archived"] = _flag(form["archived"], "archived is 1 for a room that leaves the list, and 0 otherwise.")
    if "temporary" in form:
        if parse_temporary(form["temporary"]):
            raise Invalid("Only a new room can be temporary: POST /rooms with temporary=1.")
        found["temporary"] = False
    return found


def parse_temporary(given: str) -> bool:
    """Return whether a new room is temporary. Raises Invalid."""
    return _flag(given, "temporary is 1 for a new room that is deleted after its use, and 0 to keep it.")


def parse_models(given: Sequence[str]) -> tuple[str, ...]:
    """Return the models to ask, at most MAX_LANES; none stands for the room's. Raises Invalid."""
    names = tuple(name for name in map(_model, given) if name)
    if len(names) > MAX_LANES:
        raise Invalid(f"Choose at most {MAX_LANES} models; these are {len(names)}.")
    return names


def _model(given: str) -> str:
    name = " ".join(clean(given).split())
    if len(name) > MAX_MODEL_CHARS:
        raise Invalid(f"A model's name has at most {MAX_MODEL_CHARS} characters; this one has {len(name)}.")
    return name


def _system_prompt(given: str) -> str:
    prompt = clean(given).replace("\r\n", "\n").replace("\r", "\n").strip()
    if len(prompt) > MAX_SYSTEM_PROMPT_CHARS:
        raise TooLarge(
            f"A system prompt has at most {MAX_SYSTEM_PROMPT_CHARS:,} characters; this one has {len(prompt):,}."
        )
    return prompt


def _temperature(given: str) -> float | None:
    given = given.strip()
    if not given:
        return None
    if not NUMBER.fullmatch(given) or (temperature := float(given)) > MAX_TEMPERATURE:
        raise Invalid(f"Temperature must be between 0 and {MAX_TEMPERATURE:g}. Leave empty for the default.")
    return temperature


def _flag(given: str, sentence: str) -> bool:
    if given not in ("", "0", "1"):
        raise Invalid(sentence)
    return given == "1"
