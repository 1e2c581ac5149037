"""The built-in responder: streams, writes Markdown, uses the tools, and says what it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from overseer.domain.messages import Message, Part, Text, ToolCall
from overseer.llm import Delta, ReasoningDelta, TextDelta, ToolRequest
from overseer.llm.offline import ABOUT, HELP, PARAGRAPH, OfflineResponder
from overseer.render.markdown import render
from overseer.tools.registry import TOOLS, Toolbox

TIME = ToolRequest("call-time", "get_current_time", "{}")
SOON = 10.0  # seconds, of the 60 that the next word takes


def question(words: str) -> Message:
    return Message(1, "user", "complete", (Text(words),))


def hear(words: str, *so_far: Part, tools: Toolbox | None = None) -> list[Delta]:
    """The answer to a question, or its next step."""
    history = [question(words)]
    if so_far:
        history.append(Message(2, "assistant", "streaming", so_far))
    return list(OfflineResponder(pace=0).answer(history, tools or Toolbox(TOOLS)))


def said(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def roll(arguments: str) -> ToolRequest:
    return ToolRequest("call-roll", "roll_dice", arguments)


def test_it_says_that_it_is_no_language_model_and_how_to_connect_one() -> None:
    """A first answer leads to a real model, whichever of the four a person has."""
    answer = said(hear("Hello there!"))
    assert "no language model is connected" in answer
    for way in ("Ollama", "llama.cpp", "OpenAI", "OpenRouter"):
        assert way in answer
    for setting in ("OPENAI_BASE_URL=http://127.0.0.1:8080/v1", "OPENAI_API_KEY=", "OPENAI_MODEL="):
        assert setting in answer
    responder = OfflineResponder()
    assert responder.offline and "offline" in responder.name


@pytest.mark.parametrize(
    "words", ["Hello there!", "two\n\nlines", "{braces} {0} {quote}", " ", "", "```\ncode\n```", "🦉"]
)
def test_it_streams_word_by_word_and_loses_nothing(words: str) -> None:
    """Each delta holds at most one word, and together they are the whole text, to the last space."""
    deltas = hear(words)
    assert all(isinstance(delta, TextDelta) and len(delta.text.split()) <= 1 and delta.text for delta in deltas)
    assert len(deltas) > 50
    quote = "\n".join("> " + line for line in words.splitlines())
    assert said(deltas) == ABOUT.format(quote=quote, help=HELP)


def test_it_quotes_the_question_in_its_place() -> None:
    """The question is a quotation, cut short, whatever Markdown it holds."""
    html = render(said(hear("# One\n\n- two\n" + "x" * 1000)))
    begin, _, rest = html.partition("<blockquote>")
    quoted = rest.partition("</blockquote>")[0]
    assert "offline responder" in begin and "One" in quoted and "x" * 400 in quoted and "x" * 500 not in quoted


def test_it_writes_markdown() -> None:
    """Its answers show what the page can show: code, lists, headings and tables."""
    html = render(said(hear("Hello")) + said(hear("a long answer")))
    for tag in ("<pre ", "<code>", "<ul>", "<strong>", "<em>", "<h1>", "<h2>", "<table>", "<blockquote>"):
        assert tag in html


def test_a_long_answer_is_long() -> None:
    """There is time to press Stop: hundreds of words in twelve parts."""
    deltas = hear("Give me a LONG answer, please")
    parts = "".join(PARAGRAPH.format(n=n, parts=12) for n in range(1, 13))
    assert said(deltas) == "# A long answer\n\n" + parts
    assert len(deltas) > 500


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("what time is it?", [TIME]),
        ("Which DATE is today?", [TIME]),
        ("roll a die", [roll("{}")]),
        ("Roll a die with 20 sides", [roll('{"sides": 20}')]),
        ("roll a d12!", [roll('{"sides": 12}')]),
        ("throw the dice", [roll("{}")]),
        ("what time is it? and roll a die with 8 sides", [TIME, roll('{"sides": 8}')]),
    ],
)
def test_it_uses_the_tools_it_is_asked_for(words: str, wanted: list[ToolRequest]) -> None:
    """The time, a roll or both: it thinks aloud, then asks for the tools and says nothing more yet."""
    deltas = hear(words)
    thought = [delta for delta in deltas if isinstance(delta, ReasoningDelta)]
    assert [delta for delta in deltas if delta not in thought] == wanted
    for request in wanted:
        assert request.name in "".join(delta.text for delta in thought)
        Toolbox(TOOLS).use(request.name, request.arguments)


@pytest.mark.parametrize("words", ["sometimes", "soldier", "diet", "rolling stones", "an update", "long division"])
def test_it_is_not_fooled_by_parts_of_words(words: str) -> None:
    """A tool is wanted only by a word of its own."""
    assert not any(isinstance(delta, ToolRequest) for delta in hear(words))


def test_it_asks_for_no_tool_that_is_not_there() -> None:
    """Without tools it answers as ever."""
    assert "no language model" in said(hear("what time is it? roll a die", tools=Toolbox(())))


def test_it_tells_the_results_of_its_tools() -> None:
    """The next step has the results in it, also one that is an error, and asks for nothing more."""
    time = ToolCall(TIME.call_id, TIME.name, TIME.arguments, "2026-01-02T03:04:05+00:00", "done")
    rolled = ToolCall("call-roll", "roll_dice", '{"sides": 20}', "17", "done")
    failed = ToolCall("call-roll", "roll_dice", '{"sides": 1}', "ValueError: a die has from 2 to 1000 sides", "failed")
    deltas = hear("what time is it? roll a die with 20 sides", time, rolled)
    assert "2026-01-02T03:04:05+00:00" in said(deltas) and "17" in said(deltas)
    assert all(isinstance(delta, TextDelta) for delta in deltas)
    assert "a die has from 2 to 1000 sides" in said(hear("roll a die with 1 side", failed))


def test_it_answers_the_last_question() -> None:
    """What was asked and used before does not matter."""
    used = Message(2, "assistant", "complete", (ToolCall("c", "roll_dice", "{}", "4", "done"), Text("A 4.")))
    history = [question("roll a die"), used, Message(3, "user", "complete", (Text("what time is it?"),))]
    deltas = list(OfflineResponder(pace=0).answer(history, Toolbox(TOOLS)))
    assert [delta for delta in deltas if isinstance(delta, ToolRequest)] == [TIME]


def test_close_ends_it_at_once() -> None:
    """Who waits for the next word, however slow, wakes at once from any thread's close."""
    reply = OfflineResponder(pace=60).answer([question("Hello")], Toolbox(()))
    heard: list[Delta] = []
    thread = threading.Thread(target=lambda: heard.extend(reply))
    thread.start()
    reply.close()
    thread.join(SOON)
    assert not thread.is_alive() and heard == []


def test_close_in_the_middle_keeps_what_was_said() -> None:
    """Nothing more comes after a close, and a second one changes nothing."""
    reply = OfflineResponder(pace=0).answer([question("a long answer")], Toolbox(()))
    deltas = iter(reply)
    assert next(deltas) == TextDelta("#")
    reply.close()
    reply.close()
    assert list(deltas) == []


def test_words_come_at_a_pace_that_can_be_read() -> None:
    """It waits before each word."""
    reply = OfflineResponder(pace=0.05).answer([question("Hello")], Toolbox(()))
    began = time.monotonic()
    next(iter(reply))
    assert time.monotonic() - began >= 0.05
    reply.close()
