"""The server as a process: start, refusal to start, log and slow disks."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from tests.support.altered import held_commits
from tests.support.model_server import ModelServer, held, text
from tests.support.rooms import ask, fetch, new_room
from tests.support.server import DEADLINE, ROOT, Server, StartServer, is_healthy
from tests.support.server_pool import ServerPool
from tests.support.tab import Tab
from tests.support.waiting import until


def refused(server_pool: ServerPool, *arguments: str, **environment: str) -> str:
    """Return what a server prints that ends by itself with an error."""
    child = server_pool.server("app", arguments, {**os.environ, **environment})
    assert child.stdout is not None
    with child.stdout:
        printed = child.stdout.read()
    assert child.wait(DEADLINE) in (1, 2)
    assert "Traceback" not in printed
    return printed


def test_server_that_cannot_start_prints_why(server: Server, server_pool: ServerPool, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    instance = ("--instance", str(tmp_path / "new"))
    port = str(server.port)
    printed = refused(server_pool, "--port", port, *instance)
    assert f"Port {port} cannot be used" in printed and "--port" in printed
    printed = refused(server_pool, "--port", "0", "--instance", str(server.instance))
    assert str(server.pid) in printed and "in use" in printed and is_healthy(server)
    printed = refused(server_pool, "--port", "0", "--instance", str(tmp_path / "file" / "instance"))
    assert "cannot be written" in printed
    for invalid in ("99999", "http"):
        assert f"{invalid!r} is no port" in refused(server_pool, "--port", invalid, *instance)
    for host in ("203.0.113.9", "no-such-name.invalid"):
        printed = refused(server_pool, "--port", "0", "--host", host, *instance, OVERSEER_PASSWORD="correct horse")
        assert f"--host {host} is no address" in printed and "OVERSEER_HOST" in printed and "Port" not in printed


def test_server_without_a_password_listens_on_loopback_only(server_pool: ServerPool, tmp_path: Path) -> None:
    options = ("--port", "0", "--instance", str(tmp_path))
    assert "password" in refused(server_pool, "--host", "0.0.0.0", *options)
    assert "password" in refused(server_pool, *options, OVERSEER_HOST="192.0.2.1")


def test_server_flags_win_over_the_environment(tmp_path: Path) -> None:
    """The server prints one line with its URL when it is ready."""
    server = Server(tmp_path / "flag", environment={"OVERSEER_PORT": "1", "OVERSEER_INSTANCE": str(tmp_path / "env")})
    server.start()
    assert [line for line in server.log if "ready" in line] == [f"Overseer is ready on {server.url}\n"]
    assert is_healthy(server)
    server.stop()
    assert (tmp_path / "flag" / "overseer.sqlite").exists() and not (tmp_path / "env").exists()


def test_log_has_a_line_for_each_request_and_turn_and_no_content(server: Server, model_server: ModelServer) -> None:
    """A line end in a URL does not begin a new line."""
    room_id = new_room(server)
    model_server.will(held(text("secret-answer"))).hang_up()
    form, wait = {"text": "secret-question", "key": "secret-key"}, {"Prefer": "wait=60"}
    requests.post(f"{server.url}/rooms/{room_id}/messages", form, headers=wait)
    fetch(server, "/rooms?q=secret-query")
    fetch(server, "/rooms/%0a2026-01-01 00:00:00 FORGED")
    server.stop()
    log = "".join(server.log)
    assert len(re.findall(rf"POST /rooms/{room_id}/messages 201 \d+ms", log)) == 1
    assert len(re.findall(rf"turn {room_id}/2 stand-in", log)) == 1
    assert "GET /rooms 200" in log and "secret" not in log
    assert ["GET /rooms/" in line for line in server.log if "FORGED" in line] == [True]


def test_flask_run_serves_a_tab(tmp_path: Path, model_server: ModelServer) -> None:
    """With Werkzeug's threads instead of greenlets, and with its reloader."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flask", "--app", "app", "run", "--debug", "--port", str(port)]
    settings = {"OVERSEER_INSTANCE": str(tmp_path), "OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    try:
        while "Debugger PIN" not in (line := process.stderr.readline()):
            assert line, "it ended"
        url = f"http://127.0.0.1:{port}"
        room = requests.post(f"{url}/rooms").headers["Location"]
        one = Tab(url, f"room={room[-12:]}")
        requests.post(f"{url}{room}/messages", {"text": "Hello"})
        one.read_until("All right.")
        one.close()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(DEADLINE)
        process.stderr.close()


@pytest.fixture
def slow_disk(start_server: StartServer) -> Server:
    """A server whose commits a test can hold."""
    return start_server(altered={"slow_disk": {}})


def test_message_is_acknowledged_after_its_commit_and_delays_no_request(slow_disk: Server) -> None:
    room_id = new_room(slow_disk)
    with ThreadPoolExecutor(1) as pool:
        with held_commits(slow_disk.instance, room_id) as marker:
            asked = pool.submit(ask, slow_disk, room_id, "Owls?", wait=True)
            until(lambda: marker.stat().st_size > 0)
            for _ in range(5):
                assert is_healthy(slow_disk)
                new_room(slow_disk)
            assert not asked.done()
        assert asked.result(DEADLINE).status_code == 201
    slow_disk.restart(signal.SIGKILL)
    page = fetch(slow_disk, f"/rooms/{room_id}/messages")
    assert "Owls?" in page and "All right." in page


def test_room_on_a_slow_disk_delays_no_other_room(slow_disk: Server, model_server: ModelServer) -> None:
    """Tabs of a room wait while its commit hangs. Tokens, the list and new tabs of another room do not."""
    slow_id, quick_id = new_room(slow_disk), new_room(slow_disk)
    reply = model_server.will(held())
    ask(slow_disk, quick_id, "Owls?")
    with ThreadPoolExecutor(1) as pool, ExitStack() as tabs:

        def tab_on(room_id: str) -> Tab:
            return tabs.enter_context(closing(Tab(slow_disk.url, f"room={room_id}")))

        quick = tab_on(quick_id)
        quick.read_until("Owls?")
        with held_commits(slow_disk.instance, slow_id) as marker:
            url = f"{slow_disk.url}/rooms/{slow_id}"
            renamed = pool.submit(requests.patch, url, {"name": "Renamed"}, timeout=DEADLINE)
            until(lambda: marker.stat().st_size > 0)  # the room is locked now
            waiting = [tab_on(slow_id) for _ in range(3)]
            for tab in waiting:
                tab.read_until('hx-target="#rooms"')
            for n in range(5):
                reply.say(text(f"word{n} "))
                quick.read_until(f"word{n}")
            tab_on(quick_id).read_until("word4")
            assert not renamed.done()
        assert renamed.result(DEADLINE).ok
        for tab in waiting:
            tab.read_until(lambda frame: 'hx-target="#header"' in frame and "Renamed" in frame)
    reply.hang_up()
