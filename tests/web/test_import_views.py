"""Uploads to /import, and their report as a page, as text and as JSON."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer.rooms.overseer import Overseer
from overseer.web import imports
from tests.support.client import HTMX, NAVIGATION, PLAIN, is_page
from tests.support.exports import as_json, chatgpt, many, zipped
from tests.support.html import parsed, root

TEXT, JSON = {"Accept": "text/plain"}, {"Accept": "application/json"}


def upload(
    client: FlaskClient,
    *files: bytes,
    name: str = "conversations.json",
    data: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> TestResponse:
    sent = [("file", (name, content)) for content in files]
    form = requests.Request("POST", "http://localhost/import", data=data, files=sent).prepare()
    return client.post("/import", data=form.body, content_type=form.headers["Content-Type"], headers=headers or {})


def test_upload_by_curl_returns_the_report_when_it_is_imported(client: FlaskClient) -> None:
    response = upload(client, as_json(many(2)), zipped({"conversations.json": as_json(many(1, first=3))}))
    assert response.status_code == 201
    section = root(response.text)
    assert section["id"] == "import" and section["data-state"] == "done" and not section.has("progress")
    assert section.one("p", role="status").text == "3 imported, 0 skipped, 0 failed."
    links = [row.one("a")["href"] or "" for row in section.one("tbody").every("tr")]
    assert len(links) == 3 and all(client.get(link).status_code == 200 for link in links)
    assert client.get(response.headers["Location"]).text == response.text


def test_report_is_text_or_json_too(client: FlaskClient) -> None:
    location = upload(client, as_json([chatgpt("A\tB", ["Hi", "Hello"]), {"x": 1}])).headers["Location"]
    lines = client.get(location, headers=TEXT)
    assert lines.mimetype == "text/plain"
    room = client.get("/rooms").text.split('data-room="')[1][:12]
    assert lines.text.splitlines() == [
        f"imported\t2\tA B\t/rooms/{room}\tconversations.json, item 1\t",
        "failed\t0\t\t\tconversations.json, item 2\tThis item is no conversation of a known format.",
        "1 imported, 0 skipped, 1 failed.",
    ]
    found = client.get(location, headers=JSON).get_json()
    assert (found["state"], found["imported"], found["skipped"], found["failed"]) == ("done", 1, 0, 1)
    assert found["conversations"][0] == {
        "outcome": "imported",
        "name": "A B",
        "messages": 2,
        "room": room,
        "url": f"/rooms/{room}",
        "place": "conversations.json, item 1",
        "reason": "",
    }
    again = upload(client, as_json([chatgpt("A\tB", ["Hi", "Hello"])]), headers=JSON)
    assert again.status_code == 201 and again.get_json()["skipped"] == 1


def test_nothing_imported_is_no_success(client: FlaskClient) -> None:
    for content in (b"", b"# No JSON", as_json({"a": 1}), zipped({"a.txt": b"x"})):
        response = upload(client, content)
        assert response.status_code == 422
        assert root(response.text).one("p", role="status").text.startswith("Nothing was imported.")
        assert "Failed." in response.text


def test_upload_without_a_file_is_refused(client: FlaskClient, overseer: Overseer) -> None:
    for data in ({"file": (BytesIO(b""), "")}, {"file": "not a file"}):
        response = client.post("/import", data=data, content_type="multipart/form-data")
        assert response.status_code == 422 and "Choose a file to import." in response.text
    assert not (overseer.directory / "imports").exists()


def test_browser_is_led_to_the_report(client: FlaskClient) -> None:
    page = client.get("/import", headers=NAVIGATION)
    assert is_page(page) and parsed(page.text).one("input", type="file").attributes["multiple"] is not None
    response = upload(client, as_json(many(1)), data=PLAIN, headers=NAVIGATION)
    assert response.status_code == 303
    report = client.get(response.headers["Location"], headers=NAVIGATION)
    assert is_page(report) and parsed(report.text).has("section", id="import")
    assert "conversations.json" in client.get("/import", headers=NAVIGATION).text
    assert not is_page(client.get(response.headers["Location"], headers=HTMX))


def test_report_while_it_runs_has_progress_and_a_way_to_cancel(client: FlaskClient) -> None:
    response = upload(client, as_json(many(3000)), headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    section = root(response.text)
    assert section["aria-busy"] == "true" and section["hx-trigger"] == "every 1s" and section.has("progress")
    location = response.headers["Location"]
    cancelled = client.post(location, data={**PLAIN, "_method": "DELETE"})
    assert (cancelled.status_code, cancelled.headers["Location"]) == (303, location)
    after = root(client.get(location).text)
    assert after["data-state"] == "cancelled" and not after.has("progress")
    assert client.delete(location).status_code == 200


def test_report_is_paged(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "PAGE_LINES", 2)
    location = upload(client, as_json(many(3))).headers["Location"]
    first = root(client.get(location).text)
    following = first.every("a")[-1]["href"] or ""
    assert len(first.one("tbody").every("tr")) == 2
    assert len(root(client.get(following).text).one("tbody").every("tr")) == 1


def test_unknown_import_is_not_found(client: FlaskClient) -> None:
    for method in (client.get, client.delete):
        response = method("/imports/nothing")
        assert response.status_code == 404 and "There is no such import" in response.text


def test_upload_that_is_too_large_is_refused(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "MAX_UPLOAD_BYTES", 1000)
    response = upload(client, b"x" * 2000)
    assert response.status_code == 413 and "overseer import FILE" in response.text


def test_upload_of_very_many_files_is_refused(client: FlaskClient, overseer: Overseer) -> None:
    response = upload(client, *[b"x"] * 1000)
    assert response.status_code == 413
    assert not (overseer.directory / "imports").exists()


def test_upload_larger_than_other_forms_is_stored_as_it_arrives(client: FlaskClient, overseer: Overseer) -> None:
    words = ["Hi", "x" * 3_000_000, "More", "y" * 3_000_000]
    assert upload(client, as_json([chatgpt("Long", words)])).status_code == 201
    assert not (overseer.directory / "imports").exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\x00b.json", "\u202egnp.exe", "x" * 10_000, "C:\\x\\y.json"])
def test_name_of_a_file_is_only_text(client: FlaskClient, instance: Path, name: str) -> None:
    response = upload(client, as_json({"a": 1}), name=name)
    assert response.status_code == 422
    assert len(response.text) < 3000
    assert {path.name for path in instance.parent.iterdir()} == {"instance"}


def test_disk_that_is_full_during_an_upload(
    client: FlaskClient, overseer: Overseer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("overseer.web.forms.BoundedRequest._get_file_stream", full)
    response = upload(client, as_json(many(1)))
    assert response.status_code == 503 and "The disk is full" in response.text
    assert not (overseer.directory / "imports").exists()


def test_imported_file_that_is_no_picture_is_a_download_with_its_name(client: FlaskClient) -> None:
    """Whatever its type: a browser shows nothing of it."""
    page = b64encode(b"<script>hit</script>").decode()
    file = {"type": "file", "name": "page.html", "url": f"data:text/html;base64,{page}"}
    message = {"id": "a", "parentId": None, "role": "user", "content": "Look", "files": [file]}
    chat = {"id": "1", "title": "Files", "chat": {"history": {"currentId": "a", "messages": {"a": message}}}}
    url = upload(client, as_json([chat]), headers=JSON).get_json()["conversations"][0]["url"]
    link = parsed(client.get(f"{url}/messages/1").text).one("p", class_="part--file").one("a")
    assert (link.text, link["download"]) == ("page.html", "page.html")
    with client.get(link["href"] or "") as response:
        assert response.data == b"<script>hit</script>"
        assert response.headers["Content-Disposition"].startswith("attachment")
        assert response.headers["Content-Security-Policy"] == "sandbox"
