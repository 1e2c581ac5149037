"""The meaning of errors, from bodies as real servers write them."""

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
from overseer.llm.complaint import OPTIONAL
from overseer.llm.refusal import (
    FORGET_AFTER_SECONDS,
    MAX_REMEMBERED,
    ErrorResponse,
    RefusalMemory,
    error_in_stream,
)
from tests.support.dialects import LITELLM, OPENAI, Dialect, Json, openai_error, that_refuse


def response(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> ErrorResponse:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ErrorResponse("http://127.0.0.1:9/v1", status, headers or {}, content)


def error(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> ModelError:
    return response(status, body, headers).to_exception(str)


def detail(*loc: str | int, message: str = "Extra inputs are not permitted", request: object = None) -> Json:
    """Return FastAPI's error for a field of the request."""
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", *loc], "msg": message, "input": request}]}


def label(value: object) -> str:
    return value.name if isinstance(value, Dialect) else str(value)[:40]


# Refused fields


@pytest.mark.parametrize(
    ("dialect", "what"), [one for one in that_refuse(*OPTIONAL) if one[0].refuses[one[1]].status != 200], ids=label
)
def test_unsupported_field_of_every_dialect_is_recognized(dialect: Dialect, what: str) -> None:
    refused = response(dialect.refuses[what].status, dialect.refuses[what].body)
    assert refused.unsupported(OPTIONAL) == what
    assert refused.unsupported(set(OPTIONAL) - {what}) is None


@pytest.mark.parametrize(
    ("status", "body", "field"),
    [
        (400, openai_error("Unknown parameter: 'stream_options.include_usage'."), "stream_options"),
        (422, detail("stream_options", "include_usage"), "stream_options"),
        (422, detail("tools", 0, "function"), "tools"),
        (422, detail("temperature", message="Input should be less than or equal to 1"), "temperature"),
        (400, {"detail": "`temperature` is not supported by this model"}, "temperature"),
        (400, {"message": "tool_choice is not supported"}, "tools"),
        (400, b"tools are not supported", "tools"),
        (400, openai_error("Function calling is not enabled for this model"), "tools"),
        (404, openai_error("No endpoints found that support tool use."), "tools"),
        (500, openai_error("tools param requires --jinja flag"), "tools"),
        (400, openai_error("'tools' : property 'tools' is unsupported"), "tools"),
        (400, openai_error("Unrecognized request arguments supplied: tool_choice, tools"), "tools"),
        (400, openai_error('Invalid JSON payload. Unknown name "tools": Cannot find field.'), "tools"),
        (400, openai_error("Additional properties are not allowed ('tools' was unexpected)"), "tools"),
        (400, openai_error("The following parameters are not supported: temperature"), "temperature"),
        (400, openai_error("got an unexpected keyword argument 'temperature'"), "temperature"),
        (400, openai_error("unknown field `stream_options`, expected one of `model`, `tools`"), "stream_options"),
        (400, openai_error("No.", param="tools", code="unsupported_parameter"), "tools"),
        (400, openai_error("Invalid 'tools': array too long", param="tools", code="array_above_max_length"), "tools"),
        (422, detail("tools", 0, "function", "parameters", message="Input should be a string"), "tools"),
        (400, {"message": ["property stream_options should not exist"], "error": "Bad Request"}, "stream_options"),
        (400, openai_error("body.temperature: Extra inputs are not permitted"), "temperature"),
        (400, openai_error("'temperature' is not a recognized parameter"), "temperature"),
        (400, openai_error("Invalid parameter: stream_options"), "stream_options"),
        (400, {"errors": [{"field": "tools", "message": "is not supported"}]}, "tools"),
        (400, [{"error": {"code": 400, "details": [{"fieldViolations": [
            {"field": "tools", "description": 'Unknown name "tools": Cannot find field.'}]}]}}], "tools"),
        (422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"],
            "msg": "Extra inputs are not permitted"}]}}, "stream_options"),
        (400, openai_error("Developer instruction is not enabled for models/gemma-3-1b-it"), "system"),
        (400, openai_error('messages: Unexpected role "system". Use the top-level `system` parameter'), "system"),
        (400, openai_error("Only user and assistant roles are supported!"), "system"),
        (400, openai_error("This endpoint isn't ready: tool calling isn't supported yet"), "tools"),
    ],
    ids=label,
)  # fmt: skip
def test_unsupported_field_is_recognized(status: int, body: object, field: str) -> None:
    assert response(status, body).unsupported(OPTIONAL) == field


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, openai_error("this request is not allowed right now")),
        (400, openai_error("Unexpected role 'user' after role 'tool'")),
        (400, openai_error("Not the same number of function calls and responses")),
        (400, openai_error("An assistant message with 'tool_calls' must be followed by tool messages responding to "
                           "each 'tool_call_id'. The following tool_call_ids did not have response messages: call_1",
                           param="messages.[3].role")),
        (400, openai_error("messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
                           param="messages.[1].role")),
        (400, openai_error("tools are not allowed", param="messages", code="invalid_value")),
        (400, openai_error("Tool use is not allowed after a system message")),
        (400, openai_error("Unexpected tool call id")),
        (400, openai_error("Tool call id was abc but must be a-z, A-Z, 0-9, with a length of 9.")),
        (400, openai_error("Expected last role User or Tool for serving but got assistant")),
        (400, openai_error("Invalid parameter: messages with role 'tool' must follow 'tool_calls'", param="messages")),
        (400, openai_error("Assistant message must have either content or tool_calls, but not both.")),
        (400, openai_error("messages: text content blocks must be non-empty", type_="tools")),
        (400, openai_error("Invalid argument", param="messages[2].tool_calls")),
        (400, openai_error("Your account is not allowed to do this; the temperature of the room is unknown")),
        (400, openai_error("Conversation roles must alternate user/assistant/user/assistant/...")),
        (400, openai_error("System message must be at the beginning.")),
        (400, openai_error("Unsupported model; pass tools to another one")),
        (422, detail("messages", 2, "tool_call_id", message="Field required: tools are not supported without it")),
        (501, openai_error("tools are not supported")),
        (401, openai_error("Your key may not use tools")),
        (429, openai_error("Too many tools")),
        (500, openai_error("stream_options broke")),
        (400, openai_error("The ecosystem rolled over")),
        (400, b""),
        (400, b"<html>tools, temperature and stream_options</html>"),
        (400, {"error": None}),
    ],
    ids=label,
)  # fmt: skip
def test_unsupported_field_is_not_concluded_from_its_mere_mention(status: int, body: object) -> None:
    assert response(status, body).unsupported(OPTIONAL) is None


@pytest.mark.parametrize(
    ("body", "permanent"),
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
def test_unsupported_value_is_distinguished_from_an_unsupported_field(body: object, permanent: bool) -> None:
    refused = response(400, body)
    assert refused.unsupported(OPTIONAL) == "temperature" and refused.is_permanent("temperature") == permanent


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, openai_error("The model produced output that does not match the expected peg-native format")),
        (500, openai_error("Failed to parse tool call arguments as JSON: [json.exception.parse_error.101]")),
        (500, openai_error("error parsing tool call: raw='{\"sides\"', err=unexpected end of JSON input")),
        (400, openai_error("Failed to call a function. Please adjust your prompt.", code="tool_use_failed")),
    ],
    ids=label,
)
def test_malformed_tool_call_is_no_refusal_of_tools_for_later_answers(status: int, body: object) -> None:
    found = response(status, body)
    assert found.is_malformed_call and found.unsupported({"tools"}) == "tools" and not found.is_permanent("tools")
    assert not response(status, openai_error("The image does not match the expected png format")).is_malformed_call


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
        {"detail": [{"loc": ["body", "user"], "msg": "Field required", "input": REQUEST, "ctx": {"given": REQUEST}}]},
        {"error": {"message": "Field required", "code": 400, "request": REQUEST, "body": json.dumps(REQUEST)}},
        {"error": {"message": "Field required", "metadata": {"raw": {"message": "Field required", "input": REQUEST}}}},
        {"object": "error", "message": f"[{{'loc': ('body',), 'msg': 'Field required', 'input': {REQUEST}}}]"},
        {"error": {"message": f"1 validation error:\n  {{'msg': 'Field required', 'input': {REQUEST}, 'ctx': 1}}"}},
        {"error": {"message": f"1 validation error:\n [{json.dumps({'msg': 'Field required', 'input': REQUEST})}]"}},
        {"error": {"message": f"Field required [type=missing, input_value={REQUEST}, input_type=dict]"}},
    ],
    ids=["detail", "beside", "raw", "repr", "repr in words", "JSON in words", "pydantic"],
)
def test_error_that_repeats_the_request_neither_refuses_its_fields_nor_overflows(body: object) -> None:
    for status in (400, 422):
        assert response(status, body).unsupported(OPTIONAL) is None
        assert type(error(status, body)) is ModelError


# The memory of refusals


class Clock:
    """A clock that tests advance."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_refusal_memory_is_separate_for_rooms_and_models_and_expires() -> None:
    clock = Clock()
    memory = RefusalMemory(clock)
    memory.add("a", "one", {"tools"})
    clock.now += FORGET_AFTER_SECONDS / 2
    memory.add("a", "one", {"temperature"})
    assert memory.unsupported("a", "one") == {"tools", "temperature"}
    assert memory.unsupported("b", "one") == memory.unsupported("a", "two") == frozenset()
    clock.now += FORGET_AFTER_SECONDS / 2
    assert memory.unsupported("a", "one") == {"temperature"}
    clock.now += FORGET_AFTER_SECONDS / 2
    assert memory.unsupported("a", "one") == frozenset()


def test_refusal_memory_is_bounded_and_forgets_deleted_rooms() -> None:
    clock = Clock()
    memory = RefusalMemory(clock)
    for number in range(MAX_REMEMBERED + 1):
        memory.add(f"room-{number}", "one", {"tools"})
    assert len(memory) == MAX_REMEMBERED
    assert not memory.unsupported("room-0", "one") and memory.unsupported("room-1", "one")
    memory.add("room-1", "two", {"tools"})
    memory.forget("room-1")
    assert not memory.unsupported("room-1", "one") and not memory.unsupported("room-1", "two")
    clock.now += FORGET_AFTER_SECONDS
    memory.add("new", "one", {"tools"})
    assert len(memory) == 1


# Busy servers


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("999999999", 999_999_999.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
        ("٣", None),
        ("9" * 400, None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    busy = error(429, openai_error("Slow down."), {"Retry-After": value})
    assert isinstance(busy, ModelBusy) and busy.seconds == seconds


def test_retry_after_date_is_relative_to_the_clock() -> None:
    busy = error(429, b"", {"Retry-After": formatdate(time.time() + 300, usegmt=True)})
    assert isinstance(busy, ModelBusy) and busy.seconds is not None and 200 < busy.seconds <= 300


@given(st.text(st.characters(max_codepoint=255), max_size=40))
@example("Mon, 01 Jan 0001 00:00:00 -0000")
@example("Mon, 01 Jan 9999 23:59:59 -2359")
@example("1 Jan 2020 24:61:61 +9999")
def test_retry_after_of_any_text_is_accepted(value: str) -> None:
    busy = error(429, b"", {"Retry-After": value})
    assert isinstance(busy, ModelBusy) and (busy.seconds is None or busy.seconds >= 0)
    assert "Retry" in str(busy)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
        (503, {"error": {"message": "The model is loading, please wait"}}),
        (503, openai_error("server busy, please try again.  maximum pending requests exceeded")),
        (503, openai_error("The engine is currently overloaded, please try again later")),
        (529, openai_error("Overloaded")),
        (429, {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "rate-limited"}}}),
        (429, OPENAI.refuses["busy"].body),  # its text mentions billing
        (429, b"<html>Too many requests</html>"),
        (429, b""),
    ],
    ids=label,
)
def test_error_of_a_server_that_is_busy_or_loading_is_model_busy(status: int, body: object) -> None:
    assert isinstance(error(status, body), ModelBusy)


def test_error_503_with_retry_after_is_model_busy() -> None:
    """RFC 9110, 15.6.4."""
    busy = error(503, b"<html>Down for a moment</html>", {"Retry-After": "5"})
    assert isinstance(busy, ModelBusy) and busy.seconds == 5


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, openai_error("You exceeded your current quota, please check your plan and billing details.",
                           code="insufficient_quota")),
        (429, {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock "
                         "1000 free model requests per day"}}),
        (402, {"error": {"code": 402, "message": "Insufficient credits"}}),
        (500, openai_error("CUDA out of memory")),
        (503, b"<html>Bad gateway</html>"),
    ],
    ids=label,
)  # fmt: skip
def test_error_that_does_not_pass_by_itself_is_not_model_busy(status: int, body: object) -> None:
    found = error(status, body)
    assert not isinstance(found, ModelBusy) and str(status) in str(found)


# Overflow


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
        (400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
        (400, "request (4476 tokens) exceeds the available context size (4096 tokens), try increasing it"),
        (500, "the request exceeds the available context size. try increasing the context size"),
        (400, "You passed 8193 input tokens and requested 0 output tokens. However, the model's context length is"),
        (400, "Trying to keep the first 15857 tokens when context the overflows. However, the model is loaded with"),
        (400, "The number of tokens to keep from the initial prompt is greater than the context length."),
        (400, "prompt is too long: 210000 tokens > 200000 maximum"),
        (400, "Input is too long for requested model."),
        (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
        (413, "Request too large for model `x`: Limit 6000, Requested 8000, please reduce your message size"),
        (422, "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"),
    ],
    ids=label,
)
def test_error_about_the_context_length_is_model_overflow(status: int, message: str) -> None:
    refused = response(status, openai_error(message, code=status))
    assert refused.unsupported(OPTIONAL) is None
    found = refused.to_exception(str)
    assert isinstance(found, ModelOverflow)
    assert "OVERSEER_CONTEXT_TOKENS" in str(found) and message in str(found)


@pytest.mark.parametrize("code", ["context_length_exceeded", "exceed_context_size_error"])
def test_error_code_for_the_context_length_is_model_overflow_whatever_the_message(code: str) -> None:
    assert isinstance(error(400, openai_error("No.", code=code)), ModelOverflow)
    assert isinstance(error(400, openai_error("No.", type_=code)), ModelOverflow)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "max_tokens is too large: 5000. This model supports at most 4096 completion tokens"),
        (400, "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead."),
        (401, "The context length of your key"),
        (404, "There is no context window here"),
        (500, "context canceled"),
    ],
    ids=label,
)
def test_error_about_another_limit_is_not_model_overflow(status: int, message: str) -> None:
    assert not isinstance(error(status, openai_error(message)), ModelOverflow)


# Errors within a stream, and any error


@pytest.mark.parametrize(
    ("reported", "kind"),
    [
        ("GPU on fire", ModelError),
        ({"message": "GPU on fire", "code": 500}, ModelError),
        ({"code": 429, "message": "GPU on fire", "metadata": {"raw": "rate-limited upstream"}}, ModelBusy),
        ({"code": "429", "message": "GPU on fire"}, ModelBusy),
        ({"code": 429, "message": "GPU on fire: insufficient_quota"}, ModelError),
        ({"code": 400, "message": "GPU on fire: maximum context length is 4096 tokens"}, ModelOverflow),
        ({"message": "GPU on fire", "code": "context_length_exceeded"}, ModelOverflow),
        (["GPU on fire"], ModelError),
        ({"code": [], "message": {"GPU on fire": 1}}, ModelError),
        ({"error": {"message": "GPU on fire"}}, ModelError),
    ],
    ids=label,
)
def test_error_within_a_stream_is_classified_by_code_and_message(reported: Any, kind: type[ModelError]) -> None:
    found = error_in_stream(reported, str)
    assert type(found) is kind and "GPU on fire" in str(found)


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
            max_leaves=10,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_error_with_any_body_has_a_sentence(status: int, body: bytes) -> None:
    refused = response(status, body)
    assert refused.unsupported(OPTIONAL) in (None, *OPTIONAL)
    assert len(str(refused.to_exception(str))) > 20
