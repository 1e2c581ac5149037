"""Tools that hang, on the real server: Stop, the time limit and everybody else go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tests.live.test_live import ask, new_room
from tests.support.model_server import ModelServer, Reply, answer, end, text, tool_call
from tests.support.server import DEADLINE, Server
from tests.support.server_pool import ServerPool
from tests.support.tab import Tab

LONG = {"OVERSEER_TOOL_SECONDS": "600"}
ABANDONED = "Abandoned: the answer ended before the tool did."

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Start]:
    """Starts the server with tools that hang until the test has ended."""
    servers: list[Server] = []

    def start(**settings: str) -> Server:
        environment = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in", "SLOW_TOOLS": str(tmp_path)}
        program = ("-m", "tests.support.slow_tools")
        server = Server(
            tmp_path / "i", environment={**environment, **settings}, program=program, server_pool=server_pool
        )
        servers.append(server.start())
        return server

    yield start
    (tmp_path / "stop").touch()
    for server in servers:
        server.stop()


def use(server: Server, model_server: ModelServer, tab: Tab, room_id: str, name: str) -> None:
    """Let the model call a tool; returns when it works."""
    model_server.will(Reply(tool_call(name, "{}"), end("tool_calls")))
    ask(server, room_id, "Go")
    tab.read_until(f"Using <code>{name}</code>")


@pytest.mark.parametrize("name", ["compute_long", "sleep_long"])
def test_stop_while_a_tool_hangs_ends_the_turn_and_nobody_else_waits(
    start: Start, model_server: ModelServer, tmp_path: Path, name: str
) -> None:
    """The call is told as abandoned by push, page and export, and again after a restart."""
    server = start(**LONG)
    room_id, other = new_room(server), new_room(server)
    with closing(Tab(server.url, f"room={room_id}")) as here, closing(Tab(server.url, f"room={other}")) as there:
        use(server, model_server, here, room_id, name)
        model_server.will(answer("Not held up."))
        ask(server, other, "Hello")
        there.read_until("Not held up.")
        requests.delete(f"{server.url}/rooms/{room_id}/turn", timeout=DEADLINE).raise_for_status()
        here.read_until('data-state="stopped"')
    assert not (tmp_path / "returned").exists(), "the tool was waited for"
    for _ in range(2):
        message = requests.get(f"{server.url}/rooms/{room_id}/messages/2", timeout=DEADLINE).text
        assert 'data-state="stopped"' in message and f"<code>{name}</code> was abandoned" in message
        markdown = {"Accept": "text/markdown"}
        export = requests.get(f"{server.url}/rooms/{room_id}/messages", headers=markdown, timeout=DEADLINE).text
        assert f"[{name} {{}} → {ABANDONED}]" in export
        server.restart()


def test_a_question_after_an_abandoned_call_is_sent_with_a_legal_history(
    start: Start, model_server: ModelServer
) -> None:
    """Every call has a result, and a question follows an assistant's message."""
    server = start(**LONG)
    room_id = new_room(server)
    with closing(Tab(server.url, f"room={room_id}")) as tab:
        use(server, model_server, tab, room_id, "sleep_long")
    requests.delete(f"{server.url}/rooms/{room_id}/turn", timeout=DEADLINE).raise_for_status()
    requests.post(f"{server.url}/rooms/{room_id}/messages", {"text": "And now?"}, headers={"Prefer": "wait=20"})
    messages = model_server.requests[-1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert messages[2]["tool_call_id"] == messages[1]["tool_calls"][0]["id"] and messages[2]["content"] == ABANDONED


def test_a_tool_past_its_time_limit_is_told_to_the_model_which_goes_on(start: Start, model_server: ModelServer) -> None:
    """The plain text stream says so, too, between the words."""
    server = start(OVERSEER_TOOL_SECONDS="1")
    room_id = new_room(server)
    model_server.will(Reply(tool_call("compute_long", "{}"), end("tool_calls")), answer("Never mind."))
    stream = {"Accept": "text/plain"}
    said = requests.post(f"{server.url}/rooms/{room_id}/messages", {"text": "Go"}, headers=stream, timeout=DEADLINE)
    late = "compute_long took longer than 1 s and was abandoned."
    assert said.text == f"[compute_long {{}} → {late}]\n\nNever mind.\n"
    assert model_server.requests[1]["messages"][-1]["content"] == late


def test_a_plain_text_stream_tells_of_the_call_that_stop_abandons(start: Start, model_server: ModelServer) -> None:
    """Its last words are the call, and the state."""
    server = start(**LONG)
    room_id = new_room(server)
    model_server.will(Reply(text("Well. "), tool_call("sleep_long", "{}"), end("tool_calls")))
    url, stream = f"{server.url}/rooms/{room_id}/messages", {"Accept": "text/plain"}
    with (
        closing(Tab(server.url, f"room={room_id}")) as tab,
        requests.post(url, {"text": "Go"}, headers=stream, stream=True, timeout=DEADLINE) as said,
    ):
        tab.read_until("Using <code>sleep_long</code>")
        requests.delete(f"{server.url}/rooms/{room_id}/turn", timeout=DEADLINE).raise_for_status()
        assert said.text == f"Well. \n\n[sleep_long {{}} → {ABANDONED}]\n\n[stopped: You stopped this answer.]\n"


def test_a_server_that_is_ended_while_a_tool_hangs_exits(start: Start, model_server: ModelServer) -> None:
    """The tool's thread keeps the process from nothing, and the next start shows no call as running."""
    server = start(**LONG)
    room_id = new_room(server)
    with closing(Tab(server.url, f"room={room_id}")) as tab:
        use(server, model_server, tab, room_id, "compute_long")
    assert server.stop() == 0
    server.start()
    message = requests.get(f"{server.url}/rooms/{room_id}/messages/2", timeout=DEADLINE).text
    assert 'data-state="interrupted"' in message and "<code>compute_long</code> was abandoned" in message
