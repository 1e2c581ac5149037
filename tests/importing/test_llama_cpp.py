"""Conversations of the web UI of llama.cpp, as objects and as JSON Lines."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Text, ToolCall
from overseer.importing.conversations import Attachment, Conversation, ToolResult, Unreadable
from overseer.importing.formats import llama_cpp, session_lines
from tests.importing.mutations import PICTURE, PIXEL, NoFiles, check, damaged

CALLS = [{"id": "t1", "type": "function", "function": {"name": "oven", "arguments": '{"heat":230}'}}]


def message(message_id: str, parent: str | None, role: str, content: str | None, **more: object) -> dict[str, Any]:
    basis = {"id": message_id, "convId": "c-1", "type": "text", "timestamp": 1790000000123, "children": []}
    return {**basis, "role": role, "content": content, "parent": parent, **more}


def as_object(*messages: dict[str, Any], **about: object) -> Conversation:
    conv = {"id": "c-1", "name": "Bread", "lastModified": 1790000009000, "currNode": messages[-1]["id"], **about}
    item = {"conv": conv, "messages": list(messages)}
    assert llama_cpp.recognizes(item)
    return llama_cpp.read(item, NoFiles())


def as_lines(*messages: dict[str, Any], **about: object) -> Conversation:
    conv = {"id": "c-1", "name": "Bread", "lastModified": 1790000009000, "currNode": messages[-1]["id"], **about}
    records: list[dict[str, Any]] = [{"type": "session", "harness": "llama.app", **conv}]
    for one in messages:
        one = {**one, "toolCalls": json.loads(one["toolCalls"])} if one.get("toolCalls") else one
        records.append({"type": "message", "message": one})
    assert session_lines.recognizes(records[0])
    return session_lines.read([*records, {"type": "novelty", "message": {"role": "user", "content": "x"}}], NoFiles())


TREE = (
    message("r", None, "system", "", type="root"),
    message("s", "r", "system", "Be a baker.", type="system"),
    message("q", "s", "user", "How?", children=["a", "b"]),
    message("a", "q", "assistant", "Wait.", reasoningContent="flour", model="m-1", toolCalls=json.dumps(CALLS)),
    message("t", "a", "tool", "hot", toolCallId="t1", toolCalls=""),
    message("b", "q", "assistant", "So."),
)


@pytest.mark.parametrize("read", [as_object, as_lines])
def test_llama_cpp_tree_is_read_alike_from_objects_and_lines(read: Any) -> None:
    found = read(*TREE, currNode="b", pinned=True)
    assert (found.source, found.title, found.head, found.pinned) == ("llama_cpp:c-1", "Bread", "b", True)
    assert (found.created_at, found.updated_at, found.model) == (1790000000123, 1790000009000, "m-1")
    nodes = {node.id: node for node in found.nodes}
    assert {key: node.parent for key, node in nodes.items()} == {
        "r": None,
        "s": "r",
        "q": "s",
        "a": "q",
        "t": "a",
        "b": "q",
    }
    assert nodes["r"].hidden and nodes["s"].role == "system" and nodes["s"].parts == [Text("Be a baker.")]
    assert nodes["a"].parts == [Reasoning("flour"), Text("Wait."), ToolCall("t1", "oven", '{"heat":230}')]
    assert (nodes["a"].model, nodes["t"].parts) == ("m-1", [ToolResult("t1", "", "hot")])


@pytest.mark.parametrize("read", [as_object, as_lines])
def test_llama_cpp_conversation_without_a_current_message_has_no_head(read: Any) -> None:
    assert read(*TREE, currNode="").head is None


def test_llama_cpp_ids_that_are_numbers_are_ids() -> None:
    root, question = message("x", None, "system", "", type="root"), message("y", None, "user", "How?")
    root |= {"id": 1740000000000, "parent": -1}
    question |= {"id": 1740000000001, "parent": 1740000000000}
    nodes = as_object(root, question).nodes
    assert (nodes[1].id, nodes[1].parent) == ("1740000000001", "1740000000000")


def test_llama_cpp_answer_without_content_was_interrupted_and_old_thinking_is_reasoning() -> None:
    nodes = as_object(
        message("a", None, "assistant", None), message("b", None, "assistant", "So.", thinking="flour")
    ).nodes
    assert nodes[0].state == "interrupted" and nodes[1].state == "complete"
    assert nodes[1].parts == [Reasoning("flour"), Text("So.")]


@pytest.mark.parametrize("kind", ["IMAGE", "imageFile"])
def test_llama_cpp_pictures_have_their_content(kind: str) -> None:
    extra = [{"type": kind, "name": "loaf.png", "base64Url": PICTURE}]
    (question,) = as_object(message("q", None, "user", "", extra=extra)).nodes
    (picture,) = question.parts
    assert isinstance(picture, Attachment) and picture.read is not None
    assert (picture.name, picture.media_type, picture.read()) == ("loaf.png", "image/png", base64.b64decode(PIXEL))


def test_llama_cpp_files_have_their_content_or_the_text_that_was_found_in_them() -> None:
    extra = [
        {"type": "TEXT", "name": "n.txt", "content": "note"},
        {"type": "context", "name": "pasted", "content": "page"},
        {"type": "PDF", "name": "d.pdf", "base64Data": "", "content": "words", "processedAsImages": False},
        {"type": "PDF", "name": "e.pdf", "base64Data": base64.b64encode(b"%PDF").decode(), "content": "words"},
        {"type": "pdfFile", "name": "f.pdf", "content": "", "images": [PICTURE], "processedAsImages": True},
        {"type": "AUDIO", "name": "s.mp3", "base64Data": base64.b64encode(b"ID3").decode(), "mimeType": "audio/mpeg"},
        {"type": "MCP_RESOURCE", "name": "r.json", "uri": "x://r", "content": "{}"},
    ]
    (question,) = as_object(message("q", None, "user", "", extra=extra)).nodes
    found = [(one.name, one.read()) for one in question.parts if isinstance(one, Attachment) and one.read is not None]
    assert found == [
        ("n.txt", b"note"),
        ("pasted", b"page"),
        ("d.pdf.txt", b"words"),
        ("e.pdf", b"%PDF"),
        ("f.pdf-1.png", base64.b64decode(PIXEL)),
        ("s.mp3", b"ID3"),
        ("r.json", b"{}"),
    ]


@pytest.mark.parametrize("item", [{}, {"conv": {}}, {"messages": []}, {"conv": "x", "messages": []}])
def test_llama_cpp_other_objects_are_not_recognized(item: dict[str, Any]) -> None:
    assert not llama_cpp.recognizes(item)


WHOLE = {
    "conv": {"id": "c", "name": "n", "lastModified": 1, "currNode": "a", "pinned": False},
    "messages": [*TREE, message("f", "b", "user", "x", extra=[{"type": "PDF", "name": "d", "images": [PICTURE]}])],
}


@settings(max_examples=300, deadline=None)
@given(damaged(WHOLE))
def test_llama_cpp_damaged_conversation_is_read_or_unreadable(item: Any) -> None:
    with suppress(Unreadable):
        llama_cpp.recognizes(item)
        check(llama_cpp.read(item, NoFiles()))
