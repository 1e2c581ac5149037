"""Reading the prompts of Google AI Studio."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing.conversations import Attachment, Conversation, Unreadable
from overseer.importing.formats import ai_studio
from tests.importing.support import NO_FILES, check_reader, mutations, result_of


def prompt(*chunks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"chunkedPrompt": {"chunks": list(chunks), "pendingInputs": [{"text": "", "role": "user"}]}, **more}


def read(*chunks: dict[str, Any], **more: Any) -> Conversation:
    assert ai_studio.recognizes(prompt(*chunks))
    return ai_studio.read(prompt(*chunks, **more), NO_FILES)


EVERYTHING = prompt(
    {"role": "user", "driveImage": {"id": "d1"}},
    {"role": "user", "text": "Q", "createTime": "2026-08-01T10:00:00Z"},
    {"role": "model", "text": "hm", "isThought": True},
    {"role": "model", "executableCode": {"language": "PYTHON", "code": "print(1)"}},
    {"role": "model", "codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
    {
        "role": "model",
        "text": "A, B",
        "parts": [{"text": "A,"}, {"text": " B"}, {"inlineData": {"mimeType": "image/png", "data": "UA=="}}],
        "grounding": {"groundingSources": [{"uri": "https://e.org/", "title": "E"}]},
    },
    runSettings={"model": "models/gemini-x", "temperature": 0.5},
    systemInstruction={"parts": [{"text": "Be brief."}]},
)


@settings(max_examples=300, deadline=None)
@given(mutations(EVERYTHING))
def test_ai_studio_any_values_give_a_conversation_or_a_reason(item: dict[str, Any]) -> None:
    check_reader(ai_studio, item)


def test_ai_studio_settings_are_kept() -> None:
    found = ai_studio.read(EVERYTHING, NO_FILES)
    assert (found.model, found.temperature, found.system_prompt) == ("gemini-x", 0.5, "Be brief.")
    assert read({"role": "user", "text": "Q"}, systemInstruction={"text": "S"}).system_prompt == "S"


def test_ai_studio_id_is_that_of_the_first_words_and_stays() -> None:
    first, second = {"role": "user", "text": "Q"}, {"role": "model", "text": "A"}
    assert read(first, second).source == read(first, second, {"role": "user", "text": "More"}).source
    assert read(first, second).source != read(first, {"role": "model", "text": "B"}).source


def test_ai_studio_files_and_words_of_a_person_are_one_question() -> None:
    found = ai_studio.read(EVERYTHING, NO_FILES)
    assert [node.role for node in found.nodes] == ["user", "assistant", "assistant", "tool", "assistant"]
    assert [node.parent for node in found.nodes] == [None, *[node.id for node in found.nodes[:-1]]]
    picture, words = found.nodes[0].parts
    assert isinstance(picture, Attachment) and (picture.name, picture.read) == ("picture d1 in Google Drive", None)
    assert words == Text("Q")
    assert found.head == found.nodes[-1].id


def test_ai_studio_thoughts_code_and_output_are_kept() -> None:
    _, thought, code, output, _ = ai_studio.read(EVERYTHING, NO_FILES).nodes
    assert thought.parts == [Reasoning("hm")]
    [call] = code.parts
    assert isinstance(call, ToolCall) and (call.name, json.loads(call.arguments)) == ("python", {"code": "print(1)"})
    assert (result_of(output).text, result_of(output).failed) == ("1", False)
    failed = read({"role": "model", "codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "E"}})
    assert result_of(failed.nodes[0]).failed


def test_ai_studio_parts_are_the_text_in_pieces() -> None:
    words, picture = ai_studio.read(EVERYTHING, NO_FILES).nodes[-1].parts
    assert words == Text("A, B")
    assert isinstance(picture, Attachment) and picture.read and picture.read() == b"P"


def test_ai_studio_thoughts_among_parts_are_reasoning() -> None:
    [node] = read({"role": "model", "text": "tA", "parts": [{"text": "t", "thought": True}, {"text": "A"}]}).nodes
    assert node.parts == [Reasoning("t"), Text("A")]


def test_ai_studio_functions_are_calls() -> None:
    found = read(
        {"role": "model", "parts": [{"functionCall": {"id": "i", "name": "f", "args": {"a": 1}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"b": 2}}}]},
    )
    [call] = found.nodes[0].parts
    assert isinstance(call, ToolCall) and (call.call_id, call.name, call.arguments) == ("i", "f", '{"a": 1}')
    assert result_of(found.nodes[1]).text == '{"b": 2}'
    assert found.nodes[1].role == "tool"


def test_ai_studio_grounding_gives_sources() -> None:
    assert ai_studio.read(EVERYTHING, NO_FILES).nodes[-1].sources == [Source("https://e.org/", "E")]


def test_ai_studio_grounding_of_the_interface_gives_sources() -> None:
    found = read({"role": "model", "text": "A", "grounding": {"groundingChunks": [{"web": {"uri": "https://e.org/"}}]}})
    assert found.nodes[0].sources == [Source("https://e.org/")]


def test_ai_studio_file_within_a_prompt_has_its_name() -> None:
    [node] = read({"role": "user", "inlineFile": {"displayName": "a.txt", "data": "UA=="}}).nodes
    assert [part.name for part in node.parts if isinstance(part, Attachment)] == ["a.txt"]


def test_ai_studio_video_is_an_address() -> None:
    [node] = read({"role": "user", "youtubeVideo": {"id": "abc-123_XYZ"}}).nodes
    assert node.parts == [Text("https://www.youtube.com/watch?v=abc-123_XYZ")]


def test_ai_studio_error_is_the_reason() -> None:
    [node] = read({"role": "model", "errorMessage": "Quota"}).nodes
    assert (node.state, node.reason) == ("failed", "Google AI Studio reported an error: Quota")
    assert read({"role": "model", "text": "A", "finishReason": "MAX_TOKENS"}).nodes[0].state == "interrupted"
    assert read({"role": "model", "text": "A", "finishReason": "STOP"}).nodes[0].state == "complete"


def test_ai_studio_unknown_chunk_is_named() -> None:
    assert read({"role": "model", "hologram": {}, "title": "H"}).nodes[0].parts == [
        Text("[unknown content of type “chunk”]\n\nH")
    ]


def test_ai_studio_empty_prompt_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="no messages"):
        read()


def test_ai_studio_other_objects_are_not_recognized() -> None:
    assert not ai_studio.recognizes({"chunkedPrompt": None})
    assert not ai_studio.recognizes({"accessHistory": []})
