"""Reading the exports of HuggingFace chat-ui."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing.conversations import Attachment, Conversation, Unreadable
from overseer.importing.formats import chat_ui
from tests.importing.support import NO_FILES, MemoryFiles, check_reader, mutations, result_of


def message(key: str, sender: str, content: str, *ancestors: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "from": sender, "content": content, "ancestors": list(ancestors), **more}


def read(*messages: dict[str, Any], files: MemoryFiles = NO_FILES, **more: Any) -> Conversation:
    item = {"_id": "u1", "title": "T", "messages": list(messages), **more}
    assert chat_ui.recognizes(item)
    return chat_ui.read(item, files)


EVERYTHING = {
    "_id": {"$oid": "u1"},
    "title": "T",
    "model": "m",
    "preprompt": "Be brief.",
    "rootMessageId": "s",
    "createdAt": {"$date": "2026-08-01T10:00:00Z"},
    "messages": [
        message("s", "system", "Be brief.", children=["q"]),
        message("q", "user", "Q", "s", children=["a", "b"], files=["f.png"], createdAt="2026-08-01T10:00:01Z"),
        message("a", "assistant", "<think>hm</think>A", "s", "q", files=["f.png"], interrupted=True),
        message(
            "b",
            "assistant",
            "B",
            "s",
            "q",
            reasoning="so",
            routerMetadata={"model": "n"},
            updates=[
                {"type": "tool", "uuid": "t", "subtype": "call", "call": {"name": "f", "parameters": {"a": 1}}},
                {
                    "type": "tool",
                    "uuid": "t",
                    "subtype": "result",
                    "result": {"status": "success", "outputs": [{"text": "r"}]},
                },
                {"type": "webSearch", "sources": [{"link": "https://e.org/", "title": "E"}]},
            ],
        ),
    ],
}


@settings(max_examples=300, deadline=None)
@given(mutations(EVERYTHING))
def test_chat_ui_any_values_give_a_conversation_or_a_reason(item: dict[str, Any]) -> None:
    check_reader(chat_ui, item)


def test_chat_ui_conversation_keeps_what_it_says_of_itself() -> None:
    found = chat_ui.read(EVERYTHING, NO_FILES)
    assert (found.source, found.title, found.model, found.system_prompt) == ("chat-ui:u1", "T", "m", "Be brief.")
    assert found.created_at == 1785578400000


def test_chat_ui_parents_are_the_last_ancestors() -> None:
    found = chat_ui.read(EVERYTHING, NO_FILES).nodes
    assert [(node.id, node.parent, node.role) for node in found] == [
        ("s", None, "system"),
        ("q", "s", "user"),
        ("a", "q", "assistant"),
        ("b", "q", "assistant"),
    ]


def test_chat_ui_parents_follow_from_children() -> None:
    one, two = message("1", "user", "Q", children=["2"]), message("2", "assistant", "A")
    assert [node.parent for node in read(two, one).nodes] == ["1", None]


def test_chat_ui_parents_follow_from_ancestors_alone() -> None:
    found = read(message("1", "user", "Q"), message("2", "assistant", "A", "1"), message("3", "assistant", "B", "1"))
    assert [node.parent for node in found.nodes] == [None, "1", "1"]


def test_chat_ui_old_messages_follow_each_other() -> None:
    messages = [{"from": "user", "id": "1", "content": "Q"}, {"from": "assistant", "id": "2", "content": "A"}]
    assert [node.parent for node in read(*messages).nodes] == [None, "1"]


def test_chat_ui_thoughts_are_reasoning() -> None:
    *_, first, second = chat_ui.read(EVERYTHING, NO_FILES).nodes
    assert first.parts == [Reasoning("hm"), Text("A")]
    assert second.parts[0] == Reasoning("so")
    assert second.model == "n"


def test_chat_ui_interrupted_answer_says_so() -> None:
    answer = chat_ui.read(EVERYTHING, NO_FILES).nodes[2]
    assert (answer.state, answer.reason) == ("stopped", "The answer was interrupted.")


def test_chat_ui_calls_and_searches_are_kept() -> None:
    answer = chat_ui.read(EVERYTHING, NO_FILES).nodes[3]
    assert ToolCall("t", "f", '{"a": 1}') in answer.parts
    result = result_of(answer)
    assert (result.call_id, result.text, result.failed) == ("t", "r", False)
    assert answer.sources == [Source("https://e.org/", "E")]


def test_chat_ui_file_that_all_messages_list_is_attached_once_to_a_question() -> None:
    messages = [message("s", "system", ""), message("q", "user", "Q", "s"), message("a", "assistant", "A", "s", "q")]
    found = read(*[{**one, "files": ["f.png"]} for one in messages], files=MemoryFiles({"f.png": b"P"}))
    attached = [(node.id, part) for node in found.nodes for part in node.parts if isinstance(part, Attachment)]
    [(where, file)] = attached
    assert (where, file.name, file.read and file.read()) == ("q", "f.png", b"P")
    assert found.notes == [chat_ui.FILES_UNCLEAR]


def test_chat_ui_file_within_a_message_is_decoded() -> None:
    file = {"type": "base64", "name": "a.txt", "value": "UA==", "mime": "text/plain"}
    found = read(message("q", "user", "Q", files=[file]))
    _, part = found.nodes[0].parts
    assert isinstance(part, Attachment) and part.read and (part.name, part.read()) == ("a.txt", b"P")
    assert not found.notes


@pytest.mark.parametrize(
    "item",
    [
        {"_id": "a", "name": "assistant", "modelId": "m", "preprompt": "p"},
        {"conversations": [{"from": "human", "value": "another format"}]},
        {"messages": [{"role": "user", "content": "another format"}]},
        {"messages": [None, 1]},
        {},
    ],
)
def test_chat_ui_other_objects_are_not_recognized(item: dict[str, Any]) -> None:
    assert not chat_ui.recognizes(item)


def test_chat_ui_empty_conversation_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="no messages"):
        read(rootMessageId="x")
