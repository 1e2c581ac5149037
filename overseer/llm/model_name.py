"""The name of a model as it is shown."""

from __future__ import annotations

import re

from overseer.domain.text import clean

MAX_MODEL_NAME_CHARS = 100
# A path in a file system. "meta-llama/Llama-3" and "models/gemini" are names.
PATH = re.compile(r"(?:[/\\]|(?:~|\.{1,2})[/\\]|[A-Za-z]:[/\\]|file:)|.*\\|.*\.(?:gguf|ggml|safetensors)$", re.I | re.S)
MODEL_FILE = re.compile(r"(?<=.)\.(?:gguf|ggml|safetensors|llamafile|bin)$", re.I)


def short_model_name(name: str) -> str:
    """Return a model's name, or of a path its file name, without what cannot be seen and at most 100 characters long.

    llama.cpp and vLLM name a model by its path unless they are told another name.
    """
    name = "".join(filter(str.isprintable, " ".join(clean(name).split())))
    if PATH.match(name):
        name = re.split(r"[/\\]", name.rstrip("/\\"))[-1] or name
        name = MODEL_FILE.sub("", name)
    return name if len(name) <= MAX_MODEL_NAME_CHARS else name[: MAX_MODEL_NAME_CHARS - 1] + "…"


def model_label(name: str) -> str:
    """Return the short name of a model, or a question mark for one whose name cannot be seen."""
    return short_model_name(name) or ("?" if name else "")
