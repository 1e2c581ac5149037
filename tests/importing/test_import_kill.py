"""`kill -9` during an import: after the next start it goes on by itself, and the report has each conversation once."""

from __future__ import annotations

import signal

import pytest
import requests

from overseer.storage.check import check
from tests.support.exports import as_json, many
from tests.support.server import Server
from tests.support.waiting import until

CONVERSATIONS = 150
KILLS = 4
JSON = {"Accept": "application/json"}


def report(server: Server, path: str) -> dict[str, object]:
    found: dict[str, object] = requests.get(server.url + path, headers=JSON, timeout=20).json()
    return found


def worker_of(server: Server) -> list[int]:
    """Return the processes that read exports for the server."""
    with open(f"/proc/{server.pid}/task/{server.pid}/children") as children:
        return [int(pid) for pid in children.read().split()]


@pytest.mark.parametrize("kills", [KILLS])
def test_kill_during_an_import_loses_and_doubles_nothing(server: Server, kills: int) -> None:
    file = as_json(many(CONVERSATIONS, exchanges=3))
    response = requests.post(
        f"{server.url}/import",
        files={"file": ("conversations.json", file)},
        headers={**JSON, "Prefer": "respond-async"},
        timeout=20,
    )
    assert response.status_code == 202
    path = response.headers["Location"]
    for number in range(1, kills + 1):
        wanted = CONVERSATIONS * number // (kills + 1)
        until(lambda wanted=wanted: len(report(server, path)["conversations"]) >= wanted)  # type: ignore[misc,arg-type]
        server.restart(signal.SIGKILL)
    until(lambda: report(server, path)["state"] == "done")
    found = report(server, path)
    lines: list[dict[str, object]] = found["conversations"]  # type: ignore[assignment]
    assert [line["name"] for line in lines] == [f"Talk {number}" for number in range(1, CONVERSATIONS + 1)]
    assert (found["imported"], found["skipped"], found["failed"]) == (CONVERSATIONS, 0, 0)
    assert len({line["room"] for line in lines}) == CONVERSATIONS
    until(lambda: not worker_of(server))
    server.stop()
    faults = [one.sentence for one in check(server.instance, progress=lambda *_: None).findings if one.fault]
    assert faults == []
    assert len(list((server.instance / "facets").glob("*.sqlite"))) == CONVERSATIONS
    assert not (server.instance / "imports").exists()


def test_worker_ends_with_the_server(server: Server) -> None:
    requests.post(
        f"{server.url}/import",
        files={"file": ("conversations.json", as_json(many(3000)))},
        headers={"Prefer": "respond-async"},
        timeout=20,
    )
    until(lambda: bool(worker_of(server)))
    (worker,) = worker_of(server)
    server.stop(signal.SIGKILL)

    def is_gone() -> bool:
        try:
            with open(f"/proc/{worker}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(is_gone)
