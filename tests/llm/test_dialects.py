"""Each kind of model server gives the same answers, through a real connection and in a real room."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from types import SimpleNamespace
from typing import cast

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from overseer import create_app
from overseer.domain.messages import Message, Part, Reasoning, Text, ToolCall
from overseer.domain.settings import Changes
from overseer.llm import AnsweredBy, Delta, ModelError, ReasoningDelta, TextDelta, TokenCount, ToolRequest, refusal
from overseer.llm.choice import ModelSettings
from overseer.llm.model_name import short_model_name
from overseer.llm.openai import OpenAIServer
from overseer.rooms.chat_room import Limits
from overseer.rooms.overseer import Overseer
from overseer.web.extensions import instance as instance_of
from tests.support.answers import ask, ended_answer
from tests.support.deltas import joined
from tests.support.dialects import (
    DEEPSEEK,
    DIALECTS,
    ERROR_MESSAGE,
    GEMINI,
    LLAMA_CPP,
    MISTRAL,
    OPENAI,
    OPENROUTER,
    SIGNATURE,
    TOKENS_IN,
    TOKENS_OUT,
    VLLM,
    Dialect,
    Json,
    Refused,
    openai_error,
    that_refuse,
)
from tests.support.legal_requests import assert_legal
from tests.support.model_client import QUESTION
from tests.support.model_server import ModelServer, Reply, answer
from tests.support.waiting import until

TEXT = "Grüße 🦉, all of you:\n\n- one\n- two"
REASONING = "They say hello. 🤔 a < b, </thin air>"
PROMPT = "Be brief."
DIE = ToolCall("call-0", "roll_dice", '{"sides": 20}')
CLOCK = ToolCall("call-1", "get_current_time", "")
CONTENTS: tuple[tuple[Part, ...], ...] = (
    (Text(TEXT),),
    (Reasoning(REASONING), Text(TEXT)),
    (DIE, CLOCK),
    (DIE, replace(DIE, call_id="call-1", arguments='{"sides": 6}')),
    (Text("Let me see."), DIE),
    (Reasoning(REASONING), replace(CLOCK, call_id="call-0")),
)
OPTIONAL = ("tools", "stream_options", "temperature", "system")
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
numbers = count()


@dataclass
class Harness:
    """A chat app and the server that answers in it. Each room has a model of its own, so that rooms are independent."""

    overseer: Overseer
    server: ModelServer

    def room(self, **changes: object) -> Room:
        """Create a room."""
        room_id = self.overseer.create().id
        self.overseer.room(room_id).configure(cast(Changes, {"model": f"model-{next(numbers)}", **changes}))
        self.server.replies.clear()
        return Room(self, room_id, len(self.server.requests))


@dataclass
class Room:
    """A room, and the requests that were sent since it was created."""

    harness: Harness
    room_id: str
    first_request: int

    def ask(self, *replies: Reply | bytes, text: str = "Hello?") -> Message:
        """Ask a question that the server answers with these replies, and return the stored answer."""
        self.harness.server.will(*(Reply(reply) if isinstance(reply, bytes) else reply for reply in replies))
        message = ask(self.harness.overseer, text, room_id=self.room_id)
        for request in self.requests:
            assert_legal(request["messages"])
        return message

    @property
    def requests(self) -> list[Json]:
        return self.harness.server.requests[self.first_request :]


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    server = ModelServer()
    models = ModelSettings(base_url=server.url, name="stand-in")
    app = create_app(tmp_path_factory.mktemp("harness") / "instance", models=models, limits=Limits())
    overseer = instance_of(app).overseer
    overseer.open()
    yield Harness(overseer, server)
    overseer.close()
    server.close()


def normalized(parts: Sequence[Part]) -> list[Part]:
    """Return the parts without the results of tools, and without blank lines around reasoning."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCall):
            part = replace(part, arguments=part.arguments or "{}", result="", state="running", extra="")
        elif isinstance(part, Reasoning):
            part = Reasoning(part.text.strip("\n"))
        found.append(part)
    return found


def contents(dialect: Dialect) -> list[tuple[Part, ...]]:
    """Return the answers that the server can express."""
    return [
        parts
        for parts in CONTENTS
        if dialect.encode_reasoning is not None or not any(isinstance(part, Reasoning) for part in parts)
    ]


# Answers


@dialects
def test_answer_in_every_dialect_is_stored_as_the_same_parts(harness: Harness, dialect: Dialect) -> None:
    """Text, reasoning, tool calls and the token count."""
    for parts in contents(dialect):
        room = harness.room()
        calls = [part for part in parts if isinstance(part, ToolCall)]
        later = [Text("That is it.")] if calls else []
        message = room.ask(dialect.stream(*parts), *(dialect.stream(part) for part in later))
        assert (message.state, message.reason) == ("complete", "")
        assert normalized(message.parts) == normalized([*parts, *later])
        assert message.model == short_model_name(dialect.head["model"])
        assert message.usage is not None and message.usage.estimated == (dialect.usage_in == "nowhere")
        if not message.usage.estimated:
            steps = len(later) + 1
            assert (message.usage.tokens_in, message.usage.tokens_out) == (steps * TOKENS_IN, steps * TOKENS_OUT)
        if calls:
            assert_request_has_results(room.requests[1], message)


def assert_request_has_results(request: Json, message: Message) -> None:
    """Assert that the request after tool calls repeats the calls and has their results."""
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    _, step, *results = request["messages"]
    assert {call.state for call in calls} == {"done"}
    assert step["role"] == "assistant"
    ids = [call["id"] for call in step["tool_calls"]]
    assert [{name: call[name] for name in ("id", "type", "function")} for call in step["tool_calls"]] == [
        {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call_id, call in zip(ids, calls, strict=True)
    ]
    assert results == [
        {"role": "tool", "tool_call_id": call_id, "content": call.result}
        for call_id, call in zip(ids, calls, strict=True)
    ]
    assert len({call.call_id for call in calls}) == len(calls)


@dialects
def test_answer_with_an_error_in_every_dialect_keeps_its_text(harness: Harness, dialect: Dialect) -> None:
    message = harness.room().ask(dialect.broken(Text(TEXT)))
    assert message.parts == (Text(TEXT),)
    assert message.state == "failed" and ERROR_MESSAGE in message.reason
    message = harness.room().ask(dialect.encode_error(dialect))
    assert (message.state, message.parts) == ("failed", ())
    assert ERROR_MESSAGE in message.reason and "OPENAI_BASE_URL" not in message.reason


@dialects
def test_answer_cut_off_in_every_dialect_keeps_its_text(harness: Harness, dialect: Dialect) -> None:
    """Neither half an event nor a tool call is used; its arguments may be incomplete."""
    message = harness.room().ask(dialect.cut(Text(TEXT)))
    assert (message.state, message.parts) == ("interrupted", (Text(TEXT),))
    assert message.resumable and message.usage is not None and message.usage.estimated
    half = dialect.chunk({"content": "never"})
    message = harness.room().ask(dialect.cut(Text(TEXT), DIE) + half[: len(half) // 2])
    assert (message.state, message.parts) == ("interrupted", (Text(TEXT),))
    junk = dialect.data + b'{"choices":[{"delta' + dialect.line_end * 2
    message = harness.room().ask(dialect.cut(Text(TEXT)) + junk + dialect.stream(Text("More.")))
    assert (message.state, message.parts) == ("failed", (Text(TEXT),))
    assert "invalid JSON" in message.reason


@pytest.mark.parametrize("text", ["a <", "<", "<thi", "<think>Hm.</thi"])
def test_answer_with_an_error_keeps_text_that_was_held_back(harness: Harness, text: str) -> None:
    message = harness.room().ask(OPENAI.broken(Text(text)))
    kept = "".join(part.text for part in message.parts if not isinstance(part, ToolCall))
    assert message.state == "failed" and kept == text.removeprefix("<think>")


# Refusals of one thing


def contains(request: Json, what: str) -> bool:
    if what == "system":
        return any(message["role"] == "system" for message in request["messages"])
    return what in request


def label(value: object) -> str:
    return value.name if isinstance(value, Dialect) else str(value)


NOTES = {
    "tools": "Without tools: the server refused them.",
    "temperature": "Without temperature: the server refused it.",
    "system": "System prompt sent with the first message: the server refused the system role.",
}


@pytest.mark.parametrize(("dialect", "what"), that_refuse(*OPTIONAL), ids=label)
def test_refused_field_is_omitted_from_then_on(harness: Harness, dialect: Dialect, what: str) -> None:
    """Only that field, and only for this model. Each answer says what its request lacked."""
    room = harness.room(temperature=0.7, system_prompt=PROMPT)
    first = room.ask(dialect.refuses[what].reply(), dialect.stream(Text("Yes.")))
    assert (first.state, first.parts, first.reason) == ("complete", (Text("Yes."),), "")
    second = room.ask(dialect.stream(Text("Yes!")))
    assert second.text == "Yes!" and first.note == second.note == NOTES.get(what, "")
    omitted = [one != what for one in OPTIONAL]
    assert [[contains(request, one) for one in OPTIONAL] for request in room.requests] == [[True] * 4, omitted, omitted]
    other = harness.room(temperature=0.7, system_prompt=PROMPT)
    other.ask(dialect.stream(Text("Yes.")))
    assert [contains(other.requests[0], one) for one in OPTIONAL] == [True] * 4


def test_refused_field_is_remembered_for_one_room_and_model(harness: Harness) -> None:
    here = harness.room()
    there = Room(harness, harness.overseer.create().id, here.first_request)
    model = harness.overseer.room(here.room_id).settings().model
    harness.overseer.room(there.room_id).configure({"model": model})
    assert here.ask(OPENAI.refuses["tools"].reply(), OPENAI.stream(Text("Yes."))).note
    assert not there.ask(OPENAI.stream(Text("Yes."))).note
    harness.overseer.room(here.room_id).configure({"model": f"{model}-other"})
    assert not here.ask(OPENAI.stream(Text("Yes."))).note
    harness.overseer.room(here.room_id).configure({"model": model})
    assert here.ask(OPENAI.stream(Text("Yes."))).note
    assert [contains(request, "tools") for request in here.requests] == [True, False, True, True, False]


def test_refused_field_is_sent_again_once_it_is_forgotten(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next answer has no note, and neither has a regenerated one."""
    monkeypatch.setattr(refusal, "FORGET_AFTER_SECONDS", 0.0)
    room = harness.room()
    assert room.ask(OPENAI.refuses["tools"].reply(), OPENAI.stream(Text("Yes."))).note
    assert not room.ask(OPENAI.stream(Text("Yes."))).note
    last = room.ask(OPENAI.refuses["tools"].reply(), OPENAI.stream(Text("Yes.")))
    harness.server.will(Reply(OPENAI.stream(Text("Anew."))))
    number = harness.overseer.room(room.room_id).retry()
    until(lambda: harness.overseer.room(room.room_id).message(number).text == "Anew.")
    assert last.note and not ended_answer(harness.overseer, room.room_id, number).note
    assert [contains(request, "tools") for request in room.requests] == [True, False, True, True, False, True]


def test_several_refused_fields_are_omitted_one_after_the_other(harness: Harness) -> None:
    room = harness.room(temperature=0.7, system_prompt=PROMPT)
    refused = [OPENAI.refuses[what].reply() for what in OPTIONAL]
    assert room.ask(*refused, OPENAI.stream(Text("Yes."))).text == "Yes."
    room.ask(OPENAI.stream(Text("Yes.")))
    assert [sum(contains(request, one) for one in OPTIONAL) for request in room.requests] == [4, 3, 2, 1, 0, 0]


def test_refusal_of_a_field_that_was_omitted_fails_the_answer(harness: Harness) -> None:
    """There is no further request, and nothing is remembered."""
    room = harness.room()
    refused = OPENAI.refuses["stream_options"]
    message = room.ask(refused.reply(), refused.reply())
    assert message.state == "failed" and "stream_options" in message.reason and len(room.requests) == 2
    room.ask(OPENAI.stream(Text("Yes.")))
    assert contains(room.requests[2], "stream_options")


def test_refused_field_is_remembered_although_the_answer_is_cut_off(harness: Harness) -> None:
    room = harness.room()
    room.ask(OPENAI.refuses["stream_options"].reply(), OPENAI.cut(Text("Half")))
    room.ask(OPENAI.stream(Text("Yes.")))
    assert [contains(request, "stream_options") for request in room.requests] == [True, False, False]


def test_refused_value_of_the_temperature_is_omitted_once(harness: Harness) -> None:
    room = harness.room(temperature=1.5)
    said = Refused(400, {"error": {"message": "temperature: range: 0..1"}})
    assert room.ask(said.reply(), OPENAI.stream(Text("Yes."))).state == "complete"
    harness.overseer.room(room.room_id).configure({"temperature": 0.5})
    room.ask(OPENAI.stream(Text("Yes.")))
    assert [request.get("temperature") for request in room.requests] == [1.5, None, 0.5]


def test_refused_tools_turn_earlier_results_into_text(harness: Harness) -> None:
    room = harness.room()
    first = room.ask(OPENAI.stream(DIE), OPENAI.stream(Text("There.")))
    (result,) = (part.result for part in first.parts if isinstance(part, ToolCall))
    message = room.ask(OPENAI.refuses["tools"].reply(), OPENAI.stream(Text("Again.")), text="And now?")
    assert message.text == "Again."
    *_, refused, accepted = (request["messages"] for request in room.requests)
    assert [one["role"] for one in refused] == ["user", "assistant", "tool", "assistant", "user"]
    assert [one["role"] for one in accepted] == ["user", "assistant", "user"]
    assert all(words in accepted[1]["content"] for words in ("roll_dice", result, "There."))
    assert not any("tool_calls" in one for one in accepted)


def test_refused_system_role_puts_the_prompt_before_the_first_question(harness: Harness) -> None:
    room = harness.room(system_prompt=PROMPT)
    room.ask(VLLM.refuses["system"].reply(), VLLM.stream(Text("One.")), text="First?")
    room.ask(VLLM.stream(Text("Two.")), text="Second?")
    assert room.requests[0]["messages"][0] == {"role": "system", "content": PROMPT}
    assert room.requests[1]["messages"] == [{"role": "user", "content": f"{PROMPT}\n\nFirst?"}]
    assert room.requests[2]["messages"] == [
        {"role": "user", "content": f"{PROMPT}\n\nFirst?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Second?"},
    ]


def echo(request: Json, where: list[object], message: str) -> Json:
    """Return an error of FastAPI, which contains the whole request."""
    return {"detail": [{"type": "value_error", "loc": where, "msg": message, "input": request, "ctx": {"error": {}}}]}


def echo_in_words(request: Json, where: list[object], message: str) -> Json:
    """Return the same error from vLLM, as a Python repr within the message."""
    inner = {"type": "value_error", "loc": tuple(where), "msg": message, "input": request, "ctx": {"error": message}}
    return openai_error(
        f'1 validation error:\n  {inner}\n\n  File "api_server.py", line 1', type_="Bad Request", code=400
    )


@pytest.mark.parametrize("echoed", [echo, echo_in_words])
def test_error_that_repeats_the_request_refuses_only_what_it_is_about(
    harness: Harness, echoed: Callable[[Json, list[object], str], Json]
) -> None:
    for what, message in (
        ("tools", 'Value error, "auto" tool choice requires --enable-auto-tool-choice to be set'),
        ("temperature", "Value error, temperature must be 1"),
        ("system", "Value error, System role not supported"),
    ):
        room = harness.room(temperature=0.7, system_prompt=PROMPT)
        room.ask(OPENAI.stream(Text("First.")))
        refused = Refused(400, echoed(room.requests[0], ["body"], message))
        assert room.ask(refused.reply(), OPENAI.stream(Text("Yes."))).text == "Yes."
        assert [contains(room.requests[-1], one) for one in OPTIONAL] == [one != what for one in OPTIONAL]
    room = harness.room()
    room.ask(OPENAI.stream(Text("First.")), text="Does a tool exceed the context length at this temperature?")
    refused = Refused(400, echoed(room.requests[0], ["body", "user"], "Field required"))
    failed = room.ask(refused.reply())
    assert failed.state == "failed" and "Field required" in failed.reason
    assert "OVERSEER_CONTEXT_TOKENS" not in failed.reason and len(room.requests) == 2


def test_reasoning_is_sent_back_to_a_server_that_requires_it(harness: Harness) -> None:
    """DeepSeek rejects what follows a tool call without the reasoning before it. That does not refuse the tools."""
    room = harness.room()
    required = openai_error(
        "Missing `reasoning_content` field in the assistant message at message index 1. For more information, please "
        "refer to https://api-docs.deepseek.com/guides/thinking_mode#tool-calls"
    )
    message = room.ask(
        DEEPSEEK.stream(Reasoning("Hm."), DIE), Refused(400, required).reply(), DEEPSEEK.stream(Text("There."))
    )
    assert message.text == "There." and contains(room.requests[2], "tools")
    assert room.requests[2]["messages"][1]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in room.requests[1]["messages"][1]


def test_refusal_of_the_order_of_messages_costs_nothing(harness: Harness) -> None:
    room = harness.room(temperature=0.7, system_prompt=PROMPT)
    message = room.ask(MISTRAL.refuses["order"].reply())
    assert message.state == "failed" and "Unexpected role" in message.reason and not message.note
    room.ask(MISTRAL.stream(Text("Yes.")))
    assert [[contains(request, one) for one in OPTIONAL] for request in room.requests] == [[True] * 4] * 2


def test_signature_of_a_call_is_stored_and_returned_to_the_model_that_sent_it(harness: Harness) -> None:
    """Another model in the same room does not get it."""
    room = harness.room()
    model = harness.overseer.room(room.room_id).settings().model
    room.ask(GEMINI.stream(DIE, CLOCK), GEMINI.stream(Text("There.")))
    room.ask(GEMINI.stream(Text("Again.")))
    harness.overseer.room(room.room_id).configure({"model": "other"})
    room.ask(GEMINI.stream(Text("Another.")))
    harness.overseer.room(room.room_id).configure({"model": model})
    room.ask(GEMINI.stream(Text("Back.")))
    _, *later = [request["messages"][1]["tool_calls"] for request in room.requests[1:]]
    assert [[call.get("extra_content") for call in calls] for calls in later] == [
        [SIGNATURE, None],
        [None, None],
        [SIGNATURE, None],
    ]


def test_malformed_tool_call_is_answered_without_tools_and_says_so(harness: Harness) -> None:
    """Only that answer: the server does not refuse tools."""
    malformed = {"code": 500, "message": "The output does not match the expected peg-native format", "type": "x"}
    room = harness.room()
    message = room.ask(
        LLAMA_CPP.cut(Reasoning("Hm.")) + LLAMA_CPP.event({"error": malformed}), LLAMA_CPP.stream(Text("17."))
    )
    assert (message.state, message.parts) == ("complete", (Reasoning("Hm."), Text("17.")))
    assert message.note == "Without tools: the model’s tool call was malformed."
    assert not room.ask(LLAMA_CPP.stream(Text("Yes."))).note
    assert [contains(request, "tools") for request in room.requests] == [True, False, True]


@pytest.mark.parametrize(
    ("steps", "parts"),
    [
        ([(Text(" \n"),)], ()),
        ([(Reasoning("Hm."), Text("\n\n"))], (Reasoning("Hm."),)),
        ([(Text("Let me see."), DIE), (Text("\n"),)], (Text("Let me see."), DIE)),
        ([(DIE,), ()], (DIE,)),
    ],
)
def test_answer_without_words_is_empty(
    harness: Harness, steps: list[tuple[Part, ...]], parts: tuple[Part, ...]
) -> None:
    """White space is not stored."""
    room = harness.room()
    message = room.ask(*(DEEPSEEK.stream(*step) for step in steps))
    assert message.state == "failed" and message.reason.startswith("The model returned an empty answer.")
    assert normalized(message.parts) == list(parts)
    assert room.ask(DEEPSEEK.stream(Text("Yes."))).state == "complete"


def test_text_before_a_closing_tag_becomes_reasoning(harness: Harness) -> None:
    """Some chat templates write the opening tag, so that the server sends only the closing one."""
    room = harness.room()
    message = room.ask(DEEPSEEK.stream(Text("They say hello.\n</think>\n\nHello!")))
    assert message.parts == (Reasoning("They say hello.\n"), Text("Hello!"))
    message = room.ask(DEEPSEEK.stream(DIE), DEEPSEEK.stream(Text("Now.</think>")), text="Roll.")
    assert message.state == "failed" and normalized(message.parts) == [DIE, Reasoning("Now.")]


# Refusals of the whole request


@pytest.mark.parametrize(("dialect", "what"), that_refuse("overflow"), ids=label)
def test_overflow_shortens_the_history(harness: Harness, dialect: Dialect, what: str) -> None:
    room = harness.room()
    for number in range(4):
        room.ask(answer("word " * 400), text=f"Question {number}?")
    message = room.ask(dialect.refuses[what].reply(), dialect.stream(Text("Yes.")), text="And now?")
    assert (message.state, message.text) == ("complete", "Yes.")
    first, second = (request["messages"] for request in room.requests[-2:])
    assert len(first) == 9
    assert 1 <= len(second) < 9 and second == first[-len(second) :]


def test_overflow_of_a_single_question_says_by_how_much(harness: Harness) -> None:
    room = harness.room()
    message = room.ask(OPENAI.refuses["overflow"].reply(), text="word " * 5000)
    assert message.state == "failed" and message.parts == () and len(room.requests) == 1
    assert message.reason == (
        "Your message is too long for this model: 9,000 tokens, and the model reads 8,192. "
        "Shorten it by about 21 %, or choose another model."
    )


def test_busy_server_is_asked_again(harness: Harness) -> None:
    for dialect, what in that_refuse("busy"):
        room = harness.room()
        busy = replace(dialect.refuses[what], headers={"Retry-After": "0"})
        message = room.ask(busy.reply(), busy.reply(), dialect.stream(Text("Yes.")))
        assert (message.state, message.text, message.reason) == ("complete", "Yes.", "")
        assert len(room.requests) == 3 and room.requests[0] == room.requests[2]
    error = {"code": 429, "message": "Provider returned error", "metadata": {"raw": "rate-limited upstream"}}
    message = harness.room().ask(
        OPENROUTER.keep_alive + OPENROUTER.event({"error": error}), OPENROUTER.stream(Text("Yes."))
    )
    assert (message.state, message.text) == ("complete", "Yes.")


# Streams in pieces


class Pieces:
    """A body that arrives in exactly these pieces."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = iter(pieces)

    def read1(self, amount: int) -> bytes:
        return next(self._pieces, b"")


def parsed(*pieces: bytes) -> list[Delta]:
    """Return the deltas of a response with this body, without a connection."""
    response = SimpleNamespace(headers={"Content-Type": "text/event-stream"}, raw=Pieces(pieces))
    reply = OpenAIServer("http://127.0.0.1:9/v1").model("x").answer(QUESTION, ())
    return joined(reply._deltas(cast(requests.Response, response)))


def expected(dialect: Dialect, parts: Sequence[Part]) -> list[Delta]:
    """Return the deltas of these parts."""
    deltas: list[Delta] = []
    for part in normalized(parts):
        if isinstance(part, ToolCall):
            deltas.append(ToolRequest(part.call_id, part.name, part.arguments))
        else:
            deltas.append(TextDelta(part.text) if isinstance(part, Text) else ReasoningDelta(part.text))
    deltas.insert(0, AnsweredBy(dialect.head["model"]))
    at = sum(not isinstance(delta, ToolRequest) for delta in deltas)
    return deltas if dialect.usage_in == "nowhere" else [*deltas[:at], TokenCount(TOKENS_IN, TOKENS_OUT), *deltas[at:]]


def normalized_delta(delta: Delta) -> Delta:
    """Return the delta without blank lines around reasoning, and without the extra fields of a call."""
    if isinstance(delta, ReasoningDelta):
        return ReasoningDelta(delta.text.strip("\n"))
    return replace(delta, extra="") if isinstance(delta, ToolRequest) else delta


@dialects
def test_stream_in_single_bytes_gives_the_same_deltas(dialect: Dialect) -> None:
    for parts in contents(dialect):
        stream = dialect.stream(*parts)
        whole = parsed(stream)
        assert list(map(normalized_delta, whole)) == expected(dialect, parts)
        assert parsed(*(stream[at : at + 1] for at in range(len(stream)))) == whole


@given(
    dialect=st.sampled_from(DIALECTS),
    content=st.integers(0, len(CONTENTS) - 1),
    places=st.lists(st.integers(0, 10_000), max_size=6),
)
def test_stream_in_any_pieces_gives_the_same_deltas(dialect: Dialect, content: int, places: list[int]) -> None:
    parts = contents(dialect)
    stream = dialect.stream(*parts[content % len(parts)])
    cuts = sorted(place % len(stream) for place in places)
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True) if start < end]
    assert parsed(*pieces) == parsed(stream)


KEYS = st.sampled_from(
    ["choices", "delta", "content", "reasoning", "reasoning_details", "tool_calls", "function", "name", "arguments"]
    + ["index", "id", "usage", "prompt_tokens", "completion_tokens", "error", "message", "finish_reason", "code"]
    + ["model", "base_resp", "status_code", "status_msg", "detail", "msg", "loc", "errors", "extra_content", "type"]
)
LEAVES = st.sampled_from([None, True, 0, -1, 1.5, 2**70, "", "<think>", "</think>", "x", "stop", "error", "\ud83e"])
VALUES: st.SearchStrategy[object] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)


@given(dialect=st.sampled_from(DIALECTS), chunks=st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_stream_of_any_json_gives_deltas_or_a_model_error(dialect: Dialect, chunks: list[Json]) -> None:
    begun = dialect.cut(Text("Yes."))
    try:
        deltas = parsed(begun + b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks))
    except ModelError as error:
        assert str(error)
    else:
        assert all(isinstance(delta, Delta) for delta in deltas)
