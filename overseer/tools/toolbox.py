"""Tools a model may use. Each one is a decorated function; its schema comes from its signature and docstring.

A call runs in a thread of its own and is waited for until its time limit, or until it is abandoned. Python cannot end
a thread, so an abandoned call may run on; its result is discarded.
"""

from __future__ import annotations

import inspect
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import get_type_hints

from overseer.domain.tools import ToolDescription

JSON_TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
CALL_TIMEOUT_SECONDS = 30.0
MAX_ACTIVE_CALLS = 32  # calls that are waited for at the same time
MAX_ABANDONED_CALLS = 16  # abandoned calls that still run; at this number no other call is started
MAX_THREADS = MAX_ACTIVE_CALLS + MAX_ABANDONED_CALLS


class ToolError(Exception):
    """A tool call failed. The message is sent to the model and shown to the user."""


class ToolAbandoned(ToolError):
    """A call was abandoned before it returned."""


Outcome = str | ToolError
StartThread = Callable[[Callable[[], Outcome], Callable[[Outcome], None]], None]
"""Runs the first function in a native thread and passes what it returns to the second."""


def in_thread(work: Callable[[], Outcome], done: Callable[[Outcome], None]) -> None:
    """Start a thread; the StartThread of a process without greenlets."""
    threading.Thread(target=lambda: done(work()), name="tool", daemon=True).start()


@dataclass(frozen=True, slots=True)
class Tool(ToolDescription):
    """A function that the model may call."""

    function: Callable[..., object]


def tool(function: Callable[..., object]) -> Tool:
    """Make a Tool of a function whose parameters have the types str, int, float or bool.

    The docstring becomes the description. A parameter without a default is required. Raises KeyError for another type.
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
    """The available tools, by name. Each call has a time limit of `seconds`; `start_thread` starts its thread."""

    def __init__(
        self, tools: Sequence[Tool], *, seconds: float = CALL_TIMEOUT_SECONDS, start_thread: StartThread = in_thread
    ) -> None:
        self.seconds = seconds
        self.start_thread = start_thread
        self._tools = {tool.name: tool for tool in tools}
        self._slots = threading.Semaphore(MAX_ACTIVE_CALLS)
        self._lock = threading.Lock()
        self._abandoned_count = 0

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def call(self, name: str, arguments: str) -> Call:
        """Prepare a call. `arguments` is the JSON text of an object; an empty text and `null` count as `{}`.

        Raises ToolError for an unknown tool and for invalid arguments.
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
        except TypeError as error:
            raise ToolError(f"TypeError: {error}") from None
        return Call(self, name, lambda: tool.function(**values))

    @contextmanager
    def reserve_slot(self) -> Iterator[None]:
        """Hold one of the slots for active calls, waiting for a free one. Raises ToolError if none becomes free."""
        if not self._slots.acquire(timeout=self.seconds):
            raise ToolError(f"{MAX_ACTIVE_CALLS} tools are at work already. Try again in a moment.")
        try:
            if (hanging := self._abandoned_count) >= MAX_ABANDONED_CALLS:
                raise ToolError(
                    f"{hanging} abandoned tools still run, so no other is started. Restart Overseer to end them."
                )
            yield
        finally:
            self._slots.release()

    def count_abandoned(self, change: int) -> None:
        """Count a call that was abandoned (1), or an abandoned one that has returned (-1)."""
        with self._lock:
            self._abandoned_count += change


class Call:
    """One use of a tool. `abandon` ends the wait for its result from any thread."""

    def __init__(self, toolbox: Toolbox, name: str, function: Callable[[], object]) -> None:
        self._toolbox = toolbox
        self._name = name
        self._function = function
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._awaited = True
        self._outcome: Outcome | None = None

    def run(self) -> str:
        """Start the tool and return its result.

        Raises ToolError if the tool raises, and ToolAbandoned at the time limit or once the call is abandoned.
        """
        with self._toolbox.reserve_slot():
            if self._over.is_set():
                raise ToolAbandoned(f"{self._name} was abandoned before it began.")
            self._toolbox.start_thread(self._work, self._done)
            in_time = self._over.wait(self._toolbox.seconds)
            with self._lock:
                outcome, self._awaited = self._outcome, False
                if outcome is None:
                    self._toolbox.count_abandoned(1)
        if outcome is None and in_time:
            raise ToolAbandoned(f"{self._name} was abandoned.")
        if outcome is None:
            raise ToolAbandoned(f"{self._name} took longer than {self._toolbox.seconds:g} s and was abandoned.")
        if isinstance(outcome, ToolError):
            raise outcome
        return outcome

    def abandon(self) -> None:
        """Stop waiting for the result."""
        self._over.set()

    def _work(self) -> Outcome:
        try:
            return str(self._function())
        except BaseException as error:  # not even SystemExit in a tool may end the turn
            return ToolError(f"{type(error).__name__}: {error}")

    def _done(self, outcome: Outcome) -> None:
        with self._lock:
            if self._awaited:
                self._outcome = outcome
            else:
                self._toolbox.count_abandoned(-1)
        self._over.set()


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
