"""The model that answered, and how its name is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.llm import AnsweredBy
from overseer.llm.choice import ModelSettings
from overseer.llm.model_name import MAX_MODEL_NAME_CHARS, short_model_name
from overseer.llm.openai import OpenAIServer
from overseer.web.extensions import instance as instance_of
from tests.support.answers import ask, opened
from tests.support.model_client import answer_of, model_of
from tests.support.model_server import ModelServer, Reply, end, event, text, tool_call


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/models/foo/bar.Q4_K_M.gguf", "bar.Q4_K_M"),
        (r"C:\models\x.gguf", "x"),
        ("C:/models/x.GGUF", "x"),
        (r"\\server\models\x.gguf", "x"),
        ("~/models/x.gguf", "x"),
        ("./x.gguf", "x"),
        ("TheBloke/x-GGUF/x.gguf", "x"),
        ("x.gguf", "x"),
        ("/srv/Qwen2.5-7B/", "Qwen2.5-7B"),
        ("/srv/Qwen2.5-7B", "Qwen2.5-7B"),
        ("file:///srv/x.safetensors", "x"),
        ("/", "/"),
        (".gguf", ".gguf"),
        ("qwen3:8b", "qwen3:8b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("models/gemini-2.5-flash", "models/gemini-2.5-flash"),
        ("~anthropic/claude", "~anthropic/claude"),
        ("accounts/fireworks/models/llama-v3", "accounts/fireworks/models/llama-v3"),
        ("a\u202eb\u200b\n  c\x00", "ab c\ufffd"),
        (" \n", ""),
    ],
)
def test_model_name_that_is_a_path_is_shortened(name: str, shown: str) -> None:
    assert short_model_name(name) == shown


@given(st.text(max_size=300) | st.text("/\\.:~a ", max_size=300))
def test_model_name_is_short_and_printable(name: str) -> None:
    shown = short_model_name(name)
    assert len(shown) <= MAX_MODEL_NAME_CHARS and shown.isprintable()
    assert shown or not any(character.isprintable() and not character.isspace() for character in name)


def test_message_names_the_model_that_answered(instance: Path, model_server: ModelServer) -> None:
    """A gateway may fall back to another model in the middle of a turn. A server may not say."""
    model_server.models = ["/models/asked.gguf", "other"]
    chunk = {"model": "/srv/<b>fallback.gguf", "choices": [{"delta": {"content": "Yes."}}]}
    with opened(instance, models=ModelSettings(model_server.url)) as app:
        for chunks, model in (([text("Yes.")], "asked"), ([event(chunk), text("No.")], "<b>fallback")):
            model_server.will(Reply(tool_call("get_current_time", "{}"), end("tool_calls")), Reply(*chunks, end()))
            message = ask(instance_of(app).overseer)
            assert message.state == "complete" and message.model == model
        room_id = instance_of(app).overseer.rooms().rooms[0].id
        listed = app.test_client().get("/models", query_string={"room": room_id}).text
        assert 'value="/models/asked.gguf"' in listed and "<span>asked</span>" in listed
    assert {request["model"] for request in model_server.requests} == {"/models/asked.gguf"}


@pytest.mark.parametrize("name", [None, 7, "", " ", ["x"], {"a": "b"}, "\u200b"])
def test_model_that_answered_without_a_name_is_not_named(model_server: ModelServer, name: object) -> None:
    model_server.will(Reply(event({"model": name, "choices": [{"delta": {"content": "Yes."}}]}), end()))
    assert not any(isinstance(delta, AnsweredBy) for delta in answer_of(model_of(model_server)))


def test_model_is_shown_by_its_short_name() -> None:
    assert OpenAIServer("http://127.0.0.1:9/v1").model("/models/x.gguf").name == "x"
