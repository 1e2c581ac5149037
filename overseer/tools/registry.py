"""Tools a model may use: each is one decorated function, its schema read from signature and docstring.

A call runs in a thread of its own, for a limited time and only as long as its result is wanted. Python cannot end a
thread: a call that is abandoned may run on, and what it returns then goes nowhere.
"""

from __future__ import annotations

import inspect
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import get_type_hints

JSON_TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
SECONDS = 30.0  # time limit of a call
MAX_WORKING = 32  # calls that are waited for at a time
MAX_ABANDONED = 16  # abandoned calls that still run; while there are so many, no other is started
MAX_THREADS = MAX_WORKING + MAX_ABANDONED


class ToolError(Exception):
    """A tool could not be used; the message is told to the model and shown to the person."""


class ToolAbandoned(ToolError):
    """A call was given up before it had a result."""


Outcome = str | ToolError
StartThread = Callable[[Callable[[], Outcome], Callable[[Outcome], None]], None]
"""Starts the first function in a thread of the operating system; the second is told what it returned."""


def in_thread(work: Callable[[], Outcome], done: Callable[[Outcome], None]) -> None:
    """The Apart of a program whose threads are threads of the operating system."""
    threading.Thread(target=lambda: done(work()), name="tool", daemon=True).start()


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
    """The tools there are, by name. A call runs in a thread that `start_thread` starts, for at most `seconds`."""

    def __init__(
        self, tools: Sequence[Tool], *, seconds: float = SECONDS, start_thread: StartThread = in_thread
    ) -> None:
        self.seconds = seconds
        self.start_thread = start_thread
        self._tools = {tool.name: tool for tool in tools}
        self._places = threading.Semaphore(MAX_WORKING)
        self._lock = threading.Lock()
        self._abandoned = 0

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def call(self, name: str, arguments: str) -> Call:
        """A call that is still to be run; `arguments` is the JSON text of an object, nothing at all counts as `{}`.

        Raises ToolError for an unknown tool and for arguments that do not fit.
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

    def use(self, name: str, arguments: str) -> str:
        """What a tool returns; see `call` and `Call.run`. Raises ToolError."""
        return self.call(name, arguments).run()

    # What a call asks and tells

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place to work in, waited for while all are taken. Raises ToolError if there is none."""
        if not self._places.acquire(timeout=self.seconds):
            raise ToolError(f"{MAX_WORKING} tools are at work already. Try again in a moment.")
        try:
            if (hanging := self._abandoned) >= MAX_ABANDONED:
                raise ToolError(
                    f"{hanging} abandoned tools still run, so no other is started. Restart Overseer to end them."
                )
            yield
        finally:
            self._places.release()

    def count_abandoned(self, change: int) -> None:
        """A call was abandoned (1), or one that was has ended (-1)."""
        with self._lock:
            self._abandoned += change


class Call:
    """One use of a tool. `abandon` ends the wait for its result from any thread."""

    def __init__(self, toolbox: Toolbox, name: str, function: Callable[[], object]) -> None:
        self._toolbox = toolbox
        self._name = name
        self._function = function
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._wanted = True
        self._outcome: Outcome | None = None

    def run(self) -> str:
        """Start the tool and wait for what it returns.

        Raises ToolError for whatever it raises, and ToolAbandoned at the time limit or once the call is abandoned.
        """
        with self._toolbox.place():
            if self._over.is_set():
                raise ToolAbandoned(f"{self._name} was abandoned before it began.")
            self._toolbox.start_thread(self._work, self._done)
            in_time = self._over.wait(self._toolbox.seconds)
            with self._lock:
                outcome, self._wanted = self._outcome, False
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
        """Want no result any more."""
        self._over.set()

    def _work(self) -> Outcome:
        try:
            return str(self._function())
        except BaseException as error:  # a tool may raise anything, and none of it may end the turn
            return ToolError(f"{type(error).__name__}: {error}")

    def _done(self, outcome: Outcome) -> None:
        with self._lock:
            if self._wanted:
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
