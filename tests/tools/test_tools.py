"""Tools: a decorated function, its schema, and what may go wrong when a model uses it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from overseer.tools.registry import (
    MAX_ABANDONED_CALLS,
    TOOLS,
    Outcome,
    ToolAbandoned,
    Toolbox,
    ToolError,
    get_current_time,
    roll_dice,
    tool,
)

DEADLINE = 20.0


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
def bare() -> None:
    pass


TOOLBOX = Toolbox([repeat, explode, bare, roll_dice])


def test_a_tools_schema_comes_from_its_signature_and_docstring() -> None:
    """Nothing is written twice: names, types, what is required, and what it is for."""
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


def test_a_tool_without_arguments_or_docstring_has_an_empty_schema() -> None:
    """It is a tool all the same."""
    assert bare.description == ""
    assert bare.parameters == {"type": "object", "properties": {}, "required": []}
    assert TOOLBOX.use("bare", "{}") == "None"


def test_a_type_that_json_does_not_have_is_refused_when_the_tool_is_made() -> None:
    """A mistake of ours shows when the server starts, not when a model calls."""

    def strange(words: list[str]) -> str:
        return words[0]

    with pytest.raises(KeyError):
        tool(strange)


def test_a_toolbox_shows_its_tools_in_their_order() -> None:
    """As the model is told of them."""
    assert [one.name for one in TOOLBOX] == ["repeat", "explode", "bare", "roll_dice"]
    assert [one.name for one in Toolbox(TOOLS)] == ["get_current_time", "roll_dice"]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ('{"word": "ho"}', "ho ho"),
        ('{"word": "ho", "times": 3, "loudly": true}', "HO HO HO"),
        (' {"word": "h\\u00f6"} ', "hö hö"),
        ('{"word": ""}', " "),
    ],
)
def test_a_tool_is_used_with_the_arguments_it_was_sent(arguments: str, answer: str) -> None:
    """JSON in, text out."""
    assert TOOLBOX.use("repeat", arguments) == answer


@pytest.mark.parametrize("arguments", ["", "{}", "null", " {} "])
def test_no_arguments_at_all_count_as_an_empty_object(arguments: str) -> None:
    """Servers say nothing in different ways."""
    assert TOOLBOX.use("roll_dice", arguments) in "123456"


@pytest.mark.parametrize("arguments", ["{", "{word: 1}", "ho", "{'word': 'ho'}", '{"word": "ho"', " ", "\x00", "{}{}"])
def test_arguments_that_are_no_json_are_a_tool_error(arguments: str) -> None:
    """The model is told so, and may try again."""
    with pytest.raises(ToolError, match="not valid JSON"):
        TOOLBOX.use("repeat", arguments)


@pytest.mark.parametrize("arguments", ["[1]", "1", '"ho"', "true", '["word"]'])
def test_arguments_that_are_no_object_are_a_tool_error(arguments: str) -> None:
    """They have no names to go by."""
    with pytest.raises(ToolError, match="must be a JSON object"):
        TOOLBOX.use("repeat", arguments)


def test_arguments_nested_without_end_are_a_tool_error() -> None:
    """A model that has lost its way ends its own call, and nothing else."""
    with pytest.raises(ToolError):
        TOOLBOX.use("repeat", "[" * 100_000)
    with pytest.raises(ToolError):
        TOOLBOX.use("repeat", '{"word":' * 100_000)


@pytest.mark.parametrize("arguments", ["{}", '{"wort": "ho"}', '{"word": "ho", "self": 1}'])
def test_arguments_that_do_not_fit_are_a_tool_error(arguments: str) -> None:
    """One that is missing, or one too many: named, so that the model can do better."""
    with pytest.raises(ToolError, match="TypeError.*'(word|wort|self)'"):
        TOOLBOX.use("repeat", arguments)


def test_an_unknown_tool_is_a_tool_error_that_names_the_known_ones() -> None:
    """Models make tools up."""
    with pytest.raises(ToolError, match=r"no tool named 'fly'; there are: repeat, explode, bare, roll_dice"):
        TOOLBOX.use("fly", "{}")


def test_whatever_a_tool_raises_is_a_tool_error() -> None:
    """With its kind and its words."""
    with pytest.raises(ToolError, match="^RuntimeError: boom$"):
        TOOLBOX.use("explode", "{}")
    with pytest.raises(ToolError, match="^TypeError: "):
        TOOLBOX.use("repeat", '{"word": "ho", "times": "many"}')


def test_a_tool_that_ends_its_thread_is_a_tool_error() -> None:
    """What would end a program ends a call, and nobody waits for it in vain."""

    @tool
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(ToolError, match="^SystemExit: 3$"):
        Toolbox([leave]).use("leave", "{}")


def test_a_call_past_its_time_limit_is_abandoned_and_what_it_returns_goes_nowhere() -> None:
    """The sentence says how long was waited."""
    gate, returned = threading.Event(), threading.Event()

    def start_thread(work: Callable[[], Outcome], done: Callable[[Outcome], None]) -> None:
        def run() -> None:
            done(work())
            returned.set()

        threading.Thread(target=run).start()

    @tool
    def hang() -> str:
        assert gate.wait(DEADLINE)
        return "late"

    call = Toolbox([hang], seconds=0.01, start_thread=start_thread).call("hang", "{}")
    with pytest.raises(ToolAbandoned, match=r"^hang took longer than 0\.01 s and was abandoned\.$"):
        call.run()
    gate.set()
    assert returned.wait(DEADLINE)


def test_a_call_that_is_abandoned_before_it_begins_never_begins() -> None:
    """Stop may come first."""
    begun = threading.Event()

    @tool
    def begin() -> None:
        begun.set()

    call = Toolbox([begin]).call("begin", "{}")
    call.abandon()
    with pytest.raises(ToolAbandoned):
        call.run()
    assert not begun.is_set()


def test_abandoned_tools_that_hang_are_bounded() -> None:
    """While too many of them run no other is started, and when they have ended tools can be used again."""
    gate = threading.Event()
    threads: list[threading.Thread] = []

    def start_thread(work: Callable[[], Outcome], done: Callable[[Outcome], None]) -> None:
        threads.append(threading.Thread(target=lambda: done(work())))
        threads[-1].start()

    @tool
    def hang() -> str:
        assert gate.wait(DEADLINE)
        return "late"

    box = Toolbox([hang], seconds=0.01, start_thread=start_thread)
    for _ in range(MAX_ABANDONED_CALLS):
        with pytest.raises(ToolAbandoned):
            box.use("hang", "{}")
    with pytest.raises(ToolError, match=f"{MAX_ABANDONED_CALLS} abandoned tools still run.*Restart") as refused:
        box.use("hang", "{}")
    assert not isinstance(refused.value, ToolAbandoned) and len(threads) == MAX_ABANDONED_CALLS
    gate.set()
    for thread in threads:
        thread.join(DEADLINE)
    box.seconds = DEADLINE
    assert box.use("hang", "{}") == "late"
    threads[-1].join(DEADLINE)


def test_the_current_time_is_told_with_its_offset() -> None:
    """So that a model in another zone is not wrong."""
    before = datetime.now().astimezone().replace(microsecond=0)
    told = datetime.fromisoformat(Toolbox(TOOLS).use("get_current_time", "{}"))
    assert told.tzinfo is not None
    assert told.utcoffset() == before.utcoffset()
    assert timedelta(0) <= told - before < timedelta(seconds=20)
    assert get_current_time.parameters["required"] == []


def test_a_die_shows_each_of_its_sides_and_no_other_number() -> None:
    """From one to as many as it has, six unless told."""
    box = Toolbox(TOOLS)
    assert {box.use("roll_dice", '{"sides": 2}') for _ in range(200)} == {"1", "2"}
    assert {box.use("roll_dice", "{}") for _ in range(600)} == set("123456")
    assert all(1 <= int(box.use("roll_dice", '{"sides": 1000}')) <= 1000 for _ in range(200))
    assert roll_dice.parameters == {
        "type": "object",
        "properties": {"sides": {"type": "integer"}},
        "required": [],
    }


@pytest.mark.parametrize("sides", ["1", "0", "-6", "1001", "1e9", "6.5", "true", "null", '"6"', "[6]", "NaN"])
def test_a_die_that_cannot_be_is_refused(sides: str) -> None:
    """In words the model can act on."""
    with pytest.raises(ToolError, match="a die has from 2 to 1000 sides"):
        Toolbox(TOOLS).use("roll_dice", f'{{"sides": {sides}}}')
