"""What a proxy and clients get from two nodes: each is an app in this process, with the same bucket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from overseer import create_app
from overseer.cluster.placement import Cluster
from overseer.domain.addresses import Access
from overseer.llm.choice import ModelSettings
from overseer.web.extensions import served
from tests.cluster.conftest import Store
from tests.cluster.litestream import Litestream
from tests.multi.conftest import bearer, fast_hash, is_password
from tests.support.model_server import ModelServer
from tests.support.waiting import join_turn_threads

OWNER = "Overseer-Owner"


@pytest.fixture
def nodes(
    tmp_path: Path,
    store: Store,
    litestream: Litestream,
    model_server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[list[FlaskClient]]:
    for name, value in {
        **litestream.environment,
        "OVERSEER_BUCKET": store.url,
        "OVERSEER_LITESTREAM": str(litestream.socket),
    }.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        clients = []
        for number in range(2):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            app = create_app(
                tmp_path / str(number),
                models=ModelSettings(base_url=model_server.url, name="stand-in"),
                access=Access(password=fast_hash("admin"), hosts=frozenset({"localhost"})),
                check_password=is_password,
                node=f"127.0.0.1:{listener.getsockname()[1]}",
            )
            stack.callback(join_turn_threads)
            stack.callback(served(app).close)
            served(app).open()
            clients.append(app.test_client())
        yield clients


def cluster(client: FlaskClient) -> Cluster:
    found = served(client.application)
    assert isinstance(found, Cluster)
    return found


def owner_of(client: FlaskClient, name: str) -> str:
    """Ask a node as nginx does."""
    response = client.get("/_owner", headers={"X-Original-URI": f"/o/{name}/rooms?q=1"})
    assert response.status_code == 204 and not response.data
    return response.headers[OWNER]


def test_overseer_is_served_by_one_node_and_others_name_it(nodes: list[FlaskClient], name: str) -> None:
    first, second = nodes
    here, there = (cluster(client).node.address for client in nodes)
    assert first.get(f"/o/{name}/", headers=bearer(name)).status_code == 404
    assert owner_of(first, name) == here and owner_of(second, name) == there  # which say 404
    form = {"password": name}
    assert second.put(f"/o/{name}", data=form).status_code == 401
    made = [client.put(f"/o/{name}", data=form, headers=bearer("admin")).status_code for client in nodes]
    assert made == [201, 201]
    assert second.put(f"/o/{name}", data={"password": "b"}, headers=bearer("admin")).status_code == 409

    assert owner_of(first, name) == here == owner_of(second, name)
    room = first.post(f"/o/{name}/rooms", data={"name": "Soup"}, headers=bearer(name))
    assert room.status_code == 201
    for response in (second.get(f"/o/{name}/", headers=bearer(name)), second.post(f"/o/{name}/rooms")):
        assert (response.status_code, response.headers[OWNER]) == (421, here)
    assert second.get(f"/o?name={name}").status_code == 303

    cluster(first).node.release(name)
    cluster(second).node._elsewhere.clear()
    moved = second.get(room.headers["Location"], headers=bearer(name))
    assert moved.status_code == 200 and "Soup" in moved.text
    assert owner_of(second, name) == there


def test_overseer_that_moves_during_a_request_is_unavailable_and_not_missing(
    nodes: list[FlaskClient], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = nodes[0]
    client.put(f"/o/{name}", data={"password": name}, headers=bearer("admin"))
    node, claim = cluster(client).node, cluster(client).claim

    def claim_and_lose(claimed: str) -> None:
        claim(claimed)
        node.release(claimed)

    monkeypatch.setattr(Cluster, "claim", lambda self, claimed: claim_and_lose(claimed))
    response = client.get(f"/o/{name}/", headers=bearer(name))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


def test_node_without_the_bucket_says_so_without_its_address(
    nodes: list[FlaskClient], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a proxy gets a 404 for its question: it would take a 503 as a reason not to ask for other Overseers."""
    client = nodes[0]
    node = cluster(client).node
    monkeypatch.setattr(node._bucket, "_url", "http://127.0.0.1:1/secret-bucket")
    asked = client.get("/_owner", headers={"X-Original-URI": f"/o/{name}/"})
    assert asked.status_code == 404 and OWNER not in asked.headers
    response = client.get(f"/o/{name}/", headers=bearer(name))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert not any("secret-bucket" in text for text in (asked.text, response.text))
