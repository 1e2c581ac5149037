"""Reading the exports of ChatGPT."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing.conversations import Attachment, Conversation, Node, Unreadable
from overseer.importing.formats import chatgpt
from tests.importing.support import MemoryFiles, check_reader, mutations, node_of, result_of

URL = "https://example.org/a_(b)"


def message(role: str, content: object, **more: Any) -> dict[str, Any]:
    return {"author": {"role": role, "name": more.pop("name", None)}, "content": content, "weight": 1.0, **more}


def words(*parts: object) -> dict[str, Any]:
    return {"content_type": "text", "parts": list(parts)}


def chain(*messages: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A conversation whose messages follow each other: "n0", "n1" …"""
    mapping = {
        f"n{index}": {
            "id": f"n{index}",
            "message": one,
            "parent": f"n{index - 1}" if index else None,
            "children": [f"n{index + 1}"] if index + 1 < len(messages) else [],
        }
        for index, one in enumerate(messages)
    }
    return {"title": "T", "create_time": 1700000000.5, "conversation_id": "c1", "mapping": mapping, **more}


def read(item: dict[str, Any], files: MemoryFiles | None = None) -> Conversation:
    assert chatgpt.recognizes(item)
    return chatgpt.read(item, files or MemoryFiles())


def read_answer(content: object, **more: Any) -> Node:
    """The node of an answer to a question."""
    return read(chain(message("user", words("Q")), message("assistant", content, **more))).nodes[1]


EVERYTHING = chain(
    None,
    message("system", words(""), weight=0, metadata={"is_visually_hidden_from_conversation": True}),
    message(
        "user",
        {
            "content_type": "multimodal_text",
            "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_0001"}, "What is it?"],
        },
        metadata={"attachments": [{"id": "file_0001", "name": "a.png", "mime_type": "image/png"}]},
    ),
    message("assistant", {"content_type": "thoughts", "thoughts": [{"summary": "S", "content": "C"}]}),
    message("assistant", {"content_type": "reasoning_recap", "content": "Thought for 1m 5s"}),
    message("assistant", {"content_type": "code", "text": "print(1)", "language": "python"}, recipient="python"),
    message("tool", {"content_type": "execution_output", "text": "1"}, name="python"),
    message(
        "assistant",
        words("It is \ue200cite\ue202turn0search0\ue201 and 【1†source】."),
        metadata={
            "model_slug": "gpt-x",
            "citations": [{"start_ix": 32, "end_ix": 42, "metadata": {"url": URL, "title": "Old"}}],
            "content_references": [
                {
                    "matched_text": "\ue200cite\ue202turn0search0\ue201",
                    "type": "grouped_webpages",
                    "items": [{"url": URL, "title": "New"}],
                }
            ],
        },
    ),
    current_node="n7",
    is_archived=True,
    gizmo_id="g-1",
    default_model_slug="gpt-y",
)


@settings(max_examples=300, deadline=None)
@given(mutations(EVERYTHING))
def test_chatgpt_any_values_give_a_conversation_or_a_reason(item: dict[str, Any]) -> None:
    check_reader(chatgpt, item)


def test_chatgpt_conversation_keeps_what_it_says_of_itself() -> None:
    found = read({**EVERYTHING, "is_starred": True, "update_time": 1700000001})
    assert (found.source, found.title, found.head, found.model) == ("chatgpt:c1", "T", "n7", "gpt-y")
    assert (found.created_at, found.updated_at) == (1700000000500, 1700000001000)
    assert found.archived and found.pinned
    assert found.notes == ["It was held with a custom GPT (g-1), whose instructions are not in the export."]


def test_chatgpt_project_is_noted() -> None:
    assert "in a project (g-p-1)" in read({**EVERYTHING, "gizmo_id": "g-p-1"}).notes[0]


@pytest.mark.parametrize(
    "item",
    [
        {"id": "s", "conversation_id": "c", "title": "A share", "is_anonymous": True},
        {"id": "user-1", "email": "a@example.org", "chatgpt_plus_user": True},
        {"message_id": "m", "conversation_id": "c", "rating": "thumbs_up", "create_time": "2026"},
        {"file-1.dat": "a.png"},
        {"file_id": "f", "file_name": "a", "origination_thread_id": "c"},
        {"mapping": {"1": {"message": {"fragments": []}}}, "inserted_at": "2026", "title": "Another format"},
        {"title": "t", "chat": {}, "id": "open-webui", "create_time": 1, "update_time": 2},
        {"uuid": "u", "name": "n", "chat_messages": []},
        {},
    ],
)
def test_chatgpt_other_objects_are_not_recognized(item: dict[str, Any]) -> None:
    assert not chatgpt.recognizes(item)


def test_chatgpt_row_without_mapping_says_that_its_messages_are_missing() -> None:
    row = {"title": "P", "create_time": 1, "update_time": 2, "conversation_id": "p", "id": "p"}
    assert chatgpt.recognizes(row)
    with pytest.raises(Unreadable, match="only the title"):
        chatgpt.read(row, MemoryFiles())


def test_chatgpt_branches_and_current_node_are_kept() -> None:
    item = chain(message("user", words("Q")), message("assistant", words("A")))
    item["mapping"]["other"] = {"id": "other", "message": message("assistant", words("B")), "parent": "n0"}
    found = read({**item, "current_node": "n1"})
    assert [(node.id, node.parent) for node in found.nodes] == [("n0", None), ("n1", "n0"), ("other", "n0")]
    assert found.head == "n1"
    assert read(item).head is None
    assert read({**item, "current_node": "gone"}).head is None


def test_chatgpt_parent_that_is_missing_is_found_among_children() -> None:
    item = chain(message("user", words("Q")), message("assistant", words("A")))
    del item["mapping"]["n1"]["parent"]
    assert node_of(read(item), "n1").parent == "n0"


def test_chatgpt_mapping_may_be_a_list() -> None:
    item = chain(message("user", words("Q")), message("assistant", words("A")))
    found = read({**item, "mapping": list(item["mapping"].values())})
    assert [(node.id, node.parent) for node in found.nodes] == [("n0", None), ("n1", "n0")]


def test_chatgpt_author_that_is_missing_follows_from_the_parent() -> None:
    item = chain(None, {"content": words("Q")}, {"content": words("A"), "author": None})
    assert [node.role for node in read(item).nodes] == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    "one",
    [
        message("user", {"content_type": "user_editable_context", "user_instructions": "i"}),
        message("system", {"content_type": "model_editable_context", "model_set_context": "m"}),
        message("user", words("x"), metadata={"is_visually_hidden_from_conversation": True}),
        message("assistant", words("x"), weight=0),
        message("assistant", words("x"), weight=0.0, recipient="bio"),
        message("tool", words("x"), metadata={"is_visually_hidden_from_conversation": True}),
        None,
    ],
)
def test_chatgpt_message_that_is_not_shown_is_hidden(one: dict[str, Any] | None) -> None:
    assert read(chain(one)).nodes[0].hidden


def test_chatgpt_result_without_weight_is_kept() -> None:
    assert not read(chain(message("tool", words("x"), weight=0))).nodes[0].hidden


def test_chatgpt_system_message_with_words_is_a_system_prompt() -> None:
    node = read(chain(message("system", words("Be brief.")))).nodes[0]
    assert (node.role, node.parts, node.hidden) == ("system", [Text("Be brief.")], False)


def test_chatgpt_message_has_its_model_and_times() -> None:
    node = read_answer(words("A"), metadata={"model_slug": "m"}, create_time=1700000000, update_time=1700000001)
    assert (node.model, node.created_at, node.ended_at) == ("m", 1700000000000, 1700000001000)


def test_chatgpt_thoughts_become_reasoning_with_the_seconds_of_the_recap() -> None:
    found = read(EVERYTHING)
    [part] = node_of(found, "n3").parts
    assert isinstance(part, Reasoning)
    assert (part.text, part.seconds) == ("**S**\n\nC", 65)
    assert node_of(found, "n4").hidden


def test_chatgpt_recap_alone_is_reasoning() -> None:
    [part] = read_answer({"content_type": "reasoning_recap", "content": "Thought for 3 seconds"}).parts
    assert isinstance(part, Reasoning) and (part.text, part.seconds) == ("Thought for 3 seconds", 3)


def test_chatgpt_code_for_python_is_a_call_with_its_output() -> None:
    found = read(EVERYTHING)
    [call] = node_of(found, "n5").parts
    assert isinstance(call, ToolCall)
    assert (call.name, json.loads(call.arguments)) == ("python", {"code": "print(1)"})
    result = result_of(node_of(found, "n6"))
    assert (result.call_id, result.name, result.text, result.failed) == (call.call_id, "python", "1", False)


def test_chatgpt_json_for_a_tool_is_its_arguments() -> None:
    [call] = read_answer({"content_type": "code", "text": '{"q": 1}'}, recipient="web.run").parts
    assert isinstance(call, ToolCall) and (call.name, call.arguments) == ("web.run", '{"q": 1}')


def test_chatgpt_words_for_a_tool_are_its_arguments() -> None:
    [call] = read_answer(words("a cat"), recipient="dalle.text2im").parts
    assert isinstance(call, ToolCall) and json.loads(call.arguments) == {"code": "a cat"}


def test_chatgpt_canvas_is_a_file_too() -> None:
    text = json.dumps({"name": "poem", "type": "document", "content": "Roses"})
    call, document = read_answer({"content_type": "code", "text": text}, recipient="canmore.create_textdoc").parts
    assert isinstance(call, ToolCall) and isinstance(document, Attachment) and document.read
    assert (document.name, document.read()) == ("poem.md", b"Roses")


def test_chatgpt_code_for_the_user_is_a_block() -> None:
    node = read_answer({"content_type": "code", "text": "a = '```'", "language": "python"}, recipient="all")
    assert node.parts == [Text("````python\na = '```'\n````")]


@pytest.mark.parametrize(
    ("content", "text", "failed"),
    [
        ({"content_type": "execution_output", "text": "1"}, "1", False),
        ({"content_type": "tether_quote", "title": "T", "url": "u", "text": "x"}, "T\n\nu\n\nx", False),
        ({"content_type": "tether_browsing_display", "result": "r", "summary": "s"}, "s\n\nr", False),
        ({"content_type": "sonic_webpage", "title": "T", "url": "u", "snippet": "x"}, "T\n\nu\n\nx", False),
        ({"content_type": "system_error", "name": "n", "text": "403"}, "n: 403", True),
        ({"content_type": "citable_code_output", "output_str": "o"}, "o", False),
        ({"content_type": "computer_output", "state": {"text": "no"}, "text": "s"}, "s", False),
        ({"content_type": "new_thing", "text": "x"}, "[unknown content of type “new_thing”]\n\nx", False),
        (words("plain"), "plain", False),
    ],
)
def test_chatgpt_result_of_each_type_is_read(content: dict[str, Any], text: str, failed: bool) -> None:
    call = message("assistant", words("go"), recipient="browser")
    result = result_of(read(chain(call, message("tool", content, name="browser"))).nodes[1])
    assert (result.call_id, result.text, result.failed) == ("n0", text, failed)


def test_chatgpt_result_that_does_not_follow_its_call_is_matched_by_name() -> None:
    call, one = message("assistant", words("go"), recipient="b"), message("tool", words("r"), name="b")
    assert [result_of(node).call_id for node in read(chain(call, one, one)).nodes[1:]] == ["n0", ""]
    assert result_of(read(chain(call, message("tool", words("r"), name="c"))).nodes[1]).call_id == ""
    assert result_of(read(chain(call, message("tool", words("r"), name="b.open"))).nodes[1]).call_id == "n0"


def test_chatgpt_picture_without_a_call_is_only_a_picture() -> None:
    part = {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_1"}
    one = message("tool", {"content_type": "multimodal_text", "parts": [part]}, name="x")
    assert [type(part) for part in read(chain(one)).nodes[0].parts] == [Attachment]


def test_chatgpt_search_results_in_the_metadata_are_the_result() -> None:
    groups = [{"entries": [{"title": "T", "url": URL}]}]
    node = read(chain(message("tool", words(""), metadata={"search_result_groups": groups}))).nodes[0]
    assert result_of(node).text == f"T\n{URL}"


def test_chatgpt_code_that_failed_is_marked() -> None:
    metadata = {"aggregate_result": {"status": "failed_with_in_kernel_exception"}}
    node = read(chain(message("tool", {"content_type": "execution_output", "text": "E"}, metadata=metadata))).nodes[0]
    assert result_of(node).failed


def test_chatgpt_picture_of_code_is_a_file() -> None:
    shot = {"message_type": "image", "image_url": "file-service://file-12345"}
    one = message(
        "tool", {"content_type": "execution_output", "text": ""}, metadata={"aggregate_result": {"messages": [shot]}}
    )
    node = read(chain(one), MemoryFiles({"file-12345.dat": b"P"})).nodes[0]
    assert [part.read() for part in node.parts if isinstance(part, Attachment) and part.read] == [b"P"]


@pytest.mark.parametrize(
    ("pointer", "stored"),
    [
        ("file-service://file-AbCdEf12", "file-AbCdEf12-my cat.png"),
        ("file-service://file-AbCdEf12", "file-AbCdEf12.dat"),
        ("sediment://file_00012345", "file_00012345.dat"),
        ("sediment://file_00012345", "file_00012345-sanitized.png"),
        ("sediment://file_00012345#file_00012345#p_0.png", "file_00012345.dat"),
    ],
)
def test_chatgpt_picture_is_found_by_its_pointer(pointer: str, stored: str) -> None:
    parts = [{"content_type": "image_asset_pointer", "asset_pointer": pointer}]
    item = chain(message("user", {"content_type": "multimodal_text", "parts": parts}))
    [part] = read(item, MemoryFiles({stored: b"P"})).nodes[0].parts
    assert isinstance(part, Attachment) and part.read and part.read() == b"P"


def test_chatgpt_picture_is_not_attached_twice_and_has_its_name() -> None:
    parts = node_of(read(EVERYTHING, MemoryFiles({"file_0001.dat": b"P"})), "n2").parts
    assert [part.name for part in parts if isinstance(part, Attachment)] == ["a.png"]


def test_chatgpt_file_has_the_name_that_the_export_lists() -> None:
    one = message(
        "user", words("Q"), metadata={"attachments": [{"id": "file_0002"}, {"id": "file_0003", "name": "n.txt"}]}
    )
    files = MemoryFiles(
        {"file_0002.dat": b"2"}, {"conversation_asset_file_names.json": {"file_0002.dat": "dir/two.webp", "x": None}}
    )
    _, second, third = read(chain(one), files).nodes[0].parts
    assert isinstance(second, Attachment) and (second.name, second.read is not None) == ("two.webp", True)
    assert isinstance(third, Attachment) and (third.name, third.read) == ("n.txt", None)


def test_chatgpt_file_of_the_library_is_attached_to_its_message() -> None:
    row = {"file_id": "file_0004", "file_name": "made.docx", "origination_message_id": "m"}
    files = MemoryFiles({"file_0004.dat": b"D"}, {"library_files.json": [{**row, "origination_thread_id": "c1"}]})
    item = chain(message("assistant", words("Here"), id="m"))
    assert [part.name for part in read(item, files).nodes[0].parts if isinstance(part, Attachment)] == ["made.docx"]
    elsewhere = MemoryFiles({"file_0004.dat": b"D"}, {"library_files.json": [{**row, "origination_thread_id": "c2"}]})
    assert read(item, elsewhere).nodes[0].parts == [Text("Here")]


def test_chatgpt_generated_picture_has_its_prompt() -> None:
    part = {
        "content_type": "image_asset_pointer",
        "asset_pointer": "sediment://file_1",
        "metadata": {"dalle": {"prompt": "a cat"}},
    }
    node = read(chain(message("tool", {"content_type": "multimodal_text", "parts": [part]}))).nodes[0]
    assert [part.text for part in node.parts if isinstance(part, Attachment)] == ["a cat"]


def test_chatgpt_spoken_words_are_text_and_recordings_are_files() -> None:
    sound = {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://file_aud123", "format": "wav"}
    parts = [
        {"content_type": "audio_transcription", "text": "Hello"},
        {
            "content_type": "real_time_user_audio_video_asset_pointer",
            "audio_asset_pointer": sound,
            "frames_asset_pointers": [],
        },
    ]
    item = chain(message("user", {"content_type": "multimodal_text", "parts": parts}))
    assert read(item).nodes[0].parts == [Text("Hello")]
    _, recording = read(item, MemoryFiles({"file_aud123.dat": b"W"})).nodes[0].parts
    assert isinstance(recording, Attachment) and recording.name == "recording.wav"


def test_chatgpt_unknown_part_is_named() -> None:
    node = read_answer({"content_type": "multimodal_text", "parts": ["a", {"content_type": "hologram", "title": "H"}]})
    assert node.parts == [Text("a"), Text("[unknown content of type “hologram”]\n\nH")]


def test_chatgpt_marks_of_citations_become_links() -> None:
    node = node_of(read(EVERYTHING), "n7")
    link = "https://example.org/a_%28b%29"
    assert node.parts == [Text(f"It is ([New]({link})) and ([Old]({link})).")]
    assert node.sources == [Source(URL, "New"), Source(URL, "Old")]


@pytest.mark.parametrize(
    ("span", "reference", "expected"),
    [
        ("cite\ue202turn0search0", None, "A B"),
        (
            "cite\ue202turn0search0",
            {"type": "grouped_webpages", "items": [], "alt": "([T](https://e.org))"},
            "A ([T](https://e.org)) B",
        ),
        ("cite\ue202x", {"type": "webpage", "url": "https://e.org/", "title": "T"}, "A ([T](https://e.org/)) B"),
        ("i\ue202turn0image1", {"type": "image_group", "alt": "![x](https://e.org/x.png)"}, "A B"),
        ("entity\ue202x", {"type": "entity", "alt": "Motorola"}, "A Motorola B"),
        ('entity\ue202["company","Motorola"]', None, "A Motorola B"),
        ("product\ue202x", {"type": "product_entity", "alt": "[Kettle]()"}, "A Kettle B"),
        ("nav\ue202x", {"type": "nav_list", "alt": "![x](https://e.org/x.png)"}, "A [x](https://e.org/x.png) B"),
        ("filecite\ue202turn0file0", {"type": "file", "name": "a.pdf"}, "A (a.pdf) B"),
        ("url\ue202Words\ue202https://e.org/", None, "A [Words](https://e.org/) B"),
        ("url\ue202Words\ue202javascript:x", None, "A B"),
    ],
)
def test_chatgpt_span_of_each_kind_is_replaced(span: str, reference: dict[str, Any] | None, expected: str) -> None:
    mark = f"\ue200{span}\ue201"
    references = [{**reference, "matched_text": mark}] if reference else []
    node = read_answer(words(f"A {mark} B"), metadata={"content_references": references})
    assert node.parts == [Text(expected)]


def test_chatgpt_footnote_of_sources_adds_them_only() -> None:
    reference = {"type": "sources_footnote", "matched_text": " ", "sources": [{"url": URL, "attribution": "E"}]}
    node = read_answer(words("A B"), metadata={"content_references": [reference]})
    assert (node.parts, node.sources) == ([Text("A B")], [Source(URL, "E")])


def test_chatgpt_old_marks_without_positions_are_paired_in_order() -> None:
    citations = [
        {"start_ix": 900, "metadata": {"title": "f.pdf"}},
        {"start_ix": 901, "metadata": {"url": URL, "title": "U"}},
    ]
    node = read_answer(words("A【3:0†f】, B【3:1†u】."), metadata={"citations": citations})
    assert node.parts == [Text("A (f.pdf), B ([U](https://example.org/a_%28b%29)).")]


def test_chatgpt_old_marks_in_a_misread_file_are_replaced() -> None:
    mark = "【1†source】".encode().replace(b"\x90", b"?").decode("cp1252").replace("?", "\x90")
    node = read_answer(words(f"A{mark}."), metadata={"citations": [{"start_ix": 1, "metadata": {"title": "T"}}]})
    assert node.parts == [Text("A (T).")]


def test_chatgpt_old_mark_without_a_citation_is_removed() -> None:
    assert read_answer(words("A【12†source】.")).parts == [Text("A.")]


def test_chatgpt_marks_in_a_question_are_kept() -> None:
    assert read(chain(message("user", words("What is 【1†source】?")))).nodes[0].parts == [
        Text("What is 【1†source】?")
    ]


@pytest.mark.parametrize(
    "text",
    ["[the file](sandbox:/mnt/data/a.csv)", "![the file](sandbox:/mnt/data/a (1).png)", "[the file](<sandbox:/a b>)"],
)
def test_chatgpt_dead_link_becomes_its_words(text: str) -> None:
    assert read_answer(words(f"See {text}.")).parts == [Text("See the file.")]


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"status": "in_progress"}, "interrupted"),
        ({"metadata": {"finish_details": {"type": "interrupted"}}}, "stopped"),
        ({"metadata": {"finish_details": {"type": "max_tokens"}}}, "interrupted"),
        ({"metadata": {"is_error": True}}, "failed"),
        ({"status": "finished_successfully"}, "complete"),
    ],
)
def test_chatgpt_state_of_an_answer_is_kept(more: dict[str, Any], state: str) -> None:
    node = read_answer(words("A"), **more)
    assert node.state == state
    assert bool(node.reason) == (state != "complete")


def test_chatgpt_very_long_chain_is_read() -> None:
    recap = message("assistant", {"content_type": "reasoning_recap", "content": "x"})
    item = chain(*[recap, message("tool", words("r"))] * 10_000)
    for node in item["mapping"].values():
        del node["parent"]
    item["mapping"] = dict(reversed(item["mapping"].items()))
    assert node_of(read(item), "n19999").parent == "n19998"


def test_chatgpt_circle_is_read() -> None:
    item = chain(message("tool", words("a")), message("tool", words("b")))
    item["mapping"]["n0"]["parent"] = "n1"
    assert len(read(item).nodes) == 2
