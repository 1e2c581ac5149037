"""The description of a tool, as a model receives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolDescription:
    """A tool's name, its purpose in words, and its arguments as a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, object]
