"""Chats of Open WebUI."""

from __future__ import annotations

import base64
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing.conversations import Attachment, Node, ToolResult, Unreadable
from overseer.importing.formats import open_webui
from tests.importing.mutations import PICTURE, PIXEL, NoFiles, check, damaged


def message(message_id: str, parent: str | None, role: str, content: object, **more: object) -> dict[str, Any]:
    return {"id": message_id, "parentId": parent, "childrenIds": [], "role": role, "content": content, **more}


def chat(*messages: dict[str, Any], **more: object) -> dict[str, Any]:
    history = {"currentId": messages[-1]["id"], "messages": {one["id"]: one for one in messages}}
    return {
        "id": "c-1",
        "title": "Bread",
        "chat": {"models": ["small", "large"], "history": history, "messages": []},
        "created_at": 1790000000,
        "updated_at": 1790000100,
        "pinned": None,
        "archived": False,
        **more,
    }


def answer(content: object, **more: object) -> Node:
    item = chat(message("q", None, "user", "How?"), message("a", "q", "assistant", content, **more))
    assert open_webui.recognizes(item)
    return open_webui.read(item, NoFiles()).nodes[1]


OUTPUT = [
    {
        "type": "reasoning",
        "summary": None,
        "content": [{"type": "output_text", "text": "flour first"}],
        "duration": 4,
    },
    {"type": "function_call", "call_id": "f1", "name": "oven", "arguments": '{"heat":230}', "status": "completed"},
    {"type": "function_call_output", "call_id": "f1", "output": [{"type": "input_text", "text": "hot"}]},
    {
        "type": "open_webui:code_interpreter",
        "id": "i1",
        "code": "print(2)",
        "lang": "python",
        "output": {"stdout": "2"},
    },
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Bake it."}]},
]
HTML = (
    '<details type="reasoning" done="true" duration="4">\n<summary>Thought for 4 seconds</summary>\n'
    "&gt; flour &lt;first&gt;\n&gt; then water\n</details>\n"
    '<details type="tool_calls" done="true" id="f1" name="oven" arguments="&quot;{\\&quot;heat\\&quot;:230}&quot;" '
    'result="&quot;hot&quot;" files="" embeds="&quot;&quot;">\n<summary>Tool Executed</summary>\n</details>\n'
    '<details type="code_interpreter" done="true" duration="1" output="{&quot;stdout&quot;: &quot;2&quot;}">\n'
    "<summary>Analyzed</summary>\n```python\nprint(2)\n```\n</details>\nBake it."
)


def test_open_webui_chat_keeps_title_times_flags_settings_and_the_current_message() -> None:
    item = chat(
        message("q", None, "user", "How?", timestamp=1790000001),
        message("a", "q", "assistant", "So.", timestamp=1790000002123, model="small", done=True),
        pinned=True,
        archived=True,
    )
    item["chat"] |= {"system": "Be a baker.", "params": {"temperature": 0.5}}
    found = open_webui.read(item, NoFiles())
    assert found.source == "open_webui:c-1"
    assert (found.title, found.model, found.system_prompt, found.temperature) == ("Bread", "small", "Be a baker.", 0.5)
    assert (found.created_at, found.updated_at, found.pinned, found.archived) == (
        1790000000000,
        1790000100000,
        True,
        True,
    )
    assert found.head == "a"
    question, reply = found.nodes
    assert (question.role, question.parts, question.created_at) == ("user", [Text("How?")], 1790000001000)
    assert (reply.parent, reply.model, reply.created_at, reply.state) == ("q", "small", 1790000002123, "complete")


def test_open_webui_answers_of_several_models_are_versions_of_one_question() -> None:
    item = chat(
        message("q", None, "user", "How?", models=["small", "large"]),
        message("a0", "q", "assistant", "So.", model="small", modelIdx=0, merged={"content": "Both.", "status": True}),
        message("a1", "q", "assistant", "Thus.", model="large", modelIdx=1),
    )
    nodes = {node.id: node for node in open_webui.read(item, NoFiles()).nodes}
    assert {node_id: node.parent for node_id, node in nodes.items()} == {
        "q": None,
        "a0": "q",
        "a0-merged": "q",
        "a1": "q",
    }
    assert nodes["a1"].model == "large" and nodes["a0-merged"].parts == [Text("Both.")]


def test_open_webui_parents_are_found_by_children_where_they_are_missing() -> None:
    item = chat(message("q", None, "user", "How?"), message("a", "q", "assistant", "So."))
    messages = item["chat"]["history"]["messages"]
    messages["q"]["childrenIds"] = ["a"]
    del messages["a"]["parentId"]
    assert open_webui.read(item, NoFiles()).nodes[1].parent == "q"


def test_open_webui_answer_is_read_from_its_output_which_its_html_repeats() -> None:
    assert answer(HTML, output=OUTPUT).parts == [
        Reasoning("flour first", 4.0),
        ToolCall("f1", "oven", '{"heat":230}'),
        ToolResult("f1", "", "hot"),
        ToolCall("i1", "python", '{"code": "print(2)"}'),
        ToolResult("i1", "python", "2"),
        Text("Bake it."),
    ]


def test_open_webui_text_of_an_answer_is_kept_if_its_output_has_none() -> None:
    assert answer(HTML, output=OUTPUT[:3]).parts[-1] == Text("Bake it.")


def test_open_webui_html_in_the_text_becomes_reasoning_and_calls() -> None:
    parts = answer(HTML).parts
    assert parts == [
        Reasoning("flour <first>\nthen water", 4.0),
        ToolCall("f1", "oven", '{"heat":230}'),
        ToolResult("f1", "oven", "hot"),
        ToolCall("details-3", "python", '{"code": "print(2)"}'),
        ToolResult("details-3", "python", "2"),
        Text("Bake it."),
    ]
    assert parts[0] == Reasoning("flour <first>\nthen water") and isinstance(parts[0], Reasoning)
    assert parts[0].seconds == 4


def test_open_webui_result_in_the_body_and_arguments_in_single_quotes_are_read() -> None:
    html = (
        'Look:\n<details type="tool_calls" done="true" id="f" name="oven" arguments=\'{"say": "a > b"}\'>\n'
        "<summary>Tool Executed</summary>\n&quot;very hot&quot;\n</details>"
    )
    assert answer(html).parts == [
        Text("Look:"),
        ToolCall("f", "oven", '{"say": "a > b"}'),
        ToolResult("f", "oven", "very hot"),
    ]


def test_open_webui_call_that_is_running_has_no_result_and_reasoning_may_be_unfinished() -> None:
    html = (
        '<details type="tool_calls" done="false" id="f" name="oven" arguments="{}">\n<summary>Executing...</summary>\n'
        '</details>\n<details type="reasoning" done="false">\n<summary>Thinking…</summary>\n&gt; and'
    )
    found = answer(html, done=False)
    assert found.parts == [ToolCall("f", "oven", "{}"), Reasoning("and")]
    assert found.state == "interrupted"


@pytest.mark.parametrize(
    "text",
    [
        '```html\n<details type="reasoning">\n<summary>x</summary>\n</details>\n```',
        "<details>\n<summary>Recipe</summary>\nflour\n</details>",
        'In a line <details type="reasoning">x</details>',
    ],
    ids=["in a code block", "without a type", "within a line"],
)
def test_open_webui_html_that_the_model_wrote_stays_text(text: str) -> None:
    assert answer(text).parts == [Text(text)]


def test_open_webui_thinking_in_tags_at_the_start_is_reasoning() -> None:
    assert answer("<think>\nflour\n</think>\n\nBake.").parts == [Reasoning("flour"), Text("Bake.")]


def test_open_webui_pictures_in_text_and_files_have_content_texts_of_files_too_and_ids_a_name() -> None:
    files = [
        {"type": "image", "url": PICTURE},
        {"type": "image", "url": "7b0a-file-id", "name": "loaf.png"},
        {"type": "file", "file": {"filename": "r.pdf", "data": {"content": "recipe"}}},
        {"type": "collection", "name": "Cookbook", "id": "k"},
        {"type": "web", "url": "https://example.org/bread", "name": "A page"},
    ]
    item = chat(
        message("q", None, "user", "This?", files=files), message("a", "q", "assistant", f"See ![x]({PICTURE})")
    )
    question, reply = open_webui.read(item, NoFiles()).nodes
    text, inline, by_id, document, collection, page = question.parts
    assert text == Text("This?") and page == Text("[A page](<https://example.org/bread>)")
    assert isinstance(inline, Attachment) and inline.read is not None
    assert inline.read() == base64.b64decode(PIXEL) and inline.media_type == "image/png"
    assert by_id == Attachment("loaf.png", "image/png") and collection == Attachment("Cookbook")
    assert isinstance(document, Attachment) and document.read is not None
    assert (document.name, document.read()) == ("r.pdf.txt", b"recipe")
    assert reply.parts[0] == Text("See") and isinstance(reply.parts[1], Attachment) and reply.parts[1].text == "x"


@pytest.mark.parametrize(
    ("error", "reason"),
    [({"content": "No memory"}, "No memory"), ("Refused", "Refused"), (True, open_webui.FAILED)],
)
def test_open_webui_error_of_an_answer_is_its_reason(error: object, reason: str) -> None:
    found = answer("", error=error)
    assert (found.state, found.reason) == ("failed", reason)


def test_open_webui_sources_of_an_answer_are_kept() -> None:
    sources = [
        {
            "source": {"name": "search", "urls": []},
            "document": ["…"],
            "metadata": [{"source": "https://example.org/a", "title": "A"}, {"source": "notes.txt"}],
        },
        {"source": {"name": "https://example.org/b", "url": "https://example.org/b"}},
    ]
    assert answer("So. [1]", sources=sources).sources == [
        Source("https://example.org/a", "A"),
        Source("https://example.org/b"),
    ]


def test_open_webui_old_chat_with_a_list_of_messages_only_is_a_chain_with_ids_that_stay() -> None:
    old = {
        "chat": {
            "title": "Old",
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
        }
    }
    first, second = open_webui.read(old, NoFiles()), open_webui.read(old, NoFiles())
    assert open_webui.recognizes(old) and first.source == second.source
    assert [node.parent for node in first.nodes] == [None, first.nodes[0].id]
    assert [node.parts for node in first.nodes] == [[Text("Hi")], [Text("Ho")]]


def test_open_webui_chat_without_what_surrounds_it_is_read() -> None:
    bare = chat(message("q", None, "user", "How?"), message("a", "q", "assistant", "So."))["chat"]
    assert open_webui.recognizes(bare) and len(open_webui.read(bare, NoFiles()).nodes) == 2


@pytest.mark.parametrize("item", [{}, {"mapping": {}}, {"chat": "x"}, {"messages": []}, {"history": {}}])
def test_open_webui_other_objects_are_not_recognized(item: dict[str, Any]) -> None:
    assert not open_webui.recognizes(item)


@pytest.mark.parametrize(
    "text",
    [
        '<details type="reasoning">' + "<summary>" * 100_000,
        '<details type="reasoning">\n' * 50_000,
        '<details type="code_interpreter">\n' + "`" * 300_000,
        "<details a='\n" * 100_000,
        "![](data:image/png;base64," * 50_000,
    ],
    ids=["summaries", "details", "backticks", "attributes", "pictures"],
)
def test_open_webui_marks_that_are_not_closed_take_time_in_proportion_to_the_text(text: str) -> None:
    started = time.process_time()
    assert answer(text).parts
    assert time.process_time() - started < 5


WHOLE = chat(
    message(
        "q", None, "user", [{"type": "text", "text": "How?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    ),
    message("a", "q", "assistant", HTML, output=OUTPUT, timestamp=1, sources=[{"source": {"url": "https://e.org"}}]),
    message(
        "b", "q", "assistant", HTML, error={"content": "x"}, code_executions=[{"code": "1", "result": {"output": "1"}}]
    ),
    message("r", "a", "user", "And?", files=[{"type": "image", "url": PICTURE}, {"file": {"data": {"content": "t"}}}]),
)


@settings(max_examples=300, deadline=None)
@given(damaged(WHOLE))
def test_open_webui_damaged_chat_is_read_or_unreadable(item: Any) -> None:
    with suppress(Unreadable):
        check(open_webui.read(item, NoFiles()))
