"""Tools that hang, on the real server: Stop, the time limit, other rooms and shutdown still work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.support.model_server import ModelServer, Reply, answer, end, text, tool_call
from tests.support.server import DEADLINE, Server, StartServer
from tests.support.waiting import until

LONG = "600"  # seconds
ABANDONED = "Abandoned: the answer ended before the tool did."
PLAIN, MARKDOWN, WAIT = {"Accept": "text/plain"}, {"Accept": "text/markdown"}, {"Prefer": "wait=20"}

Start = Callable[[str], Server]


@pytest.fixture
def start(start_server: StartServer, tmp_path: Path) -> Iterator[Start]:
    """Start the server with this time limit for tools that hang until the test has ended."""
    altered = {"slow_tools": {"folder": str(tmp_path)}}
    yield lambda seconds: start_server(altered=altered, OVERSEER_TOOL_SECONDS=seconds)
    (tmp_path / "stop").touch()


def new_room(server: Server) -> str:
    """Create a room and return its URL."""
    return server.url + requests.post(f"{server.url}/rooms", timeout=DEADLINE).headers["Location"]


def ask(room: str, text: str, headers: dict[str, str] | None = None) -> str:
    response = requests.post(f"{room}/messages", {"text": text}, headers=headers, timeout=2 * DEADLINE)
    response.raise_for_status()
    return response.text


def stop(room: str) -> None:
    requests.delete(f"{room}/turn", timeout=DEADLINE).raise_for_status()


def start_tool(room: str, model_server: ModelServer, name: str, directory: Path) -> None:
    """Ask a question to which the model calls a tool, and wait until the tool has started."""
    model_server.will(Reply(tool_call(name, "{}"), end("tool_calls")))
    ask(room, "Go")
    until((directory / "started").exists)


@pytest.mark.parametrize("name", ["compute_long", "sleep_long"])
def test_stop_abandons_a_tool_that_hangs_while_other_rooms_answer(
    start: Start, model_server: ModelServer, tmp_path: Path, name: str
) -> None:
    """The call is stored as abandoned, and the history that is sent with the next question is valid."""
    server = start(LONG)
    room, other = new_room(server), new_room(server)
    start_tool(room, model_server, name, tmp_path)
    model_server.will(answer("Not blocked."))
    assert "Not blocked." in ask(other, "Hello", WAIT)
    stop(room)
    assert not (tmp_path / "returned").exists()
    for _ in range(2):
        message = requests.get(f"{room}/messages/2", timeout=DEADLINE).text
        assert 'data-state="stopped"' in message and f"<code>{name}</code>" in message and "abandoned" in message
        export = requests.get(f"{room}/messages", headers=MARKDOWN, timeout=DEADLINE).text
        assert f"[{name} {{}} → {ABANDONED}]" in export
        server.restart()
    ask(room, "And now?", WAIT)
    messages = model_server.requests[-1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert messages[2]["tool_call_id"] == messages[1]["tool_calls"][0]["id"] and messages[2]["content"] == ABANDONED


def test_tool_over_its_time_limit_is_abandoned_and_the_answer_continues(
    start: Start, model_server: ModelServer
) -> None:
    room = new_room(start("1"))
    model_server.will(Reply(tool_call("compute_long", "{}"), end("tool_calls")), answer("Never mind."))
    late = "compute_long took longer than 1 s and was abandoned."
    assert ask(room, "Go", PLAIN) == f"[compute_long {{}} → {late}]\n\nNever mind.\n"
    assert model_server.requests[1]["messages"][-1]["content"] == late


def test_plain_text_stream_ends_with_the_tool_call_that_stop_abandons(
    start: Start, model_server: ModelServer, tmp_path: Path
) -> None:
    room = new_room(start(LONG))
    model_server.will(Reply(text("Well. "), tool_call("sleep_long", "{}"), end("tool_calls")))
    with requests.post(f"{room}/messages", {"text": "Go"}, headers=PLAIN, stream=True, timeout=DEADLINE) as response:
        until((tmp_path / "started").exists)
        stop(room)
        assert response.text.startswith(f"Well. \n\n[sleep_long {{}} → {ABANDONED}]\n\n[stopped: ")


def test_server_shuts_down_while_a_tool_hangs(start: Start, model_server: ModelServer, tmp_path: Path) -> None:
    server = start(LONG)
    room = new_room(server)
    start_tool(room, model_server, "compute_long", tmp_path)
    assert server.stop() == 0
    server.start()
    message = requests.get(f"{room}/messages/2", timeout=DEADLINE).text
    assert 'data-state="interrupted"' in message and "abandoned" in message
