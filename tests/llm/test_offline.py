"""The offline responder: it streams, writes Markdown, uses the tools and says that it is a demo."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from overseer.domain.messages import Message, Part, Text, ToolCall
from overseer.llm import Delta, ReasoningDelta, TextDelta, ToolRequest
from overseer.llm.offline import ABOUT, HELP, OfflineResponder
from overseer.render.markdown import render
from overseer.tools.toolbox import TOOLS, Tool
from tests.support.model_client import text_of
from tests.support.model_server import DEADLINE

TIME = ToolRequest("call-time", "get_current_time", "{}")


def question(text: str, number: int = 1) -> Message:
    return Message(number, "user", "complete", (Text(text),))


def answer(text: str, *so_far: Part, tools: Sequence[Tool] = TOOLS) -> list[Delta]:
    """Return the deltas of the answer to a question, or of its next step."""
    history = [question(text)]
    if so_far:
        history.append(Message(2, "assistant", "streaming", so_far))
    return list(OfflineResponder(pace=0).answer(history, tools))


def roll(arguments: str) -> ToolRequest:
    return ToolRequest("call-roll", "roll_dice", arguments)


def test_offline_answer_says_how_to_connect_a_model() -> None:
    text = text_of(answer("Hello there!"))
    assert "no language model is connected" in text
    for setting in ("Ollama", "llama.cpp", "OpenRouter", "OPENAI_BASE_URL=http://127.0.0.1:8080/v1", "OPENAI_API_KEY="):
        assert setting in text
    responder = OfflineResponder()
    assert responder.offline and "offline" in responder.name


@pytest.mark.parametrize("text", ["two\n\nlines", "{braces} {0} {quote}", " ", "", "```\ncode\n```", "🦉"])
def test_offline_answer_streams_word_by_word_without_loss(text: str) -> None:
    deltas = answer(text)
    assert all(isinstance(delta, TextDelta) and len(delta.text.split()) <= 1 and delta.text for delta in deltas)
    quote = "\n".join("> " + line for line in text.splitlines())
    assert text_of(deltas) == ABOUT.format(quote=quote, help=HELP)


def test_offline_answer_quotes_the_beginning_of_the_question() -> None:
    before, _, rest = render(text_of(answer("# One\n\n- two\n" + "x" * 1000))).partition("<blockquote")
    quoted = rest.partition("</blockquote>")[0]
    assert "offline responder" in before and "One" in quoted and "x" * 400 in quoted and "x" * 500 not in quoted


def test_offline_answers_contain_all_kinds_of_markdown() -> None:
    long = answer("Give me a LONG answer, please")
    assert len(long) > 500, "long enough to press Stop"
    html = render(text_of(answer("Hello")) + text_of(long))
    for tag in ("<pre ", "<code>", "<ul ", "<strong>", "<em>", "<h1>", "<h2>", "<table>", "<blockquote "):
        assert tag in html


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("what time is it?", [TIME]),
        ("Which DATE is today?", [TIME]),
        ("roll a die", [roll("{}")]),
        ("roll a d12!", [roll('{"sides": 12}')]),
        ("what time is it? and roll a die with 8 sides", [TIME, roll('{"sides": 8}')]),
    ],
)
def test_offline_answer_requests_the_tools_that_the_question_names(text: str, requests: list[ToolRequest]) -> None:
    deltas = answer(text)
    reasoning = [delta for delta in deltas if isinstance(delta, ReasoningDelta)]
    assert [delta for delta in deltas if delta not in reasoning] == requests
    assert all(request.name in "".join(delta.text for delta in reasoning) for request in requests)


def test_offline_answer_requests_no_tool_for_parts_of_words_or_without_tools() -> None:
    texts = ("sometimes", "soldier", "diet", "rolling stones", "an update", "long division")
    assert not any(isinstance(delta, ToolRequest) for text in texts for delta in answer(text))
    assert "no language model" in text_of(answer("what time is it? roll a die", tools=()))


def test_offline_answer_contains_the_results_of_its_tools() -> None:
    time = ToolCall(TIME.call_id, TIME.name, TIME.arguments, "2026-01-02T03:04:05+00:00", "done")
    rolled = ToolCall("call-roll", "roll_dice", '{"sides": 20}', "17", "done")
    failed = ToolCall("call-roll", "roll_dice", '{"sides": 1}', "ValueError: a die has from 2 to 1000 sides", "failed")
    deltas = answer("what time is it? roll a die with 20 sides", time, rolled)
    assert "2026-01-02T03:04:05+00:00" in text_of(deltas) and "17" in text_of(deltas)
    assert all(isinstance(delta, TextDelta) for delta in deltas)
    assert "a die has from 2 to 1000 sides" in text_of(answer("roll a die with 1 side", failed))


def test_offline_answer_is_to_the_last_question() -> None:
    used = Message(2, "assistant", "complete", (ToolCall("c", "roll_dice", "{}", "4", "done"), Text("A 4.")))
    history = [question("roll a die"), used, question("what time is it?", 3)]
    deltas = list(OfflineResponder(pace=0).answer(history, TOOLS))
    assert [delta for delta in deltas if isinstance(delta, ToolRequest)] == [TIME]


def test_offline_reply_waits_between_words_until_it_is_closed() -> None:
    reply = OfflineResponder(pace=600).answer([question("Hello")], ())
    deltas: list[Delta] = []
    thread = threading.Thread(target=lambda: deltas.extend(reply))
    thread.start()
    reply.close()
    thread.join(DEADLINE)
    assert not thread.is_alive() and deltas == []


def test_offline_reply_closed_between_words_yields_nothing_more() -> None:
    reply = OfflineResponder(pace=0).answer([question("a long answer")], ())
    deltas = iter(reply)
    assert next(deltas) == TextDelta("#")
    reply.close()
    reply.close()
    assert list(deltas) == []
