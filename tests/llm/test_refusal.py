"""What a server's error means, read from bodies as real servers write them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overseer.llm import ModelBusy, ModelError, ModelOverflow
from overseer.llm.refusal import FORGET_AFTER, MAX_REMEMBERED, OPTIONAL, ErrorResponse, Memory, in_stream
from tests.support.dialects import DIALECTS, LITELLM, OPENAI, Dialect, Json, openai_error, that_refuse

WHERE = "http://127.0.0.1:9/v1"


def refusal(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> ErrorResponse:
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ErrorResponse(WHERE, status, headers or {}, said)


def error(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> ModelError:
    return refusal(status, body, headers).error(str)


def detail(*loc: str | int, said: str = "Extra inputs are not permitted", given: object = None) -> Json:
    """What FastAPI says of a field, with the request beside it."""
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", *loc], "msg": said, "input": given}]}


def label(value: object) -> str:
    return value.name if isinstance(value, Dialect) else str(value)[:40]


# What is not taken


@pytest.mark.parametrize(
    ("dialect", "what"), [one for one in that_refuse(*OPTIONAL) if one[0].refuses[one[1]].status != 200], ids=label
)
def test_what_a_server_does_not_take_is_understood(dialect: Dialect, what: str) -> None:
    """Among all that was sent it is that one; where that was not sent, it is nothing."""
    refused = refusal(dialect.refuses[what].status, dialect.refuses[what].body)
    assert refused.unwanted(OPTIONAL) == what
    assert refused.unwanted(set(OPTIONAL) - {what}) is None


@pytest.mark.parametrize(
    ("status", "body", "unwanted"),
    [
        (400, openai_error("Unknown parameter: 'stream_options.include_usage'."), "stream_options"),
        (422, detail("stream_options"), "stream_options"),
        (422, detail("stream_options", "include_usage"), "stream_options"),
        (422, detail("tools", 0, "function"), "tools"),
        (422, detail("temperature", said="Input should be less than or equal to 1"), "temperature"),
        (400, {"detail": "`temperature` is not supported by this model"}, "temperature"),
        (400, {"message": "tool_choice is not supported"}, "tools"),
        (400, b"tools are not supported", "tools"),
        (400, openai_error("Function calling is not enabled for this model"), "tools"),
        (400, openai_error("Developer instruction is not enabled for models/gemma-3-1b-it"), "system"),
        (400, openai_error("This model does not support the system role."), "system"),
        (400, openai_error("system messages are not supported"), "system"),
        (404, openai_error("No endpoints found that support tool use."), "tools"),
        (500, openai_error("tools param requires --jinja flag"), "tools"),
        (400, openai_error("'tools' : property 'tools' is unsupported"), "tools"),
        (400, openai_error("Unrecognized request arguments supplied: tool_choice, tools"), "tools"),
        (400, {"error": {"code": 400, "message": 'Invalid JSON payload. Unknown name "tools": Cannot find field.',
                         "status": "INVALID_ARGUMENT"}}, "tools"),
        (400, openai_error("tools: Extra inputs are not permitted"), "tools"),
        (400, openai_error("Additional properties are not allowed ('tools' was unexpected)"), "tools"),
        (400, openai_error("The following parameters are not supported: temperature"), "temperature"),
        (400, openai_error("got an unexpected keyword argument 'temperature'"), "temperature"),
        (400, openai_error("unknown field `stream_options`, expected one of `model`, `tools`"), "stream_options"),
        (400, openai_error("Unknown parameter: 'tools'.", param="tools", code="unknown_parameter"), "tools"),
        (400, openai_error("No.", param="tools", code="unsupported_parameter"), "tools"),
        (400, openai_error('messages: Unexpected role "system". Use the top-level `system` parameter'), "system"),
        (400, openai_error("Only user and assistant roles are supported!"), "system"),
        (400, openai_error("This endpoint isn't ready: tool calling isn't supported yet"), "tools"),
        (400, openai_error("this request is not allowed right now"), None),
        (400, openai_error("Unexpected role 'user' after role 'tool'"), None),
        (400, openai_error("Not the same number of function calls and responses"), None),
        (400, openai_error("An assistant message with 'tool_calls' must be followed by tool messages responding to "
                           "each 'tool_call_id'. The following tool_call_ids did not have response messages: call_1",
                           param="messages.[3].role"), None),
        (400, openai_error("messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
                           param="messages.[1].role"), None),
        (400, openai_error("Invalid 'messages[2].tool_calls[0].id': not supported"), None),
        (400, openai_error("tools are not allowed", param="messages", code="invalid_value"), None),
        (400, openai_error("Tool use is not allowed after a system message"), None),
        (400, openai_error("Unexpected tool call id"), None),
        (400, openai_error("Your account is not allowed to do this; the temperature of the room is unknown"), None),
        (400, openai_error("Conversation roles must alternate user/assistant/user/assistant/..."), None),
        (400, openai_error("System message must be at the beginning."), None),
        (400, openai_error("Unsupported model; pass tools to another one"), None),
        (422, {"detail": [{"type": "missing", "loc": ["body", "messages", 2, "tool_call_id"], "msg": "Field required: "
                           "tools are not supported without it"}]}, None),
        (501, openai_error("tools are not supported"), None),
        (401, openai_error("Your key may not use tools"), None),
        (429, openai_error("Too many tools"), None),
        (500, openai_error("stream_options broke"), None),
        (400, openai_error("no such voice"), None),
        (400, openai_error("Invalid value for 'toolbox'"), None),
        (400, openai_error("The ecosystem rolled over"), None),
        (400, b"", None),
        (400, b"<html>tools, temperature and stream_options</html>", None),
        (400, {"error": None}, None),
    ],
    ids=label,
)  # fmt: skip
def test_what_is_unwanted(status: int, body: object, unwanted: str | None) -> None:
    """Only a field that the error names and refuses: no single word of it, and not where no server refuses so."""
    assert refusal(status, body).unwanted(OPTIONAL) == unwanted


@pytest.mark.parametrize(
    ("said", "lasting"),
    [
        (openai_error("Unknown parameter: 'temperature'."), True),
        (OPENAI.refuses["temperature"].body, True),
        (LITELLM.refuses["temperature"].body, True),
        (openai_error("temperature: range: 0..1"), False),
        (openai_error("Invalid 'temperature': decimal above maximum value.", param="temperature"), False),
        (openai_error("'temperature' must be between 0 and 1"), False),
    ],
    ids=label,
)
def test_a_value_that_is_refused_is_told_from_a_field_that_is(said: object, lasting: bool) -> None:
    """The one costs this request, the other the next ones too."""
    refused = refusal(400, said)
    assert refused.unwanted(OPTIONAL) == "temperature" and refused.lasting("temperature") == lasting


class Clock:
    """A clock that goes as told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_remembered_is_of_one_room_and_one_model_and_expires() -> None:
    """After ten minutes by a clock that is never set, each thing by its own time."""
    clock = Clock()
    memory = Memory(clock)
    memory.add("a", "one", {"tools"})
    clock.now += FORGET_AFTER / 2
    memory.add("a", "one", {"temperature"})
    assert FORGET_AFTER == 600
    assert memory.of("a", "one") == {"tools", "temperature"}
    assert memory.of("b", "one") == memory.of("a", "two") == frozenset()
    clock.now += FORGET_AFTER / 2
    assert memory.of("a", "one") == {"temperature"}
    clock.now += FORGET_AFTER / 2
    assert memory.of("a", "one") == frozenset()


def test_what_is_remembered_is_bounded_and_forgotten_with_its_room() -> None:
    """The latest are kept; those that have expired take no place."""
    clock = Clock()
    memory = Memory(clock)
    for number in range(MAX_REMEMBERED + 1):
        memory.add(f"room-{number}", "one", {"tools"})
    assert len(memory) == MAX_REMEMBERED
    assert not memory.of("room-0", "one") and memory.of("room-1", "one")
    memory.add("room-1", "two", {"tools"})
    memory.forget("room-1")
    assert not memory.of("room-1", "one") and not memory.of("room-1", "two")
    clock.now += FORGET_AFTER
    memory.add("new", "one", {"tools"})
    assert len(memory) == 1


REQUEST: Json = {
    "model": "tool-use",
    "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "too many tokens? context length?"}],
    "stream_options": {"include_usage": True},
    "temperature": 0.7,
    "tools": [{"type": "function", "function": {"name": "roll_dice"}}],
}


@pytest.mark.parametrize(
    "body",
    [
        detail(said="Field required", given=REQUEST),
        {"detail": [{"loc": ["body", "user"], "msg": "Field required", "input": REQUEST, "ctx": {"given": REQUEST}}]},
        {"error": {"message": "Field required", "code": 400, "request": REQUEST, "body": json.dumps(REQUEST)}},
        {"error": {"message": "Field required", "metadata": {"raw": {"message": "Field required", "input": REQUEST}}}},
        {"object": "error", "message": f"[{{'loc': ('body',), 'msg': 'Field required', 'input': {REQUEST}}}]"},
        {"error": {"message": f"1 validation error:\n  {{'msg': 'Field required', 'input': {REQUEST}, 'ctx': 1}}"}},
        {"error": {"message": f"1 validation error:\n [{json.dumps({'msg': 'Field required', 'input': REQUEST})}]"}},
        {"error": {"message": f"Field required [type=missing, input_value={REQUEST}, input_type=dict]"}},
    ],
    ids=["detail", "ctx", "beside", "raw", "repr", "repr in words", "JSON in words", "pydantic"],
)
def test_a_request_that_is_echoed_means_nothing(body: object) -> None:
    """Neither is what stands in it unwanted, nor is it too long because its words say so."""
    for status in (400, 422):
        assert refusal(status, body).unwanted(OPTIONAL) is None
        assert type(error(status, body)) is ModelError


# No time


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("999999999", 999_999_999.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
        ("inf", None),
        ("nan", None),
        ("٣", None),
        ("9" * 400, None),
        ("Wed, 41 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("7, 7", None),
    ],
)
def test_when_to_come_back(given: str, seconds: float | None) -> None:
    """A number or a date; whatever else it says is as if it said nothing."""
    busy = error(429, openai_error("Slow down."), {"Retry-After": given})
    assert isinstance(busy, ModelBusy) and busy.seconds == seconds


def test_a_date_to_come_back_at_is_so_many_seconds_away() -> None:
    """By this machine's clock."""
    busy = error(429, b"", {"Retry-After": formatdate(time.time() + 30, usegmt=True)})
    assert isinstance(busy, ModelBusy) and busy.seconds is not None and 25 < busy.seconds <= 30


@given(st.text(st.characters(max_codepoint=255), max_size=40))
@example("Mon, 01 Jan 0001 00:00:00 -0000")
@example("Mon, 01 Jan 9999 23:59:59 -2359")
@example(" 1 Jan")
@example("1 Jan 2020 24:61:61 +9999")
@example("0 0 0 0 0")
def test_no_time_to_come_back_breaks_the_answer(given: str) -> None:
    """Whatever the header says, it is a wait of some length or of none that is known."""
    busy = error(429, b"", {"Retry-After": given})
    assert isinstance(busy, ModelBusy) and (busy.seconds is None or busy.seconds >= 0)
    assert "Retry" in str(busy)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
        (503, {"error": {"message": "The model is loading, please wait"}}),
        (503, openai_error("server busy, please try again.  maximum pending requests exceeded")),
        (503, openai_error("The engine is currently overloaded, please try again later")),
        (503, openai_error("Server overloaded, please retry your request after a brief wait.")),
        (529, openai_error("Overloaded")),
        (429, openai_error("Rate limit reached", code="rate_limit_exceeded")),
        (429, {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "rate-limited"}}}),
        (429, openai_error("Please try again in 20s. You can increase your rate limit by adding a payment method to "
                           "your account at https://platform.openai.com/account/billing.", code="rate_limit_exceeded")),
        (429, b"<html>Too many requests</html>"),
        (429, b""),
    ],
    ids=label,
)  # fmt: skip
def test_what_is_a_wait(status: int, body: object) -> None:
    """A server that has no time now, or is still loading, is asked again."""
    assert isinstance(error(status, body), ModelBusy)


def test_a_server_that_names_a_time_is_waited_for() -> None:
    """Maintenance, too: a 503 that says when to come back means it (RFC 9110, 15.6.4)."""
    busy = error(503, b"<html>Down for a moment</html>", {"Retry-After": "5"})
    assert isinstance(busy, ModelBusy) and busy.seconds == 5


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, openai_error("You exceeded your current quota, please check your plan and billing details. For more "
                           "information on this error, read the docs.", code="insufficient_quota",
                           type_="insufficient_quota")),
        (429, {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock "
                         "1000 free model requests per day"}}),
        (402, {"error": {"code": 402, "message": "Insufficient credits"}}),
        (402, openai_error("Insufficient Balance")),
        (500, openai_error("CUDA out of memory")),
        (502, b"<html>Bad gateway</html>"),
        (503, b"<html>Bad gateway</html>"),
    ],
    ids=label,
)  # fmt: skip
def test_what_is_no_wait(status: int, body: object) -> None:
    """An account without credit has none in a moment either, and what broke is for a person to look at."""
    found = error(status, body)
    assert not isinstance(found, ModelBusy) and str(status) in str(found)


# Too long


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
        (400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
        (400, "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 tokens"),
        (400, "the request exceeds the available context size, try increasing it"),
        (400, "request (4476 tokens) exceeds the available context size (4096 tokens), try increasing it"),
        (
            500,
            "the request exceeds the available context size. try increasing the context size or enable context shift",
        ),
        (
            400,
            "You passed 8193 input tokens and requested 0 output tokens. However, the model's context length is only",
        ),
        (400, "Trying to keep the first 15857 tokens when context the overflows. However, the model is loaded with"),
        (400, "The number of tokens to keep from the initial prompt is greater than the context length."),
        (400, "the input length exceeds the context length"),
        (400, "Requested token count exceeds the model's maximum context length of 196608 tokens."),
        (400, "prompt is too long: 210000 tokens > 200000 maximum"),
        (400, "Input is too long for requested model."),
        (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
        (400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
        (413, "Request too large for model `x`: Limit 6000, Requested 8000, please reduce your message size"),
        (422, "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_too_long(status: int, said: str) -> None:
    """In the words of each server; it is not taken for an optional thing, and the sentence says what to set."""
    refused = refusal(status, openai_error(said, code=status))
    assert refused.unwanted(OPTIONAL) is None
    found = refused.error(str)
    assert isinstance(found, ModelOverflow)
    assert "OVERSEER_CONTEXT_TOKENS" in str(found) and said in str(found)


@pytest.mark.parametrize("code", ["context_length_exceeded", "exceed_context_size_error"])
def test_a_code_alone_says_that_it_is_too_long(code: str) -> None:
    """Whatever the words are."""
    assert isinstance(error(400, openai_error("No.", code=code)), ModelOverflow)
    assert isinstance(error(400, openai_error("No.", type_=code)), ModelOverflow)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "max_tokens is too large: 5000. This model supports at most 4096 completion tokens"),
        (400, "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead."),
        (401, "The context length of your key"),
        (404, "There is no context window here"),
        (500, "CUDA out of memory"),
        (500, "context canceled"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_too_long(status: int, said: str) -> None:
    """Other limits are told as what they are."""
    assert not isinstance(error(status, openai_error(said)), ModelOverflow)


# Within an answer


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("GPU on fire", ModelError),
        ({"message": "GPU on fire"}, ModelError),
        ({"message": "GPU on fire", "code": 500}, ModelError),
        ({"code": 429, "message": "GPU on fire", "metadata": {"raw": "rate-limited upstream"}}, ModelBusy),
        ({"code": "429", "message": "GPU on fire"}, ModelBusy),
        ({"code": 429, "message": "GPU on fire: insufficient_quota"}, ModelError),
        ({"code": 400, "message": "GPU on fire: maximum context length is 4096 tokens"}, ModelOverflow),
        ({"message": "GPU on fire", "code": "context_length_exceeded"}, ModelOverflow),
        (["GPU on fire"], ModelError),
        (True, ModelError),
        ({"code": [], "message": {"GPU on fire": 1}}, ModelError),
        ({"error": {"message": "GPU on fire"}}, ModelError),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_within_an_answer_is_understood(said: Any, kind: type[ModelError]) -> None:
    """By its code and its words, of which as many are told as there are."""
    found = in_stream(WHERE, said, str)
    assert type(found) is kind
    assert "GPU on fire" in str(found) or said is True


@given(
    status=st.integers(100, 599),
    body=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["error", "message", "detail", "code", "metadata", "raw", "loc"]), inner
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_no_body_breaks_what_reads_it(status: int, body: bytes) -> None:
    """Whatever a server says, it is one error with a sentence, and at most one thing to leave out."""
    refused = refusal(status, body)
    assert refused.unwanted(OPTIONAL) in (None, *OPTIONAL)
    assert WHERE in str(refused.error(str))


def test_every_dialect_is_known_here() -> None:
    """Names are told apart."""
    assert len({dialect.name for dialect in DIALECTS}) == len(DIALECTS)
