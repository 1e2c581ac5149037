"""What each kind of model server says becomes the same answer: through a real connection, in a real room."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer import create_app
from overseer.domain.messages import Message, Part, Reasoning, Text, ToolCall
from overseer.domain.settings import Changes
from overseer.llm import Delta, ModelError, ReasoningDelta, TextDelta, TokenCount, ToolRequest, refusal
from overseer.llm.choice import ModelSettings
from overseer.llm.openai import OpenAIServer
from overseer.rooms import turn
from overseer.rooms.chat_room import Limits
from overseer.rooms.overseer import Overseer
from overseer.tools.registry import Toolbox
from tests.llm.test_openai import CHUNKED, QUESTION, chunked
from tests.support.client import ended
from tests.support.client import wait_for_message as until
from tests.support.deltas import joined
from tests.support.dialects import (
    DEEPSEEK,
    DIALECTS,
    FIRE,
    LLAMA_CPP,
    LM_STUDIO,
    OPENAI,
    OPENROUTER,
    TOKENS_IN,
    TOKENS_OUT,
    VLLM,
    Dialect,
    Json,
    Refused,
    openai_error,
    that_refuse,
)
from tests.support.model_server import ModelServer, Reply, answer

SAID = "Grüße 🦉, all of you:\n\n- one\n- two"
THOUGHT = "They say hello. 🤔 a < b, </thin air>"
PROMPT = "Be brief."
DIE = ToolCall("call-0", "roll_dice", '{"sides": 20}')
CLOCK = ToolCall("call-1", "get_current_time", "")
CONTENTS: Mapping[str, tuple[Part, ...]] = {
    "text": (Text(SAID),),
    "reasoning, then text": (Reasoning(THOUGHT), Text(SAID)),
    "one tool": (DIE,),
    "two tools": (DIE, CLOCK),
    "the same tool twice": (DIE, replace(DIE, call_id="call-1", arguments='{"sides": 6}')),
    "text, then a tool": (Text("Let me see."), DIE),
    "reasoning, then a tool without arguments": (Reasoning(THOUGHT), replace(CLOCK, call_id="call-0")),
}
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
numbers = count()


@dataclass
class Harness:
    """A chat app and the server that answers in it; each room has a model of its own, so that none knows of another."""

    overseer: Overseer
    server: ModelServer

    def room(self, **changes: object) -> Room:
        """A room without any messages."""
        room_id = self.overseer.create().id
        model = f"model-{next(numbers)}"
        self.overseer.configure(room_id, cast(Changes, {"model": model, **changes}))
        self.server.replies.clear()
        return Room(self, room_id, len(self.server.requests))


@dataclass
class Room:
    """One room, and the requests that were sent since it was made."""

    harness: Harness
    room_id: str
    before: int

    def hear(self, *replies: Reply | bytes, ask: str = "Hello?") -> Message:
        """The answer to a question, stored, when the server says these replies."""
        self.harness.server.will(*(Reply(said) if isinstance(said, bytes) else said for said in replies))
        asked = self.harness.overseer.ask(self.room_id, ask)
        return until(self.harness.overseer, self.room_id, asked.answer, ended)

    @property
    def requests(self) -> list[Json]:
        return self.harness.server.requests[self.before :]


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """An app that reads as much as it does by default."""
    server = ModelServer()
    models = ModelSettings(base_url=server.url, name="stand-in")
    app = create_app(tmp_path_factory.mktemp("harness") / "instance", models=models, limits=Limits())
    overseer = app.extensions["overseer"]
    overseer.open()
    yield Harness(overseer, server)
    overseer.close()
    server.close()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that names no time is asked again at once."""
    monkeypatch.setattr(turn, "BUSY_WAITS", (0.0, 0.0, 0.0))


def as_said(parts: Sequence[Part]) -> list[Part]:
    """The parts as a server said them: without what the tools answered, and without blank lines around a thought."""
    said: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCall):
            part = replace(part, arguments=part.arguments or "{}", result="", state="running")
        elif isinstance(part, Reasoning):
            part = Reasoning(part.text.strip("\n"))
        said.append(part)
    return said


def speaks(dialect: Dialect, parts: Sequence[Part]) -> bool:
    return dialect.thought is not None or not any(isinstance(part, Reasoning) for part in parts)


STREAMS = [
    pytest.param(dialect, parts, id=f"{dialect.name}: {name}")
    for dialect in DIALECTS
    for name, parts in CONTENTS.items()
    if speaks(dialect, parts)
]


# Answers


@pytest.mark.parametrize(("dialect", "parts"), STREAMS)
def test_an_answer_is_stored_as_it_was_meant(harness: Harness, dialect: Dialect, parts: tuple[Part, ...]) -> None:
    """Text, thoughts and tools are the same parts in every dialect, and its count of tokens is taken over."""
    room = harness.room()
    calls = [part for part in as_said(parts) if isinstance(part, ToolCall)]
    later = [dialect.stream(Text("That is it."))] if calls else []
    message = room.hear(dialect.stream(*parts), *later)
    assert (message.state, message.reason) == ("complete", "")
    assert as_said(message.parts) == as_said([*parts, *([Text("That is it.")] if calls else [])])
    assert message.usage is not None
    assert message.usage.estimated == (dialect.counts == "nowhere")
    if not message.usage.estimated:
        steps = len(later) + 1
        assert (message.usage.tokens_in, message.usage.tokens_out) == (steps * TOKENS_IN, steps * TOKENS_OUT)
    if calls:
        assert_told(room.requests[1], message)


def assert_told(request: Json, message: Message) -> None:
    """The request that follows tool calls repeats them, and tells what each gave."""
    done = [part for part in message.parts if isinstance(part, ToolCall)]
    _, asked, *told = request["messages"]
    assert [part.state for part in done] == ["done"] * len(done)
    assert asked["role"] == "assistant"
    assert asked["tool_calls"] == [
        {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in done
    ]
    assert told == [{"role": "tool", "tool_call_id": call.call_id, "content": call.result} for call in done]
    assert len({call.call_id for call in done}) == len(done)


@dialects
def test_an_error_in_mid_answer_is_told_and_what_came_is_kept(harness: Harness, dialect: Dialect) -> None:
    """Each server's own form of it is understood: the answer failed, and the server's words say why."""
    message = harness.room().hear(dialect.broken(Text(SAID)))
    assert message.parts == (Text(SAID),)
    assert message.state == "failed" and FIRE in message.reason


@dialects
def test_an_error_before_the_first_word_is_told(harness: Harness, dialect: Dialect) -> None:
    """The server's words are shown, and not that the address is wrong."""
    message = harness.room().hear(dialect.broke(dialect))
    assert (message.state, message.parts) == ("failed", ())
    assert FIRE in message.reason and "OPENAI_BASE_URL" not in message.reason


@dialects
def test_an_answer_that_only_stops_is_interrupted(harness: Harness, dialect: Dialect) -> None:
    """Without any end it is not whole, and can be gone on with."""
    message = harness.room().hear(dialect.cut(Text(SAID)))
    assert (message.state, message.parts) == ("interrupted", (Text(SAID),))
    assert message.resumable and message.usage is not None and message.usage.estimated


@dialects
def test_a_tool_call_that_only_stops_is_not_used(harness: Harness, dialect: Dialect) -> None:
    """Its arguments may be half of what was meant."""
    message = harness.room().hear(dialect.cut(Text("Let me see."), DIE))
    assert (message.state, message.parts) == ("interrupted", (Text("Let me see."),))


@dialects
def test_junk_in_mid_answer_keeps_what_came(harness: Harness, dialect: Dialect) -> None:
    """An event that is broken ends the answer with a sentence."""
    junk = dialect.data + b'{"choices":[{"delta' + dialect.line_end * 2
    message = harness.room().hear(dialect.cut(Text(SAID)) + junk + dialect.stream(Text("More.")))
    assert (message.state, message.parts) == ("failed", (Text(SAID),))
    assert "broken JSON" in message.reason


@dialects
def test_an_answer_that_is_cut_within_an_event_keeps_what_came_whole(harness: Harness, dialect: Dialect) -> None:
    """Half an event is not shown, nor is it taken for the end."""
    half = dialect.chunk({"content": "never"})
    message = harness.room().hear(dialect.cut(Text(SAID)) + half[: len(half) // 2])
    assert message.parts == (Text(SAID),) and message.state in ("interrupted", "failed")


@pytest.mark.parametrize("finish", ["error", "insufficient_system_resource", "abort"])
def test_an_answer_that_ended_for_want_of_something_is_not_complete(harness: Harness, finish: str) -> None:
    """A provider that broke (OpenRouter), one without resources (DeepSeek), an engine that gave up (vLLM)."""
    said = OPENROUTER.cut(Text(SAID)) + b"".join(OPENROUTER.ends(finish))
    message = harness.room().hear(said)
    assert message.parts == (Text(SAID),) and message.state in ("failed", "interrupted")


@pytest.mark.parametrize("said", ["a <", "<", "<thi", "<think>Hm.</thi"])
def test_an_error_loses_nothing_that_came_before_it(harness: Harness, said: str) -> None:
    """What was held back, because it could have begun a tag, is kept too."""
    message = harness.room().hear(OPENAI.broken(Text(said)))
    text = "".join(part.text for part in message.parts if not isinstance(part, ToolCall))
    assert message.state == "failed" and text == said.removeprefix("<think>")


# Refusals of one thing


def holds(request: Json, what: str) -> bool:
    if what == "system":
        return any(message["role"] == "system" for message in request["messages"])
    return what in request


OPTIONAL = ("tools", "stream_options", "temperature", "system")


def label(value: object) -> str:
    return value.name if isinstance(value, Dialect) else str(value)


@pytest.mark.parametrize(("dialect", "what"), that_refuse(*OPTIONAL), ids=label)
def test_what_a_model_does_not_take_is_left_out_from_then_on(harness: Harness, dialect: Dialect, what: str) -> None:
    """It is asked once more without that and nothing else, and not offered it again; another model still is."""
    room = harness.room(temperature=0.7, system_prompt=PROMPT)
    message = room.hear(dialect.refuses[what].reply(), dialect.stream(Text("Yes.")))
    assert (message.state, message.parts, message.reason) == ("complete", (Text("Yes."),), "")
    assert room.hear(dialect.stream(Text("Yes!"))).text == "Yes!"
    assert [[holds(request, one) for one in OPTIONAL] for request in room.requests] == [
        [True] * 4,
        *[[one != what for one in OPTIONAL]] * 2,
    ]
    other = harness.room(temperature=0.7, system_prompt=PROMPT)
    other.hear(dialect.stream(Text("Yes.")))
    assert [holds(other.requests[0], one) for one in OPTIONAL] == [True] * 4


NOTES = {
    "tools": "Without tools: the server refused them.",
    "temperature": "Without temperature: the server refused it.",
    "system": "System prompt sent with the first message: the server refused the system role.",
}


@pytest.mark.parametrize(("dialect", "what"), that_refuse(*OPTIONAL), ids=label)
def test_an_answer_says_what_was_left_out_of_its_request(harness: Harness, dialect: Dialect, what: str) -> None:
    """So does the next one, which was never refused anything; what nobody would miss is not mentioned."""
    room = harness.room(temperature=0.7, system_prompt=PROMPT)
    first = room.hear(dialect.refuses[what].reply(), dialect.stream(Text("Yes.")))
    assert first.note == room.hear(dialect.stream(Text("Yes."))).note == NOTES.get(what, "")


def test_what_one_room_was_refused_another_is_asked_for(harness: Harness) -> None:
    """Also with the same model; and a room that goes back to a model finds what it knew of it."""
    here = harness.room()
    there = Room(harness, harness.overseer.create().id, here.before)
    model = harness.overseer.settings(here.room_id).model
    harness.overseer.configure(there.room_id, {"model": model})
    assert here.hear(OPENAI.refuses["tools"].reply(), OPENAI.stream(Text("Yes."))).note
    assert not there.hear(OPENAI.stream(Text("Yes."))).note
    harness.overseer.configure(here.room_id, {"model": f"{model}-other"})
    assert not here.hear(OPENAI.stream(Text("Yes."))).note
    harness.overseer.configure(here.room_id, {"model": model})
    assert here.hear(OPENAI.stream(Text("Yes."))).note
    assert [holds(request, "tools") for request in here.requests] == [True, False, True, True, False]


def test_what_was_refused_is_asked_for_again_after_a_while(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are changed, and nobody restarts Overseer for it; the answer then says nothing more of it."""
    monkeypatch.setattr(refusal, "FORGET_AFTER", 0.0)
    room = harness.room()
    assert room.hear(OPENAI.refuses["tools"].reply(), OPENAI.stream(Text("Yes."))).note
    assert not room.hear(OPENAI.stream(Text("Yes."))).note
    assert [holds(request, "tools") for request in room.requests] == [True, False, True]


def test_an_answer_made_anew_says_only_what_was_left_out_of_that_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the one before was made without is gone with it."""
    monkeypatch.setattr(refusal, "FORGET_AFTER", 0.0)
    room = harness.room()
    first = room.hear(OPENAI.refuses["tools"].reply(), OPENAI.stream(Text("Yes.")))
    harness.server.will(Reply(OPENAI.stream(Text("Anew."))))
    harness.overseer.retry(room.room_id)
    again = until(
        harness.overseer, room.room_id, first.number, lambda message: ended(message) and message.text == "Anew."
    )
    assert first.note and not again.note


def test_several_things_are_left_out_one_after_the_other(harness: Harness) -> None:
    """As many as the server names, and all are remembered."""
    room = harness.room(temperature=0.7, system_prompt=PROMPT)
    refused = [OPENAI.refuses[what].reply() for what in OPTIONAL]
    assert room.hear(*refused, OPENAI.stream(Text("Yes."))).text == "Yes."
    room.hear(OPENAI.stream(Text("Yes.")))
    counts = [sum(holds(request, one) for one in OPTIONAL) for request in room.requests]
    assert counts == [4, 3, 2, 1, 0, 0]


def test_a_refusal_that_is_repeated_ends_the_answer(harness: Harness) -> None:
    """A server that goes on about what was left out is not asked for ever, and nothing is remembered."""
    room = harness.room()
    refused = OPENAI.refuses["stream_options"]
    message = room.hear(refused.reply(), refused.reply())
    assert message.state == "failed" and "stream_options" in message.reason and len(room.requests) == 2
    room.hear(OPENAI.stream(Text("Yes.")))
    assert holds(room.requests[2], "stream_options")


def test_what_was_found_out_is_remembered_although_the_answer_broke(harness: Harness) -> None:
    """The server took the request; what became of the answer is another matter."""
    room = harness.room()
    room.hear(OPENAI.refuses["stream_options"].reply(), OPENAI.cut(Text("Half")))
    room.hear(OPENAI.stream(Text("Yes.")))
    assert [holds(request, "stream_options") for request in room.requests] == [True, False, False]


def test_a_model_without_tools_is_told_earlier_results_in_words(harness: Harness) -> None:
    """What a tool gave in an earlier answer is text for it, and no message is a tool's."""
    room = harness.room()
    first = room.hear(OPENAI.stream(DIE), OPENAI.stream(Text("There.")))
    (rolled,) = (part.result for part in first.parts if isinstance(part, ToolCall))
    message = room.hear(OPENAI.refuses["tools"].reply(), OPENAI.stream(Text("Again.")), ask="And now?")
    assert message.text == "Again."
    *_, asked, again = (request["messages"] for request in room.requests)
    assert [one["role"] for one in asked] == ["user", "assistant", "tool", "assistant", "user"]
    assert [one["role"] for one in again] == ["user", "assistant", "user"]
    assert "roll_dice" in again[1]["content"] and rolled in again[1]["content"] and "There." in again[1]["content"]
    assert not any("tool_calls" in one for one in again)


def test_a_system_prompt_that_is_refused_begins_the_first_question(harness: Harness) -> None:
    """Nothing of it is lost, and later questions are as they were asked."""
    room = harness.room(system_prompt=PROMPT)
    room.hear(VLLM.refuses["system"].reply(), VLLM.stream(Text("One.")), ask="First?")
    room.hear(VLLM.stream(Text("Two.")), ask="Second?")
    assert room.requests[0]["messages"][0] == {"role": "system", "content": PROMPT}
    assert room.requests[1]["messages"] == [{"role": "user", "content": f"{PROMPT}\n\nFirst?"}]
    assert room.requests[2]["messages"] == [
        {"role": "user", "content": f"{PROMPT}\n\nFirst?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Second?"},
    ]


def echo(request: Json, where: list[object], message: str) -> Json:
    """What FastAPI says of a request: what is wrong, and the whole request with it."""
    return {"detail": [{"type": "value_error", "loc": where, "msg": message, "input": request, "ctx": {"error": {}}}]}


def echo_in_words(request: Json, where: list[object], message: str) -> Json:
    """What vLLM makes of it: the same, written as Python would, within the message."""
    told = {"type": "value_error", "loc": tuple(where), "msg": message, "input": request, "ctx": {"error": message}}
    return openai_error(
        f'1 validation error:\n  {told}\n\n  File "api_server.py", line 1', type_="Bad Request", code=400
    )


@pytest.mark.parametrize("says", [echo, echo_in_words])
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("tools", 'Value error, "auto" tool choice requires --enable-auto-tool-choice to be set'),
        ("temperature", "Value error, temperature must be 1"),
        ("system", "Value error, System role not supported"),
    ],
)
def test_a_request_that_is_echoed_is_not_what_is_refused(
    harness: Harness, says: Callable[[Json, list[object], str], Json], what: str, message: str
) -> None:
    """Everything that was sent stands in the error; only what it is about is left out."""
    room = harness.room(temperature=0.7, system_prompt=PROMPT)
    room.hear(OPENAI.stream(Text("First.")))
    refused = Refused(400, says(room.requests[0], ["body"], message))
    assert room.hear(refused.reply(), OPENAI.stream(Text("Yes."))).text == "Yes."
    assert [holds(room.requests[-1], one) for one in OPTIONAL] == [one != what for one in OPTIONAL]


@pytest.mark.parametrize("says", [echo, echo_in_words])
def test_a_question_that_is_echoed_is_not_what_is_wrong(
    harness: Harness, says: Callable[[Json, list[object], str], Json]
) -> None:
    """A person may ask about context lengths, tools and temperatures without being told that theirs is too great."""
    room = harness.room()
    room.hear(OPENAI.stream(Text("First.")), ask="Does a tool exceed the context length at this temperature?")
    refused = Refused(400, says(room.requests[0], ["body", "user"], "Field required"))
    message = room.hear(refused.reply(), OPENAI.stream(Text("Yes.")))
    assert message.state == "failed" and "Field required" in message.reason
    assert "OVERSEER_CONTEXT_TOKENS" not in message.reason and len(room.requests) == 2


def test_the_name_of_a_model_is_not_what_is_refused(harness: Harness) -> None:
    """A model that is called after tools, and is not there, is asked for once."""
    said = 'model "llama3-groq-tool-use:8b" not found, try pulling it first'
    room = harness.room()
    message = room.hear(Refused(404, openai_error(said, type_="not_found_error")).reply())
    assert message.state == "failed" and said in message.reason
    assert len(room.requests) == 1


def test_thoughts_go_back_to_a_server_that_wants_them(harness: Harness) -> None:
    """DeepSeek refuses what follows a tool call without the thoughts before it; that is no reason to drop the tools."""
    room = harness.room()
    wanted = openai_error(
        "Missing `reasoning_content` field in the assistant message at message index 1. For more information, please "
        "refer to https://api-docs.deepseek.com/guides/thinking_mode#tool-calls"
    )
    message = room.hear(
        DEEPSEEK.stream(Reasoning("Hm."), DIE), Refused(400, wanted).reply(), DEEPSEEK.stream(Text("There."))
    )
    assert message.text == "There."
    assert holds(room.requests[2], "tools")
    assert room.requests[2]["messages"][1]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in room.requests[1]["messages"][1]


# Refusals of all of it


@pytest.mark.parametrize(("dialect", "what"), that_refuse("overflow"), ids=label)
def test_a_conversation_that_is_too_long_is_read_by_half(harness: Harness, dialect: Dialect, what: str) -> None:
    """The oldest half is left out and the model asked once more, however much the room may read."""
    room = harness.room()
    for number in range(4):
        room.hear(answer("word " * 400), ask=f"Question {number}?")
    message = room.hear(dialect.refuses[what].reply(), dialect.stream(Text("Yes.")), ask="And now?")
    assert (message.state, message.text) == ("complete", "Yes.")
    first, second = (request["messages"] for request in room.requests[-2:])
    assert len(first) == 9
    assert 1 <= len(second) <= 5 and second == first[-len(second) :]


@pytest.mark.parametrize(("dialect", "what"), that_refuse("overflow"), ids=label)
def test_a_question_that_is_too_long_names_the_setting(harness: Harness, dialect: Dialect, what: str) -> None:
    """After the second refusal the sentence says what to set."""
    room = harness.room()
    message = room.hear(dialect.refuses[what].reply(), dialect.refuses[what].reply())
    assert message.state == "failed" and message.parts == ()
    assert "OVERSEER_CONTEXT_TOKENS" in message.reason
    assert len(room.requests) == 2


@pytest.mark.parametrize(("dialect", "what"), that_refuse("busy"), ids=label)
def test_a_server_without_time_is_asked_again(harness: Harness, at_once: None, dialect: Dialect, what: str) -> None:
    """By itself; the answer is as if nothing had been."""
    room = harness.room()
    refused = dialect.refuses[what]
    message = room.hear(refused.reply(), refused.reply(), dialect.stream(Text("Yes.")))
    assert (message.state, message.text, message.reason) == ("complete", "Yes.", "")
    assert len(room.requests) == 3 and room.requests[0] == room.requests[2]


def test_a_provider_without_time_is_asked_again(harness: Harness, at_once: None) -> None:
    """OpenRouter may say so within the answer, as long as there is none."""
    error = {"code": 429, "message": "Provider returned error", "metadata": {"raw": "rate-limited upstream"}}
    room = harness.room()
    message = room.hear(OPENROUTER.alive + OPENROUTER.event({"error": error}), OPENROUTER.stream(Text("Yes.")))
    assert (message.state, message.text) == ("complete", "Yes.")


@pytest.mark.parametrize(("dialect", "what"), that_refuse("unknown model"), ids=label)
def test_an_unknown_model_is_told(harness: Harness, dialect: Dialect, what: str) -> None:
    """In the server's own words, after one request."""
    room = harness.room()
    refused = dialect.refuses[what]
    message = room.hear(refused.reply())
    assert message.state == "failed" and len(room.requests) == 1
    assert isinstance(refused.body, dict) and refused.body["error"]["message"] in message.reason


def test_an_error_beside_a_count_is_not_lost(harness: Harness) -> None:
    """LM Studio's error as a text, and llama.cpp's in a stream that goes on."""
    message = harness.room().hear(LM_STUDIO.event({"error": FIRE}))
    assert message.state == "failed" and FIRE in message.reason
    message = harness.room().hear(LLAMA_CPP.broken(Text(SAID)) + b"".join(LLAMA_CPP.ends()))
    assert message.state == "failed" and FIRE in message.reason and message.parts == (Text(SAID),)


# Cut anywhere


class Pieces:
    """A body that arrives in just these pieces, in place of a socket's."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = iter(pieces)

    def read1(self, amount: int) -> bytes:
        return next(self._pieces, b"")


def heard_from(*pieces: bytes) -> list[Delta]:
    """What the client makes of a response with this body: all of its code, without a connection."""
    response = SimpleNamespace(headers={"Content-Type": "text/event-stream"}, raw=Pieces(pieces))
    reply = OpenAIServer("http://127.0.0.1:9/v1").model("x").answer(QUESTION, Toolbox(()))
    return joined(reply._deltas(cast(requests.Response, response)))


def brief(dialect: Dialect, *parts: Part) -> bytes:
    """A whole answer without what a server says of itself in every chunk."""
    return replace(dialect, head={}, beside={}, counted={}).stream(*parts)


def meant(dialect: Dialect, parts: Sequence[Part]) -> list[Delta]:
    """What is to be heard of these parts."""
    deltas: list[Delta] = []
    for part in as_said(parts):
        if isinstance(part, ToolCall):
            deltas.append(ToolRequest(part.call_id, part.name, part.arguments))
        else:
            deltas.append(TextDelta(part.text) if isinstance(part, Text) else ReasoningDelta(part.text))
    at = sum(not isinstance(delta, ToolRequest) for delta in deltas)
    return deltas if dialect.counts == "nowhere" else [*deltas[:at], TokenCount(TOKENS_IN, TOKENS_OUT), *deltas[at:]]


SHORT: Mapping[str, tuple[Part, ...]] = {
    "words": (Reasoning("Hm 🦉"), Text("Grüße")),
    "text": (Text("Grüße 🦉"),),
    "tools": (DIE, CLOCK),
}


@dialects
@pytest.mark.parametrize("parts", SHORT.values(), ids=SHORT)
def test_a_stream_that_is_cut_at_any_byte_says_the_same(dialect: Dialect, parts: tuple[Part, ...]) -> None:
    """In two pieces, cut at every byte, and in single bytes. This is the whole client but for its connection: the
    next test does some of the same over a real one."""
    if not speaks(dialect, parts):
        parts = tuple(part for part in parts if not isinstance(part, Reasoning))
    stream = brief(dialect, *parts)
    whole = heard_from(stream)
    assert [
        ReasoningDelta(delta.text.strip("\n")) if isinstance(delta, ReasoningDelta) else delta for delta in whole
    ] == meant(dialect, parts)
    assert [cut for cut in range(1, len(stream)) if heard_from(stream[:cut], stream[cut:]) != whole] == []
    assert heard_from(*(stream[at : at + 1] for at in range(len(stream)))) == whole


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_stream_that_is_cut_anywhere_says_the_same_over_a_connection(
    model_server: ModelServer, data: st.DataObject
) -> None:
    """Some cuts of everything each server can say, as pieces that a real client reads from a real one."""
    dialect, parts = data.draw(st.sampled_from([(stream.values[0], stream.values[1]) for stream in STREAMS]))
    stream = dialect.stream(*parts)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=6)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    model_server.will(Reply(*chunked(*pieces), headers=CHUNKED))
    with closing(OpenAIServer(model_server.url).model("x").answer(QUESTION, Toolbox(()))) as reply:
        assert joined(iter(reply)) == heard_from(stream)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_no_junk_breaks_the_client(data: st.DataObject) -> None:
    """Chunks of any JSON, in any order among good ones, give deltas or a ModelError, and nothing else."""
    keys = st.sampled_from(
        ["choices", "delta", "content", "reasoning", "reasoning_details", "tool_calls", "function", "name", "arguments"]
        + ["index", "id", "usage", "prompt_tokens", "completion_tokens", "error", "message", "finish_reason", "code"]
    )
    leaves: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    leaves |= st.sampled_from(["", "<think>", "</think>", "x", "stop", "length", "error", "\ud83e"])
    values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))
    chunks = data.draw(st.lists(st.dictionaries(keys, values, max_size=4), max_size=4))
    good = data.draw(st.sampled_from(DIALECTS)).cut(Text("Yes."))
    stream = good + b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    try:
        deltas = heard_from(stream)
    except ModelError as error:
        assert str(error)
    else:
        assert all(isinstance(delta, Delta) for delta in deltas)
