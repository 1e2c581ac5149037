"""The request that is made of a stored conversation: legal for the strictest server, whatever is stored."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overseer.domain.messages import CallState, Message, Part, Reasoning, State, Text, ToolCall
from overseer.llm.call_extras import CallExtras
from overseer.llm.wire import ENDED_NOTE, GO_ON, NO_RESULT, OPENING_NOTE, conversation
from tests.support.legal_requests import assert_legal

Json = dict[str, Any]
SIGNATURE = {"google": {"thought_signature": "c2ln"}}
SIGNED = CallExtras({"extra_content": SIGNATURE}, {"strict": False}).encode("gemini")

WORDS = st.sampled_from(["", " ", "\n\n", "\u2003\r", "Yes.", "No.\n", " a"])
CALLS = st.builds(
    ToolCall,
    call_id=st.sampled_from(["", "call-0", "call-1", "abcDEF123", "x" * 300, "\ud800", "call_é", "a__thought__b64="]),
    name=st.sampled_from(["roll_dice", "", "a b", "x" * 65, "née"]),
    arguments=st.sampled_from(
        ["{}", '{"sides": 20}', "", "[]", "null", '{"a', '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', "[" * 99_999]
    ),
    result=WORDS,
    state=st.sampled_from(["running", "done", "failed", "abandoned"]),
    extra=st.sampled_from(["", SIGNED, CallExtras(keep_id=True).encode("gemini"), "{", "[]", '{"model": "gemini"}']),
)
PARTS = st.lists(st.builds(Text, WORDS) | st.builds(Reasoning, WORDS) | CALLS, max_size=5).map(tuple)
STATES = st.sampled_from(["streaming", "complete", "stopped", "failed", "interrupted"])
QUESTIONS = st.builds(Message, st.just(1), st.just("user"), st.just("complete"), WORDS.map(lambda text: (Text(text),)))
ANSWERS = st.builds(Message, st.just(2), st.just("assistant"), STATES, PARTS)
HISTORIES = st.lists(QUESTIONS | ANSWERS, max_size=8)


@given(
    history=HISTORIES,
    model=st.sampled_from(["", "gemini", "mistral"]),
    system=st.sampled_from(["", " \n", "Be brief."]),
    tools=st.booleans(),
    system_role=st.booleans(),
    reasoning=st.booleans(),
)
@example(history=[], model="", system="", tools=True, system_role=True, reasoning=False)
def test_request_of_any_history_is_legal(
    history: list[Message], model: str, system: str, tools: bool, system_role: bool, reasoning: bool
) -> None:
    options: Json = {"system": system, "tools": tools, "system_role": system_role, "reasoning": reasoning}
    sent = list(conversation(history, model=model, **options))
    assert_legal(sent)
    assert (sent[0]["role"] == "system") == (bool(system.strip()) and system_role)
    assert sent == list(conversation(history, model=model, **options)), "the same history is sent in the same way"
    text = json.dumps(sent, ensure_ascii=False)
    for message in history:
        for part in message.parts:
            if isinstance(part, Text) and part.text.strip():
                assert json.dumps(part.text, ensure_ascii=False)[1:-1] in text
    assert ("tool_calls" in text) <= tools and ("thought_signature" in text) <= (model == "gemini")


def question(text: str) -> Message:
    return Message(1, "user", "complete", (Text(text),))


def answer(*parts: Part, state: State = "complete") -> Message:
    return Message(2, "assistant", state, parts)


def call(call_id: str = "callabc01", result: str = "17", *, extra: str = "", state: CallState = "done") -> ToolCall:
    return ToolCall(call_id, "roll_dice", '{"sides": 20}', result, state, extra)


def sent_call(call_id: str = "callabc01") -> Json:
    return {"id": call_id, "type": "function", "function": {"name": "roll_dice", "arguments": '{"sides": 20}'}}


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def assistant(text: str | None, *call_ids: str) -> Json:
    calls = {"tool_calls": [sent_call(call_id) for call_id in call_ids]} if call_ids else {}
    return {"role": "assistant", "content": text, **calls}


def result(call_id: str = "callabc01", text: str = "17") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([question("a"), answer(state="failed"), question("b")], [user("a\n\nb")]),
        ([question("a"), answer(Text(" \n")), question("b")], [user("a\n\nb")]),
        ([question("a"), answer(Reasoning("Hm."))], [user("a")]),
        (
            [question("a"), answer(Reasoning("Hm."), Text("b"), Reasoning("Hm!"), Text("c"))],
            [user("a"), assistant("b\n\nc"), user(GO_ON)],
        ),
        (
            [question("a"), answer(Text("b"), call(), Text("c"), call("callabc02")), question("d")],
            [
                *(user("a"), assistant("b", "callabc01"), result()),
                *(assistant("c", "callabc02"), result("callabc02"), assistant(ENDED_NOTE), user("d")),
            ],
        ),
        ([question("a"), answer(call(), Text("\n"))], [user("a"), assistant(None, "callabc01"), result()]),
        (
            [question("a"), answer(call(result=" "))],
            [user("a"), assistant(None, "callabc01"), result(text=NO_RESULT)],
        ),
        ([answer(Text("b")), question("c")], [user(OPENING_NOTE), assistant("b"), user("c")]),
        (
            [question("a"), answer(call()), question(" "), answer(Text("b")), question("c")],
            [user("a"), assistant(None, "callabc01"), result(), assistant("b"), user("c")],
        ),
        (
            [question("a"), answer(Text("b")), answer(Text("c")), question("d")],
            [user("a"), assistant("b\n\nc"), user("d")],
        ),
    ],
)
def test_request_of_an_unusual_history(history: list[Message], expected: list[Json]) -> None:
    assert list(conversation(history)) == expected


def test_request_maps_call_ids_to_nine_letters_and_digits() -> None:
    """Mistral's ids stay, the others are replaced, and each call of a conversation has an id of its own."""
    history = [question("a"), answer(call("call-0"), Text("b"), call("call-0"), call("callabc01"), call("callabc01"))]
    sent = [message["tool_call_id"] for message in conversation(history) if message["role"] == "tool"]
    assert len(set(sent)) == 4 and sent[2] == "callabc01"
    assert all(re.fullmatch("[A-Za-z0-9]{9}", str(one)) for one in sent)


def test_request_returns_extra_fields_of_a_call_to_the_model_that_sent_them() -> None:
    """Gemini's thought signatures. LiteLLM has them in the id."""
    kept = CallExtras(keep_id=True).encode("gemini")
    history = [question("a"), answer(call(extra=SIGNED), call("call_1__thought__c2ln", extra=kept))]
    own, other = ([*conversation(history, model=model)][1]["tool_calls"] for model in ("gemini", "mistral"))
    assert isinstance(own, list) and isinstance(other, list)
    assert own[0]["extra_content"] == SIGNATURE and own[0]["function"]["strict"] is False
    assert own[1]["id"] == "call_1__thought__c2ln"
    assert other[0] == sent_call() and re.fullmatch("[a-z0-9]{9}", other[1]["id"])
    assert other[1] == sent_call(other[1]["id"])
