"""Model servers that are broken or hostile affect only their own answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from overseer.llm.choice import ModelSettings
from overseer.rooms.chat_room import Limits
from overseer.rooms.overseer import Overseer
from overseer.web.extensions import instance as instance_of
from tests.support.answers import ask, opened
from tests.support.model_client import raw_server
from tests.support.model_server import ModelServer, Reply, answer, end, reasoning
from tests.support.server import Server
from tests.support.server_pool import ServerPool

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "flood"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"),
        (b"", b"X: y\r\n"),
        (HEAD, b": still here\n\n"),
        (HEAD, b'data: {"choices": [{"delta": {}}]}\n\n'),
    ],
)
def test_endless_response_does_not_block_other_requests(
    tmp_path: Path, server_pool: ServerPool, head: bytes, flood: bytes
) -> None:
    """The answer can be stopped, and ends by itself otherwise."""
    with raw_server(head, repeat=flood * 1000) as url:
        settings = {"OPENAI_BASE_URL": url, "OPENAI_MODEL": "m"}
        settings |= {"OVERSEER_FIRST_BYTE_SECONDS": "3", "OVERSEER_ANSWER_SECONDS": "3"}
        server = Server(tmp_path / "instance", environment=settings, server_pool=server_pool).start()
        try:
            room = server.url + requests.post(f"{server.url}/rooms", timeout=20).headers["Location"]
            assert requests.post(f"{room}/messages", {"text": "Hello"}, timeout=20).status_code == 201
            assert requests.get(f"{server.url}/healthz", timeout=60).text == "ok"
            requests.delete(f"{room}/turn", timeout=60)
            answered = requests.post(f"{room}/messages", {"text": "Again"}, headers={"Prefer": "wait=60"}, timeout=90)
            assert answered.status_code == 201
            assert 'data-state="failed"' in answered.text or 'data-state="interrupted"' in answered.text
        finally:
            server.stop()


def test_model_name_that_cannot_be_stored_is_skipped(instance: Path, model_server: ModelServer) -> None:
    model_server.models = ["bad\ud800", "", "good"]
    with opened(instance, models=ModelSettings(model_server.url)) as app:
        message = ask(instance_of(app).overseer)
        assert (message.state, message.model) == ("complete", "good")
        assert "bad" not in app.test_client().get("/models").text


def test_answer_over_the_length_limit_is_shortened(instance: Path, model_server: ModelServer) -> None:
    """Also if it arrives in one delta."""
    model_server.will(answer(160 * "x"))
    with opened(instance, models=ModelSettings(model_server.url), limits=Limits(answer_chars=100)) as app:
        message = ask(instance_of(app).overseer)
    assert (message.state, message.text, message.resumable) == ("failed", 100 * "x", True)


def test_reasoning_at_the_length_limit_does_not_offer_to_continue(
    overseer: Overseer, model_server: ModelServer
) -> None:
    model_server.will(Reply(reasoning("Hm"), end("length")))
    message = ask(overseer)
    assert (message.state, message.resumable) == ("interrupted", False)
    assert "length limit" in message.reason and "Continue" not in message.reason
