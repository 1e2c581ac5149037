"""`deploy/nginx.conf` in a real nginx, before nodes that do as a test says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cluster.client import call
from tests.cluster.nginx import Nginx
from tests.cluster.program import MissingPart
from tests.support.waiting import until

UNKNOWN = "bad"  # an Overseer of which no node can find out who has it


class StandIn:
    """A node. `owner` is the address that it names if it `knows`; `answer` the status of all else, or 0 to hang up."""

    def __init__(self) -> None:
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/_owner":
                    node.asked += 1
                    knows = node.knows and not self.headers["X-Original-URI"].startswith(f"/o/{UNKNOWN}/")
                    return self._send(204, node.owner) if knows else self._send(404)
                node.requests.append((self.command, self.path, body))
                node.headers.append({name.lower(): value for name, value in self.headers.items()})
                if not node.answer:
                    self.close_connection = True
                    return
                self._send(node.answer, node.owner, f"{node.answer} from {node.address}".encode())

            do_POST = do_PUT = do_GET

            def _send(self, status: int, owner: str = "", body: bytes = b"") -> None:
                self.send_response(status)
                if owner:
                    self.send_header("Overseer-Owner", owner)
                if status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.owner = self.address
        self.answer = 200
        self.knows = True
        self.asked = 0
        self.requests: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self._is_closed = False

    def close(self) -> None:
        """Listen no more."""
        if not self._is_closed:
            self._is_closed = True
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


@pytest.fixture
def nodes() -> Iterator[list[StandIn]]:
    """Three nodes; the first one has everything."""
    with ExitStack() as ends:
        nodes = [StandIn() for _ in range(3)]
        for node in nodes:
            ends.callback(node.close)
            node.owner = nodes[0].address
        yield nodes


@pytest.fixture
def nginx(nodes: list[StandIn], tmp_path: Path) -> Iterator[Nginx]:
    try:
        nginx = Nginx(tmp_path / "nginx", [node.address for node in nodes])
    except MissingPart as error:
        pytest.skip(str(error))
    nginx.program.start()
    yield nginx
    nginx.stop()


def give(nodes: list[StandIn], owner: StandIn) -> None:
    """Let another node have everything. Those that do not have it refuse with 421."""
    for node in nodes:
        node.owner = owner.address
        node.answer = 200 if node is owner else 421


def test_nginx_passes_requests_to_the_owner_and_asks_once_a_second(nodes: list[StandIn], nginx: Nginx) -> None:
    for _ in range(20):
        assert call(nginx.url, "GET", "/o/kitchen/rooms").status == 200
    assert len(nodes[0].requests) == 20 and not nodes[1].requests + nodes[2].requests
    assert sum(node.asked for node in nodes) <= 3


def test_nginx_sets_the_forwarded_headers_itself(nodes: list[StandIn], nginx: Nginx) -> None:
    """What a client says of these is not passed on, and only WebSockets are upgraded."""
    names = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix")
    told = {**dict.fromkeys(names, "evil"), "Upgrade": "h2c", "Connection": "upgrade"}
    call(nginx.url, "GET", "/o/kitchen/rooms", headers=told)
    assert "evil" not in nodes[0].headers[0].values() and "upgrade" not in nodes[0].headers[0]
    assert nodes[0].headers[0]["x-forwarded-host"] == nginx.url.removeprefix("http://")
    assert nodes[0].headers[0]["x-forwarded-for"] == "127.0.0.1"


def test_nginx_repeats_a_request_that_the_former_owner_refused(nodes: list[StandIn], nginx: Nginx) -> None:
    call(nginx.url, "GET", "/o/kitchen/rooms")
    give(nodes, nodes[1])
    response = call(nginx.url, "POST", "/o/kitchen/rooms", {"name": "x" * 100_000})
    assert response.status == 200 and response.text.endswith(nodes[1].address)
    assert nodes[1].requests == [("POST", "/o/kitchen/rooms", b"name=" + b"x" * 100_000)]


def test_nginx_says_503_if_the_new_owner_refuses_too(nodes: list[StandIn], nginx: Nginx) -> None:
    for node in nodes:
        node.answer = 421
    response = call(nginx.url, "POST", "/o/kitchen/rooms", {"name": "Soup"})
    assert response.status == 503 and response.headers["retry-after"] == "1"
    assert sum(len(node.requests) for node in nodes) == 2


def test_nginx_repeats_what_was_not_sent_when_the_owner_is_gone(nodes: list[StandIn], nginx: Nginx) -> None:
    call(nginx.url, "GET", "/o/kitchen/rooms")
    nodes[0].close()
    give(nodes, nodes[1])
    assert call(nginx.url, "POST", "/o/kitchen/rooms", {"name": "Soup"}).status == 200
    assert call(nginx.url, "GET", "/o/kitchen/rooms").status == 200


def test_nginx_does_not_repeat_a_write_that_was_sent(nodes: list[StandIn], nginx: Nginx) -> None:
    """The node may have carried it out before it ended."""
    nodes[0].answer = 0
    response = call(nginx.url, "POST", "/o/kitchen/rooms", {"name": "Soup"})
    assert response.status == 503 and response.headers["retry-after"] == "1"
    assert len(nodes[0].requests) == 1
    assert call(nginx.url, "GET", "/o/kitchen/rooms").status == 503
    assert len(nodes[0].requests) == 3  # what only reads is repeated


@pytest.mark.parametrize("status", [401, 404, 409, 500, 503])
def test_nginx_passes_errors_of_an_overseer_on(nodes: list[StandIn], nginx: Nginx, status: int) -> None:
    nodes[0].answer = status
    response = call(nginx.url, "GET", "/o/kitchen/rooms")
    assert response.text == f"{status} from {nodes[0].address}" and len(nodes[0].requests) == 1


def test_nginx_asks_another_node_if_one_cannot_find_out(nodes: list[StandIn], nginx: Nginx) -> None:
    for node in nodes[:2]:
        node.knows = False
    for number in range(9):  # of each node some
        assert call(nginx.url, "GET", f"/o/kitchen-{number}/rooms").status == 200
    assert nodes[0].asked + nodes[1].asked and nodes[2].asked == 9


def test_nginx_shows_owners_to_nobody(nodes: list[StandIn], nginx: Nginx) -> None:
    response = call(nginx.url, "GET", "/_owner")
    assert "overseer-owner" not in response.headers and not any(node.asked for node in nodes)


def test_overseer_that_no_node_can_open_does_not_affect_others(nodes: list[StandIn], nginx: Nginx) -> None:
    """That a node cannot find out who has it is no reason not to ask that node for another one."""
    unknown, over = Counter[int](), threading.Event()

    def ask() -> None:
        while not over.is_set():
            unknown[call(nginx.url, "GET", f"/o/{UNKNOWN}/rooms").status] += 1

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    until(lambda: unknown[503] > 5)
    statuses = Counter(call(nginx.url, "GET", f"/o/other-{number}/rooms").status for number in range(100))
    statuses[call(nginx.url, "GET", "/healthz").status] += 1
    over.set()
    thread.join()
    assert statuses == {200: 101} and not unknown[200]
