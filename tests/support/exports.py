"""Exports of other programs, made here."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

START = 1_700_000_000  # Unix seconds


def chatgpt(name: str, words: Sequence[str], *, number: int = 1, **more: Any) -> dict[str, Any]:
    """Return a conversation as ChatGPT exports it, in which questions and answers take turns."""
    mapping: dict[str, Any] = {"root": {"id": "root", "message": None, "parent": None, "children": ["m1"]}}
    for index, text in enumerate(words, 1):
        mapping[f"m{index}"] = {
            "id": f"m{index}",
            "parent": f"m{index - 1}" if index > 1 else "root",
            "children": [f"m{index + 1}"] if index < len(words) else [],
            "message": {
                "id": f"m{index}",
                "author": {"role": "user" if index % 2 else "assistant", "name": None, "metadata": {}},
                "create_time": START + 100 * number + index,
                "content": {"content_type": "text", "parts": [text]},
                "status": "finished_successfully",
                "weight": 1.0,
                "recipient": "all",
                "metadata": {} if index % 2 else {"model_slug": "gpt-4o"},
            },
        }
    return {
        "id": f"conversation-{number}",
        "conversation_id": f"conversation-{number}",
        "title": name,
        "create_time": START + 100 * number,
        "update_time": START + 100 * number + len(words),
        "mapping": mapping,
        "current_node": f"m{len(words)}",
        **more,
    }


def many(count: int, *, first: int = 1, exchanges: int = 1) -> list[dict[str, Any]]:
    """Return conversations that are numbered from `first` on."""
    return [
        chatgpt(f"Talk {number}", [f"Word {number}-{index}" for index in range(2 * exchanges)], number=number)
        for number in range(first, first + count)
    ]


def as_json(value: object) -> bytes:
    """Return a value as the content of a JSON file."""
    return json.dumps(value).encode()


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Return a zip of these members."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def written(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(content)
    return path
