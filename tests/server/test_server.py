"""The server as a process: starting, refusing to start, logging, ending."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from tests.support.model_server import ModelServer, held, silent, text
from tests.support.server import DEADLINE, ROOT, Server
from tests.support.server_pool import ServerPool
from tests.support.slow_disk import held as slow_disk_held
from tests.support.tab import Tab
from tests.support.waiting import until

OpenTab = Callable[..., Tab]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the server, expecting it to end by itself."""
    return subprocess.run(
        [sys.executable, "app.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def new_room(server: Server) -> str:
    return requests.post(f"{server.url}/rooms").headers["Location"].rsplit("/", 1)[-1]


def test_it_says_one_line_when_it_is_ready(server: Server) -> None:
    """The line holds the address, and the address answers."""
    assert [line for line in server.log if "ready" in line] == [f"Overseer is ready on {server.url}\n"]
    assert requests.get(f"{server.url}/healthz").text == "ok"


def test_a_port_in_use_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """It names the port and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("--port", port, "--instance", str(tmp_path))
    assert done.returncode == 1
    assert f"Port {port} cannot be used" in done.stderr and "--port" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["203.0.113.9", "no-such-name.invalid"])
def test_a_host_that_is_not_of_this_machine_is_refused_with_a_sentence(tmp_path: Path, host: str) -> None:
    """It is not the port that is blamed."""
    done = run("--port", "0", "--host", host, "--instance", str(tmp_path), OVERSEER_PASSWORD="correct horse")
    assert done.returncode == 1
    assert f"--host {host} is no address" in done.stderr and "OVERSEER_HOST" in done.stderr
    assert "Port" not in done.stderr and "Traceback" not in done.stderr


def test_a_second_process_on_the_same_directory_is_refused(server: Server) -> None:
    """It says who has it; the first goes on."""
    done = run("--port", "0", "--instance", str(server.instance))
    assert done.returncode == 1
    assert str(server.pid) in done.stderr and "in use" in done.stderr and "Traceback" not in done.stderr
    assert requests.get(f"{server.url}/healthz").ok


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A file in its place, for one."""
    (tmp_path / "file").touch()
    done = run("--port", "0", "--instance", str(tmp_path / "file" / "instance"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr and "Traceback" not in done.stderr


def test_it_listens_on_nothing_but_loopback(tmp_path: Path) -> None:
    """Without a password nobody else is let in, by flag or by environment."""
    for done in (
        run("--host", "0.0.0.0", "--port", "0", "--instance", str(tmp_path)),
        run("--port", "0", "--instance", str(tmp_path), OVERSEER_HOST="192.0.2.1"),
    ):
        assert done.returncode == 1
        assert "password" in done.stderr


def test_flags_win_over_the_environment(tmp_path: Path) -> None:
    """Host, port and instance can be given either way."""
    server = Server(tmp_path / "flag", environment={"OVERSEER_PORT": "1", "OVERSEER_INSTANCE": str(tmp_path / "env")})
    server.start()
    assert requests.get(f"{server.url}/healthz").ok
    server.stop()
    assert (tmp_path / "flag" / "overseer.sqlite").exists() and not (tmp_path / "env").exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_in_order_and_soon(
    server: Server, model_server: ModelServer, tab: OpenTab, how: signal.Signals
) -> None:
    """Turns end as interrupted, also one whose model is silent; the models are let go; the log is clean."""
    speaking, quiet = new_room(server), new_room(server)
    tabs = [tab(speaking), tab(quiet)]
    replies = [held(text("Half of it")), silent()]
    for room_id, reply in zip((speaking, quiet), replies, strict=True):
        model_server.will(reply)
        requests.post(f"{server.url}/rooms/{room_id}/messages", {"text": "Go"})
        assert reply.begun.wait(DEADLINE)
    tabs[0].read_until("Half of it")
    began = time.monotonic()
    assert server.stop(how) == 0
    assert time.monotonic() - began < 15, "something was waited for"
    assert [one.read_to_close() for one in tabs] == [1012, 1012]
    assert all(reply.closed.wait(DEADLINE) for reply in replies)
    for room_id, words in ((speaking, "Half of it"), (quiet, None)):
        path = server.instance / "facets" / f"room-{room_id}.sqlite"
        assert not path.with_name(path.name + "-wal").exists()
        db = sqlite3.connect(path)
        assert db.execute("SELECT state FROM messages WHERE number = 2").fetchone() == ("interrupted",)
        said = db.execute("SELECT text FROM parts WHERE message = 2").fetchone()
        assert said == ((words,) if words else None)
        db.close()
    assert "Traceback" not in "".join(server.log)


def test_the_log_has_a_line_a_request_and_a_turn_and_no_words(server: Server, model_server: ModelServer) -> None:
    """Neither questions nor answers nor keys nor queries are in it."""
    room_id = new_room(server)
    model_server.will(held(text("secret-answer"))).hang_up()
    form, wait = {"text": "secret-question", "key": "secret-key"}, {"Prefer": "wait=60"}
    requests.post(f"{server.url}/rooms/{room_id}/messages", form, headers=wait)
    requests.get(f"{server.url}/rooms?q=secret-query")
    server.stop()
    log = "".join(server.log)
    assert len(re.findall(rf"POST /rooms/{room_id}/messages 201 \d+ms", log)) == 1
    assert len(re.findall(rf"turn {room_id}/2 stand-in", log)) == 1
    assert "GET /rooms 200" in log
    assert "secret" not in log


def test_kill_9_in_mid_answer_loses_nothing_acknowledged(
    server: Server, model_server: ModelServer, tab: OpenTab
) -> None:
    """The question is there, the answer is interrupted with what was written, and Retry works."""
    room_id = new_room(server)
    one = tab(room_id)
    reply = model_server.will(held(text("Kept words. ")))
    requests.post(f"{server.url}/rooms/{room_id}/messages", {"text": "Asked"})
    one.read_until("Kept words.")
    path = server.instance / "facets" / f"room-{room_id}.sqlite"
    until = time.monotonic() + DEADLINE
    db = sqlite3.connect(path)
    while not db.execute("SELECT 1 FROM parts WHERE message = 2").fetchone():  # about a second after it began
        assert time.monotonic() < until
        reply.say(text("more "))
        one.read_until("more")
    db.close()
    server.restart(signal.SIGKILL)
    shown = requests.get(f"{server.url}/rooms/{room_id}/messages").text
    assert "Asked" in shown and "Kept words." in shown and 'data-state="interrupted"' in shown
    assert f'id="room-{room_id}" class="row" data-room="{room_id}" data-messages="2"\n    data-state="idle"' in (
        requests.get(f"{server.url}/rooms").text
    )
    assert requests.post(f"{server.url}/rooms/{room_id}/turn").status_code == 201
    again = tab(room_id)
    again.read_until(lambda frame: re.search(r'id="message-2"[^>]*data-state="complete"', frame) is not None)


def test_flask_run_works_too(tmp_path: Path, model_server: ModelServer) -> None:
    """Werkzeug's threads instead of greenlets, the reloader and all: a room answers, and a tab sees it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flask", "--app", "app", "run", "--debug", "--port", str(port)]
    settings = {"OVERSEER_INSTANCE": str(tmp_path), "OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stderr is not None
        while "Debugger PIN" not in (line := process.stderr.readline()):
            assert line, "it ended"
        url = f"http://127.0.0.1:{port}"
        room_id = requests.post(f"{url}/rooms").headers["Location"].rsplit("/", 1)[-1]
        one = Tab(url, f"room={room_id}")
        requests.post(f"{url}/rooms/{room_id}/messages", {"text": "Hello"})
        one.read_until("All right.")
        one.close()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(DEADLINE)
        assert process.stderr is not None
        process.stderr.close()


def test_a_port_that_is_none_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """Too large, or no number at all."""
    for given in ("99999", "http"):
        done = run("--port", given, "--instance", str(tmp_path))
        assert done.returncode == 2
        assert f"{given!r} is no port" in done.stderr and "Traceback" not in done.stderr


def test_nobody_writes_a_log_line_of_their_own(server: Server) -> None:
    """A line end in an address stays in its line."""
    requests.get(f"{server.url}/rooms/%0a2026-01-01 00:00:00 FORGED")
    server.stop()
    assert [line for line in server.log if "FORGED" in line and "GET /rooms/" not in line] == []
    assert any("FORGED" in line for line in server.log)


@pytest.fixture
def slow_disk(tmp_path: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    """A server on a disk where a test holds up the commits to a room."""
    environment = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
    program = ("-m", "tests.support.slow_disk")
    server = Server(tmp_path / "instance", environment=environment, program=program, server_pool=server_pool).start()
    yield server
    server.stop()


def test_question_on_a_slow_disk_is_acknowledged_after_its_commit_and_delays_no_request(slow_disk: Server) -> None:
    """While one message is being made safe, others are served; it is acknowledged when it is, and then is there."""
    room_id = new_room(slow_disk)
    room = f"{slow_disk.url}/rooms/{room_id}"
    with ThreadPoolExecutor(1) as pool:
        with slow_disk_held(slow_disk.instance, room_id):
            wait = {"Prefer": "wait=15"}
            asked = pool.submit(requests.post, f"{room}/messages", {"text": "Owls?"}, headers=wait, timeout=DEADLINE)
            for _ in range(5):
                assert requests.get(f"{slow_disk.url}/healthz", timeout=DEADLINE).ok
                new_room(slow_disk)
            assert not asked.done()
        assert asked.result(DEADLINE).status_code == 201
    slow_disk.restart(signal.SIGKILL)
    page = requests.get(f"{room}/messages", timeout=DEADLINE).text
    assert "Owls?" in page and "All right." in page
    assert "Traceback" not in "".join(slow_disk.log)


def test_room_on_a_slow_disk_delays_no_other_room(slow_disk: Server, model_server: ModelServer) -> None:
    """Tabs wait for the lock of a room whose commit hangs; tokens, rows and new tabs of another room do not."""
    slow_id, quick_id = new_room(slow_disk), new_room(slow_disk)
    reply = model_server.will(held())
    requests.post(f"{slow_disk.url}/rooms/{quick_id}/messages", {"text": "Owls?"}, timeout=DEADLINE)
    with ThreadPoolExecutor(1) as pool, ExitStack() as tabs:

        def tab_on(room_id: str) -> Tab:
            return tabs.enter_context(closing(Tab(slow_disk.url, f"room={room_id}")))

        quick = tab_on(quick_id)
        quick.read_until("Owls?")
        with slow_disk_held(slow_disk.instance, slow_id) as marker:
            url = f"{slow_disk.url}/rooms/{slow_id}"
            renamed = pool.submit(requests.patch, url, {"name": "Renamed"}, timeout=DEADLINE)
            until(lambda: marker.stat().st_size > 0)  # the room is locked now
            waiting = [tab_on(slow_id) for _ in range(3)]
            for tab in waiting:
                tab.read_until('hx-target="#rooms"')  # the list comes, the room has to wait
            for n in range(5):
                reply.say(text(f"word{n} "))
                quick.read_until(f"word{n}")
            tab_on(quick_id).read_until("word4")
            assert not renamed.done()
        assert renamed.result(DEADLINE).ok
        for tab in waiting:
            tab.read_until(lambda frame: 'hx-target="#header"' in frame and "Renamed" in frame)
    reply.hang_up()
