"""Chats of LM Studio."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Text, ToolCall
from overseer.importing.conversations import Attachment, Node, ToolResult, Unreadable
from overseer.importing.formats import lm_studio
from tests.importing.mutations import NoFiles, SomeFiles, check, damaged


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def single(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "singleStep", "role": role, "content": list(content)}


def block(*content: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"type": "contentBlock", "stepIdentifier": "x", "content": list(content), **more}


def steps(*given: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"type": "multiStep", "role": "assistant", "steps": list(given), **more}


def message(*versions: dict[str, Any], selected: object = 0) -> dict[str, Any]:
    return {"versions": list(versions), "currentlySelected": selected}


def chat(*messages: dict[str, Any], **more: object) -> dict[str, Any]:
    fields = [
        {"key": "llm.prediction.systemPrompt", "value": "Be a baker."},
        {"key": "llm.prediction.temperature", "value": 0.4},
    ]
    return {
        "name": "Bread",
        "pinned": True,
        "createdAt": 1790000000123,
        "systemPrompt": "",
        "messages": list(messages),
        "perChatPredictionConfig": {"fields": fields},
        "lastUsedModel": {"identifier": "m-1"},
        **more,
    }


def answer(*given: dict[str, Any], **more: object) -> Node:
    item = chat(message(single("user", text("How?"))), message(steps(*given, **more)))
    assert lm_studio.recognizes(item)
    return lm_studio.read(item, NoFiles()).nodes[1]


def test_lm_studio_chat_has_its_settings_and_is_named_by_its_time() -> None:
    found = lm_studio.read(chat(message(single("user", text("How?")))), NoFiles())
    assert (found.source, found.title, found.pinned) == ("lm_studio:1790000000123", "Bread", True)
    assert (found.system_prompt, found.temperature, found.model) == ("Be a baker.", 0.4, "m-1")
    assert (found.created_at, found.head) == (1790000000123, "0.0")


def test_lm_studio_versions_are_branches_and_what_follows_follows_the_selected_one() -> None:
    item = chat(
        message(single("user", text("How?")), single("user", text("How, please?")), selected=1),
        message(steps(block(text("So."))), steps(block(text("Thus."))), selected=0),
        message(single("user", text("And?"))),
    )
    found = lm_studio.read(item, NoFiles())
    assert {node.id: node.parent for node in found.nodes} == {
        "0.0": None,
        "0.1": None,
        "1.0": "0.1",
        "1.1": "0.1",
        "2.0": "1.0",
    }
    assert found.head == "2.0" and found.nodes[3].parts == [Text("Thus.")]


@pytest.mark.parametrize("selected", [None, 7, -1, "0"])
def test_lm_studio_selection_that_is_none_is_the_last_version(selected: object) -> None:
    item = chat(message(single("user", text("a")), single("user", text("b")), selected=selected))
    assert lm_studio.read(item, NoFiles()).head == "0.1"


def test_lm_studio_steps_are_reasoning_calls_and_text() -> None:
    request = {
        "type": "toolCallRequest",
        "callId": 7,
        "toolCallRequestId": "t1",
        "name": "oven",
        "parameters": {"heat": 230},
    }
    result = {"type": "toolCallResult", "callId": 7, "content": json.dumps([text("hot")])}
    found = answer(
        block(text("flo"), text("ur"), style={"type": "thinking", "ended": True, "title": "Thought for 1.5 seconds"}),
        block(request),
        {"type": "toolStatus", "callId": 7, "statusState": {"status": {"type": "toolCallSucceeded"}}},
        block(result, roleOverride="tool"),
        block(text("Bake."), genInfo={"identifier": "m-2", "stats": {"stopReason": "userStopped"}}),
        {"type": "debugInfoBlock", "debugInfo": "x"},
        {"type": "hologram", "text": "round"},
    )
    assert found.parts == [
        Reasoning("flour"),
        ToolCall("t1", "oven", '{"heat": 230}'),
        ToolResult("t1", "", "hot"),
        Text("Bake."),
        Text("[unknown content of type “hologram”]\n\nround"),
    ]
    assert isinstance(found.parts[0], Reasoning) and found.parts[0].seconds == 1.5
    assert (found.model, found.state) == ("m-2", "stopped")


def test_lm_studio_model_is_that_of_the_sender_or_of_the_chat() -> None:
    assert answer(block(text("So.")), senderInfo={"senderName": "m-3"}).model == "m-3"
    assert answer(block(text("So."))).model == "m-1"


def test_lm_studio_files_are_named_and_found_beside_the_chat() -> None:
    kinds = [
        {"type": "file", "fileIdentifier": f"1785578400000 - {name}", "fileType": "image"}
        for name in ("a.png", "b.png")
    ]
    item = chat(message(single("user", text("This?"), *kinds)))
    files = SomeFiles({"1785578400000 - a.png": b"x"})
    _, first, second = lm_studio.read(item, files).nodes[0].parts
    assert isinstance(first, Attachment) and first.read is not None and (first.name, first.read()) == ("a.png", b"x")
    assert second == Attachment("b.png")


@pytest.mark.parametrize("item", [{}, {"messages": []}, {"messages": [{"role": "user"}]}, {"messages": "x"}])
def test_lm_studio_other_objects_are_not_recognized(item: dict[str, Any]) -> None:
    assert not lm_studio.recognizes(item)


WHOLE = chat(
    message(single("user", text("How?"), {"type": "file", "fileIdentifier": "f"}), single("user", text("b"))),
    message(
        steps(
            block(text("t"), style={"type": "thinking", "title": "1 s"}),
            block({"type": "toolCallRequest", "callId": 1, "name": "n", "parameters": {}}),
            block({"type": "toolCallResult", "callId": 1, "content": "[]"}),
            block(text("x"), genInfo={"identifier": "m", "stats": {"stopReason": "eosFound"}}),
            senderInfo={"senderName": "s"},
        )
    ),
)


@settings(max_examples=300, deadline=None)
@given(damaged(WHOLE))
def test_lm_studio_damaged_chat_is_read_or_unreadable(item: Any) -> None:
    with suppress(Unreadable):
        lm_studio.recognizes(item)
        check(lm_studio.read(item, NoFiles()))
