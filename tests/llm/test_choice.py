"""Which model answers: the configured one, an Ollama that is found, or the offline responder."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from overseer.domain.messages import Message, Text
from overseer.llm import Model
from overseer.llm import choice as choice_module
from overseer.llm.choice import OLLAMA, Models, ModelSettings, ollama_url
from overseer.llm.openai import DEFAULT_BASE_URL, OpenAIModel
from overseer.tools.registry import Toolbox
from tests.support.model_server import NOBODY, ModelServer

QUESTION = (Message(1, "user", "complete", (Text("Hello?"),)),)


@pytest.fixture
def probe_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for an Ollama each time."""
    monkeypatch.setattr(choice_module, "PROBE_AGAIN", 0.0)


@contextmanager
def ollama_at(port: int, body: bytes, status: int = 200) -> Iterator[None]:
    """A server at a known port that answers everything with `body`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def listing(*names: str) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode()


def words(model: Model) -> str:
    return "".join(delta.text for delta in model.answer(QUESTION, Toolbox(())) if hasattr(delta, "text"))


def test_a_configured_address_is_used_and_nothing_else_asked(model_server: ModelServer) -> None:
    """With an address and a name, that model answers, although an Ollama is there too."""
    models = Models(ModelSettings(base_url=model_server.url, name="mine", ollama_url=model_server.url))
    model = models.pick()
    assert (model.name, model.offline) == ("mine", False)
    assert words(model) == "All right."
    assert model_server.requests[0]["model"] == "mine"


def test_a_configured_address_alone_uses_its_first_model(model_server: ModelServer) -> None:
    """Without a name the server's first model answers."""
    model_server.models = ["first", "second"]
    model = Models(ModelSettings(base_url=model_server.url, ollama_url=NOBODY)).pick()
    assert words(model) == "All right."
    assert model_server.requests[0]["model"] == "first" == model.name


def test_a_configured_address_is_used_even_if_nothing_answers_there() -> None:
    """A mistyped address is told when it is asked, not hidden behind another model."""
    model = Models(ModelSettings(base_url=NOBODY, ollama_url=NOBODY)).pick()
    assert not model.offline and model.name == "model at 127.0.0.1:9"


def test_a_key_alone_means_openai() -> None:
    """OPENAI_API_KEY is enough for the usual address; nothing is asked there before a question is."""
    model = Models(ModelSettings(api_key="sk-x", ollama_url=NOBODY)).pick()
    assert isinstance(model, OpenAIModel)
    assert model.where == DEFAULT_BASE_URL == "https://api.openai.com/v1"
    assert (model.name, model.offline) == ("model at api.openai.com", False)


def test_the_key_goes_to_the_configured_address(model_server: ModelServer) -> None:
    """An address and a key belong together."""
    words(Models(ModelSettings(base_url=model_server.url, api_key="sk-x", name="m")).pick())
    assert model_server.headers[0]["Authorization"] == "Bearer sk-x"


def test_an_ollama_is_found_by_itself(model_server: ModelServer) -> None:
    """With nothing configured its first model answers, and it is sent no key."""
    model_server.models = ["llama3.2", "qwen3"]
    model = Models(ModelSettings(ollama_url=model_server.url)).pick()
    assert (model.name, model.offline) == ("llama3.2", False)
    assert words(model) == "All right."
    assert model_server.requests[0]["model"] == "llama3.2"
    assert "Authorization" not in model_server.headers[0]


def test_the_usual_port_of_ollama_is_looked_at() -> None:
    """Nothing has to be set for an Ollama as it is installed."""
    assert ModelSettings().ollama_url == OLLAMA == "http://127.0.0.1:11434/v1"


def test_a_name_chooses_among_the_models_of_an_ollama(model_server: ModelServer) -> None:
    """OPENAI_MODEL alone names one of Ollama's models."""
    model_server.models = ["llama3.2", "qwen3"]
    assert Models(ModelSettings(name="qwen3", ollama_url=model_server.url)).pick().name == "qwen3"


def test_with_nothing_there_the_offline_responder_answers() -> None:
    """A first try needs no model at all."""
    models = Models(ModelSettings(ollama_url=NOBODY, offline_pace=0))
    assert models.pick().offline
    assert "offline responder" in words(models.pick())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (listing(), 200),
        (b"<html>", 200),
        (b"[]", 200),
        (b'{"data": null}', 200),
        (b'{"data": ["x"]}', 200),
        (b'{"data":' * 50_000, 200),
        (b"\xff", 200),
        (b"", 302),
        (b'{"error": "x"}', 500),
    ],
    ids=["no models", "a page", "a list", "null", "no ids", "deeply nested", "not UTF-8", "elsewhere", "broken"],
)
def test_another_server_on_the_port_is_no_ollama(body: bytes, status: int) -> None:
    """Whatever answers there, if it lists no models the offline responder answers."""
    port = free_port()
    with ollama_at(port, body, status):
        assert Models(ModelSettings(ollama_url=f"http://127.0.0.1:{port}/v1")).pick().offline


@pytest.mark.usefixtures("probe_always")
def test_an_ollama_that_starts_later_is_noticed() -> None:
    """Starting it is enough; and when it is stopped, the offline responder answers again."""
    port = free_port()
    models = Models(ModelSettings(ollama_url=f"http://127.0.0.1:{port}/v1"))
    assert models.pick().offline
    with ollama_at(port, listing("llama3.2")):
        assert models.pick().name == "llama3.2"
    assert models.pick().offline


def test_the_port_is_not_looked_at_for_every_page(model_server: ModelServer) -> None:
    """Within a few seconds the last look counts, so that no page waits for it."""
    models = Models(ModelSettings(ollama_url=model_server.url))
    model_server.models = ["llama3.2"]
    assert models.pick().name == "llama3.2"
    model_server.models = ["other"]
    assert models.pick().name == "llama3.2"
    assert models.names(refresh=True) == ("other",) and models.pick().name == "other", "but a person may ask for it"
    assert choice_module.PROBE_AGAIN > 1


def test_a_proxy_is_not_asked_for_an_ollama(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on this machine, whatever proxy the environment names."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert not Models(ModelSettings(ollama_url=model_server.url)).pick().offline


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434/v1"),
        ("10.0.0.2", "http://10.0.0.2:11434/v1"),
        ("10.0.0.2:8080", "http://10.0.0.2:8080/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("https://ollama.example/", "https://ollama.example/v1"),
    ],
)
def test_ollamas_own_setting_says_where_it_is(host: str, url: str) -> None:
    """Who has moved it need not say so twice."""
    assert ollama_url(host) == url
