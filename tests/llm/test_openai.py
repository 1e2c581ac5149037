"""The client of OpenAI-compatible servers, over real connections to a scripted server."""

from __future__ import annotations

import gc
import json
import threading
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import pytest

from overseer.domain.context import ModelContext
from overseer.llm import Delta, LeftOut, ModelCut, ModelError, ModelOverflow, ReasoningDelta, TextDelta, ToolRequest
from overseer.llm.call_extras import CallExtras
from overseer.llm.openai import MAX_ERROR_CHARS, OpenAIServer, Timeouts
from overseer.llm.reply import OpenAIReply
from overseer.llm.wire import GO_ON
from tests.llm.conftest import EVENT_BYTES
from tests.support.model_client import (
    CHUNKED,
    QUESTION,
    answer_of,
    chunked,
    failure_of,
    model_of,
    raw_server,
    text_of,
)
from tests.support.model_server import DEADLINE, ModelServer, Reply, end, event, held, silent, text, tool_call
from tests.support.waiting import until

KEY = "sk-very-secret-0123456789abcdef"


def fragments(*calls: dict[str, Any]) -> bytes:
    """Return an event with fragments of tool calls, exactly as given."""
    return event({"choices": [{"index": 0, "delta": {"tool_calls": list(calls)}}]})


# Text


def test_text_is_yielded_as_it_arrives(model_server: ModelServer) -> None:
    held_reply = model_server.will(held(text("Once")))
    with closing(model_of(model_server).answer(QUESTION, ())) as reply:
        deltas = iter(reply)
        assert next(deltas) == TextDelta("Once")
        held_reply.say(text(" upon"), text(" a time\n"))
        assert [next(deltas), next(deltas)] == [TextDelta(" upon"), TextDelta(" a time\n")]
        held_reply.say(end())
        held_reply.hang_up()
        assert list(deltas) == []


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_in_either_field_is_separate_from_text(model_server: ModelServer, field: str) -> None:
    both = event({"choices": [{"delta": {field: "So.", "content": "Yes"}}]})
    model_server.will(Reply(event({"choices": [{"delta": {field: "Hm. ", "content": None}}]}), both, end()))
    assert answer_of(model_of(model_server)) == [ReasoningDelta("Hm. "), ReasoningDelta("So."), TextDelta("Yes")]


def test_chunks_without_content_are_skipped(model_server: ModelServer) -> None:
    empty: list[Any] = [
        {"choices": [{"delta": {"role": "assistant", "content": "", "reasoning": None, "tool_calls": None}}]},
        {"choices": [{"delta": {"content": 7, "reasoning": ["x"], "tool_calls": "x"}}]},
        {"choices": [{"delta": None}]},
        {"choices": [{}]},
        {"choices": ["?"]},
        {"choices": [], "usage": {"total_tokens": 12}},
        {"choices": None},
        {},
    ]
    keep_alive = b": hi\n\ndata: : keepalive\n\nevent: ping\n\n"
    model_server.will(Reply(*map(event, empty), keep_alive, text("Yes"), end(), event(empty[5])))
    assert answer_of(model_of(model_server)) == [TextDelta("Yes")]


def test_surrogate_halves_in_separate_chunks_are_yielded_unchanged(model_server: ModelServer) -> None:
    model_server.will(Reply(text("a \ud83e"), text("\udd89 b"), end()))
    answer = text_of(answer_of(model_of(model_server)))
    assert answer.encode("utf-16", "surrogatepass").decode("utf-16") == "a 🦉 b"


@pytest.mark.parametrize("status", [200, 500])
def test_error_message_with_a_surrogate_half_can_be_encoded(model_server: ModelServer, status: int) -> None:
    body = {"error": {"message": "bad \ud83e\x00 thing"}}
    model_server.will(Reply(event(body) if status == 200 else json.dumps(body).encode(), status=status))
    error = str(failure_of(model_of(model_server))[1])
    error.encode()
    assert "bad " in error and " thing" in error and "\x00" not in error


# Tools


def test_tools_are_sent_with_their_schema(model_server: ModelServer) -> None:
    answer_of(model_of(model_server))
    list(model_of(model_server).answer(QUESTION, ()))
    functions = [tool["function"] for tool in model_server.requests[0]["tools"] if tool["type"] == "function"]
    assert [function["name"] for function in functions] == ["get_current_time", "roll_dice"]
    assert functions[1]["parameters"]["properties"] == {"sides": {"type": "integer"}}
    assert functions[1]["description"] == "Roll one die with the given number of sides, from 2 to 1000."
    assert "tools" not in model_server.requests[1]


A, B = ToolRequest("a", "roll_dice", '{"sides": 20}'), ToolRequest("b", "get_current_time", "{}")
FIRST = {"id": "a", "type": "function", "function": {"name": "roll_dice", "arguments": ""}}


def more(arguments: object, **rest: object) -> dict[str, Any]:
    """Return a fragment of a tool call without a name."""
    return {**rest, "function": {"arguments": arguments}}


def call(call_id: object, name: str, arguments: object, **rest: object) -> dict[str, Any]:
    """Return a whole tool call."""
    return {"id": call_id, **rest, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("stream", "requests"),
    [
        pytest.param(
            [fragments({**FIRST, "index": 0}), fragments(more('{"si', index=0)), fragments(more('des": 20}', index=0))],
            [A],
            id="arguments empty, then split (OpenAI)",
        ),
        pytest.param([tool_call("roll_dice", '{"sides": 20}', call_id="a")], [A], id="whole (Ollama)"),
        pytest.param([fragments(call("b", "get_current_time", None, index=0))], [B], id="arguments null"),
        pytest.param([fragments(call("b", "get_current_time", "null", index=0))], [B], id="arguments 'null'"),
        pytest.param([fragments({"id": "b", "function": {"name": "get_current_time"}})], [B], id="no arguments"),
        pytest.param([fragments(call("a", "roll_dice", {"sides": 20}, index=0))], [A], id="arguments as an object"),
        pytest.param(
            [fragments({**FIRST, "index": 0}, call("b", "get_current_time", "{}", index=1))]
            + [fragments(more('{"sides"', index=0)), fragments(more("", index=1), more(": 20}", index=0))],
            [A, B],
            id="two calls, interleaved",
        ),
        pytest.param(
            [fragments(FIRST, more('{"sides"'), more(": 20}")), fragments(call("b", "get_current_time", "{}"))],
            [A, B],
            id="two calls, no index",
        ),
        pytest.param(
            [fragments({**FIRST, "index": 0}, more('{"sides": 20}', index=0))]
            + [fragments(call("b", "get_current_time", None, index=0), more("{}", index=0))],
            [A, B],
            id="two calls, index always 0",
        ),
        pytest.param(
            [fragments({**FIRST, "index": 0}, more('{"sides"', id="a"), more(": 20}", id="a"))],
            [A],
            id="id in every fragment",
        ),
        pytest.param(
            [fragments({**FIRST, "index": 0}, more('{"sides"', id="", index=0), more(": 20}", id=""))],
            [A],
            id="empty id in later fragments",
        ),
        pytest.param(
            [fragments(call(7, "roll_dice", '{"sides"', index=0), more(": 20}", id=7, index=0))],
            [ToolRequest("7", "roll_dice", '{"sides": 20}')],
            id="numeric id",
        ),
        pytest.param(
            [fragments(call(None, "roll_dice", "", index=0), call(None, "get_current_time", "", index=1))]
            + [fragments(more('{"sides": 20}', index=0), more("{}", index=1))],
            [ToolRequest("call-0", "roll_dice", '{"sides": 20}'), ToolRequest("call-1", "get_current_time", "{}")],
            id="two calls, no id",
        ),
        pytest.param(
            [fragments(call("", "roll_dice", '{"sides": 20}', index=0), call("", "roll_dice", '{"sides": 6}', index=0))]
            + [fragments(call("", "get_current_time", "{}", index=0))],
            [ToolRequest("call-0", "roll_dice", '{"sides": 20}'), ToolRequest("call-1", "roll_dice", '{"sides": 6}')]
            + [ToolRequest("call-2", "get_current_time", "{}")],
            id="empty ids, index always 0 (Gemini)",
        ),
        pytest.param(
            [fragments(call("a", "roll_dice", "{}", index=0)), fragments(more('{"sides"', index=0))]
            + [fragments(more(": 20}", index=0))],
            [A],
            id="an empty object before the arguments (Bedrock)",
        ),
        pytest.param(
            [fragments(call("a", "roll_dice", '{"sides": 20}{"sides": 6}\n{"sides": 4}', index=0))],
            [A, ToolRequest("a-2", "roll_dice", '{"sides": 6}'), ToolRequest("a-3", "roll_dice", '{"sides": 4}')],
            id="several objects in one call (Gemini)",
        ),
        pytest.param([fragments(call("b", "get_current_time", "{}{} {}", index=0))], [B], id="several empty objects"),
        pytest.param(
            [fragments(call("a", "roll_dice", json.dumps('{"sides": 20}'), index=0))], [A], id="arguments encoded twice"
        ),
        pytest.param(
            [fragments(call("a", "roll_", "", index=0)), fragments({"index": 0, "function": {"name": "dice"}})]
            + [fragments(more('{"sides": 20}', index=0))],
            [A],
            id="the name in two pieces",
        ),
        pytest.param(
            [fragments(call("a", "roll_", None)), fragments(call("a", "dice", None)), fragments(more('{"sides": 20}'))],
            [A],
            id="the name in two pieces, id in both",
        ),
        pytest.param(
            [fragments(call("a", "roll_dice", '{"sides"', index=0), call("a", "get_current_time", "{", index=1))]
            + [fragments(more(": 20}", id="a", index=0), more("}", id="a", index=1))],
            [A, ToolRequest("a-2", "get_current_time", "{}")],
            id="two calls with the same id and another index",
        ),
        pytest.param(
            [fragments(call("a", "roll_dice", "", index=0)), fragments(more('{"sides"', id="x", index=0))]
            + [fragments(more(": 20}", id="y", index=0))],
            [A],
            id="another id in every fragment (older vLLM)",
        ),
        pytest.param(
            [event({"choices": [{"delta": {"tool_calls": call("a", "roll_dice", '{"sides": 20}')}}]})],
            [A],
            id="a call that is not in a list",
        ),
        pytest.param(
            [fragments(call("a", "roll_dice", '{"sides": 20}', extra_content={"x": "y"}, other=None))],
            [replace(A, extra=CallExtras({"extra_content": {"x": "y"}}).encode("stand-in"))],
            id="extra fields (Gemini)",
        ),
        pytest.param(
            [fragments(call("a__thought__c2ln", "roll_dice", '{"sides": 20}'))],
            [replace(A, call_id="a__thought__c2ln", extra=CallExtras(keep_id=True).encode("stand-in"))],
            id="a signature in the id (LiteLLM)",
        ),
        pytest.param(
            [fragments(call("a", "roll_dice", '{"sides": 20}', extra_content="x" * 100_000))],
            [A],
            id="extra fields over the limit",
        ),
    ],
)
def test_tool_call_fragments_are_joined(
    model_server: ModelServer, stream: list[bytes], requests: list[ToolRequest]
) -> None:
    """In every dialect, each call is yielded once, complete, in order and after the text."""
    model_server.will(Reply(text("Let me see."), *stream, end("tool_calls")))
    assert answer_of(model_of(model_server)) == [TextDelta("Let me see."), *requests]


@pytest.mark.parametrize("junk", [[None, 7, {}], "?", [{"function": None}], [{"function": {"name": 7}}]])
def test_tool_call_that_is_malformed_does_not_end_the_answer(model_server: ModelServer, junk: object) -> None:
    """It is ignored or yielded with empty arguments, so that the toolbox rejects it."""
    model_server.will(Reply(event({"choices": [{"delta": {"tool_calls": junk}}]}), text("Yes"), end()))
    first, *rest = answer_of(model_of(model_server))
    assert first == TextDelta("Yes")
    assert all(isinstance(delta, ToolRequest) and delta.arguments == "{}" for delta in rest)


def test_tool_call_of_an_answer_that_is_cut_off_is_dropped(model_server: ModelServer) -> None:
    model_server.will(Reply(tool_call("roll_dice", '{"sides": 2')))
    deltas, error = failure_of(model_of(model_server))
    assert isinstance(error, ModelCut) and deltas == []


@pytest.mark.parametrize(
    "stream",
    [
        [fragments({"id": f"c{n}", "function": {"name": "roll_dice", "arguments": "{}"}}) for n in range(40)],
        [fragments({"index": 0, "function": {"name": "roll_dice", "arguments": 50_000 * "x"}}) for _ in range(10)],
    ],
    ids=["calls", "arguments"],
)
def test_tool_calls_over_the_limits_end_the_answer(model_server: ModelServer, stream: list[bytes]) -> None:
    model_server.will(Reply(text("Rolling."), *stream, end("tool_calls")))
    deltas, error = failure_of(model_of(model_server))
    assert deltas == [TextDelta("Rolling.")] and "too many tool calls" in str(error)


# The end


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        (event({"error": {"message": "GPU on fire", "code": 500}}), "GPU on fire"),
        (b"event: error\n" + event({"error": "GPU on fire", "choices": [{"finish_reason": "error"}]}), "GPU on fire"),
        (event({"object": "error", "message": "GPU on fire"}), "GPU on fire"),
        (event({"base_resp": {"status_code": 1013, "status_msg": "GPU on fire"}, "choices": None}), "GPU on fire"),
        (event({"code": 50001, "msg": "GPU on fire"}), "“GPU on fire”"),
        (event({"code": "InternalError", "message": "GPU on fire"}), "“GPU on fire”"),
        (event({"detail": "GPU on fire"}), "“GPU on fire”"),
        (event({"detail": [{"loc": ["body", "x"], "msg": "GPU on fire", "input": "y"}]}), "“body.x: GPU on fire”"),
        (event([{"error": {"code": 500, "message": "GPU on fire"}}]), "“GPU on fire”"),
        (
            event({"success": False, "errors": [{"code": 7, "message": "GPU"}, {"message": "on fire"}]}),
            "“GPU; on fire”",
        ),
        (event({"error_code": 17, "error_msg": "GPU on fire"}), "“GPU on fire”"),
        (event({"type": "error", "error": {"type": "overloaded_error", "message": "GPU on fire"}}), "“GPU on fire”"),
        (event({"choices": [{"delta": {}, "error": {"message": "GPU on fire"}, "finish_reason": "error"}]}), "“GPU on"),
        (end("SAFETY"), "content filter"),
        (b'data: {"choices": [\n\n', "invalid JSON"),
        (b"data: " + b'{"a":' * 100_000 + b"\n\n", "invalid JSON"),
        (b'data: {"choices": ' + b"1" * 10_000 + b"}\n\n", "invalid JSON"),
        (b'data: {"choices": "\xff\xfe"}\n\n', "UTF-8"),
        (b"data: {" + b"a" * 2 * EVENT_BYTES, "without an end"),
        (end("content_filter"), "content filter"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_error_within_an_answer_keeps_the_text_before_it(model_server: ModelServer, last: bytes, sentence: str) -> None:
    model_server.will(Reply(text("Once"), text(" upon"), last, text("never")))
    deltas, error = failure_of(model_of(model_server))
    assert deltas == [TextDelta("Once"), TextDelta(" upon")]
    assert sentence in str(error) and len(str(error)) < 200 and not isinstance(error, ModelCut)


@pytest.mark.parametrize("how", ["close", "reset", "chunked", "half an event", "length", "error", "abort"])
def test_answer_without_an_end_or_with_a_finish_reason_of_failure_is_cut_off(
    model_server: ModelServer, how: str
) -> None:
    """OpenRouter and vLLM end an incomplete answer with the finish reasons "error" and "abort"."""
    headers = {"chunked": CHUNKED, "reset": {"Content-Length": "100000"}}.get(how)
    first = text("Once upon")
    last = text(" a time")[:30] if how == "half an event" else end(how) if how in ("length", "error", "abort") else b""
    model_server.will(Reply(chunked(first)[0] if how == "chunked" else first + last, headers=headers))
    deltas, error = failure_of(model_of(model_server))
    assert deltas == [TextDelta("Once upon")]
    assert isinstance(error, ModelCut) and ("try again" in str(error) or how == "length")


def test_answer_with_done_but_without_any_finish_reason_is_cut_off(model_server: ModelServer) -> None:
    """llama-cpp-python, if another request comes. Every chunk of its answers has the field."""
    model_server.will(
        Reply(event({"choices": [{"delta": {"content": "Yes"}, "finish_reason": None}]}), b"data: [DONE]\n\n")
    )
    deltas, error = failure_of(model_of(model_server))
    assert deltas == [TextDelta("Yes")] and isinstance(error, ModelCut) and "Continue" in str(error)
    chunk = {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
    model_server.will(Reply(event(chunk), b"data: [DONE]\n\n"))
    assert answer_of(model_of(model_server)) == [], "empty, not cut off"


def test_codes_that_mean_success_are_no_errors(model_server: ModelServer) -> None:
    success = {"base_resp": {"status_code": 0, "status_msg": ""}, "choices": []}
    model_server.will(
        Reply(
            text("Yes"), event(success), event({"code": 200, "msg": "ok"}), event({"code": 0, "msg": "success"}), end()
        )
    )
    assert answer_of(model_of(model_server)) == [TextDelta("Yes")]


PEG = {"code": 500, "message": "The model output does not match the expected peg-native format", "type": "server_error"}


@pytest.mark.parametrize("begun", [[], [text("Let me "), text("see: ")]], ids=["at once", "after text"])
@pytest.mark.parametrize("status", [200, 500])
def test_malformed_tool_call_is_followed_by_one_try_without_tools(
    model_server: ModelServer, begun: list[bytes], status: int
) -> None:
    """llama.cpp. Text that came is continued. If that fails too, the answer does."""
    malformed = [*begun, event({"error": PEG})] if status == 200 else [json.dumps({"error": PEG}).encode()]
    model_server.will(Reply(*malformed, status=status), Reply(text("17."), end()))
    model = model_of(model_server)
    deltas = answer_of(model)
    kept = begun if status == 200 else []
    assert text_of(deltas) == ("Let me see: 17." if kept else "17.")
    assert LeftOut(frozenset({"malformed_call"})) in deltas
    first, second = model_server.requests
    assert "tools" in first and "tools" not in second
    asked = [{"role": "user", "content": "Hello?"}]
    said = [{"role": "assistant", "content": "Let me see: "}, {"role": "user", "content": GO_ON}]
    assert second["messages"] == (asked + said if kept else asked)
    model_server.will(Reply(*malformed, status=status), Reply(event({"error": PEG})))
    _, error = failure_of(model)
    assert "peg-native" in str(error) and "tools" in model_server.requests[2] and len(model_server.requests) == 4


@pytest.mark.parametrize(
    "last",
    [
        event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
        event({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
        b"data: [DONE]\n\n" + text("No"),
        b"data: [DONE]",
    ],
    ids=["stop", "tool_calls", "DONE", "DONE without a blank line"],
)
def test_answer_is_complete_with_a_finish_reason_or_done_alone(model_server: ModelServer, last: bytes) -> None:
    model_server.will(Reply(text("Yes"), last))
    assert answer_of(model_of(model_server)) == [TextDelta("Yes")]


JSON_TYPE, EVENTS_TYPE = {"Content-Type": "application/json"}, {"Content-Type": "text/event-stream"}


@pytest.mark.parametrize("headers", [JSON_TYPE, EVENTS_TYPE, {}], ids=["JSON", "events", "no type"])
def test_answer_is_read_as_what_it_is_whatever_its_content_type(
    model_server: ModelServer, headers: dict[str, str]
) -> None:
    """An event stream, JSON, lines of JSON, or a list of chunks."""
    message = {"role": "assistant", "content": "All at once."}
    whole = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    chunks = [{"choices": [{"delta": {"content": word}}]} for word in ("All at ", "once.")]
    stream = b": hi\n\n" + b"".join(map(event, chunks)) + end()
    lines = "\r\n".join(map(json.dumps, chunks)).encode()
    indented = b"\n" + json.dumps(whole, indent=2).encode() + b"\n"
    for body in (stream, json.dumps(whole).encode(), indented, lines, json.dumps(chunks).encode()):
        model_server.will(Reply(body, headers=headers))
        assert text_of(answer_of(model_of(model_server))) == "All at once."


@pytest.mark.parametrize("headers", [JSON_TYPE, EVENTS_TYPE], ids=["JSON", "events"])
def test_answer_that_is_too_large_is_ended(headers: dict[str, str]) -> None:
    """A line without an end, or a whole that is larger than any answer."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n" % headers["Content-Type"].encode()
    for begin in (b"data: {", b'{"choices": "'):
        with raw_server(head + begin, repeat=b"x" * 65536) as url:
            deltas, error = failure_of(OpenAIServer(url).model("m"))
        assert deltas == [] and "without an end" in str(error)


@pytest.mark.parametrize("body", [b"", b": keep-alive\n\n" * 5, b"data: : ping\n\n", b"data: [DONE]\n\n", b"\n"])
def test_stream_without_an_answer_is_an_empty_answer(model_server: ModelServer, body: bytes) -> None:
    """llama-cpp-python answers so if the conversation exceeds the context."""
    model_server.will(Reply(body))
    deltas, error = failure_of(model_of(model_server))
    assert deltas == [] and "The model returned an empty answer." in str(error) and "log" in str(error)
    assert "OPENAI_BASE_URL" not in str(error)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_connection_is_closed_however_the_answer_ends(connection: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: {connection}\r\n\r\n".encode()
    endings = [end(), event({"error": "x"}), b"data: {oops}\n\n", b""]
    responses = [head + b"".join(chunked(text("Yes"), last)) for last in endings]
    gc.collect()
    with warnings.catch_warnings(record=True) as left, raw_server(*responses) as url:
        warnings.simplefilter("always")
        for _ in endings:
            with suppress(ModelError), closing(OpenAIServer(url).model("m").answer(QUESTION, ())) as reply:
                list(reply)
            del reply
        gc.collect()
    assert not left, [str(warning.message) for warning in left]


@pytest.mark.parametrize(
    "body",
    [
        b"<!doctype html><title>Welcome to nginx</title>",
        b'{"object": "list"}',
        b"Internal Server Error",
        b"data: hello\n\n",
        bytes(range(256)) * 20,
    ],
)
def test_response_that_is_not_a_stream_names_the_setting(model_server: ModelServer, body: bytes) -> None:
    model_server.will(Reply(body))
    deltas, error = failure_of(model_of(model_server))
    assert deltas == [] and "OPENAI_BASE_URL" in str(error) and "/v1" in str(error)


# Errors


@pytest.mark.parametrize(
    ("status", "headers", "advice"),
    [
        (401, {}, "API key rejected (401). Check OPENAI_API_KEY."),
        (403, {}, "API key rejected (403). Check OPENAI_API_KEY."),
        (404, {}, "OPENAI_MODEL and OPENAI_BASE_URL"),
        (429, {"Retry-After": "17"}, "Rate limited (429). Wait 17 s, then Retry."),
        (429, {"Retry-After": "300"}, "Wait 5 min, then Retry"),
        (429, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}, " h, then Retry"),
        (429, {}, "Wait a moment, then Retry"),
        (400, {}, "The model server rejected the request (400)"),
        (500, {}, "The model server failed (500): “Because I say so”"),
        (302, {"Location": "/login"}, "OPENAI_BASE_URL"),
        (204, {}, "rejected the request (204)"),
    ],
)
def test_error_status_has_a_sentence_with_advice(
    model_server: ModelServer, status: int, headers: dict[str, str], advice: str
) -> None:
    body = b"" if status == 204 else json.dumps({"error": {"message": "Because I say so"}}).encode()
    model_server.will(Reply(body, status=status, headers=headers))
    deltas, error = failure_of(model_of(model_server))
    assert deltas == [] and not isinstance(error, ModelCut)
    assert advice in str(error) and str(status) in str(error)
    assert ("Because I say so" in str(error)) == (status not in (204, 302))
    assert len(model_server.requests) == 1, "neither redirected nor repeated"


@pytest.mark.parametrize(
    ("body", "quoted"),
    [
        (b'{"error": "plain words"}', "plain words"),
        (b"just text", "just text"),
        (b'{"detail": "FastAPI"}', "FastAPI"),
        (b"<html>a page</html>", None),
        (b'{"error": null}', None),
        (b"\xff\xfe\x00", "�"),
        (b'["error"]', "error"),
        (b'{"error": ' + b"[" * 60_000, "error"),
    ],
)
def test_error_body_in_any_form_is_one_short_sentence(
    model_server: ModelServer, body: bytes, quoted: str | None
) -> None:
    half = len(body) // 2
    model_server.will(Reply(*chunked(body[:half], body[half:]), status=500, headers=CHUNKED))
    error = str(failure_of(model_of(model_server))[1])
    assert ("“" in error) == (quoted is not None) and (quoted or "") in error
    assert len(error) < MAX_ERROR_CHARS + 200 and "\n" not in error


@pytest.mark.parametrize("response", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 200 OK\r\nX: y"])
def test_server_that_does_not_speak_http_is_named(response: bytes) -> None:
    with raw_server(response) as url:
        assert url in str(failure_of(OpenAIServer(url).model("m"))[1])


@pytest.mark.parametrize(
    "url",
    ["nonsense", "localhost:8080/v1", "ftp://127.0.0.1/v1", "http://[", "http:///v1", "http://127.0.0.1:port/v1"]
    + ["http://127.0.0.1:99999/v1", "http://\u2026/v1", "http://a b/v1"],
)
def test_base_url_that_is_invalid_names_the_setting(url: str) -> None:
    model = OpenAIServer(url).model()
    assert model.name
    assert "OPENAI_BASE_URL" in str(failure_of(model)[1])


def test_base_url_is_shown_without_password() -> None:
    for url in ("http://me:hunter2@127.0.0.1:9/v1", "http://me:hunter2@127.0.0.1:99999/v1"):
        assert "hunter2" not in str(failure_of(OpenAIServer(url).model("m"))[1])


# The context


def test_context_length_is_learned_from_the_list_and_from_an_overflow(model_server: ModelServer) -> None:
    model_server.entries = {"small": {"meta": {"n_ctx": 512}}, "plain": {}}
    server = OpenAIServer(model_server.url)
    assert server.names() == ("small", "plain")
    assert server.model("small").context == server.model().context == ModelContext(512)
    plain = server.model("plain")
    assert plain.context == ModelContext()
    body = {"error": {"code": 400, "message": "exceeds the context size", "n_prompt_tokens": 931, "n_ctx": 1024}}
    model_server.will(Reply(json.dumps(body).encode(), status=400))
    error = failure_of(plain)[1]
    assert isinstance(error, ModelOverflow) and (error.needed, error.limit) == (None, 1024)
    assert plain.context == ModelContext(1024)
    plain.note_prompt(estimated=1000, counted=1500)
    assert server.model("plain").context == ModelContext(1024, 1.5)


# Time limits


@pytest.mark.parametrize("reply", [silent, held], ids=["before the headers", "before the first event"])
def test_first_byte_timeout_closes_the_connection(model_server: ModelServer, reply: Callable[[], Reply]) -> None:
    at_server = model_server.will(reply())
    error = str(failure_of(model_of(model_server, timeouts=Timeouts(first=0.2, gap=0.2)))[1])
    assert "0.2 s" in error and "Retry" in error
    assert at_server.closed.wait(DEADLINE)


def test_gap_timeout_cuts_the_answer_off(model_server: ModelServer) -> None:
    at_server = model_server.will(held(text("Once")))
    deltas, error = failure_of(model_of(model_server, timeouts=Timeouts(first=DEADLINE, gap=0.2)))
    assert deltas == [TextDelta("Once")]
    assert isinstance(error, ModelCut) and "0.2 s" in str(error)
    assert at_server.closed.wait(DEADLINE)


def test_gap_timeout_is_not_applied_before_the_first_event(model_server: ModelServer) -> None:
    at_server = model_server.will(silent())

    def respond() -> None:
        at_server.say(b"HTTP/1.0 200 OK\r\n\r\n" + text("Yes") + end())
        at_server.hang_up()

    timer = threading.Timer(0.3, respond)
    timer.start()
    assert answer_of(model_of(model_server, timeouts=Timeouts(first=DEADLINE, gap=0.1))) == [TextDelta("Yes")]
    timer.join()


def test_first_byte_timeout_does_not_run_while_another_answer_arrives(model_server: ModelServer) -> None:
    """A server with one slot sends nothing to the second request until the first answer has ended."""
    server = OpenAIServer(model_server.url, timeouts=Timeouts(first=0.3, gap=DEADLINE))
    first = model_server.will(held(text("One")))
    one = server.model("m").answer(QUESTION, ())
    one_thread, deltas = start(one)
    assert deltas.get(timeout=DEADLINE) == TextDelta("One")
    second = model_server.will(silent())
    two, other = (server.model(name).answer(QUESTION, ()) for name in ("m", "n"))
    errors: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        with suppress(ModelError):
            list(two)
        errors.put("ended")

    two_thread = threading.Thread(target=read, daemon=True)
    two_thread.start()
    assert second.begun.wait(DEADLINE)
    until(lambda: two.answers_ahead() == 1)
    assert one.answers_ahead() == 0
    with server.running(other):
        assert other.answers_ahead() == 0, "another model"
    assert not second.closed.wait(1.0), "three times the timeout"
    first.say(end())
    first.hang_up()
    assert second.closed.wait(DEADLINE), "now the time runs"
    for thread in (one_thread, two_thread):
        thread.join(DEADLINE)
    assert two.answers_ahead() == 0


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: ",
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"choices":',
        b"HTTP/1.1 400 Bad\r\nContent-Length: 9999\r\n\r\nNo",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
    ],
    ids=["comment", "json", "error", "header"],
)
def test_total_timeout_ends_a_response_that_trickles(head: bytes) -> None:
    """Each byte arrives within the gap timeout."""
    with raw_server(head, repeat=b" ", interval=0.05) as url:
        server = OpenAIServer(url, timeouts=Timeouts(DEADLINE, DEADLINE, total=0.3))
        error = failure_of(server.model("m"))[1]
    assert isinstance(error, ModelCut) and "longer than 0.3 s" in str(error)


# Close


def start(reply: OpenAIReply) -> tuple[threading.Thread, SimpleQueue[Delta]]:
    """Read a reply in a thread of its own."""
    deltas: SimpleQueue[Delta] = SimpleQueue()

    def read() -> None:
        with suppress(ModelError):
            for delta in reply:
                deltas.put(delta)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, deltas


@pytest.mark.parametrize("begun", [False, True])
def test_close_from_another_thread_closes_the_connection(model_server: ModelServer, begun: bool) -> None:
    at_server = model_server.will(held(text("Once")) if begun else silent())
    reply = model_of(model_server).answer(QUESTION, ())
    thread, deltas = start(reply)
    if begun:
        assert deltas.get(timeout=DEADLINE) == TextDelta("Once")
    assert at_server.begun.wait(DEADLINE)
    reply.close()
    assert at_server.closed.wait(DEADLINE)
    thread.join(DEADLINE)
    assert not thread.is_alive()
    reply.close()


def test_close_before_the_first_delta_sends_no_request(model_server: ModelServer) -> None:
    reply = model_of(model_server).answer(QUESTION, ())
    reply.close()
    with pytest.raises(ModelError):
        list(reply)
    assert model_server.requests == []


def test_close_between_two_deltas_closes_the_connection(model_server: ModelServer) -> None:
    at_server = model_server.will(held(text("Once")))
    reply = model_of(model_server).answer(QUESTION, ())
    assert next(iter(reply)) == TextDelta("Once")
    reply.close()
    assert at_server.closed.wait(DEADLINE)


# The key


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " "])
def test_key_is_sent_without_surrounding_white_space(model_server: ModelServer, ending: str) -> None:
    answer_of(model_of(model_server, api_key=KEY + ending))
    answer_of(model_of(model_server))
    assert model_server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in model_server.headers[1]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), status=401),
        Reply(b"x" * (MAX_ERROR_CHARS - 15) + KEY.encode(), status=500),
        Reply(b"", status=302, headers={"Location": f"/login?key={KEY}"}),
        Reply(event({"error": {KEY: KEY}})),
        Reply(event({"base_resp": {"status_code": 1, "status_msg": f"bad {KEY}"}})),
        Reply(event({"detail": [{"loc": [KEY], "msg": KEY}]})),
        Reply(b"data: {" + b"x" * 60 + KEY.encode() + b"}\n\n"),
    ],
    ids=["message", "cut short", "redirect", "event", "base_resp", "detail", "invalid JSON, cut short"],
)
def test_error_contains_no_part_of_the_key(model_server: ModelServer, reply: Reply) -> None:
    model_server.will(reply)
    error = failure_of(model_of(model_server, api_key=KEY))[1]
    assert not any(KEY[at : at + 8] in str(error) for at in range(len(KEY) - 8)), str(error)
    assert KEY not in repr(error.__context__)


def test_call_and_model_that_repeat_the_key_contain_no_part_of_it(model_server: ModelServer) -> None:
    """Nor where a name is shortened."""
    calls = [call(f"{190 * 'x'}{KEY}", f"{190 * 'x'}{KEY}", "{}"), call("a", "f", "{}", extra_content={KEY: KEY})]
    model_server.will(Reply(event({"model": f"{90 * 'x'}{KEY}"}), fragments(*calls), end("tool_calls")))
    answer = repr(answer_of(model_of(model_server, api_key=KEY)))
    assert KEY[:6] not in answer and "extra_content" in answer


@pytest.mark.parametrize("key", ["…", f"{KEY}\n{KEY}"])
def test_key_that_cannot_be_sent_names_the_setting(model_server: ModelServer, key: str) -> None:
    error = str(failure_of(model_of(model_server, api_key=key))[1])
    assert "OPENAI_API_KEY" in error and KEY not in error


# The request


def test_request_names_the_model_and_asks_for_a_stream(model_server: ModelServer) -> None:
    assert text_of(answer_of(OpenAIServer(model_server.url + "/").model("stand-in"))) == "All right."
    body = model_server.requests[0]
    assert body["model"] == "stand-in" and body["stream"] is True
    assert model_server.headers[0]["Accept-Encoding"] == "identity"


def test_request_to_this_machine_ignores_the_proxy(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert text_of(answer_of(model_of(model_server))) == "All right."
    assert model_of(model_server).where == model_server.url


# The model's name


def test_model_without_a_name_is_the_first_one_listed(model_server: ModelServer) -> None:
    """The server is asked once. After a refresh another first model may answer."""
    model_server.models = ["llama-one", "llama-two"]
    server = OpenAIServer(model_server.url)
    model = server.model()
    assert model.name == f"model at 127.0.0.1:{model_server.port}"
    answer_of(model)
    model_server.models = ["other"]
    answer_of(model)
    assert [body["model"] for body in model_server.requests] == ["llama-one", "llama-one"]
    assert model.name == "llama-one"
    assert server.names(refresh=True) == ("other",) and model.name == "other"


def test_model_list_omits_names_that_cannot_be_shown_or_stored(model_server: ModelServer) -> None:
    model_server.models = ["bad\ud800", "", "owl", 300 * "x"]
    assert OpenAIServer(model_server.url).names() == ("owl",)


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return a whole response; a `length` that is too great makes it incomplete."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), length or len(body), body)


@pytest.mark.parametrize(
    ("response", "advice"),
    [
        (http(b'{"data": []}'), "Load one there, or set OPENAI_MODEL"),
        (http(b"<html>"), "OPENAI_MODEL"),
        (http(b'{"data": [null]}'), "OPENAI_MODEL"),
        (http(b"[]"), "OPENAI_MODEL"),
        (http(b'{"data":' * 50_000), "OPENAI_MODEL"),
        (http(b'{"data": [{"id"', length=1000), "OPENAI_MODEL"),
        (http(b"", "401 Unauthorized"), "OPENAI_API_KEY"),
        (http(b"", "404 Not Found"), "OPENAI_BASE_URL"),
    ],
    ids=["empty", "a page", "no ids", "a list", "deeply nested", "incomplete", "401", "404"],
)
def test_model_list_that_is_invalid_names_the_setting(response: bytes, advice: str) -> None:
    with raw_server(response) as url:
        assert advice in str(failure_of(OpenAIServer(url).model())[1])


def test_model_name_is_the_address_until_it_is_known() -> None:
    assert OpenAIServer("https://me:pw@openrouter.ai/api/v1").model().name == "model at openrouter.ai"
    assert OpenAIServer("https://me:pw@openrouter.ai/api/v1").model().where == "https://openrouter.ai/api/v1"
    assert OpenAIServer("http://[::1]:8080/v1").model().name == "model at [::1]:8080"
    assert OpenAIServer("http://[::1]:8080/v1").where == "http://[::1]:8080/v1"
    assert OpenAIServer("nonsense").model().name == "model"
    assert OpenAIServer("https://openrouter.ai/api/v1").model("llama").name == "llama"
