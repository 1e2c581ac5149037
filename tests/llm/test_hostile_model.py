"""Model servers that are broken or mean harm: nobody else waits for them, and nothing of theirs outlives its turn."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient

from overseer import create_app
from overseer.domain.messages import Message
from overseer.llm.choice import ModelSettings
from overseer.llm.openai import OpenAIServer, Timeouts
from overseer.rooms.chat_room import Limits
from overseer.rooms.overseer import Overseer
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text, tool_call
from tests.support.server import Server
from tests.support.server_pool import ServerPool

DRIP = 0.05  # seconds between two bytes


def asked(client: FlaskClient, overseer: Overseer, words: str = "Hello?", room: str | None = None) -> Message:
    """The answer to a question, as it is stored."""
    room = room or client.post("/rooms").headers["Location"]
    response = client.post(f"{room}/messages", data={"text": words}, headers={"Prefer": "wait=20"})
    assert response.status_code == 201, response.text
    return overseer.message(room[-12:], int(response.headers["Location"].rpartition("/")[2]) + 1)


def refused(status: int, body: object) -> Reply:
    return Reply(json.dumps(body).encode(), status=status, headers={"Content-Type": "application/json"})


@contextmanager
def dripping(*, head: bytes) -> Iterator[str]:
    """A server that says `head` to everybody, and then a byte now and then, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(head)
                while not over.wait(DRIP):
                    connection.sendall(b" ")
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: ",
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"choices":',
        b"HTTP/1.1 400 Bad\r\nContent-Length: 9999\r\n\r\nNo",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
    ],
    ids=["comment", "json", "refusal", "header"],
)
def test_a_reply_that_drips_is_ended_when_its_time_is_up(instance: Path, head: bytes) -> None:
    """Whatever part of it drips: each byte may come in time, the whole may not take longer than it may."""
    with dripping(head=head) as url:
        app = create_app(instance, models=ModelSettings(url, name="m", timeouts=Timeouts(5, 5, total=0.5)))
        with app.test_client() as client:
            message = asked(client, app.extensions["overseer"])
        app.extensions["overseer"].close()
    assert message.finished and "longer than 0.5 s" in message.reason


def test_a_port_that_drips_where_ollama_would_be_holds_up_nobody(instance: Path) -> None:
    """The look at it is over in half a second, and the offline responder answers."""
    with dripping(head=b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{") as url:
        app = create_app(instance, models=ModelSettings(ollama_url=url, offline_pace=0))
        with app.test_client() as client:
            assert "offline" in asked(client, app.extensions["overseer"]).model
        app.extensions["overseer"].close()


@pytest.mark.parametrize(
    "flood", [b": still here\n\n", b'data: {"choices": [{"delta": {}}]}\n\n'], ids=["comments", "nothing"]
)
def test_a_flood_that_says_nothing_stops_nobody_else(server: Server, model_server: ModelServer, flood: bytes) -> None:
    """The page still answers, and Stop still comes through."""
    room = requests.post(f"{server.url}/rooms", timeout=20).headers["Location"]
    reply = model_server.will(held(*[2000 * flood for _ in range(200)]))
    requests.post(f"{server.url}{room}/messages", {"text": "Hello"}, timeout=20)
    assert reply.begun.wait(20)
    assert requests.get(f"{server.url}/healthz", timeout=30).text == "ok"
    assert requests.delete(f"{server.url}{room}/turn", timeout=30).status_code == 200
    assert reply.closed.wait(20)


def test_a_model_with_an_impossible_name_wrecks_no_room(instance: Path, model_server: ModelServer) -> None:
    """Half a character can be neither stored nor shown: such a model is not there, and the next one answers."""
    model_server.models = ["bad\ud800", "", "good"]
    app = create_app(instance, models=ModelSettings(model_server.url))
    with app.test_client() as client:
        message = asked(client, app.extensions["overseer"])
        assert (message.state, message.model) == ("complete", "good")
        assert "bad" not in client.get("/models").text
    app.extensions["overseer"].close()


def test_the_first_model_is_looked_up_again(model_server: ModelServer) -> None:
    """A server that was restarted with another model is asked for that one, once somebody has looked."""
    server = OpenAIServer(model_server.url)
    assert server.names() == ("stand-in",)
    model_server.models = ["other"]
    assert server.names(refresh=True) == ("other",)
    assert server.model().name == "other"


def test_what_is_over_the_limit_is_cut_and_not_dropped(instance: Path, model_server: ModelServer) -> None:
    """Also where a whole answer comes in one piece."""
    app = create_app(instance, models=ModelSettings(model_server.url, name="m"), limits=Limits(answer_chars=100))
    model_server.will(answer(160 * "x"))
    with app.test_client() as client:
        message = asked(client, app.extensions["overseer"])
    app.extensions["overseer"].close()
    assert (message.state, message.text, message.resumable) == ("failed", 100 * "x", True)


def test_a_stream_that_ends_within_an_event_is_interrupted(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Half an event is no broken JSON, but a broken connection."""
    whole = text(" there")
    for cut in range(8, len(whole) - 2):
        model_server.will(Reply(text("Hello"), whole[:cut]))
        message = asked(client, overseer)
        assert (message.state, message.resumable) == ("interrupted", True), whole[:cut]


def test_a_thought_at_the_length_limit_promises_nothing(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Only text can be gone on with."""
    model_server.will(Reply(reasoning("Hm"), end("length")))
    message = asked(client, overseer)
    assert (message.state, message.resumable) == ("interrupted", False)
    assert "length limit" in message.reason and "Continue" not in message.reason


def test_a_value_that_is_refused_is_no_parameter_that_is(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """A temperature out of a model's range is left out once, and one within it is sent."""
    room = client.post("/rooms").headers["Location"]
    client.patch(room, data={"temperature": "1.5"})
    model_server.will(refused(400, {"error": {"message": "temperature: range: 0..1"}}))
    assert asked(client, overseer, "One?", room).state == "complete"
    client.patch(room, data={"temperature": "0.5"})
    asked(client, overseer, "Two?", room)
    assert [request.get("temperature") for request in model_server.requests] == [1.5, None, 0.5]


def test_a_complaint_about_the_conversation_costs_no_tools(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Not even those of that one request: the answer fails with the server's words."""
    for said in (
        "Invalid 'messages[2].tool_calls[0].id': not supported",
        "Unexpected role 'user' after role 'tool'",
        "this request is not allowed right now",
    ):
        model_server.will(refused(400, {"error": {"message": said}}))
        message = asked(client, overseer)
        assert message.state == "failed" and said in message.reason and not message.note
    assert ["tools" in request for request in model_server.requests] == [True, True, True]


def test_a_tool_call_that_was_nonsense_is_sent_as_one_that_is_not(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Strict servers would refuse the whole conversation for it, with every question anew."""
    room = client.post("/rooms").headers["Location"]
    broken = Reply(
        tool_call("roll_dice", '{"sides":', call_id="a"), tool_call("", "[]", call_id="b", index=1), end("tool_calls")
    )
    model_server.will(broken, answer("Never mind."))
    assert asked(client, overseer, "Roll", room).state == "complete"
    calls = model_server.requests[1]["messages"][1]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "roll_dice", "arguments": "{}"},
        {"name": "unknown_tool", "arguments": "{}"},
    ]
    results = [message["content"] for message in model_server.requests[1]["messages"][2:]]
    assert "not valid JSON" in results[0] and "no tool named" in results[1]


def test_an_ordinary_rate_limit_is_waited_for(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """OpenAI's sentence for it speaks of billing, too."""
    said = "Rate limit reached for m. Try again in 20s. See https://platform.example/account/billing."
    model_server.will(
        Reply(
            json.dumps({"error": {"message": said, "code": "rate_limit_exceeded"}}).encode(),
            status=429,
            headers={"Retry-After": "0"},
        )
    )
    assert asked(client, overseer).text == "All right."


@pytest.mark.parametrize("last", ["abc", "-1", "1.5"])
def test_an_edit_with_a_senseless_last_is_refused(client: FlaskClient, overseer: Overseer, last: str) -> None:
    """It would otherwise count as none, and drop what nobody confirmed."""
    room = client.post("/rooms").headers["Location"]
    asked(client, overseer, "One?", room)
    response = client.patch(f"{room}/messages/1", data={"text": "Two?", "last": last})
    assert response.status_code == 422 and overseer.message(room[-12:], 1).text == "One?"


def test_an_answer_that_is_not_streamed_is_taken(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """Some gateways ignore `stream` and send one JSON object."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "All at once."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    model_server.will(refused(200, {"object": "chat.completion", "choices": [choice], "usage": usage}))
    message = asked(client, overseer)
    assert (message.state, message.text) == ("complete", "All at once.")
    assert message.usage is not None and message.usage.tokens_out == 3


@contextmanager
def repeating(words: bytes) -> Iterator[str]:
    """A server that says the same to everybody, as fast as it is read, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def repeat(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            while True:
                connection.sendall(words * 1000)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=repeat, args=(listener.accept()[0],), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"X: y\r\n",
        b"x",
    ],
)
def test_a_model_that_never_gets_to_the_point_stops_nobody_else(
    tmp_path: Path, server_pool: ServerPool, words: bytes
) -> None:
    """Its answer fails by itself, or is stopped; until then everyone else is served."""
    with repeating(words) as url:
        settings = {"OPENAI_BASE_URL": url, "OPENAI_MODEL": "m", "OVERSEER_FIRST_BYTE_SECONDS": "3"}
        server = Server(tmp_path / "instance", environment=settings, server_pool=server_pool).start()
        try:
            room = server.url + requests.post(f"{server.url}/rooms").headers["Location"]
            assert requests.post(f"{room}/messages", {"text": "Hello"}, timeout=20).status_code == 201
            assert requests.get(f"{server.url}/healthz", timeout=20).text == "ok"
            requests.delete(f"{room}/turn", timeout=20)
            said = requests.post(f"{room}/messages", {"text": "Again"}, headers={"Prefer": "wait=60"}, timeout=60)
            assert said.status_code == 201 and ('data-state="failed"' in said.text or 'data-state="int' in said.text)
        finally:
            server.stop()
