"""The client of OpenAI-compatible servers, over real connections to a stand-in."""

from __future__ import annotations

import gc
import json
import re
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from queue import SimpleQueue
from typing import Any

import pytest

from overseer.domain.messages import Message, Part, Reasoning, Text, ToolCall
from overseer.llm import Delta, ModelCut, ModelError, ReasoningDelta, TextDelta, ToolRequest
from overseer.llm.connection import MAX_EVENT
from overseer.llm.openai import MAX_ERROR, OpenAIModel, OpenAIReply, OpenAIServer, Timeouts
from overseer.llm.wire import GO_ON
from overseer.tools.registry import TOOLS, Toolbox
from tests.support.model_server import NOBODY, ModelServer, Reply, answer, end, event, held, silent, text, tool_call

KEY = "sk-very-secret-0123456789abcdef"
QUESTION = (Message(1, "user", "complete", (Text("Hello?"),)),)
SOON = 10.0  # seconds; by itself a held reply ends after 20
DEADLINE = 20.0
CHUNKED = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}


def model_of(server: ModelServer, **options: Any) -> OpenAIModel:
    options = {"name": "stand-in", "timeouts": Timeouts(DEADLINE, DEADLINE), **options}
    return OpenAIServer(server.url, **{k: v for k, v in options.items() if k != "name"}).model(options["name"])


def hear(model: OpenAIModel, history: Sequence[Message] = QUESTION) -> list[Delta]:
    """The whole answer, closed at its end as a turn does."""
    with closing(model.answer(history, Toolbox(TOOLS))) as reply:
        return list(reply)


def hear_to_the_trouble(model: OpenAIModel) -> tuple[list[Delta], ModelError]:
    """What came, and the error that ended it."""
    deltas: list[Delta] = []
    with pytest.raises(ModelError) as caught, closing(model.answer(QUESTION, Toolbox(TOOLS))) as reply:
        deltas.extend(reply)  # keeps what came before a raise
    return deltas, caught.value.with_traceback(None)


def words(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def calls(*pieces: dict[str, Any]) -> bytes:
    """An event with pieces of tool calls, exactly as given."""
    return event({"choices": [{"index": 0, "delta": {"tool_calls": list(pieces)}}]})


def chunked(*pieces: bytes) -> list[bytes]:
    """HTTP/1.1 chunks: a client reads each by itself, however the network joins them."""
    return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"]


@contextmanager
def raw_server(*answers: bytes) -> Iterator[str]:
    """A server that answers each connection's one request with exactly these bytes, then hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for said in answers:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as incoming:
                length = 0
                while (line := incoming.readline()).strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                incoming.read(length)
                connection.sendall(said)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        thread.join(DEADLINE)
        listener.close()


# Words


def test_text_comes_as_it_is_sent(model_server: ModelServer) -> None:
    """Each event's words are one delta, in order."""
    model_server.will(answer("Hello", " there", "!\n"))
    assert hear(model_of(model_server)) == [TextDelta("Hello"), TextDelta(" there"), TextDelta("!\n")]


def test_words_come_before_the_answer_has_ended(model_server: ModelServer) -> None:
    """A delta is handed on while the server is still at it."""
    held_reply = model_server.will(held(text("Once")))
    reply = model_of(model_server).answer(QUESTION, Toolbox(()))
    deltas = iter(reply)
    assert next(deltas) == TextDelta("Once")
    held_reply.say(text(" upon"))
    assert next(deltas) == TextDelta(" upon")
    held_reply.say(end())
    held_reply.hang_up()
    assert list(deltas) == []


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_comes_apart_from_text(model_server: ModelServer, field: str) -> None:
    """Both names that servers use for it are understood, also in one event with text."""
    both = event({"choices": [{"delta": {field: "So.", "content": "Yes"}}]})
    model_server.will(Reply(event({"choices": [{"delta": {field: "Hm. ", "content": None}}]}), both, end()))
    assert hear(model_of(model_server)) == [ReasoningDelta("Hm. "), ReasoningDelta("So."), TextDelta("Yes")]


def test_empty_and_absent_words_are_no_deltas(model_server: ModelServer) -> None:
    """A role alone, empty strings, nulls, a null delta and choices that are none say nothing."""
    silences: list[Any] = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"content": None, "reasoning": None, "tool_calls": None}}]},
        {"choices": [{"delta": None}]},
        {"choices": [{}]},
        {"choices": []},
        {"choices": None},
        {"choices": ["?"]},
        {"choices": [], "usage": {"total_tokens": 12}},
        {},
    ]
    model_server.will(Reply(*map(event, silences), text("Yes"), end(), event(silences[-2])))
    assert hear(model_of(model_server)) == [TextDelta("Yes")]


@pytest.mark.parametrize(
    "noise",
    [
        b": keep-alive\n\n",
        b":\n\n",
        b"data: : keepalive\n\n",
        b"data:\n\n",
        b"data: \n\n",
        b"data\n\n",
        b"\n\n\n",
        b"event: ping\n\n",
        b"event: ping\ndata: {}\n\n",
        b"id: 7\nretry: 3000\n\n",
        b"unheard-of: field\n\n",
        b'data: {"choices": [], "usage": {"total_tokens": 12}}\n\n',
    ],
)
def test_what_is_no_answer_is_left_out(model_server: ModelServer, noise: bytes) -> None:
    """Comments, keep-alives, empty events and the usage chunk change nothing, wherever they come."""
    model_server.will(Reply(noise, text("All"), noise, noise, text(" right"), noise, end(), noise))
    assert hear(model_of(model_server)) == [TextDelta("All"), TextDelta(" right")]


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r"])
@pytest.mark.parametrize("field", [b"data: ", b"data:"])
def test_every_spelling_of_an_event_is_read(model_server: ModelServer, line_end: bytes, field: bytes) -> None:
    """CRLF, LF and CR end lines, and the space after `data:` may be missing."""
    stream = b": hi\n\n" + text("All") + text(" right") + end()
    model_server.will(Reply(stream.replace(b"data: ", field).replace(b"\n", line_end)))
    assert hear(model_of(model_server)) == [TextDelta("All"), TextDelta(" right")]


def test_text_may_hold_what_looks_like_a_line_end(model_server: ModelServer) -> None:
    """U+0085, U+2028 and their kin, sent as they are, do not break an event apart."""
    said = "a\u0085b\u2028c\u2029d\u000be\u001cf"
    raw = json.dumps({"choices": [{"delta": {"content": said}}]}, ensure_ascii=False).replace("\u000b", "\\u000b")
    model_server.will(Reply(b"data: " + raw.encode() + b"\n\n", end()))
    assert hear(model_of(model_server)) == [TextDelta(said)]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_stream_may_be_cut_at_every_byte(model_server: ModelServer, line_end: bytes) -> None:
    """UTF-8, JSON and line ends in two pieces, or in single bytes, give the same deltas as whole."""
    raw = json.dumps({"choices": [{"delta": {"content": "Grüße 🦉"}}]}, ensure_ascii=False).encode()
    stream = b": hi\n\ndata: " + raw + b"\n\n" + calls({"id": "c", "function": {"name": "f", "arguments": "{}"}})
    stream = (stream + end("tool_calls")).replace(b"\n", line_end)
    model = model_of(model_server)
    model_server.will(Reply(stream))
    whole = hear(model)
    assert whole == [TextDelta("Grüße 🦉"), ToolRequest("c", "f", "{}")]
    for cut in range(1, len(stream)):
        model_server.will(Reply(*chunked(stream[:cut], stream[cut:]), headers=CHUNKED))
        assert hear(model) == whole, cut
    model_server.will(Reply(*chunked(*(bytes([byte]) for byte in stream)), headers=CHUNKED))
    assert hear(model) == whole


def test_halves_of_a_character_are_handed_on_unharmed(model_server: ModelServer) -> None:
    """Servers that cut an emoji between tokens send its halves as \\ud83e and \\udd89; a turn puts them together."""
    model_server.will(Reply(text("a \ud83e"), text("\udd89 b"), end()))
    said = words(hear(model_of(model_server)))
    assert said.encode("utf-16", "surrogatepass").decode("utf-16") == "a 🦉 b"


@pytest.mark.parametrize("status", [200, 500])
def test_half_a_character_in_an_error_can_be_stored_and_shown(model_server: ModelServer, status: int) -> None:
    """A server's own words are made fit for a file and a page."""
    said = {"error": {"message": "bad \ud83e\x00 thing"}}
    model_server.will(Reply(event(said) if status == 200 else json.dumps(said).encode(), status=status))
    error = str(hear_to_the_trouble(model_of(model_server))[1])
    error.encode()
    assert "bad " in error and " thing" in error and "\x00" not in error


# Tools


def test_the_tools_are_sent_with_their_schema(model_server: ModelServer) -> None:
    """The model learns name, purpose and arguments of each tool; without tools the field is left out."""
    hear(model_of(model_server))
    (time, dice) = model_server.requests[0]["tools"]
    assert time["type"] == "function" and time["function"]["name"] == "get_current_time"
    assert time["function"]["parameters"] == {"type": "object", "properties": {}, "required": []}
    assert dice["function"]["description"] == "Roll one die with the given number of sides, from 2 to 1000."
    assert dice["function"]["parameters"]["properties"] == {"sides": {"type": "integer"}}
    list(model_of(model_server).answer(QUESTION, Toolbox(())))
    assert "tools" not in model_server.requests[1]


FIRST = {"id": "a", "type": "function", "function": {"name": "roll_dice", "arguments": ""}}
A, B = ToolRequest("a", "roll_dice", '{"sides": 20}'), ToolRequest("b", "get_current_time", "{}")


def piece(arguments: object, **rest: object) -> dict[str, Any]:
    """A piece of a tool call without a name."""
    return {**rest, "function": {"arguments": arguments}}


def call(call_id: object, name: str, arguments: object, **rest: object) -> dict[str, Any]:
    """A whole tool call."""
    return {"id": call_id, **rest, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [
        pytest.param(
            [calls({**FIRST, "index": 0}), calls(piece('{"si', index=0)), calls(piece('des": 20}', index=0))],
            [A],
            id="arguments empty first, then split, as OpenAI does",
        ),
        pytest.param([tool_call("roll_dice", '{"sides": 20}', call_id="a")], [A], id="whole at once, as Ollama does"),
        pytest.param([calls(call("b", "get_current_time", None, index=0))], [B], id="null and nothing after"),
        pytest.param([calls(call("b", "get_current_time", "", index=0))], [B], id="empty and nothing after"),
        pytest.param([calls(call("b", "get_current_time", "null", index=0))], [B], id="the word null"),
        pytest.param([calls({"id": "b", "function": {"name": "get_current_time"}})], [B], id="no arguments at all"),
        pytest.param([calls(call("a", "roll_dice", {"sides": 20}, index=0))], [A], id="an object, not its text"),
        pytest.param(
            [calls({**FIRST, "index": 0}, call("b", "get_current_time", "{}", index=1))]
            + [calls(piece('{"sides"', index=0)), calls(piece("", index=1)), calls(piece(": 20}", index=0))],
            [A, B],
            id="two, their pieces mixed",
        ),
        pytest.param(
            [calls(FIRST), calls(piece('{"sides"')), calls(piece(": 20}")), calls(call("b", "get_current_time", "{}"))],
            [A, B],
            id="no index, two ids",
        ),
        pytest.param(
            [calls({**FIRST, "index": 0}), calls(piece('{"sides": 20}', index=0))]
            + [calls(call("b", "get_current_time", None, index=0)), calls(piece("{}", index=0))],
            [A, B],
            id="always index 0, two ids",
        ),
        pytest.param(
            [calls({**FIRST, "index": None}), calls(piece('{"sides": 20}', index=None))]
            + [calls(call("b", "get_current_time", "{}", index=None))],
            [A, B],
            id="null index, two ids",
        ),
        pytest.param(
            [calls({**FIRST, "index": 0}), calls(piece('{"sides"', id="a")), calls(piece(": 20}", id="a"))],
            [A],
            id="the id in every piece",
        ),
        pytest.param(
            [calls({**FIRST, "index": 0}), calls(piece('{"sides"', id="", index=0)), calls(piece(": 20}", id=""))],
            [A],
            id="an empty id in later pieces",
        ),
        pytest.param(
            [calls(call(7, "roll_dice", '{"sides"', index=0)), calls(piece(": 20}", id=7, index=0))],
            [ToolRequest("7", "roll_dice", '{"sides": 20}')],
            id="a number for an id, in every piece",
        ),
        pytest.param(
            [calls({"index": 0, "function": {"name": "roll_dice", "arguments": '{"sides"'}}), calls(piece(": 20}"))],
            [ToolRequest("call-0", "roll_dice", '{"sides": 20}')],
            id="no id",
        ),
        pytest.param(
            [calls(call(None, "roll_dice", "", index=0)), calls(call(None, "get_current_time", "", index=1))]
            + [calls(piece('{"sides": 20}', index=0)), calls(piece("{}", index=1))],
            [ToolRequest("call-0", "roll_dice", '{"sides": 20}'), ToolRequest("call-1", "get_current_time", "{}")],
            id="no ids, two indexes",
        ),
        pytest.param(
            [calls(call("", "roll_dice", '{"sides": 20}', index=0), call("", "roll_dice", '{"sides": 6}', index=0))]
            + [calls(call("", "get_current_time", "{}", index=0))],
            [ToolRequest("call-0", "roll_dice", '{"sides": 20}'), ToolRequest("call-1", "roll_dice", '{"sides": 6}')]
            + [ToolRequest("call-2", "get_current_time", "{}")],
            id="empty ids and always index 0, each whole, as Gemini does",
        ),
    ],
)
def test_tool_calls_are_put_together(model_server: ModelServer, stream: list[bytes], wanted: list[ToolRequest]) -> None:
    """Whatever the dialect, each call comes out once, whole, in order, and after the words."""
    model_server.will(Reply(text("Let me see."), *stream, end("tool_calls")))
    assert hear(model_of(model_server)) == [TextDelta("Let me see."), *wanted]


@pytest.mark.parametrize("junk", [[None], ["?"], "?", {}, [{}], [{"function": None}], [{"function": {"name": 7}}]])
def test_a_senseless_tool_call_breaks_nothing(model_server: ModelServer, junk: object) -> None:
    """It is left out or handed on to be refused by the toolbox, which tells the model."""
    model_server.will(Reply(event({"choices": [{"delta": {"tool_calls": junk}}]}), text("Yes"), end()))
    said = hear(model_of(model_server))
    assert said[0] == TextDelta("Yes")
    assert all(isinstance(delta, ToolRequest) and delta.arguments == "{}" for delta in said[1:])


def test_tool_calls_of_a_broken_answer_are_not_used(model_server: ModelServer) -> None:
    """Arguments that may be half of what was meant are not handed on."""
    model_server.will(Reply(tool_call("roll_dice", '{"sides": 2')))
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert isinstance(error, ModelCut) and deltas == []


# The end


def test_an_error_in_mid_answer_keeps_what_came_before(model_server: ModelServer) -> None:
    """An error object inside a 200 ends the answer with the server's own words."""
    model_server.will(Reply(text("Once"), text(" upon"), event({"error": {"message": "GPU on fire", "code": 500}})))
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert deltas == [TextDelta("Once"), TextDelta(" upon")]
    assert "GPU on fire" in str(error) and not isinstance(error, ModelCut)


@pytest.mark.parametrize("error", ["GPU on fire", {"message": "GPU on fire"}])
def test_an_error_is_understood_in_every_form(model_server: ModelServer, error: object) -> None:
    """A text, an object, an `event: error` and finish_reason error all tell what went wrong."""
    model_server.will(Reply(b"event: error\n" + event({"error": error, "choices": [{"finish_reason": "error"}]})))
    assert "GPU on fire" in str(hear_to_the_trouble(model_of(model_server))[1])


@pytest.mark.parametrize("how", ["close", "reset", "chunked"])
def test_an_answer_without_an_end_is_cut(model_server: ModelServer, how: str) -> None:
    """No [DONE] and no finish_reason is a ModelCut, which keeps what came."""
    headers = {"chunked": CHUNKED, "reset": {"Content-Length": "100000"}}.get(how)
    said = text("Once upon")
    model_server.will(Reply(chunked(said)[0] if how == "chunked" else said, headers=headers))
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert deltas == [TextDelta("Once upon")]
    assert isinstance(error, ModelCut) and "Retry" in str(error)


@pytest.mark.parametrize("reason", ["stop", "tool_calls"])
def test_a_finish_reason_alone_is_an_end(model_server: ModelServer, reason: str) -> None:
    """A server that forgets [DONE] has still said that the answer is whole."""
    model_server.will(Reply(text("Yes"), event({"choices": [{"delta": {}, "finish_reason": reason}]})))
    assert hear(model_of(model_server)) == [TextDelta("Yes")]


def test_done_alone_is_an_end(model_server: ModelServer) -> None:
    """A server that forgets the finish_reason has still said [DONE], and what it says after that is not heard."""
    model_server.will(Reply(text("Yes"), b"data: [DONE]\n\n", text("No")))
    assert hear(model_of(model_server)) == [TextDelta("Yes")]


def test_the_last_event_needs_no_blank_line(model_server: ModelServer) -> None:
    """A server that hangs up right after its last line has still said it."""
    model_server.will(Reply(text("Yes") + b"data: [DONE]"))
    assert hear(model_of(model_server)) == [TextDelta("Yes")]


@pytest.mark.parametrize(
    "last", [end(), event({"error": "x"}), b"data: {oops}\n\n", b""], ids=["end", "error", "broken", "cut"]
)
@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_an_answer_leaves_no_connection_behind(connection: str, last: bytes) -> None:
    """However it ends, its connection is closed then, also one that the server would keep."""
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: {connection}\r\n\r\n".encode()
    gc.collect()
    with warnings.catch_warnings(record=True) as left, raw_server(head + b"".join(chunked(text("Yes"), last))) as url:
        warnings.simplefilter("always")
        with suppress(ModelError), closing(OpenAIServer(url).model("m").answer(QUESTION, Toolbox(()))) as reply:
            list(reply)
        del reply
        gc.collect()
    assert not left, [str(warning.message) for warning in left]


@pytest.mark.parametrize(
    "body",
    [
        b"<!doctype html><title>Welcome to nginx</title>",
        b"Hello, I am a web server.",
        b'{"choices": [{"message": {"content": "not streamed"}}]}',
        b"",
        b"\n\n\n",
        b"data: <html>\n\n",
        b"data: hello\n\n",
        b"\x00" * 1000,
    ],
)
def test_what_is_no_stream_names_the_address(model_server: ModelServer, body: bytes) -> None:
    """Some other server's page says to check the address."""
    model_server.will(Reply(body))
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert deltas == [] and "OPENAI_BASE_URL" in str(error) and "/v1" in str(error)


@pytest.mark.parametrize("headers", ["Content-Length: 0\r\nConnection: close", "Content-Length: 0"])
def test_an_empty_answer_names_the_address(headers: str) -> None:
    """A 200 that has no body at all is told like any other that is no stream."""
    with raw_server(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode()) as url:
        _, error = hear_to_the_trouble(OpenAIServer(url).model("m"))
    assert "OPENAI_BASE_URL" in str(error)


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"choices": [\n\n',
        b"data: {oops}\n\n",
        b"data: " + b'{"a":' * 100_000 + b"\n\n",
        b'data: {"choices": ' + b"1" * 10_000 + b"}\n\n",
    ],
    ids=["cut", "no JSON", "deeply nested", "endless number"],
)
def test_broken_json_is_told_in_short(model_server: ModelServer, broken: bytes) -> None:
    """What came before is kept; the sentence shows only the beginning of what is wrong."""
    model_server.will(Reply(text("Once"), broken, end()))
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert deltas == [TextDelta("Once")]
    assert "JSON" in str(error) and len(str(error)) < 200


@pytest.mark.parametrize("bad", [b"\xff\xfe", "Grüße".encode("latin-1"), b"\xf0\x9f\xa6"])
def test_what_is_not_utf8_is_told(model_server: ModelServer, bad: bytes) -> None:
    """What came before is kept."""
    model_server.will(Reply(text("Once"), b'data: {"choices": "' + bad + b'"}\n\n', end()))
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert deltas == [TextDelta("Once")] and "UTF-8" in str(error)


def test_a_line_without_end_is_bounded(model_server: ModelServer) -> None:
    """It ends the answer long before it fills the memory."""
    reply = held(text("Once"), b"data: {", *[b"a" * 65536] * (4 * MAX_EVENT // 65536))
    model_server.will(reply)
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert deltas == [TextDelta("Once")] and "without end" in str(error)
    assert reply.closed.wait(SOON)


def test_an_event_without_end_is_bounded(model_server: ModelServer) -> None:
    """Neither can endless lines without a blank one between them fill the memory."""
    reply = held(text("Once"), *[b"data: " + b"a" * 65000 + b"\n"] * (4 * MAX_EVENT // 65000))
    model_server.will(reply)
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert deltas == [TextDelta("Once")] and "without end" in str(error)


def test_a_long_answer_of_many_lines_is_not_bounded(model_server: ModelServer) -> None:
    """The bound is for one line; an answer may be as long as it likes, also in one piece."""
    many = b"".join(text("word " * 100) for _ in range(2 * MAX_EVENT // 500))
    model_server.will(Reply(many, end()))
    assert len(words(hear(model_of(model_server)))) == 2 * MAX_EVENT


# Refusals


@pytest.mark.parametrize(
    ("status", "headers", "advice"),
    [
        (401, {}, "OPENAI_API_KEY"),
        (403, {}, "OPENAI_API_KEY"),
        (404, {}, "OPENAI_MODEL and OPENAI_BASE_URL"),
        (429, {"Retry-After": "17"}, "Wait 17 s, then Retry"),
        (429, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}, " h, then Retry"),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, "Wait 0 s, then Retry"),
        (429, {"Retry-After": "300"}, "Wait 5 min, then Retry"),
        (429, {"Retry-After": "soon"}, "Wait a moment, then Retry"),
        (429, {}, "Wait a moment, then Retry"),
        (400, {}, "did not accept the request"),
        (418, {}, "did not accept the request"),
        (500, {}, "Retry, or look at its log"),
        (503, {}, "Retry, or look at its log"),
        (302, {"Location": "/login"}, "OPENAI_BASE_URL"),
        (204, {}, "did not accept the request"),
    ],
)
def test_a_refusal_says_what_to_do(
    model_server: ModelServer, status: int, headers: dict[str, str], advice: str
) -> None:
    """Each status is a sentence with the server's address, the number, advice, and the server's own words."""
    body = b"" if status == 204 else json.dumps({"error": {"message": "Because I say so"}}).encode()
    model_server.will(Reply(body, status=status, headers=headers))
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert deltas == [] and not isinstance(error, ModelCut)
    assert advice in str(error) and str(status) in str(error) and model_server.url in str(error)
    assert ("Because I say so" in str(error)) == (status not in (204, 302))
    assert len(model_server.requests) == 1, "a redirect is not followed, and nothing is asked twice"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": "plain words"}', "plain words"),
        (b"just text", "just text"),
        (b'{"detail": "FastAPI"}', "FastAPI"),
        (b"<html>a page</html>", None),
        (b"", None),
        (b"\xff\xfe\x00", "�"),
        (b'{"error": null}', None),
        (b'["error"]', "error"),
        (b'{"error": ' + b"[" * 60_000, "error"),
    ],
)
def test_a_refusal_is_understood_in_every_form(model_server: ModelServer, body: bytes, said: str | None) -> None:
    """JSON of any form, text, a page and nothing at all become one short sentence."""
    model_server.will(Reply(body, status=500))
    error = str(hear_to_the_trouble(model_of(model_server))[1])
    assert ("It said" in error) == (said is not None) and (said or "") in error
    assert len(error) < MAX_ERROR + 200 and "\n" not in error


def test_a_refusal_cut_in_two_is_read_whole(model_server: ModelServer) -> None:
    """The server's words are understood although the network brought them in two pieces."""
    body = json.dumps({"error": {"message": "Because I say so"}}).encode()
    model_server.will(Reply(*chunked(body[:20], body[20:]), status=500, headers=CHUNKED))
    assert "It said: Because I say so" in str(hear_to_the_trouble(model_of(model_server))[1])


def test_a_server_that_is_not_there_is_told() -> None:
    """Connection refused says to start the server."""
    _, error = hear_to_the_trouble(OpenAIServer(NOBODY).model("m"))
    assert "Could not connect to http://127.0.0.1:9/v1. Start the model server" in str(error)


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 200 OK\r\nX: y"])
def test_a_server_of_another_kind_is_told(said: bytes) -> None:
    """One that hangs up, or speaks no HTTP, ends the answer with a sentence."""
    with raw_server(said) as url:
        _, error = hear_to_the_trouble(OpenAIServer(url).model("m"))
    assert url in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "localhost:8080/v1",
        "ftp://127.0.0.1/v1",
        "http://",
        "http://[",
        "http://127.0.0.1:port/v1",
        "http:///v1",
    ]
    + ["http://127.0.0.1:99999/v1", "http://\u2026/v1", "http://a b/v1"],
)
def test_an_unusable_address_is_told(url: str) -> None:
    """Whatever OPENAI_BASE_URL holds, the model has a name for the page and the sentence says which setting to fix."""
    model = OpenAIServer(url).model()
    assert model.name
    assert "OPENAI_BASE_URL" in str(hear_to_the_trouble(model)[1])


def test_a_password_in_the_address_is_not_told() -> None:
    """An address is shown without the password in it."""
    for url in ("http://me:hunter2@127.0.0.1:9/v1", "http://me:hunter2@127.0.0.1:99999/v1"):
        assert "hunter2" not in str(hear_to_the_trouble(OpenAIServer(url).model("m"))[1])


@pytest.mark.parametrize("silence", [silent, held], ids=["before the headers", "before the first word"])
def test_a_server_that_never_begins_is_given_up(model_server: ModelServer, silence: Callable[[], Reply]) -> None:
    """After the patience for a first byte the connection is closed, with a sentence that names the time."""
    reply = model_server.will(silence())
    _, error = hear_to_the_trouble(model_of(model_server, timeouts=Timeouts(first=0.2, gap=0.2)))
    assert "0.2 s" in str(error) and "Retry" in str(error)
    assert reply.closed.wait(SOON)


def test_a_server_that_falls_silent_is_given_up(model_server: ModelServer) -> None:
    """After the patience between bytes it is a ModelCut, and what came is kept."""
    reply = model_server.will(held(text("Once")))
    deltas, error = hear_to_the_trouble(model_of(model_server, timeouts=Timeouts(first=DEADLINE, gap=0.2)))
    assert deltas == [TextDelta("Once")]
    assert isinstance(error, ModelCut) and "0.2 s" in str(error)
    assert reply.closed.wait(SOON)


def test_a_slow_first_byte_is_waited_for(model_server: ModelServer) -> None:
    """A model that loads may take longer to begin than it may fall silent later."""
    reply = silent()
    timer = threading.Timer(0.4, lambda: reply.say(b"HTTP/1.0 200 OK\r\n\r\n" + text("Yes") + end(), None))  # type: ignore[arg-type]
    model_server.will(reply)
    timer.start()
    assert hear(model_of(model_server, timeouts=Timeouts(first=DEADLINE, gap=0.2))) == [TextDelta("Yes")]
    timer.join()


def test_a_keep_alive_shows_that_it_is_not_silent(model_server: ModelServer) -> None:
    """Bytes that are no answer count too: a server that thinks for long says so."""
    reply = model_server.will(held(text("Once")))
    said = iter([b": thinking\n\n"] * 24 + [text(" upon") + end()])
    stop = threading.Event()

    def keep_alive() -> None:
        for chunk in said:
            stop.wait(0.15)
            reply.say(chunk)
        reply.hang_up()

    thread = threading.Thread(target=keep_alive)
    thread.start()
    deltas = hear(model_of(model_server, timeouts=Timeouts(first=DEADLINE, gap=3.0)))
    thread.join()
    assert words(deltas) == "Once upon"


# Close


def begin(reply: OpenAIReply) -> tuple[threading.Thread, SimpleQueue[Delta | ModelError | None]]:
    """Hear a reply out in a thread of its own; None is its end."""
    heard: SimpleQueue[Delta | ModelError | None] = SimpleQueue()

    def listen() -> None:
        try:
            for delta in reply:
                heard.put(delta)
        except ModelError as error:
            heard.put(error)
        heard.put(None)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    return thread, heard


def test_close_ends_the_connection_before_the_server_has_begun(model_server: ModelServer) -> None:
    """A server that has not even sent a status line notices soon, and so does who waits for it."""
    at_server = model_server.will(silent())
    reply = model_of(model_server).answer(QUESTION, Toolbox(()))
    thread, _ = begin(reply)
    assert at_server.begun.wait(DEADLINE)
    reply.close()
    assert at_server.closed.wait(SOON)
    thread.join(SOON)
    assert not thread.is_alive()


def test_close_ends_the_connection_in_mid_stream(model_server: ModelServer) -> None:
    """A server that is thinking between two words notices soon, and so does who waits for the next."""
    at_server = model_server.will(held(text("Once")))
    reply = model_of(model_server).answer(QUESTION, Toolbox(()))
    thread, heard = begin(reply)
    assert heard.get(timeout=DEADLINE) == TextDelta("Once")
    reply.close()
    assert at_server.closed.wait(SOON)
    thread.join(SOON)
    assert not thread.is_alive()
    reply.close()


def test_close_before_the_beginning_asks_nothing(model_server: ModelServer) -> None:
    """A reply that was closed before anybody listened does not bother the server."""
    reply = model_of(model_server).answer(QUESTION, Toolbox(()))
    reply.close()
    with pytest.raises(ModelError):
        list(reply)
    assert model_server.requests == []


def test_close_after_the_end_changes_nothing(model_server: ModelServer) -> None:
    """Who uses a reply may always close it."""
    reply = model_of(model_server).answer(QUESTION, Toolbox(()))
    assert words(list(reply)) == "All right."
    reply.close()
    reply.close()


def test_who_stops_listening_lets_the_server_know(model_server: ModelServer) -> None:
    """A reply that is closed where it was being heard ends the connection too."""
    at_server = model_server.will(held(text("Once")))
    reply = model_of(model_server).answer(QUESTION, Toolbox(()))
    assert next(iter(reply)) == TextDelta("Once")
    reply.close()
    assert at_server.closed.wait(SOON)


# The key


def test_the_key_is_sent(model_server: ModelServer) -> None:
    """As a bearer token; without a key there is no such header."""
    hear(model_of(model_server, api_key=KEY))
    hear(model_of(model_server))
    assert model_server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in model_server.headers[1]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), status=401),
        Reply(json.dumps({"error": f"bad key {KEY}"}).encode(), status=404),
        Reply(f"Authorization: Bearer {KEY}".encode(), status=500),
        Reply(b"x" * (MAX_ERROR - 15) + KEY.encode(), status=500),
        Reply(b"", status=302, headers={"Location": f"/login?key={KEY}"}),
        Reply(b"", status=429, headers={"Retry-After": KEY}),
        Reply(event({"error": {"message": f"bad key {KEY}"}})),
        Reply(event({"error": {KEY: KEY}})),
        Reply(event({"error": f"bad key {KEY}"})),
        Reply(f"data: {{{KEY}}}\n\n".encode()),
        Reply(b"data: {" + b"x" * 60 + KEY.encode() + b"}\n\n"),
    ],
    ids=[
        "401",
        "404",
        "500",
        "at the cut",
        "302",
        "429",
        "object",
        "no message",
        "text",
        "broken",
        "broken, at the cut",
    ],
)
def test_an_error_never_holds_the_key(model_server: ModelServer, reply: Reply) -> None:
    """Not even if the server says it back, nor any long piece of it."""
    model_server.will(reply)
    error = hear_to_the_trouble(model_of(model_server, api_key=KEY))[1]
    assert not any(KEY[at : at + 8] in str(error) for at in range(len(KEY) - 8)), str(error)
    assert KEY not in repr(error.__context__)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", " "])
def test_a_key_from_a_file_may_end_in_a_line_end(model_server: ModelServer, ending: str) -> None:
    """White space around a key is not part of it."""
    hear(model_of(model_server, api_key=KEY + ending))
    assert model_server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["…", f"{KEY}\n{KEY}", f"{KEY}…"])
def test_a_key_that_cannot_be_sent_is_told_without_it(model_server: ModelServer, key: str) -> None:
    """The sentence names the setting to fix, and does not show what it holds."""
    error = str(hear_to_the_trouble(model_of(model_server, api_key=key))[1])
    assert "OPENAI_API_KEY" in error and KEY not in error


# The request


def asked(server: ModelServer, *parts: Part) -> list[dict[str, Any]]:
    """What is sent of an answer with these parts, after its question."""
    hear(model_of(server), [*QUESTION, Message(2, "assistant", "streaming", parts)])
    rest: list[dict[str, Any]]
    question, *rest = server.requests[-1]["messages"]
    assert question == {"role": "user", "content": "Hello?"}
    return rest


def test_the_request_names_the_model_and_wants_a_stream(model_server: ModelServer) -> None:
    """The body is what the API wants, and nothing is to be compressed."""
    hear(model_of(model_server))
    body = model_server.requests[0]
    assert body["model"] == "stand-in" and body["stream"] is True
    assert model_server.headers[0]["Accept-Encoding"] == "identity"


def test_a_conversation_is_sent_in_order(model_server: ModelServer) -> None:
    """Questions and answers alternate, texts of one answer joined, and what was only thought is left out."""
    assert asked(model_server, Reasoning("Hm."), Text("One."), Reasoning("Hm!"), Text("Two.")) == [
        {"role": "assistant", "content": "One.\n\nTwo."},
        {"role": "user", "content": GO_ON},
    ], "an answer that broke off is to be gone on with"
    assert asked(model_server) == [], "an answer that says nothing is not sent"


def test_an_answer_with_tools_is_sent_step_by_step(model_server: ModelServer) -> None:
    """What was said with the calls comes first, then each result, then what was made of them."""
    roll = ToolCall("a", "roll_dice", '{"sides": 20}', "17", "done")
    time = ToolCall("b", "get_current_time", "{}", "There is no clock.", "failed")
    sent = asked(model_server, Reasoning("Hm."), Text("Let me see."), roll, time, Reasoning("So."), Text("17."), time)
    assert sent == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "roll_dice", "arguments": '{"sides": 20}'}},
                {"id": "b", "type": "function", "function": {"name": "get_current_time", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "17"},
        {"role": "tool", "tool_call_id": "b", "content": "There is no clock."},
        {
            "role": "assistant",
            "content": "17.",
            "tool_calls": [
                {"id": "b", "type": "function", "function": {"name": "get_current_time", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "b", "content": "There is no clock."},
    ]


def test_steps_are_kept_apart_by_what_was_thought_between_them(model_server: ModelServer) -> None:
    """Two calls with reasoning between them were two steps."""
    roll = ToolCall("a", "roll_dice", "{}", "4", "done")
    roles = [message["role"] for message in asked(model_server, roll, Reasoning("Again."), roll)]
    assert roles == ["assistant", "tool", "assistant", "tool"]


def test_the_address_may_end_in_a_slash(model_server: ModelServer) -> None:
    """It is the same address."""
    assert words(hear(OpenAIServer(model_server.url + "/").model("m"))) == "All right."


def test_a_server_on_this_machine_needs_no_proxy(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy meant for the world outside is not asked for a local model."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert words(hear(model_of(model_server))) == "All right."


# The model's name


def test_without_a_name_the_first_model_listed_is_used(model_server: ModelServer) -> None:
    """The server is asked once, and from then on the page shows the model's own name."""
    model_server.models = ["llama-one", "llama-two"]
    model = model_of(model_server, name="")
    assert model.name == f"model at 127.0.0.1:{model_server.port}"
    hear(model)
    model_server.models = ["other"]
    hear(model)
    assert [body["model"] for body in model_server.requests] == ["llama-one", "llama-one"]
    assert model.name == "llama-one"


def test_a_server_without_models_is_told(model_server: ModelServer) -> None:
    """The sentence says to load one, or to name one."""
    model_server.models = []
    _, error = hear_to_the_trouble(model_of(model_server, name=""))
    assert "Load one there, or set OPENAI_MODEL" in str(error)


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    """A whole response; a `length` that is too great makes it a broken one."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), length or len(body), body)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (http(b"<html>"), "OPENAI_MODEL"),
        (http(b'{"models": []}'), "OPENAI_MODEL"),
        (http(b'{"data": [null]}'), "OPENAI_MODEL"),
        (http(b"[]"), "OPENAI_MODEL"),
        (http(b'{"data":' * 50_000), "OPENAI_MODEL"),
        (http(b'{"data": [{"id"', length=1000), "OPENAI_MODEL"),
        (http(b"", "401 Unauthorized"), "OPENAI_API_KEY"),
        (http(b"", "404 Not Found"), "OPENAI_BASE_URL"),
    ],
    ids=["a page", "no data", "no ids", "a list", "deeply nested", "cut short", "401", "404"],
)
def test_a_list_of_models_that_is_none_is_told(said: bytes, advice: str) -> None:
    """The sentence says which setting to fix."""
    with raw_server(said) as url:
        _, error = hear_to_the_trouble(OpenAIServer(url).model())
    assert advice in str(error)


def test_the_name_of_a_server_is_its_address_until_it_is_known() -> None:
    """The page can say who answers before anything was asked."""
    assert OpenAIServer("https://me:pw@openrouter.ai/api/v1").model().name == "model at openrouter.ai"
    assert OpenAIServer("http://[::1]:8080/v1").model().name == "model at [::1]:8080"
    assert OpenAIServer("http://[::1]:8080/v1").where == "http://[::1]:8080/v1"
    assert OpenAIServer("nonsense").model().name == "model"
    assert OpenAIServer("https://openrouter.ai/api/v1").model("llama").name == "llama"
    assert not OpenAIServer("https://openrouter.ai/api/v1").model().offline
    assert re.fullmatch(
        r"https://openrouter\.ai/api/v1", OpenAIServer("https://me:pw@openrouter.ai/api/v1").model().where
    )


def test_questions_that_were_never_answered_are_one_user_message(model_server: ModelServer) -> None:
    """Strict chat templates refuse two in a row; a failed answer without words leaves none between them."""
    history = [
        Message(1, "user", "complete", (Text("one"),)),
        Message(2, "assistant", "failed", ()),
        Message(3, "user", "complete", (Text("two"),)),
    ]
    list(model_of(model_server).answer(history, Toolbox(TOOLS)))
    assert model_server.requests[0]["messages"] == [{"role": "user", "content": "one\n\ntwo"}]


@pytest.mark.parametrize(
    "stream",
    [
        [calls({"id": f"c{n}", "function": {"name": "roll_dice", "arguments": "{}"}}) for n in range(40)],
        [calls({"index": 0, "function": {"name": "roll_dice", "arguments": 50_000 * "x"}}) for _ in range(10)],
    ],
    ids=["calls without end", "arguments without end"],
)
def test_a_model_that_wants_tools_without_end_is_ended(model_server: ModelServer, stream: list[bytes]) -> None:
    """No memory and no time are spent on what no model means; what it said before is kept."""
    model_server.will(Reply(text("Rolling."), *stream, end("tool_calls")))
    deltas, error = hear_to_the_trouble(model_of(model_server))
    assert deltas == [TextDelta("Rolling.")] and "more tools" in str(error)


def test_a_name_that_is_no_models_is_not_listed(model_server: ModelServer) -> None:
    """What a page could not show or a room could not be set to is left out."""
    model_server.models = ["owl", 300 * "x"]
    assert OpenAIServer(model_server.url).names() == ("owl",)
