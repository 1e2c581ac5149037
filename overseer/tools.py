"""Tools a model may use: each is one decorated function, its schema read from signature and docstring."""

from __future__ import annotations

import inspect
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_type_hints

JSON_TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


class ToolError(Exception):
    """A tool could not be used; the message is told to the model and shown to the person."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call. `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, object]
    function: Callable[..., object]


def tool(function: Callable[..., object]) -> Tool:
    """Make a Tool of a function whose arguments are of the types str, int, float or bool.

    The docstring is the description; an argument without a default is required.
    """
    hints = get_type_hints(function)
    signature = inspect.signature(function)
    return Tool(
        name=function.__name__,
        description=inspect.getdoc(function) or "",
        parameters={
            "type": "object",
            "properties": {name: {"type": JSON_TYPES[hints[name]]} for name in signature.parameters},
            "required": [name for name, p in signature.parameters.items() if p.default is p.empty],
        },
        function=function,
    )


class Toolbox:
    """The tools of one turn, by name."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def use(self, name: str, arguments: str) -> str:
        """What the tool answers to `arguments`, the JSON text of an object; nothing at all counts as `{}`.

        Raises ToolError for an unknown tool, arguments that do not fit, and whatever the tool itself raises.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise ToolError(f"There is no tool named {name!r}; there are: {', '.join(self._tools)}.")
        try:
            values = json.loads(arguments or "{}") or {}
        except (ValueError, RecursionError) as error:
            raise ToolError(f"The arguments are not valid JSON: {error}.") from None
        if not isinstance(values, dict):
            raise ToolError("The arguments must be a JSON object.")
        try:
            inspect.signature(tool.function).bind(**values)
            return str(tool.function(**values))
        except Exception as error:  # a tool may raise anything, and none of it may end the turn
            raise ToolError(f"{type(error).__name__}: {error}") from error


@tool
def get_current_time() -> str:
    """Tell the current date and time of the server, with its offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


@tool
def roll_dice(sides: int = 6) -> int:
    """Roll one die with the given number of sides, from 2 to 1000."""
    if isinstance(sides, bool) or not isinstance(sides, int) or not 2 <= sides <= 1000:
        raise ValueError("a die has from 2 to 1000 sides")
    return secrets.randbelow(sides) + 1


TOOLS = (get_current_time, roll_dice)
