"""When an Overseer is opened and closed: use, idleness, the limit, removal, another password, and races."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from overseer.domain.errors import InstanceError, NoSuchOverseer, OverseerExists
from overseer.multi import instances as instances_module
from overseer.multi import rounds
from overseer.multi.directory import PASSWORD_FILE, TEMPORARY, Directory, Identity
from overseer.multi.instances import Instances
from overseer.multi.rounds import Rounds
from overseer.web.extensions import served
from tests.multi.conftest import bearer, fast_hash, start
from tests.support.files import open_files
from tests.support.model_server import ModelServer, held, text
from tests.support.server import StartServer
from tests.support.tab import Tab
from tests.support.waiting import DEADLINE, until

RACE_SECONDS = 0.05  # how long a test waits for something that must not happen


def new_room(client: FlaskClient, name: str) -> str:
    made = client.post(f"/o/{name}/rooms", data={"name": f"Room of {name}"}, headers=bearer(name))
    assert made.status_code == 201, made.text
    return made.headers["Location"]


def idle_for(instances: Instances, seconds: float) -> None:
    """Let this time pass for all that is idle, and look for what has to be closed."""
    with instances._lock:
        for entry in instances._entries.values():
            entry.used_at -= seconds
    instances.sweep()


def test_overseer_is_opened_by_an_authorized_request(client: FlaskClient, instance: Path) -> None:
    assert client.get("/o/alpha/rooms", headers=bearer("wrong")).status_code == 401
    assert not (instance / "o" / "alpha" / "overseer.sqlite").exists()
    assert client.get("/o/alpha/rooms", headers=bearer("alpha")).status_code == 200
    assert (instance / "o" / "alpha" / "overseer.sqlite").exists()
    assert not (instance / "o" / "beta" / "overseer.sqlite").exists()


def test_idle_overseer_is_closed_and_opened_again(client: FlaskClient, instances: Instances, instance: Path) -> None:
    path = new_room(client, "alpha")
    logged_in = client.application.test_client()
    logged_in.post("/o/alpha/login", data={"password": "alpha"})
    idle_for(instances, 599)
    assert len(instances) == 1 and open_files(instance / "o" / "alpha")
    idle_for(instances, 2)
    assert len(instances) == 0
    assert not open_files(instance / "o" / "alpha") and not open_files(instance / "o" / "alpha" / "facets")
    assert logged_in.get(path).status_code == 200, "the log-in is kept"
    assert len(instances) == 1


def test_running_turn_keeps_its_overseer_open(
    client: FlaskClient, instances: Instances, model_server: ModelServer
) -> None:
    reply = model_server.will(held(text("Half")))
    path = new_room(client, "alpha")
    client.post(f"{path}/messages", data={"text": "Hello?"}, headers=bearer("alpha"))
    assert reply.begun.wait(DEADLINE)
    idle_for(instances, 10_000)
    assert len(instances) == 1
    reply.hang_up()
    until(lambda: 'data-state="streaming"' not in client.get(path, headers=bearer("alpha")).text)

    def is_closed() -> bool:
        idle_for(instances, 10_000)
        return len(instances) == 0

    until(is_closed)


def test_open_tab_keeps_its_overseer_open(start_server: StartServer, directory: Directory) -> None:
    server = start_server(OVERSEER_MULTI="1", altered={"overseers": {"idle_seconds": 0.0, "sweep_seconds": 0.01}})
    directory.add("gamma", "")
    files = Path(f"/proc/{server.pid}/fd")

    def is_open() -> bool:
        return any("gamma" in str(one.resolve()) for one in files.iterdir())

    with closing(Tab(f"{server.url}/o/gamma")) as tab:
        tab.read_until("hx-partial")
        time.sleep(RACE_SECONDS)
        assert is_open()
        requests.post(f"{server.url}/o/gamma/rooms", {"name": "Cellar"}, timeout=20).raise_for_status()
        tab.has("Cellar")
    until(lambda: not is_open())


def test_least_recently_used_is_closed_beyond_the_limit(
    client: FlaskClient, instances: Instances, directory: Directory
) -> None:
    instances._limit = 2
    for name in ("c", "d"):
        directory.add(name, fast_hash(name))
    for name in ("alpha", "beta", "alpha", "c"):
        assert client.get(f"/o/{name}/rooms", headers=bearer(name)).status_code == 200
    until(lambda: len(instances) == 2)
    assert set(instances._entries) == {"alpha", "c"}


def test_caches_of_those_that_were_not_used_lately_are_freed(
    client: FlaskClient, instances: Instances, instance: Path
) -> None:
    path = new_room(client, "alpha")
    assert open_files(instance / "o" / "alpha" / "facets")
    idle_for(instances, instances_module.WARM_SECONDS)
    assert len(instances) == 1 and not open_files(instance / "o" / "alpha" / "facets")
    assert client.get(path, headers=bearer("alpha")).status_code == 200


def test_removed_overseer_is_gone_and_is_not_made_again(
    client: FlaskClient, instances: Instances, directory: Directory, instance: Path
) -> None:
    path = new_room(client, "alpha")
    directory.remove("alpha")
    assert client.get(path, headers=bearer("alpha")).status_code == 404
    instances.sweep()
    assert len(instances) == 0 and directory.names() == ["beta"]
    assert not (instance / "o" / "alpha").exists()
    directory.add("alpha", fast_hash("alpha"))
    assert client.get(path, headers=bearer("alpha")).status_code == 404
    assert "Room of alpha" not in client.get("/o/alpha/rooms", headers=bearer("alpha")).text


def test_tabs_of_a_removed_overseer_are_closed(start_server: StartServer, directory: Directory) -> None:
    server = start_server(OVERSEER_MULTI="1")
    directory.add("gamma", "")
    with closing(Tab(f"{server.url}/o/gamma")) as tab:
        tab.read_until("hx-partial")
        directory.remove("gamma")
        assert tab.read_to_close() == 1012
    assert requests.get(f"{server.url}/o/gamma/", timeout=20).status_code == 404


def test_other_password_ends_the_log_ins(client: FlaskClient, instance: Path) -> None:
    client.post("/o/alpha/login", data={"password": "alpha"})
    assert client.get("/o/alpha/rooms").status_code == 200
    (instance / "o" / "alpha" / PASSWORD_FILE).write_text(fast_hash("new"))
    assert client.get("/o/alpha/rooms").status_code == 401
    assert client.get("/o/alpha/rooms", headers=bearer("new")).status_code == 200


def test_second_server_is_refused(app: Flask, client: FlaskClient, instance: Path, model_server: ModelServer) -> None:
    client.get("/")
    other = start(instance, model_server)
    with pytest.raises(InstanceError, match="is in use by process"):
        served(other).open()
    response = other.test_client().get("/")
    assert response.status_code == 503 and "is in use by process" in response.text


def test_what_a_crash_left_is_removed_by_the_next_start(instance: Path, directory: Directory) -> None:
    left = instance / "o" / f"{TEMPORARY}abc" / "facets"
    left.mkdir(parents=True)
    (left / "room-000000000000.sqlite").touch()
    directory.acquire()
    assert not left.parent.exists() and directory.names() == ["alpha", "beta"]
    directory.release()


def test_directory_that_cannot_be_read_is_said(client: FlaskClient, instance: Path) -> None:
    (instance / "o" / "alpha" / PASSWORD_FILE).write_bytes(b"\xff\xfe")
    response = client.get("/o/alpha/rooms", headers=bearer("alpha"))
    assert response.status_code == 503 and "it is not UTF-8 text" in response.text
    assert client.get("/o/beta/rooms", headers=bearer("beta")).status_code == 200


def test_rooms_survive_a_kill_and_a_move_to_a_server_of_their_own(
    start_server: StartServer, directory: Directory, tmp_path: Path, model_server: ModelServer
) -> None:
    import signal

    server = start_server(OVERSEER_MULTI="1")
    directory.add("gamma", "")
    made = requests.post(f"{server.url}/o/gamma/rooms", {"name": "Cellar"}, timeout=20)
    url = server.url + made.headers["Location"]
    requests.post(f"{url}/messages", {"text": "Hello?"}, headers={"Prefer": "wait=20"}, timeout=30).raise_for_status()
    server.restart(signal.SIGKILL)
    assert "Hello?" in requests.get(url, timeout=20).text
    server.stop()
    from overseer import create_app
    from overseer.llm.choice import ModelSettings

    alone = create_app(directory.path("gamma"), models=ModelSettings(base_url=model_server.url, name="x"))
    assert "Hello?" in alone.test_client().get(made.headers["Location"].removeprefix("/o/gamma")).text
    served(alone).close()


def test_opening_closing_and_removing_at_once_loses_nothing(
    client: FlaskClient, instances: Instances, directory: Directory
) -> None:
    """Threads use three Overseers, of which one is closed all the time, and one removed and made again."""
    directory.add("c", fast_hash("c"))
    path = new_room(client, "alpha")
    over, faults = threading.Event(), []
    answered: Counter[str] = Counter()

    def use(name: str) -> None:
        one = client.application.test_client()
        while not over.is_set():
            response = one.get(path if name == "alpha" else f"/o/{name}/rooms", headers=bearer(name))
            answered[name] += 1
            expected = {200} if name != "c" else {200, 404, 503}
            if response.status_code not in expected:
                faults.append((name, response.status_code, response.text))

    def close() -> None:
        while not over.is_set():
            idle_for(instances, 10_000)

    threads = [threading.Thread(target=use, args=(name,)) for name in ("alpha", "alpha", "beta", "c")]
    threads.append(threading.Thread(target=close))
    for thread in threads:
        thread.start()
    for _ in range(20):
        directory.remove("c")
        before = answered["c"]
        until(lambda: answered["c"] > before)  # noqa: B023
        directory.add("c", fast_hash("c"))
    over.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert not faults
    instances.sweep()
    assert "Room of alpha" in client.get(path, headers=bearer("alpha")).text
    assert directory.names() == ["alpha", "beta", "c"]


def test_response_that_nobody_closes_is_ended_by_garbage_collection(
    app: Flask, instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the same thread opens an Overseer."""
    instances.open()
    environ = EnvironBuilder(path="/o/alpha/rooms", headers=list(bearer("alpha").items())).get_environ()
    environ["REMOTE_ADDR"] = "127.0.0.1"
    response: list[object] = [app(environ, lambda *_: lambda _: None)]
    response.append(response)  # a cycle, which only garbage collection ends
    del response
    identity = Directory.identity

    def collecting(directory: Directory, name: str) -> Identity | None:
        gc.collect()
        return identity(directory, name)

    monkeypatch.setattr(Directory, "identity", collecting)
    with instances.use("alpha"):
        assert instances._entries["alpha"].users == 1


def test_closed_server_opens_none(client: FlaskClient, instances: Instances) -> None:
    client.get("/o/alpha/rooms", headers=bearer("alpha"))
    instances.close()
    assert len(instances) == 0
    with pytest.raises(NoSuchOverseer), instances.use("alpha"):
        pass


def test_half_removed_directory_is_no_overseer(client: FlaskClient, instance: Path, directory: Directory) -> None:
    shutil.copytree(instance / "o" / "alpha", instance / "o" / "gamma")
    assert client.get("/o/gamma/rooms", headers=bearer("alpha")).status_code == 200
    (instance / "o" / "beta" / PASSWORD_FILE).unlink()
    assert client.get("/o/beta/rooms", headers=bearer("beta")).status_code == 404
    assert directory.names() == ["alpha", "gamma"]


# Fair shares


class Queue:
    """Requests in threads of their own; each is served until `serve` names it."""

    def __init__(self) -> None:
        self.rounds = Rounds()
        self.begun: list[str] = []
        self.served: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def request(self, name: str, *, overseer: str = "") -> None:
        """Send a request. Return when it has begun or waits."""
        before = len(self.begun) + self.waiting()
        self.served[name] = threading.Event()
        self._threads.append(threading.Thread(target=self._run, args=(name, overseer or name[0])))
        self._threads[-1].start()
        until(lambda: len(self.begun) + self.waiting() > before)

    def waiting(self) -> int:
        with self.rounds._lock:
            return sum(map(len, self.rounds._waiting.values()))

    def serve(self, *names: str) -> None:
        for name in names:
            self.served[name].set()

    def end(self) -> None:
        self.rounds.stop()
        self.rounds.start()
        self.serve(*self.served)
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()

    def _run(self, name: str, overseer: str) -> None:
        with self.rounds.request(overseer):
            self.begun.append(name)
            assert self.served[name].wait(DEADLINE)


@pytest.fixture
def queue() -> Iterator[Queue]:
    queue = Queue()
    yield queue
    queue.end()


def test_each_overseer_begins_one_request_in_a_round(queue: Queue) -> None:
    for name in ("a1", "a2", "a3", "b1", "b2"):
        queue.request(name)
    assert queue.begun == ["a1", "b1"]
    assert queue.rounds.advance()
    until(lambda: sorted(queue.begun) == ["a1", "a2", "b1", "b2"])
    assert queue.rounds.advance() and not queue.rounds.advance()
    until(lambda: queue.begun[-1] == "a3")


def test_round_of_several_overseers_is_over_when_its_requests_are_served(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "ROUND_SECONDS", DEADLINE)
    for name in ("a1", "a2", "b1"):
        queue.request(name)
    queue.rounds.start()
    queue.serve("a1")
    time.sleep(RACE_SECONDS)
    assert queue.begun == ["a1", "b1"]
    queue.serve("b1")
    until(lambda: queue.begun == ["a1", "b1", "a2"])


def test_request_that_takes_long_holds_no_other_up(queue: Queue) -> None:
    """For instance one that waits for a model."""
    for name in ("a1", "a2", "a3", "b1"):
        queue.request(name)
    queue.rounds.start()
    until(lambda: len(queue.begun) == 4)


def test_requests_of_one_overseer_overlap(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUND_SECONDS", DEADLINE)
    for name in ("a1", "a2", "a3"):
        queue.request(name)
    queue.rounds.start()
    until(lambda: len(queue.begun) == 3)


def test_requests_that_wait_begin_when_the_server_stops(queue: Queue) -> None:
    for name in ("a1", "a2", "a3"):
        queue.request(name)
    queue.rounds.stop()
    queue.rounds.start()
    until(lambda: len(queue.begun) == 3)


def test_directory_that_was_moved_in_becomes_an_overseer(
    client: FlaskClient, instance: Path, directory: Directory
) -> None:
    path = new_room(client, "alpha").replace("alpha", "moved")
    shutil.copytree(instance / "o" / "alpha", instance / "o" / "moved", ignore=shutil.ignore_patterns(PASSWORD_FILE))
    assert client.get(path, headers=bearer("moved")).status_code == 404
    directory.add("moved", fast_hash("moved"))
    assert client.get(path, headers=bearer("moved")).status_code == 200
    with pytest.raises(OverseerExists):
        directory.add("moved", "")


def test_temporary_room_of_an_overseer_that_was_closed_is_deleted_when_it_is_open_again(
    client: FlaskClient, instances: Instances, instance: Path
) -> None:
    made = client.post("/o/alpha/rooms", data={"temporary": "1"}, headers=bearer("alpha"))
    room_id = made.headers["Location"][-12:]
    made.close()
    files = instance / "o" / "alpha" / "facets"
    idle_for(instances, 10_000)
    assert len(instances) == 0 and [path.name for path in files.iterdir()] == [f"room-{room_id}.sqlite"]
    assert client.get("/o/alpha/rooms", headers=bearer("alpha")).status_code == 200
    with instances.use("alpha") as found:
        rooms = found.overseer.temporary_rooms
        assert [*rooms._due] == [room_id]
        rooms._seconds = 0.0
        rooms.add(room_id)
        rooms._wake.set()
        until(lambda: not any(files.iterdir()))
    assert client.get(f"/o/alpha/rooms/{room_id}", headers=bearer("alpha")).status_code == 404
