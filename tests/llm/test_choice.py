"""The choice of the model: the configured one, an Ollama that is detected, or the offline responder."""

from __future__ import annotations

import socket

import pytest

from overseer.llm import choice
from overseer.llm.choice import Models, ModelSettings, ollama_url
from overseer.llm.openai import DEFAULT_BASE_URL, OpenAIModel
from tests.support.model_client import answer_of, raw_server, text_of
from tests.support.model_server import DEADLINE, NOBODY, ModelServer


@pytest.fixture(autouse=True)
def _slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no probe fail because the machine is busy."""
    monkeypatch.setattr(choice, "PROBE_TIMEOUT_SECONDS", DEADLINE)


def test_models_with_base_url_and_name_use_them_and_ignore_an_ollama(model_server: ModelServer) -> None:
    settings = ModelSettings(base_url=model_server.url, api_key="sk-x", name="mine", ollama_url=model_server.url)
    model = Models(settings).pick()
    assert (model.name, model.offline) == ("mine", False)
    assert text_of(answer_of(model)) == "All right."
    assert model_server.requests[0]["model"] == "mine"
    assert model_server.headers[0]["Authorization"] == "Bearer sk-x"


def test_models_with_base_url_alone_use_the_first_model_of_the_server(model_server: ModelServer) -> None:
    model_server.models = ["first", "second"]
    model = Models(ModelSettings(base_url=model_server.url, ollama_url=NOBODY)).pick()
    assert text_of(answer_of(model)) == "All right."
    assert model_server.requests[0]["model"] == "first" == model.name


def test_models_with_base_url_of_a_server_that_is_down_use_it_nevertheless() -> None:
    """The answer then shows the error; no other model hides a mistyped address."""
    model = Models(ModelSettings(base_url=NOBODY, ollama_url=NOBODY)).pick()
    assert not model.offline and model.name == "model at 127.0.0.1:9"


def test_models_with_api_key_alone_use_openai() -> None:
    model = Models(ModelSettings(api_key="sk-x", ollama_url=NOBODY)).pick()
    assert isinstance(model, OpenAIModel)
    assert model.where == DEFAULT_BASE_URL == "https://api.openai.com/v1"
    assert (model.name, model.offline) == ("model at api.openai.com", False)


def test_ollama_is_detected_without_settings(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first model answers. It gets no key, and no proxy is asked."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    model_server.models = ["llama3.2", "qwen3"]
    model = Models(ModelSettings(ollama_url=model_server.url)).pick()
    assert (model.name, model.offline) == ("llama3.2", False)
    assert text_of(answer_of(model)) == "All right."
    assert model_server.requests[0]["model"] == "llama3.2"
    assert "Authorization" not in model_server.headers[0]
    assert Models(ModelSettings(name="qwen3", ollama_url=model_server.url)).pick().name == "qwen3"


def test_offline_responder_answers_if_there_is_no_server() -> None:
    models = Models(ModelSettings(ollama_url=NOBODY, offline_pace=0))
    assert models.pick().offline
    assert "offline responder" in text_of(answer_of(models.pick()))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"object": "list", "data": []}', "200 OK"),
        (b"<html>", "200 OK"),
        (b"[]", "200 OK"),
        (b'{"data": ["x"]}', "200 OK"),
        (b'{"data":' * 50_000, "200 OK"),
        (b"\xff", "200 OK"),
        (b"", "302 Found\r\nLocation: /elsewhere"),
        (b'{"error": "x"}', "500 Oops"),
    ],
    ids=["no models", "a page", "a list", "no ids", "deeply nested", "not UTF-8", "redirect", "error"],
)
def test_offline_responder_answers_if_another_server_uses_the_port_of_ollama(body: bytes, status: str) -> None:
    response = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)
    with raw_server(response) as url:
        assert Models(ModelSettings(ollama_url=url)).pick().offline


def test_offline_responder_answers_if_the_port_of_ollama_trickles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "PROBE_TIMEOUT_SECONDS", 0.3)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"
    with raw_server(head, repeat=b" ", interval=0.05) as url:
        assert Models(ModelSettings(ollama_url=url)).pick().offline


def test_ollama_that_starts_or_stops_later_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "PROBE_INTERVAL_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    models = Models(ModelSettings(ollama_url=f"http://127.0.0.1:{port}/v1"))
    assert models.pick().offline
    server = ModelServer(port)
    assert models.pick().name == "stand-in"
    server.close()
    assert models.pick().offline


def test_ollama_is_not_probed_again_within_the_interval(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh asks nevertheless."""
    monkeypatch.setattr(choice, "PROBE_INTERVAL_SECONDS", 600.0)
    models = Models(ModelSettings(ollama_url=model_server.url))
    model_server.models = ["llama3.2"]
    assert models.pick().name == "llama3.2"
    model_server.models = ["other"]
    assert models.pick().name == "llama3.2"
    assert models.names(refresh=True) == ("other",) and models.pick().name == "other"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("::1", "http://[::1]:11434/v1"),
        ("[::]:8080", "http://[::1]:8080/v1"),
        ("10.0.0.2", "http://10.0.0.2:11434/v1"),
        ("10.0.0.2:8080", "http://10.0.0.2:8080/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("https://ollama.example/", "https://ollama.example/v1"),
    ],
)
def test_ollama_url_is_made_of_ollama_host(host: str, url: str) -> None:
    assert ollama_url(host) == url
    assert ModelSettings().ollama_url == "http://127.0.0.1:11434/v1"
