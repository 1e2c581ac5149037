"""Values of a kind that Overseer does not store, which another program has put into a room's file."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from overseer import create_app
from overseer.llm.choice import ModelSettings
from overseer.rooms.overseer import Overseer
from overseer.storage.check import check
from overseer.storage.instance_lock import REGISTRY_FILE, room_file
from overseer.web.extensions import overseer as overseer_of
from tests.support.client import NAVIGATION, ask, new_room
from tests.support.files import execute, remove_with_companions
from tests.support.model_server import ModelServer
from tests.support.waiting import until

UNREADABLE = {
    "a blob as text": "UPDATE parts SET text = CAST(text AS BLOB)",
    "a blob as the name": "UPDATE room SET name = CAST(name AS BLOB)",
    "a text as a time": "UPDATE messages SET created_at = 'noon'",
    "a text as a lane": "UPDATE messages SET lane = 'x' WHERE role = 'assistant'",
    "a depth beyond all": "UPDATE messages SET depth = 9223372036854775807",
    "a blob as a model": "UPDATE messages SET asked_model = x'00ff'",
}
ODD = {
    "a time after the year 9999": "UPDATE messages SET created_at = 9223372036854775807",
    "a time before the year 1": "UPDATE messages SET created_at = -62135596800001",
    "a room that was created later": "UPDATE room SET created_at = 9223372036854775807",
    "no sequence": "DELETE FROM sqlite_sequence",
    "answers beside nothing": "UPDATE messages SET lane = 1, parent = NULL WHERE role = 'assistant'",
    "a first message beside another": "UPDATE messages SET lane = 1 WHERE role = 'user'",
}
SEARCH = "/search?q=quince"


@pytest.fixture
def rooms(client: FlaskClient, overseer: Overseer) -> tuple[str, str]:
    """A room to change and another one, both about the same, with the app closed."""
    ids = new_room(client), new_room(client)
    for room_id in ids:
        ask(client, room_id, "A quince?")
    overseer.close()
    return ids


def started(instance: Path, model_server: ModelServer) -> Flask:
    app = create_app(instance, models=ModelSettings(base_url=model_server.url, name="stand-in"))
    overseer_of(app).open()
    return app


@pytest.mark.parametrize("registry", ["kept", "lost"])
@pytest.mark.parametrize("change", [*UNREADABLE, *ODD])
def test_room_with_an_odd_value_affects_no_other_room(
    instance: Path, model_server: ModelServer, rooms: tuple[str, str], change: str, registry: str
) -> None:
    changed, other = rooms
    file = room_file(instance, changed)
    execute(file, {**UNREADABLE, **ODD}[change])
    if registry == "lost":
        remove_with_companions(instance / REGISTRY_FILE)
    app = started(instance, model_server)
    client = app.test_client()
    try:
        for path in ("/rooms", f"/rooms/{other}", f"/rooms/{other}?at=2", "/palette?q=quince", "/rooms?q=quince"):
            assert client.get(path, headers=NAVIGATION).status_code == 200, path
        until(lambda: f"/rooms/{other}/messages/1" in client.get(SEARCH).text)
        ask(client, other, "Another medlar?")
        until(lambda: f"/rooms/{other}/messages/3" in client.get("/search?q=medlar").text)
        expected = {200, 404, 500} if change in UNREADABLE else {200}
        for path in ("", "?at=2", "/messages", "/messages?before=2", "/messages/2", "/messages/1"):
            response = client.get(f"/rooms/{changed}{path}")
            assert response.status_code in expected, (path, response.text)
            assert response.status_code < 500 or "Something went wrong" not in response.text, path
    finally:
        overseer_of(app).close()


@pytest.mark.parametrize("change", UNREADABLE)
def test_check_names_a_room_with_an_unreadable_value(instance: Path, rooms: tuple[str, str], change: str) -> None:
    assert not check(instance, progress=lambda *_: None).findings
    execute(room_file(instance, rooms[0]), UNREADABLE[change])
    findings = check(instance, progress=lambda *_: None).findings
    assert findings and all(rooms[0] in one.sentence and one.fault for one in findings), findings
