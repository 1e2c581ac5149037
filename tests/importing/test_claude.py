"""Reading the exports of Claude."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing.conversations import Attachment, Conversation, Node, Unreadable
from overseer.importing.formats import claude
from tests.importing.support import NO_FILES, check_reader, mutations, result_of


def message(uuid: str, sender: str, *blocks: object, parent: object = None, **more: Any) -> dict[str, Any]:
    found = {"uuid": uuid, "sender": sender, "text": "", "content": list(blocks), "created_at": "2026-08-01T10:00:01Z"}
    return {**found, **({"parent_message_uuid": parent} if parent else {}), **more}


def words(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def read(*messages: dict[str, Any], **more: Any) -> Conversation:
    item = {"uuid": "c", "name": "N", "chat_messages": list(messages), **more}
    assert claude.recognizes(item)
    return claude.read(item, NO_FILES)


def read_answer(*blocks: object, **more: Any) -> Node:
    return read(message("a", "assistant", *blocks, **more)).nodes[0]


ARTIFACT = {"command": "create", "type": "text/markdown", "title": "Plan", "content": "# 1"}
EVERYTHING = {
    "uuid": "c",
    "name": "N",
    "created_at": "2026-08-01T10:00:00Z",
    "current_leaf_message_uuid": "2",
    "is_starred": True,
    "chat_messages": [
        message(
            "1",
            "human",
            words("Q"),
            parent=claude.FIRST,
            attachments=[{"file_name": "a.txt", "extracted_content": "words"}],
            files=[{"file_uuid": "f", "file_name": "p.png"}],
        ),
        message(
            "2",
            "assistant",
            {
                "type": "thinking",
                "thinking": "hm",
                "start_timestamp": "2026-08-01T10:00:00Z",
                "stop_timestamp": "2026-08-01T10:00:02.5Z",
            },
            {"type": "tool_use", "id": "t", "name": "artifacts", "input": ARTIFACT},
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "name": "artifacts",
                "content": [{"type": "text", "text": "OK"}],
            },
            words("A", citations=[{"title": "T", "details": {"url": "https://e.org/"}}]),
            {"type": "token_budget"},
            parent="1",
        ),
    ],
}
DESIGN = {
    "uuid": "d",
    "title": "Design",
    "messages": [
        {
            "role": "user",
            "content": {
                "content": "Draw",
                "attachments": [{"name": "a.txt", "content": "words"}],
                "authorAccountUuid": "x",
            },
        },
        {
            "role": "assistant",
            "content": {
                "contentBlocks": [
                    {"type": "thinking", "text": "hm"},
                    {"type": "tool_call", "toolCall": {"name": "write", "input": {"a": 1}}},
                    {"type": "text", "text": "Done"},
                    {"type": "error", "message": "no"},
                ]
            },
        },
    ],
}


@settings(max_examples=300, deadline=None)
@given(mutations(EVERYTHING) | mutations(DESIGN))
def test_claude_any_values_give_a_conversation_or_a_reason(item: dict[str, Any]) -> None:
    check_reader(claude, item)


def test_claude_conversation_keeps_what_it_says_of_itself() -> None:
    found = claude.read({**EVERYTHING, "model": "m"}, NO_FILES)
    assert (found.source, found.title, found.head, found.pinned, found.model) == ("claude:c", "N", "2", True, "m")
    assert found.created_at == 1785578400000


@pytest.mark.parametrize(
    "item",
    [
        {"uuid": "u", "full_name": "n", "email_address": "a@example.org"},
        {"uuid": "p", "name": "project", "description": "", "prompt_template": "", "docs": [], "creator": {}},
        {"conversations_memory": "m", "project_memories": {}, "account_uuid": "a"},
        {"uuid": "x", "messages": [{"role": "user", "content": "another format"}]},
        {},
    ],
)
def test_claude_other_objects_are_not_recognized(item: dict[str, Any]) -> None:
    assert not claude.recognizes(item)


def test_claude_empty_conversation_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="no messages"):
        read()


def test_claude_parents_are_kept() -> None:
    found = read(
        message("1", "human", words("Q"), parent=claude.FIRST),
        message("2", "assistant", words("A"), parent="1"),
        message("3", "assistant", words("B"), parent="1"),
        message("4", "human", words("Q, edited"), parent=claude.FIRST),
        message("5", "human", words("C"), parent="not there"),
    )
    assert [node.parent for node in found.nodes] == [None, "1", "1", None, "4"]
    assert found.head is None


def test_claude_messages_without_parents_follow_each_other() -> None:
    found = read(message("1", "human", words("Q")), message("2", "assistant", words("A")))
    assert [(node.role, node.parent) for node in found.nodes] == [("user", None), ("assistant", "1")]


def test_claude_text_is_used_where_there_is_no_content() -> None:
    old = {"uuid": "1", "sender": "human", "text": "Hi"}
    assert read(old).nodes[0].parts == [Text("Hi")]
    assert read({**old, "text": "worse", "content": [words("better")]}).nodes[0].parts == [Text("better")]


def test_claude_words_about_blocks_that_were_not_supported_are_removed() -> None:
    note = "```\nThis block is not supported on your current device yet.\n```"
    assert read({"uuid": "1", "sender": "assistant", "text": f"{note}\n\nYes."}).nodes[0].parts == [Text("Yes.")]


def test_claude_thinking_is_reasoning_with_its_seconds() -> None:
    part = claude.read(EVERYTHING, NO_FILES).nodes[1].parts[0]
    assert isinstance(part, Reasoning) and (part.text, part.seconds) == ("hm", 2.5)


def test_claude_summaries_stand_for_thinking_that_is_missing() -> None:
    block = {"type": "thinking", "thinking": "", "summaries": [{"summary": "S"}]}
    assert read_answer(block, words("A")).parts == [Reasoning("S"), Text("A")]


def test_claude_artifact_is_a_call_and_a_file() -> None:
    _, call, document, result, _ = claude.read(EVERYTHING, NO_FILES).nodes[1].parts
    assert isinstance(call, ToolCall) and json.loads(call.arguments) == ARTIFACT
    assert isinstance(document, Attachment) and document.read
    assert (document.name, document.read()) == ("Plan.md", b"# 1")
    assert result_of(claude.read(EVERYTHING, NO_FILES).nodes[1]).call_id == call.call_id and result


def test_claude_file_that_a_tool_creates_is_a_file() -> None:
    given_ = {"path": "/home/claude/a.py", "file_text": "1"}
    _, document = read_answer({"type": "tool_use", "name": "create_file", "input": given_}).parts
    assert isinstance(document, Attachment) and (document.name, document.read and document.read()) == ("a.py", b"1")
    assert len(read_answer({"type": "tool_use", "name": "view", "input": given_}).parts) == 1


def test_claude_artifact_between_tags_is_a_block() -> None:
    text = 'See\n<antThinking>hm</antThinking>\n<antArtifact type="text/html" title="Page">\n<p>\n</antArtifact>'
    assert read_answer(words(text)).parts == [Reasoning("hm"), Text("See\n**Page**\n\n```html\n<p>\n```")]


def test_claude_results_without_ids_go_to_the_call_with_their_name() -> None:
    node = read_answer(
        {"type": "tool_use", "id": None, "name": "one", "input": {}},
        {"type": "tool_use", "id": None, "name": "two", "input": {}},
        {"type": "tool_result", "tool_use_id": None, "name": "two", "content": [{"type": "text", "text": "2"}]},
        {"type": "tool_result", "tool_use_id": None, "name": "one", "content": "1", "is_error": True},
    )
    calls = {part.call_id: part.name for part in node.parts if isinstance(part, ToolCall)}
    results = [part for part in node.parts if not isinstance(part, ToolCall)]
    assert [(calls[one.call_id], one.text, one.failed) for one in results] == [("two", "2", False), ("one", "1", True)]  # type: ignore[union-attr]


def test_claude_pages_that_a_tool_found_are_its_result() -> None:
    content = [{"type": "knowledge", "title": "T", "url": "https://e.org/", "text": "x"}]
    assert result_of(read_answer({"type": "tool_result", "content": content})).text == "T\nhttps://e.org/\nx"


def test_claude_picture_in_a_result_is_a_file() -> None:
    content = [{"type": "image", "source": {"type": "base64", "data": "UA==", "media_type": "image/png"}}]
    _, picture = read_answer({"type": "tool_result", "content": content}).parts
    assert isinstance(picture, Attachment) and picture.read and picture.read() == b"P"


def test_claude_citations_are_sources() -> None:
    assert claude.read(EVERYTHING, NO_FILES).nodes[1].sources == [Source("https://e.org/", "T")]


def test_claude_unknown_block_is_named() -> None:
    node = read_answer({"type": "hologram", "title": "H"}, {"type": "token_budget"})
    assert node.parts == [Text("[unknown content of type “hologram”]\n\nH")]


@pytest.mark.parametrize(
    ("name", "expected"), [("a.md", "a.md"), ("a.pdf", "a.pdf.txt"), ("", "pasted.txt"), ("paste", "paste.txt")]
)
def test_claude_extracted_content_is_a_text_file(name: str, expected: str) -> None:
    one = message("1", "human", words("Q"), attachments=[{"file_name": name, "extracted_content": "é"}])
    _, file = read(one).nodes[0].parts
    assert isinstance(file, Attachment) and (file.name, file.read and file.read()) == (expected, "é".encode())


def test_claude_files_are_named_once() -> None:
    files = [{"file_uuid": "f", "file_name": "p.png"}]
    one = message("1", "human", words("Q"), files=files, files_v2=files)
    assert [part.name for part in read(one).nodes[0].parts if isinstance(part, Attachment)] == ["p.png"]


def test_claude_answer_that_was_stopped_says_so() -> None:
    assert read_answer(words("A"), stop_reason="user_canceled").state == "stopped"


def test_claude_conversation_of_the_design_tool_is_read() -> None:
    assert claude.recognizes(DESIGN)
    question, answer = claude.read(DESIGN, NO_FILES).nodes
    assert (question.role, question.parts[0], answer.parent) == ("user", Text("Draw"), question.id)
    assert isinstance(question.parts[1], Attachment)
    reasoning, call, *said = answer.parts
    assert reasoning == Reasoning("hm") and isinstance(call, ToolCall) and call.name == "write"
    assert said == [Text("Done"), Text("[error] no")]


def test_claude_messages_with_the_same_id_are_all_kept() -> None:
    found = read(message("1", "human", words("Q")), message("1", "assistant", words("A")))
    assert [node.parts for node in found.nodes] == [[Text("Q")], [Text("A")]]
    assert len({node.id for node in found.nodes}) == 2
