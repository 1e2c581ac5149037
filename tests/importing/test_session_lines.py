"""Sessions as JSON Lines."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Text, ToolCall
from overseer.importing.conversations import Attachment, ToolResult, Unreadable
from overseer.importing.formats import session_lines
from tests.importing.mutations import PICTURE, PIXEL, NoFiles, check, damaged


def line(role: str, content: object, kind: str = "message", **more: object) -> dict[str, Any]:
    return {"type": kind, "message": {"role": role, "content": content, **more}}


def calls(call_id: str) -> list[dict[str, Any]]:
    return [{"id": call_id, "type": "function", "function": {"name": "oven", "arguments": '{"heat":230}'}}]


OWN = [
    {
        "type": "session",
        "harness": "overseer",
        "id": "r-1",
        "name": "Bread",
        "timestamp": 1790000000000,
        "lastModified": 1790000005000,
        "currNode": "2",
        "model": "m-1",
    },
    line("system", "Be a baker.", id="0", parent=None, timestamp=1790000000000),
    line(
        "user",
        [
            {"type": "text", "text": "How?"},
            {"type": "image_url", "image_url": {"url": PICTURE}},
            {"type": "file", "file": {"filename": "r.txt", "file_data": "data:text/plain;base64,cmVjaXBl"}},
        ],
        id="1",
        parent="0",
        timestamp=1790000001000,
    ),
    line("assistant", "Wait.", id="2.1", parent="1", tool_calls=calls("t1"), reasoning_content="flour", model="m-1"),
    line("tool", "hot", id="2.2", parent="2.1", tool_call_id="t1"),
    line("assistant", "Bak", id="2", parent="2.2", model="m-1", state="stopped", reason="Stopped by you."),
    line("assistant", "So.", "version", id="3", parent="1", model="m-2"),
]


def test_session_lines_of_overseer_have_all_versions_settings_and_states() -> None:
    assert session_lines.recognizes(OWN[0])
    found = session_lines.read(OWN, NoFiles())
    assert (found.source, found.title, found.head, found.model) == ("overseer:r-1", "Bread", "2", "m-1")
    assert (found.created_at, found.updated_at) == (1790000000000, 1790000005000)
    nodes = {node.id: node for node in found.nodes}
    assert {key: node.parent for key, node in nodes.items()} == {
        "0": None,
        "1": "0",
        "2.1": "1",
        "2.2": "2.1",
        "2": "2.2",
        "3": "1",
    }
    assert nodes["0"].role == "system" and nodes["0"].parts == [Text("Be a baker.")]
    text, picture, file = nodes["1"].parts
    assert text == Text("How?") and nodes["1"].created_at == 1790000001000
    assert isinstance(picture, Attachment) and picture.read is not None and picture.read() == base64.b64decode(PIXEL)
    assert isinstance(file, Attachment) and file.read is not None and (file.name, file.read()) == ("r.txt", b"recipe")
    assert nodes["2.1"].parts == [Reasoning("flour"), Text("Wait."), ToolCall("t1", "oven", '{"heat":230}')]
    assert nodes["2.2"].parts == [ToolResult("t1", "", "hot")]
    assert (nodes["2"].state, nodes["2"].reason, nodes["3"].model) == ("stopped", "Stopped by you.", "m-2")


def test_session_lines_without_ids_follow_each_other_and_keep_their_ids() -> None:
    records = [
        {"type": "session", "harness": "agent", "id": "s"},
        line("user", "Roll"),
        line("assistant", "", tool_calls=calls("t1")),
        line("tool", "4", tool_call_id="t1"),
        line("assistant", "It is 4."),
    ]
    first, longer = session_lines.read(records[:3], NoFiles()), session_lines.read(records, NoFiles())
    assert first.source == longer.source == "sts:agent:s"
    assert [node.id for node in first.nodes] == [node.id for node in longer.nodes][:2]
    assert [node.parent for node in longer.nodes] == [None, *(node.id for node in longer.nodes[:-1])]
    assert [node.role for node in longer.nodes] == ["user", "assistant", "tool", "assistant"]


def test_session_lines_of_coding_agents_have_ids_beside_the_message_and_blocks_of_content() -> None:
    blocks = [
        {"type": "thinking", "thinking": "flour"},
        {"type": "text", "text": "Wait."},
        {"type": "toolCall", "id": "t1", "name": "oven", "arguments": {"heat": 230}},
    ]
    result = {"role": "toolResult", "toolCallId": "t1", "toolName": "oven", "isError": True}
    records: list[dict[str, Any]] = [
        {"type": "session", "version": 3, "id": "s", "timestamp": "2026-05-01T10:00:00.000Z", "cwd": "/"},
        {"type": "model_change", "id": "m", "parentId": None},
        {"type": "message", "id": "1", "parentId": "m", "message": {"role": "user", "content": "How?"}},
        {
            "type": "message",
            "id": "2",
            "parentId": "1",
            "message": {"role": "assistant", "content": blocks, "model": "x"},
        },
        {
            "type": "message",
            "id": "3",
            "parentId": "2",
            "timestamp": "2026-05-01T10:00:01.000Z",
            "message": {**result, "content": [{"type": "text", "text": "cold"}]},
        },
    ]
    found = session_lines.read(records, NoFiles())
    assert found.created_at == 1777629600000
    question, answer, tool = found.nodes
    assert (question.parent, answer.parent, tool.parent, answer.model) == ("m", "1", "2", "x")
    assert answer.parts == [Reasoning("flour"), Text("Wait."), ToolCall("t1", "oven", '{"heat": 230}')]
    assert tool.parts == [ToolResult("t1", "oven", "cold", failed=True)] and tool.created_at == 1777629601000


@pytest.mark.parametrize("record", [{}, {"type": "message"}, {"type": "session"}, {"type": ["session"], "id": "x"}])
def test_session_lines_other_records_begin_no_session(record: dict[str, Any]) -> None:
    assert not session_lines.recognizes(record)


@settings(max_examples=300, deadline=None)
@given(damaged(OWN))
def test_session_lines_damaged_session_is_read_or_unreadable(records: Any) -> None:
    with suppress(Unreadable):
        check(session_lines.read(records, NoFiles()))
