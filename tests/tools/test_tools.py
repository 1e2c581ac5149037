"""Tools: their schema, valid and invalid calls, time limits, and the built-in tools."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from overseer.tools.toolbox import (
    MAX_ABANDONED_CALLS,
    TOOLS,
    Outcome,
    Tool,
    ToolAbandoned,
    Toolbox,
    ToolError,
    roll_dice,
    tool,
)
from tests.support.model_server import DEADLINE


@tool
def repeat(word: str, times: int = 2, loudly: bool = False, pause: float = 0.5) -> str:
    """Say a word again and again.

    With a pause in between.
    """
    return " ".join([word.upper() if loudly else word] * times)


@tool
def explode() -> str:
    """Explode."""
    raise RuntimeError("boom")


@tool
def leave() -> None:
    raise SystemExit(3)


@tool
def bare() -> None:
    pass


TOOLBOX = Toolbox([repeat, explode, leave, bare, roll_dice])


def test_tool_schema_comes_from_signature_and_docstring() -> None:
    assert repeat.name == "repeat"
    assert repeat.description == "Say a word again and again.\n\nWith a pause in between."
    assert repeat.parameters == {
        "type": "object",
        "properties": {
            "word": {"type": "string"},
            "times": {"type": "integer"},
            "loudly": {"type": "boolean"},
            "pause": {"type": "number"},
        },
        "required": ["word"],
    }
    assert bare.description == ""
    assert bare.parameters == {"type": "object", "properties": {}, "required": []}
    assert TOOLBOX.call("bare", "{}").run() == "None"


def test_tool_parameter_of_an_unsupported_type_raises_at_definition() -> None:
    def strange(words: list[str]) -> str:
        return words[0]

    with pytest.raises(KeyError):
        tool(strange)


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ('{"word": "ho"}', "ho ho"),
        ('{"word": "ho", "times": 3, "loudly": true}', "HO HO HO"),
        (' {"word": "h\\u00f6"} ', "hö hö"),
    ],
)
def test_tool_is_called_with_its_arguments(arguments: str, result: str) -> None:
    assert TOOLBOX.call("repeat", arguments).run() == result


@pytest.mark.parametrize("arguments", ["", "{}", "null"])
def test_tool_arguments_that_are_empty_count_as_an_empty_object(arguments: str) -> None:
    assert TOOLBOX.call("roll_dice", arguments).run() in "123456"


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("repeat", "{'word': 'ho'}", "not valid JSON"),
        ("repeat", '{"word": "ho"', "not valid JSON"),
        ("repeat", "\x00", "not valid JSON"),
        ("repeat", '{"word":' * 100_000, "not valid JSON"),
        ("repeat", "[1]", "must be a JSON object"),
        ("repeat", '"ho"', "must be a JSON object"),
        ("repeat", "{}", "TypeError.*'word'"),
        ("repeat", '{"word": "ho", "self": 1}', "TypeError.*'self'"),
        ("repeat", '{"word": "ho", "times": "many"}', "^TypeError: "),
        ("fly", "{}", r"no tool named 'fly'; there are: repeat, explode, leave, bare, roll_dice"),
        ("explode", "{}", "^RuntimeError: boom$"),
        ("leave", "{}", "^SystemExit: 3$"),
    ],
    ids=lambda value: value[:20],
)
def test_tool_call_that_fails_raises_tool_error(name: str, arguments: str, error: str) -> None:
    with pytest.raises(ToolError, match=error):
        TOOLBOX.call(name, arguments).run()


class Hanging:
    """A tool that hangs until `gate` is set, and the threads of its calls."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.threads: list[threading.Thread] = []

    def start_thread(self, work: Callable[[], Outcome], done: Callable[[Outcome], None]) -> None:
        self.threads.append(threading.Thread(target=lambda: done(work())))
        self.threads[-1].start()

    def hang(self) -> str:
        assert self.gate.wait(DEADLINE)
        return "late"

    def end(self) -> None:
        self.gate.set()
        for thread in self.threads:
            thread.join(DEADLINE)


def test_tool_calls_over_their_time_limit_are_abandoned_and_bounded() -> None:
    """At the limit no other call starts. Once the abandoned calls have returned, tools can be used again."""
    hanging = Hanging()
    hang = Tool("hang", "", {}, hanging.hang)
    toolbox = Toolbox([hang], seconds=0.01, start_thread=hanging.start_thread)
    for _ in range(MAX_ABANDONED_CALLS):
        with pytest.raises(ToolAbandoned, match=r"^hang took longer than 0\.01 s and was abandoned\.$"):
            toolbox.call("hang", "{}").run()
    with pytest.raises(ToolError, match=f"{MAX_ABANDONED_CALLS} abandoned tools still run.*Restart") as refused:
        toolbox.call("hang", "{}").run()
    assert not isinstance(refused.value, ToolAbandoned) and len(hanging.threads) == MAX_ABANDONED_CALLS
    hanging.end()
    toolbox.seconds = DEADLINE
    assert toolbox.call("hang", "{}").run() == "late"
    hanging.end()


def test_tool_call_abandoned_before_it_begins_does_not_run() -> None:
    begun = threading.Event()
    call = Toolbox([Tool("begin", "", {}, begun.set)]).call("begin", "{}")
    call.abandon()
    with pytest.raises(ToolAbandoned):
        call.run()
    assert not begun.is_set()


def test_get_current_time_includes_the_utc_offset() -> None:
    before = datetime.now().astimezone().replace(microsecond=0)
    now = datetime.fromisoformat(Toolbox(TOOLS).call("get_current_time", "{}").run())
    assert now.tzinfo is not None and now.utcoffset() == before.utcoffset()
    assert timedelta(0) <= now - before < timedelta(minutes=1)


def test_roll_dice_gives_every_side_and_no_other_number() -> None:
    toolbox = Toolbox(TOOLS)
    assert {toolbox.call("roll_dice", '{"sides": 2}').run() for _ in range(50)} == {"1", "2"}
    assert {toolbox.call("roll_dice", "{}").run() for _ in range(200)} == set("123456")
    assert all(1 <= int(toolbox.call("roll_dice", '{"sides": 1000}').run()) <= 1000 for _ in range(50))


@pytest.mark.parametrize("sides", ["1", "1001", "1e9", "6.5", "true", '"6"', "[6]", "NaN"])
def test_roll_dice_with_invalid_sides_raises_tool_error(sides: str) -> None:
    with pytest.raises(ToolError, match="a die has from 2 to 1000 sides"):
        Toolbox(TOOLS).call("roll_dice", f'{{"sides": {sides}}}').run()
