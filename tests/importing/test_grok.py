"""Reading the exports of Grok."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing.archives import ZipArchive
from overseer.importing.conversations import Attachment, Conversation, Node, Unreadable
from overseer.importing.formats import grok
from tests.importing.support import NO_FILES, check_reader, mutations

ASSET = "0123abcd-0000-4000-8000-0123456789ab"
TIME = {"$date": {"$numberLong": "1785578400000"}}
CARD = {"id": "c1", "type": "render_inline_citation", "url": "https://e.org/", "title": "T"}
MARK = (
    '<grok:render card_id="{}" card_type="citation_card" type="render_inline_citation">\n'
    '<argument name="citation_id">3</argument>\n</grok:render>'
)
CALL = (
    "<xai:tool_usage_card>\n<xai:tool_usage_card_id>t1</xai:tool_usage_card_id>\n<xai:tool_name>web_search</xai:tool_name>\n"
    '<xai:tool_args><![CDATA[{"query":"x"}]]></xai:tool_args>\n</xai:tool_usage_card>'
)


def response(key: str, sender: str, message: str, **more: Any) -> dict[str, Any]:
    return {
        "response": {"_id": key, "sender": sender, "message": message, "create_time": TIME, **more},
        "share_link": None,
    }


def item(*responses: dict[str, Any], **about: Any) -> dict[str, Any]:
    return {"conversation": {"id": "g1", "title": "T", **about}, "responses": list(responses)}


def read(*responses: dict[str, Any], **about: Any) -> Conversation:
    assert grok.recognizes(item(*responses))
    return grok.read(item(*responses, **about), NO_FILES)


def read_answer(message: str, **more: Any) -> Node:
    return read(response("a", "assistant", message, **more)).nodes[0]


EVERYTHING = item(
    response("1", "human", "Q", file_attachments=[ASSET]),
    response(
        "2",
        "ASSISTANT",
        f"A{MARK.format('c1')}.",
        parent_response_id="1",
        model="grok-4",
        thinking_trace=f"hm\n{CALL}\nso",
        thinking_start_time=TIME,
        thinking_end_time={"$date": {"$numberLong": "1785578402500"}},
        card_attachments_json=[json.dumps(CARD)],
        cited_web_search_results=[{"url": "https://f.org/", "title": "F"}],
        generated_image_urls=[f"users/u/generated/{ASSET}/image.jpg"],
    ),
    create_time="2026-08-01T10:00:00Z",
    starred=True,
    leaf_response_id="2",
)


@settings(max_examples=300, deadline=None)
@given(mutations(EVERYTHING))
def test_grok_any_values_give_a_conversation_or_a_reason(given_: dict[str, Any]) -> None:
    check_reader(grok, given_)


def test_grok_conversation_keeps_what_it_says_of_itself() -> None:
    found = grok.read(EVERYTHING, NO_FILES)
    assert (found.source, found.title, found.head, found.pinned) == ("grok:g1", "T", "2", True)
    assert found.created_at == 1785578400000


def test_grok_messages_have_senders_times_models_and_parents() -> None:
    question, answer = grok.read(EVERYTHING, NO_FILES).nodes
    assert (question.role, question.parent, question.created_at) == ("user", None, 1785578400000)
    assert (answer.role, answer.parent, answer.model) == ("assistant", "1", "grok-4")
    assert read(response("1", "grok-3", "A")).nodes[0].model == "grok-3"


def test_grok_ids_of_a_database_are_unwrapped() -> None:
    one, two = response("", "human", "Q"), response("2", "assistant", "A", parent_response_id={"$oid": "1"})
    one["response"]["_id"] = {"$oid": "1"}
    assert [(node.id, node.parent) for node in read(one, two).nodes] == [("1", None), ("2", "1")]


def test_grok_messages_without_parents_follow_each_other() -> None:
    assert [node.parent for node in read(response("1", "human", "Q"), response("2", "assistant", "A")).nodes] == [
        None,
        "1",
    ]


def test_grok_branches_are_kept() -> None:
    found = read(
        response("1", "human", "Q"),
        response("2", "assistant", "A", parent_response_id="1"),
        response("3", "assistant", "B", parent_response_id="1"),
    )
    assert [node.parent for node in found.nodes] == [None, "1", "1"]


def test_grok_empty_conversation_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="no messages"):
        read()


def test_grok_thinking_is_reasoning_and_calls() -> None:
    first, call, second, *_ = grok.read(EVERYTHING, NO_FILES).nodes[1].parts
    assert isinstance(first, Reasoning) and (first.text, first.seconds) == ("hm", 2.5)
    assert call == ToolCall("t1", "web_search", '{"query":"x"}')
    assert second == Reasoning("so")


def test_grok_thinking_of_agents_is_reasoning() -> None:
    node = read_answer(
        "A", thinking_trace="x", agent_thinking_traces=[{"thinking_trace": "x"}, {"thinking_trace": "y"}]
    )
    assert node.parts == [Reasoning("x"), Reasoning("y"), Text("A")]


def test_grok_marks_become_links() -> None:
    node = grok.read(EVERYTHING, NO_FILES).nodes[1]
    assert Text("A ([T](https://e.org/)).") in node.parts
    assert node.sources == [Source("https://e.org/", "T"), Source("https://f.org/", "F")]


def test_grok_mark_without_a_card_is_removed() -> None:
    assert read_answer(f"A {MARK.format('x')}.").parts == [Text("A.")]


def test_grok_marks_in_a_question_are_kept() -> None:
    assert read(response("1", "human", MARK)).nodes[0].parts == [Text(MARK)]


def test_grok_results_of_a_search_are_sources_where_none_is_cited() -> None:
    assert read_answer("A", web_search_results=[{"url": "https://e.org/"}]).sources == [Source("https://e.org/")]


def test_grok_error_is_the_reason() -> None:
    node = read_answer("", error="Failed to respond.")
    assert (node.state, node.reason) == ("failed", "Grok reported an error: Failed to respond.")


def test_grok_files_are_found_in_the_zip(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with ZipFile(path, "w") as made:
        made.writestr(f"ttl/30d/export_data/u/prod-mc-asset-server//{'f' * 36}/content", b"other")
        made.writestr(f"ttl/30d/export_data/u/prod-mc-asset-server//{ASSET}/content", b"P")
    question, answer = grok.read(EVERYTHING, ZipArchive(path)).nodes
    [file] = [part for part in question.parts if isinstance(part, Attachment)]
    [picture] = [part for part in answer.parts if isinstance(part, Attachment)]
    assert file.read and file.read() == b"P"
    assert picture.read and (picture.name, picture.read()) == ("image.jpg", b"P")


def test_grok_file_that_is_not_in_the_export_is_named() -> None:
    [_, file] = grok.read(EVERYTHING, NO_FILES).nodes[0].parts
    assert isinstance(file, Attachment) and (file.name, file.read) == (ASSET, None)


@pytest.mark.parametrize("text", ["<grok:render card_id=", "<grok:render>", "<xai:tool_usage_card>", "<xai:tool_name>"])
def test_grok_tags_that_do_not_end_are_read_in_little_time(text: str) -> None:
    node = read_answer(text * 20_000, thinking_trace=f"<xai:tool_usage_card>{text * 20_000}</xai:tool_usage_card>")
    assert node.parts
