"""Conversations of LibreChat."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing.conversations import Attachment, ToolResult, Unreadable
from overseer.importing.formats import librechat
from tests.importing.mutations import NoFiles, SomeFiles, check, damaged

ROOT = "00000000-0000-0000-0000-000000000000"


def message(message_id: str, parent: str, text: str, *, asked: bool = False, **more: object) -> dict[str, Any]:
    return {
        "messageId": message_id,
        "parentMessageId": parent,
        "isCreatedByUser": asked,
        "sender": "User" if asked else "GPT",
        "text": text,
        "createdAt": "2026-05-01T10:00:00.500Z",
        **more,
    }


def conversation(*messages: dict[str, Any], **more: object) -> dict[str, Any]:
    return {
        "conversationId": "c-1",
        "endpoint": "openAI",
        "title": "Bread",
        "exportAt": "13:18:04 GMT-0400 (Eastern Daylight Time)",
        "branches": True,
        "recursive": False,
        "options": {"model": "gpt-x", "promptPrefix": "Be a baker.", "temperature": 0.8, "title": "Else"},
        "messages": list(messages),
        **more,
    }


def answer(text: str = "", **more: Any) -> Any:
    item = conversation(message("q", ROOT, "How?", asked=True), message("a", "q", text, **more))
    assert librechat.recognizes(item)
    return librechat.read(item, NoFiles()).nodes[1]


def test_librechat_conversation_has_its_settings_and_the_times_of_its_messages() -> None:
    later = "2026-05-01T11:00:00.000Z"
    item = conversation(
        message("q", ROOT, "How?", asked=True), message("a", "q", "So.", model="gpt-y", createdAt=later)
    )
    found = librechat.read(item, NoFiles())
    assert (found.source, found.title, found.model) == ("librechat:c-1", "Bread", "gpt-x")
    assert (found.system_prompt, found.temperature, found.head) == ("Be a baker.", 0.8, None)
    assert (found.created_at, found.updated_at) == (1777629600500, 1777633200000)
    question, reply = found.nodes
    assert (question.role, question.parent, question.parts, question.model) == ("user", None, [Text("How?")], "")
    assert (reply.role, reply.parent, reply.model, reply.created_at) == ("assistant", "q", "gpt-y", 1777633200000)


def test_librechat_answer_without_a_model_has_that_of_the_conversation() -> None:
    assert answer("So.", model=None).model == "gpt-x"


@pytest.mark.parametrize("key", ["messages", "messagesTree"])
def test_librechat_children_within_messages_are_branches(key: str) -> None:
    leaf = message("a2", "q", "Thus.", children=[])
    answers = [message("a1", "q", "So.", children=[message("r", "a1", "And?", asked=True)]), leaf]
    question = message("q", ROOT, "How?", asked=True, children=answers)
    item = conversation(recursive=True)
    del item["messages"]
    item[key] = [question]
    assert librechat.recognizes(item)
    parents = {node.id: node.parent for node in librechat.read(item, NoFiles()).nodes}
    assert parents == {"q": None, "a1": "q", "r": "a1", "a2": "q"}


def test_librechat_children_without_the_ids_of_their_parents_follow_what_they_are_in() -> None:
    child = message("a", "x", "So.")
    del child["parentMessageId"]
    item = conversation(message("q", ROOT, "How?", asked=True, children=[child]))
    assert librechat.read(item, NoFiles()).nodes[1].parent == "q"


def test_librechat_chain_that_is_very_deep_is_read() -> None:
    inner: list[dict[str, Any]] = []
    for number in range(20_000, 0, -1):
        inner = [message(f"m{number}", f"m{number - 1}", "x", asked=number % 2 == 1, children=inner)]
    assert len(librechat.read(conversation(*inner), NoFiles()).nodes) == 20_000


def test_librechat_flat_messages_without_parents_follow_each_other() -> None:
    listed = [message("q", ROOT, "How?", asked=True), message("a", ROOT, "So.")]
    for one in listed:
        del one["parentMessageId"]
    assert [node.parent for node in librechat.read(conversation(*listed), NoFiles()).nodes] == [None, "q"]


def test_librechat_content_is_read_where_the_text_is_empty() -> None:
    content = [
        {"type": "think", "think": "flour"},
        {"type": "text", "text": "Wait."},
        {"type": "tool_call", "tool_call": {"id": "t1", "name": "oven", "args": '{"heat": 230}', "output": "hot"}},
        {
            "type": "tool_call",
            "tool_call": {
                "id": "t2",
                "type": "code_interpreter",
                "code_interpreter": {"input": "print(2)", "outputs": [{"type": "logs", "logs": "2"}]},
            },
        },
        {
            "type": "tool_call",
            "tool_call": {"id": "t3", "type": "function", "function": {"name": "f", "arguments": "{}", "output": "o"}},
        },
        {"type": "tool_call", "tool_call": {"id": "t4", "name": "oven", "args": {"heat": 1}}},
        {"type": "text", "text": {"value": "Bake.", "annotations": []}},
        {"type": "hologram", "text": "round"},
    ]
    assert answer(content=content).parts == [
        Reasoning("flour"),
        Text("Wait."),
        ToolCall("t1", "oven", '{"heat": 230}'),
        ToolResult("t1", "oven", "hot"),
        ToolCall("t2", "python", '{"code": "print(2)"}'),
        ToolResult("t2", "python", "2"),
        ToolCall("t3", "f", "{}"),
        ToolResult("t3", "f", "o"),
        ToolCall("t4", "oven", '{"heat": 1}'),
        Text("Bake."),
        Text("[unknown content of type “hologram”]\n\nround"),
    ]


def test_librechat_error_is_a_reason_and_an_unfinished_answer_was_stopped() -> None:
    failed = answer("Your key is not valid", error=True)
    assert (failed.state, failed.reason, failed.parts) == ("failed", "Your key is not valid", [])
    assert answer("So", unfinished=True).state == "stopped"


def test_librechat_files_are_found_by_their_paths() -> None:
    listed = [
        {"filename": "loaf.png", "filepath": "/images/u/1__loaf.png", "type": "image/png"},
        {"filename": "gone.pdf", "filepath": "/uploads/u/2__gone.pdf", "type": "application/pdf"},
        {"filename": "r.txt", "type": "text/plain", "text": "recipe"},
    ]
    item = conversation(message("q", ROOT, "This?", asked=True, files=listed))
    text, loaf, gone, recipe = librechat.read(item, SomeFiles({"1__loaf.png": b"x"})).nodes[0].parts
    assert text == Text("This?") and gone == Attachment("gone.pdf", "application/pdf")
    assert isinstance(loaf, Attachment) and loaf.read is not None and loaf.read() == b"x"
    assert isinstance(recipe, Attachment) and recipe.read is not None and recipe.read() == b"recipe"


def test_librechat_citations_become_links_and_sources() -> None:
    pages = [{"title": "Sour [dough]", "link": "https://example.org/s"}, {"title": "x", "link": "javascript:alert(1)"}]
    attachments = [{"type": "web_search", "web_search": {"turn": 0, "organic": pages}}]
    found = answer(
        "It is so.\ue202turn0search0 And\\ue202turn0search1 \ue200\ue202turn3news7\ue201done.", attachments=attachments
    )
    assert found.parts == [Text("It is so. [Sour \\[dough\\]](<https://example.org/s>) And done.")]
    assert found.sources == [Source("https://example.org/s", "Sour [dough]")]


def test_librechat_plugins_of_old_conversations_are_calls() -> None:
    plugin = {"latest": "Browser", "inputs": [{"inputStr": "x", "content": "bread"}], "outputs": "found"}
    assert answer("So.", plugin=plugin).parts == [
        Text("So."),
        ToolCall("plugin-0", "Browser", '{"input": "bread"}'),
        ToolResult("plugin-0", "Browser", "found"),
    ]


@pytest.mark.parametrize(
    "item", [{}, {"conversationId": "x"}, {"messages": [{"messageId": "x"}]}, {"conversationId": "x", "mapping": {}}]
)
def test_librechat_other_objects_are_not_recognized(item: dict[str, Any]) -> None:
    assert not librechat.recognizes(item)


WHOLE = conversation(
    message("q", ROOT, "How?", asked=True, files=[{"filename": "a", "filepath": "b", "type": "c", "text": "d"}]),
    message(
        "a",
        "q",
        "",
        model="m",
        content=[
            {"type": "think", "think": "t"},
            {"type": "text", "text": {"value": "\ue202turn0search0"}},
            {"type": "tool_call", "tool_call": {"id": "1", "name": "n", "args": "{}", "output": "o"}},
            {"type": "tool_call", "tool_call": {"code_interpreter": {"input": "1", "outputs": [{"logs": "1"}]}}},
            {"type": "image_file", "image_file": {"filepath": "p", "filename": "f"}},
        ],
        attachments=[
            {"web_search": {"turn": 0, "organic": [{"link": "https://e.org", "title": "t"}]}},
            {"filename": "x"},
        ],
        children=[message("r", "a", "And?", asked=True, children=[])],
        plugin={"latest": "p", "inputs": [{"content": "x"}], "outputs": "o"},
    ),
)


@settings(max_examples=300, deadline=None)
@given(damaged(WHOLE))
def test_librechat_damaged_conversation_is_read_or_unreadable(item: Any) -> None:
    with suppress(Unreadable):
        librechat.recognizes(item)
        check(librechat.read(item, NoFiles()))
