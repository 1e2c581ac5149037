"""Downloads: a room in each format, and all rooms in a zip archive."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer.domain.errors import NoSuchRoom
from overseer.domain.messages import File
from overseer.domain.text import MAX_FILE_NAME_BYTES, file_name
from overseer.rooms.overseer import Overseer
from overseer.storage import room_rows, room_store
from overseer.storage.instance_lock import room_file
from overseer.storage.room_copy import RoomCopy
from overseer.storage.schema import MIGRATIONS
from overseer.web.exports import FORMATS
from tests.support.client import HTMX, NAVIGATION, ask, ended, is_page, new_room, wait_for_message
from tests.support.files import write_junk
from tests.support.html import parsed, root
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text, tool_call
from tests.support.pictures import GIF
from tests.support.server import Server
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
PICTURE = sha256(GIF).hexdigest()
JSONL_SESSION = ("type", "harness", "id", "name", "timestamp", "lastModified", "currNode", "model")


def get(client: FlaskClient, room_id: str, extension: str) -> TestResponse:
    response = client.get(f"/rooms/{room_id}/export.{extension}", buffered=True)
    assert response.status_code == 200, response.text
    return response


def as_json(client: FlaskClient, room_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(client, room_id, "json").data)
    return found


def as_lines(client: FlaskClient, room_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in get(client, room_id, "jsonl").data.decode().split("\n")[:-1]]


def archive(client: FlaskClient, query: str = "") -> ZipFile:
    response = client.get(f"/export.zip{query}", buffered=True)
    assert response.status_code == 200
    found = ZipFile(BytesIO(response.data))
    assert found.testzip() is None
    return found


@pytest.fixture
def room_id(client: FlaskClient, overseer: Overseer, model_server: ModelServer) -> str:
    """A room with two versions of its only question: 1 and 2; 3 and 4, with reasoning, a tool call and a picture."""
    roll = Reply(reasoning("Hm."), text("Rolling."), tool_call("roll_dice", '{"sides": 6}'), end("tool_calls"))
    model_server.will(answer("Hello."), roll, answer("It is done."))
    made = new_room(client, "Größe/../Länge")
    ask(client, made, "Hi")
    client.patch(f"/rooms/{made}", data={"system_prompt": "Be brief."})
    assert client.patch(f"/rooms/{made}/messages/1", data={"text": "Roll"}).status_code == 201
    message = wait_for_message(overseer, made, 4, ended)
    storage = overseer._facet(made).storage
    with storage.write() as db:
        picture = File(PICTURE, "image/gif", "A square", 2, 1, "square.gif")
        room_rows.insert_file(db, picture, GIF)
        room_rows.upsert_parts(db, 4, [*message.parts, picture])
        db.execute("UPDATE messages SET key = 'k3y' WHERE number = 3")
        db.execute("INSERT INTO shares (secret, created_at, page) VALUES ('s3cret', 1, zeroblob(100000))")
    return made


@pytest.mark.parametrize("extension", FORMATS)
def test_export_is_a_download_with_the_name_of_the_room(client: FlaskClient, room_id: str, extension: str) -> None:
    for method in ("GET", "HEAD"):
        response = client.open(f"/rooms/{room_id}/export.{extension}", method=method, headers=NAVIGATION, buffered=True)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == FORMATS[extension].media_type
        assert response.headers["Content-Disposition"] == (
            f'attachment; filename="Gr__e-..-L_nge.{extension}"; '
            f"filename*=UTF-8''Gr%C3%B6%C3%9Fe-..-L%C3%A4nge.{extension}"
        )
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert method == "HEAD" or int(response.headers["Content-Length"]) == len(response.data)
        assert b"s3cret" not in response.data and b"k3y" not in response.data


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Trip to Rome", "Trip to Rome"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\con?*", "C-con-"),
        ("a\u202egpj.exe", "agpj.exe"),
        ('x"; filename=evil\r\nSet-Cookie: a', "x-; filename=evil Set-Cookie- a"),
        ("NUL", "_NUL"),
        ("com1.txt", "_com1.txt"),
        ("...", "room"),
        ("\u200b", "room"),
        ("東京", "東京"),
        ("👩‍🚀" * 120, "👩🚀" * 15),
        ("x. . ", "x"),
    ],
)
def test_file_name_is_safe(name: str, expected: str) -> None:
    found = file_name(name)
    assert found == expected
    assert len(found.encode()) <= MAX_FILE_NAME_BYTES
    assert file_name(found) == found


def test_export_as_markdown_is_the_shown_path(client: FlaskClient, room_id: str) -> None:
    shown = get(client, room_id, "md").text
    assert shown == client.get(f"/rooms/{room_id}/messages", headers={"Accept": "text/markdown"}).text
    assert "Roll" in shown and "[picture: A square]" in shown and "Hello." not in shown


def test_export_as_json_has_everything(client: FlaskClient, room_id: str) -> None:
    found = as_json(client, room_id)
    assert (found["format"], found["version"], found["id"], found["head"]) == ("overseer-room", 1, room_id, 4)
    assert found["settings"]["system_prompt"] == "Be brief."
    assert [(one["number"], one["parent"], one["role"]) for one in found["messages"]] == [
        (1, None, "user"),
        (2, 1, "assistant"),
        (3, None, "user"),
        (4, 3, "assistant"),
    ]
    assert [part["kind"] for part in found["messages"][3]["parts"]] == [
        *("reasoning", "text", "tool_call", "text"),
        "file",
    ]
    (file,) = found["files"]
    assert (file["sha256"], file["media_type"], file["size"]) == (PICTURE, "image/gif", len(GIF))


def test_formats_page_describes_every_field(client: FlaskClient, room_id: str) -> None:
    """Of the JSON, and every table of the SQLite file."""
    page = (ROOT / "docs" / "formats.md").read_text()

    def names(item: object) -> set[str]:
        if isinstance(item, list):
            return set[str]().union(*map(names, item))
        if isinstance(item, dict):
            return {*item, *names([*item.values()])}
        return set()

    found = as_json(client, room_id)
    found["messages"][3]["sources"] = [{"url": "", "title": ""}]
    found["messages"][3]["usage"] = found["messages"][3]["usage"] or room_rows.NO_USAGE
    missing = {name for name in names(found) if not re.search(rf"`(settings\.)?{name}`", page)}
    assert missing == {"settings"}
    with closing(sqlite3.connect(":memory:")) as db:
        for migration in MIGRATIONS:
            migration(db)
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")}
    assert {table for table in tables if f"| `{table}` |" not in page} == {"sqlite_sequence"}
    assert f"now {len(MIGRATIONS)}." in page


def test_export_as_jsonl_is_the_shown_path_and_then_the_other_versions(client: FlaskClient, room_id: str) -> None:
    """In the shape of OpenAI's API. What only reads lines of the type message has the shown path."""
    session, *found = as_lines(client, room_id)
    assert tuple(session) == JSONL_SESSION
    assert (session["harness"], session["id"], session["currNode"]) == ("overseer", room_id, "4")
    shown = [one["message"] for one in found if one["type"] == "message"]
    assert [(one["role"], one["id"], one["parent"]) for one in shown] == [
        ("system", "0", None),
        ("user", "3", "0"),
        ("assistant", "4.1", "3"),
        ("tool", "4.2", "4.1"),
        ("assistant", "4", "4.2"),
    ]
    assert [one["content"] for one in shown[:3]] == ["Be brief.", "Roll", "Rolling."]
    assert shown[2]["reasoning_content"] == "Hm."
    assert shown[2]["tool_calls"] == [
        {"id": "call-1", "type": "function", "function": {"name": "roll_dice", "arguments": '{"sides": 6}'}}
    ]
    assert shown[3]["tool_call_id"] == "call-1" and shown[3]["content"].isdecimal()
    words, picture = shown[4]["content"]
    assert words == {"type": "text", "text": "It is done."}
    assert picture["image_url"]["url"].startswith("data:image/gif;base64,")
    assert [(one["type"], one["message"]["id"], one["message"]["parent"]) for one in found[5:]] == [
        ("version", "1", "0"),
        ("version", "2", "1"),
    ]


def test_export_as_sqlite_is_a_room_without_shares_and_keys(client: FlaskClient, room_id: str, tmp_path: Path) -> None:
    path = tmp_path / "export.sqlite"
    path.write_bytes(get(client, room_id, "sqlite").data)
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
        assert db.execute("PRAGMA freelist_count").fetchone()[0] == 0
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert room_store.summary(db).messages == 2
        assert len(room_rows.select_path(db, 4, 9)[1].parts) == 5
        assert db.execute("SELECT count(*) FROM shares").fetchone()[0] == 0
        assert db.execute("SELECT count(*) FROM messages WHERE key IS NOT NULL").fetchone()[0] == 0


def test_view_transcript_is_the_shown_path_in_words(client: FlaskClient, room_id: str, overseer: Overseer) -> None:
    with overseer._facet(room_id).storage.write() as db:
        db.execute(
            "UPDATE messages SET created_at = 1790000000000, model = CASE number WHEN 4 THEN 'stand-in' ELSE '' END"
        )
        found = [tuple(row) for row in db.execute("SELECT time, who, text, number FROM transcript")]
        assert found == [
            ("2026-09-21 14:13:20", "You", "Roll", 3),
            ("2026-09-21 14:13:20", "stand-in", "Rolling.\n\nIt is done.", 4),
        ]
        db.execute("UPDATE messages SET parent = 4 WHERE number = 3")  # a cycle
        assert len(db.execute("SELECT * FROM transcript").fetchall()) == 2


def test_export_of_a_growing_answer_has_what_has_arrived(client: FlaskClient, model_server: ModelServer) -> None:
    room_id, growing = new_room(client), held(text("So far"))
    model_server.will(growing)
    ask(client, room_id, "Go", wait=False)
    until(lambda: "So far" in client.get(f"/rooms/{room_id}/messages").text)
    for extension in FORMATS:
        assert b"So far" in get(client, room_id, extension).data
    message = as_json(client, room_id)["messages"][1]
    assert (message["state"], message["parts"]) == ("streaming", [{"kind": "text", "text": "So far"}])
    growing.hang_up()


def test_export_leaves_no_files(client: FlaskClient, room_id: str, instance: Path) -> None:
    before = {path.name for path in (instance / "facets").iterdir()}
    responses = [client.get(f"/rooms/{room_id}/export.{extension}", buffered=False) for extension in FORMATS]
    responses.append(client.get("/export.zip", buffered=False))
    for response in responses:
        next(iter(response.response))  # and then the client goes away
    assert {path.name for path in (instance / "facets").iterdir()} == before
    for response in responses:
        response.close()
    assert {path.name for path in (instance / "facets").iterdir()} == before


def test_export_of_a_missing_or_broken_room_is_an_error(client: FlaskClient, room_id: str, overseer: Overseer) -> None:
    for extension in FORMATS:
        assert client.get(f"/rooms/{'0' * 12}/export.{extension}").status_code == 404
    assert client.get(f"/rooms/{room_id}/export.docx").status_code == 404
    overseer.shrink()
    write_junk(room_file(overseer.directory, room_id))
    for extension in FORMATS:
        response = client.get(f"/rooms/{room_id}/export.{extension}")
        assert response.status_code == 500 and "is damaged" in root(response.text).one("p").text
        assert "Content-Disposition" not in response.headers
        assert is_page(client.get(f"/rooms/{room_id}/export.{extension}", headers=NAVIGATION))


def test_export_of_a_room_that_is_deleted_meanwhile_is_an_error(overseer: Overseer, room_id: str) -> None:
    def form(room: RoomCopy) -> BinaryIO:
        overseer.delete(room_id)
        return room.json()

    with pytest.raises(NoSuchRoom):
        overseer.export(room_id, form)


def test_export_of_a_value_of_another_kind_is_an_error(client: FlaskClient, room_id: str, overseer: Overseer) -> None:
    with overseer._facet(room_id).storage.write() as db:
        db.execute("UPDATE parts SET call = '[' WHERE kind = 'tool_call'")
    response = client.get(f"/rooms/{room_id}/export.json")
    assert response.status_code == 500 and "cannot be read" in root(response.text).one("p").text


# All rooms


def test_archive_has_a_safe_and_unique_name_for_each_room(client: FlaskClient, overseer: Overseer) -> None:
    names = ["Same", "Same", "../../evil", "a\\b:c", "problems.txt", "‮gpj.exe", "x" * 120, "👩‍🚀" * 30]
    ids = [new_room(client, name) for name in names]
    members = archive(client).namelist()
    assert len(members) == len(set(members)) == len(names)
    for room_id in ids:
        (member,) = (one for one in members if room_id in one)
        assert re.fullmatch(r"[^/\\:]+ [0-9a-f]{12}\.json", member) and member.isprintable()
        assert not member.startswith(".") and len(member.encode()) < 200


@pytest.mark.parametrize("extension", FORMATS)
def test_archive_has_what_the_single_downloads_have(client: FlaskClient, room_id: str, extension: str) -> None:
    new_room(client, "Empty")
    with archive(client, f"?format={extension}") as found:
        (member,) = (name for name in found.namelist() if room_id in name)
        assert found.read(member) == get(client, room_id, extension).data
        assert len(found.namelist()) == 2


def test_archive_is_a_download_of_one_of_the_formats(client: FlaskClient) -> None:
    headers = client.get("/export.zip", buffered=True).headers
    assert re.fullmatch(
        r'attachment; filename="Overseer \d{4}-\d\d-\d\d.zip"; filename\*=UTF-8\'\'Overseer%20[\d-]{10}.zip',
        headers["Content-Disposition"],
    )
    assert (headers["Content-Type"], headers["Cache-Control"]) == ("application/zip", "no-store")
    assert archive(client).namelist() == []
    response = client.get("/export.zip?format=docx")
    assert response.status_code == 400 and "md, json, jsonl, sqlite" in response.text


def test_archive_has_archived_rooms_and_no_temporary_ones(client: FlaskClient, overseer: Overseer) -> None:
    ids = {}
    for column in ("archived", "temporary"):
        ids[column] = new_room(client, column)
        with overseer._facet(ids[column]).storage.write() as db:
            db.execute(f"UPDATE room SET {column} = 1")
        overseer.sync_state(ids[column])
    assert archive(client).namelist() == [f"archived {ids['archived']}.json"]


def test_archive_names_a_broken_room_and_omits_a_deleted_one(client: FlaskClient, overseer: Overseer) -> None:
    first, broken, deleted, last = (new_room(client, name) for name in ("First", "Broken", "Deleted", "Last"))
    overseer.shrink()
    write_junk(room_file(overseer.directory, broken))
    response = client.get("/export.zip", buffered=False)
    chunks = response.iter_encoded()
    received = [next(chunks)]  # the first room
    overseer.delete(deleted)
    found = ZipFile(BytesIO(b"".join([*received, *chunks])))
    assert found.namelist() == [f"First {first}.json", f"Last {last}.json", "problems.txt"]
    problems = found.read("problems.txt").decode()
    assert problems.startswith(f"Broken (room {broken}) is not here: ") and "is damaged" in problems


# The page


def test_formats_are_items_of_the_menu_or_a_page(client: FlaskClient, room_id: str) -> None:
    path = f"/rooms/{room_id}/export"
    assert parsed(client.get(f"/rooms/{room_id}").text).one("header", id="header").one("a", href=path).text == "Export…"
    for headers in ({}, HTMX):
        fragment = root(client.get(path, headers=headers).text)
        links = [link["href"] for link in fragment.every("a")]
        assert links == [f"{path}.{extension}" for extension in (*FORMATS, "html")]
    page = client.get(path, headers=NAVIGATION)
    assert is_page(page)
    links = [link["href"] for link in parsed(page.text).one("main").every("a")]
    archives = [f"/export.zip?format={extension}" for extension in FORMATS]
    assert links == [*(f"{path}.{extension}" for extension in (*FORMATS, "html")), *archives, f"/rooms/{room_id}"]
    assert client.get(f"/rooms/{'0' * 12}/export").status_code == 404


def test_palette_leads_to_exports(client: FlaskClient, room_id: str) -> None:
    headers = {**HTMX, "HX-Current-URL": f"http://localhost/rooms/{room_id}"}
    links = [link["href"] for link in root(client.get("/palette?q=export", headers=headers).text).every("a")]
    assert links == [f"/rooms/{room_id}/export", "/export.zip"]
    assert "Export this room" not in client.get("/palette?q=export", headers=HTMX).text


def test_export_from_a_server_can_be_left_in_the_middle(server: Server, tmp_path: Path) -> None:
    """By a client that goes away; the next one gets all of it."""
    room_id = requests.post(f"{server.url}/rooms", data={"name": "Big"}).headers["Location"].removeprefix("/rooms/")
    url = f"{server.url}/rooms/{room_id}/export.json"
    for number in range(20):
        requests.post(f"{server.url}/rooms/{room_id}/messages", data={"text": f"{number} " + "word " * 30_000})
    with requests.get(url, stream=True) as response:
        assert response.raw.read(10)
    with requests.get(url) as response:
        assert len(response.json()["messages"]) == 40
        assert int(response.headers["Content-Length"]) == len(response.content) > 3_000_000
    with ZipFile(BytesIO(requests.get(f"{server.url}/export.zip").content)) as found:
        assert json.loads(found.read(found.namelist()[0]))["name"] == "Big"
    until(lambda: not list(server.instance.glob("facets/export*")))
