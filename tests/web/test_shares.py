"""The HTML export and shares by HTTP: what they contain, and what visitors cannot do."""

from __future__ import annotations

import base64
import gzip
import logging
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import brotli
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer import create_app
from overseer.domain.addresses import Access
from overseer.domain.messages import File, Reasoning, Text, ToolCall
from overseer.llm.choice import ModelSettings
from overseer.rooms.overseer import Overseer
from overseer.storage import room_rows
from overseer.storage.instance_lock import room_file
from overseer.web import shares as shares_module
from overseer.web.extensions import instance as instance_of
from tests.support.client import HTMX, NAVIGATION, PLAIN, articles, ask, is_page, new_room
from tests.support.files import write_junk
from tests.support.html import Element, parsed, root
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text, tool_call
from tests.support.safe_html import check_tree

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
PICTURE = File("a" * 64, "image/png", "A <dot>", 1, 1)
PAPER = File("b" * 64, "text/html", name="paper <1>.html")
ADDRESS = re.compile(r"/shares/[0-9a-f]{12}[\w-]{32}")
VISITOR = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow"}
URL_ATTRIBUTES = ("href", "src", "action", "hx-get", "hx-post", "hx-ws:connect", "data-first")


@pytest.fixture
def room_id(client: FlaskClient, model_server: ModelServer) -> str:
    """A room with a question and an answer."""
    model_server.will(Reply(reasoning("Let me see."), text("It is **ripe**.\n\n```python\nx = 1\n```\n\n$a^2$"), end()))
    room_id = new_room(client, "Quince “tree”")
    ask(client, room_id, "Is it *ripe*?")
    return room_id


def share(client: FlaskClient, room_id: str, **form: str) -> str:
    """Share a room. Return the path of the share."""
    response = client.post(f"/rooms/{room_id}/shares", data=form)
    assert response.status_code == 201, response.text
    assert ADDRESS.fullmatch(response.headers["Location"])
    return response.headers["Location"]


def store(client: FlaskClient, instance: Path, room_id: str, number: int, *parts: object, **columns: object) -> None:
    """Store parts and columns of a message as another program would, with the contents of files."""
    overseer = instance_of(client.application).overseer
    overseer.close()
    with closing(sqlite3.connect(room_file(instance, room_id))) as db, db:
        for part in parts:
            if isinstance(part, File):
                room_rows.insert_file(db, part, PNG if part.is_picture else b"<script>hit</script>")
        room_rows.upsert_parts(db, number, parts)  # type: ignore[arg-type]
        for name, value in columns.items():
            db.execute(f"UPDATE messages SET {name} = ? WHERE number = ?", (value, number))
    overseer.open()


def urls(page: Element) -> set[str]:
    """Return all URLs of a page."""
    return {one[name] or "" for one in page.all for name in URL_ATTRIBUTES if name in one.attributes}


# The export


def test_export_is_one_page_that_needs_nothing_else(client: FlaskClient, room_id: str, instance: Path) -> None:
    sources = '[["https://example.com/?a=1", "A page"]]'
    parts = (Reasoning("Hm."), ToolCall("id", "roll_dice", '{"sides": 6}', "4", "done"), Text("Look:"), PICTURE, PAPER)
    store(client, instance, room_id, 2, *parts, sources=sources, left_out="temperature")
    response = client.get(f"/rooms/{room_id}/export.html")
    assert response.status_code == 200 and response.mimetype == "text/html" and response.is_streamed
    page = parsed(response.text.removeprefix("<!doctype html>"))
    assert page.one("title").text == page.one("h1").text == "Quince “tree”"
    assert page.has("meta", name="robots", content="noindex, nofollow")
    policy = page.one("meta", http_equiv="Content-Security-Policy")["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not page.every("script") and not page.every("button") and not page.every("form") and page.has("style")
    assert "@font-face" not in response.text and not re.search(r"url\(|@import", page.one("style").text)
    loaded = [url for url in urls(page) if not url.startswith(("data:", "#"))]
    assert loaded == ["https://example.com/?a=1"]
    assert "noreferrer" in (page.one("a", href=loaded[0])["rel"] or "")
    question, reply = page.every("article")
    assert question.one(class_="message__body").text == "Is it *ripe*?" and question["data-role"] == "user"
    assert [one["class"] for one in reply.every("details")] == ["part part--reasoning", "part part--tool"]
    assert "sides" in reply.one("details", class_="part--tool").text
    picture = reply.one("img")
    assert picture["src"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}" and picture["alt"] == "A <dot>"
    link = reply.one("a", class_="file")
    assert (link["download"], link.text) == ("paper <1>.html", "paper <1>.html")
    content = (link["href"] or "").removeprefix("data:application/octet-stream;base64,")
    assert base64.b64decode(content) == b"<script>hit</script>", "its type is none that a browser shows"
    assert reply.one("span", class_="message__who").text == "stand-in" and reply.every("time")
    assert "Without temperature" in reply.one(class_="message__note").text


def test_export_renders_markdown_code_and_formulas(client: FlaskClient, room_id: str) -> None:
    reply = parsed(client.get(f"/rooms/{room_id}/export.html").text.removeprefix("<!doctype html>")).every("article")[1]
    body = reply.one("div", class_="part--text")
    assert not body.every("button"), "without a script they do nothing"
    assert body.one("strong").text == "ripe" and body.one("code").has("span", class_="n") and body.has("math")
    for element in body.one("div", class_="part__done").children:
        check_tree(element)


def test_html_export_is_named_as_the_other_exports(client: FlaskClient) -> None:
    path = f"/rooms/{new_room(client, 'Käse: 日本')}/export."
    downloads = [client.get(path + one) for one in ("html", "json")]
    as_html, as_json = (download.headers["Content-Disposition"] for download in downloads)
    for download in downloads:
        download.close()
    assert as_html == as_json.replace("json", "html") and "filename*=UTF-8''K" in as_html


def test_export_has_the_shown_version_and_what_has_ended(
    client: FlaskClient, room_id: str, model_server: ModelServer, overseer: Overseer
) -> None:
    model_server.will(answer("Another answer."))
    client.post(f"/rooms/{room_id}/turn", headers={"Prefer": "wait=20"})
    growing = model_server.will(held(text("Not yet")))
    ask(client, room_id, "And now?", wait=False)
    assert growing.begun.wait(20)
    found = client.get(f"/rooms/{room_id}/export.html").text
    assert [number for number, *_ in articles(found.removeprefix("<!doctype html>"))] == [
        "message-1",
        "message-3",
        "message-4",
    ]
    assert "ripe</strong>" not in found and "Not yet" not in found
    growing.hang_up()


def test_export_of_a_long_room_is_streamed(client: FlaskClient, overseer: Overseer, instance: Path) -> None:
    """The first piece is there before the last message is read."""
    room_id = new_room(client)
    overseer.close()
    with closing(sqlite3.connect(room_file(instance, room_id))) as db, db:
        db.row_factory = sqlite3.Row
        for number in range(1, 401, 2):
            parent = number - 1 or None
            room_rows.insert_exchange(db, number, parent=parent, key=None, text=f"Question {number}. " + "x" * 400)
            room_rows.mark_finished(db, number + 1, "complete", "")
        db.execute("UPDATE room SET head = 400")
    overseer.open()
    response = client.get(f"/rooms/{room_id}/export.html", buffered=False)
    pieces = response.iter_encoded()
    first = next(iter(pieces))
    assert b"<title>" in first and b"Question 399." not in first
    rest = b"".join(pieces)
    assert b"Question 399." in rest and rest.rstrip().endswith(b"</html>")
    assert (first + rest).count(b"<article") == 400


def test_export_names_a_file_that_is_too_large(
    client: FlaskClient, room_id: str, instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares_module, "MAX_EMBEDDED_BYTES", len(PNG))
    store(client, instance, room_id, 2, Text("Look:"), PICTURE, File("c" * 64, "image/png", "", 1, 1, "big.png"))
    monkeypatch.setattr(shares_module, "MAX_EMBEDDED_BYTES", len(PNG) - 1)
    page = parsed(client.get(f"/rooms/{room_id}/export.html").text.removeprefix("<!doctype html>"))
    assert [one.text for one in page.every("span", class_="file")] == ["A <dot> not included", "big.png not included"]


def test_export_of_a_missing_room_is_not_found(client: FlaskClient) -> None:
    assert client.get("/rooms/0123456789ab/export.html").status_code == 404


# Making, listing and revoking


def test_share_is_created_listed_and_revoked(client: FlaskClient, room_id: str) -> None:
    made = client.post(f"/rooms/{room_id}/shares", data={"expires": "3600"})
    assert made.status_code == 201
    listed = root(made.text)
    assert (listed.tag, listed["id"]) == ("ul", "shares")
    (item,) = listed.every("li")
    assert item["id"] == "share-1" and "Snapshot" in item.text and "Expires" in item.text
    assert "not visited yet" in item.text
    assert {one["href"] for one in item.every("a")} == {made.headers["Location"]}
    client.get(made.headers["Location"])
    live = share(client, room_id, live="1")
    first, second = root(client.get(f"/rooms/{room_id}/shares").text).every("li")
    assert first["id"] == "share-2" and "Live" in first.text and "Never expires" in first.text
    assert "last visit" in second.text
    revoked = client.delete(f"/rooms/{room_id}/shares/1")
    assert revoked.status_code == 200 and [one["id"] for one in root(revoked.text).every("li")] == ["share-2"]
    assert client.get(made.headers["Location"]).status_code == 404 and client.get(live).status_code == 200
    again = client.delete(f"/rooms/{room_id}/shares/1")
    assert again.status_code == 404 and "was revoked" in root(again.text).one("p").text


def test_share_works_by_the_forms_of_its_page(client: FlaskClient, room_id: str) -> None:
    """Without JavaScript: a page, and forms that lead back to it."""
    path = f"/rooms/{room_id}/shares"
    page = client.get(path, headers=NAVIGATION)
    assert is_page(page) and parsed(page.text).one("h1", class_="header__name").text == "Share “Quince “tree””"
    form = parsed(page.text).one("form", class_="sharing__form")
    assert form["action"] == path and [one["value"] for one in form.every("option")] == [
        "86400",
        "604800",
        "2592000",
        "",
    ]
    made = client.post(path, data={"live": "0", "expires": "86400", **PLAIN})
    assert made.status_code == 303 and made.headers["Location"] == path
    revoke = parsed(client.get(path, headers=NAVIGATION).text).one("ul", id="shares").one("form")
    fields = {one["name"] or "": one["value"] or "" for one in revoke.every("input")}
    done = client.post(revoke["action"] or "", data=fields)
    assert done.status_code == 303 and done.headers["Location"] == path
    assert "isn’t shared" in client.get(path).text


def test_page_that_shares_does_not_reload_itself_while_an_answer_grows(
    client: FlaskClient, room_id: str, model_server: ModelServer
) -> None:
    """As the page of the room does, without JavaScript: it would lead away."""
    growing = model_server.will(held(text("Not yet")))
    ask(client, room_id, "And now?", wait=False)
    assert growing.begun.wait(20)
    assert "refresh" in client.get(f"/rooms/{room_id}", headers=NAVIGATION).text
    assert 'http-equiv="refresh"' not in client.get(f"/rooms/{room_id}/shares", headers=NAVIGATION).text
    live = client.get(share(client, room_id, live="1"))
    assert 'http-equiv="refresh"' in live.text, "to itself"
    growing.hang_up()


def test_share_is_in_the_menu_of_the_room(client: FlaskClient, room_id: str) -> None:
    menu = parsed(client.get(f"/rooms/{room_id}").text).one("header", id="header")
    assert menu.one("a", href=f"/rooms/{room_id}/shares").text == "Share…"
    assert "and its shares?" in (menu.one("button", data_yes="Clear")["hx-confirm"] or "")


@pytest.mark.parametrize("form", [{"expires": "-1"}, {"expires": "soon"}, {"expires": "0"}, {"live": "2"}])
def test_share_with_an_invalid_field_is_rejected(client: FlaskClient, room_id: str, form: dict[str, str]) -> None:
    response = client.post(f"/rooms/{room_id}/shares", data=form)
    assert response.status_code == 422 and next(iter(form)) in root(response.text).one("p").text
    assert not root(client.get(f"/rooms/{room_id}/shares").text).every("form")


def test_snapshot_that_is_too_large_is_rejected(
    client: FlaskClient, room_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares_module, "MAX_SNAPSHOT_CHARS", 10_000)
    response = client.post(f"/rooms/{room_id}/shares")
    assert response.status_code == 413 and "Share it live" in root(response.text).one("p").text
    share(client, room_id, live="1")


def test_share_beyond_the_limit_is_rejected_before_its_page_is_made(
    client: FlaskClient, room_id: str, overseer: Overseer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(50):
        overseer.room(room_id).share(None, seconds=None)
    monkeypatch.setattr(shares_module, "snapshot", lambda room: pytest.fail("a page is made"))
    response = client.post(f"/rooms/{room_id}/shares")
    assert response.status_code == 409 and "Revoke one" in root(response.text).one("p").text


def test_share_of_a_missing_room_is_not_found(client: FlaskClient) -> None:
    for response in (
        client.post("/rooms/0123456789ab/shares"),
        client.get("/rooms/0123456789ab/shares"),
        client.delete("/rooms/0123456789ab/shares/1"),
    ):
        assert response.status_code == 404


# Visits


def test_snapshot_is_the_export_and_does_not_change(
    client: FlaskClient, room_id: str, overseer: Overseer, model_server: ModelServer
) -> None:
    now = overseer.clock()
    overseer.clock = lambda: now
    exported = client.get(f"/rooms/{room_id}/export.html").text
    path = share(client, room_id)
    model_server.will(answer("More."))
    ask(client, room_id, "And?")
    client.patch(f"/rooms/{room_id}", data={"name": "Other"})
    visitor = client.application.test_client(use_cookies=False)
    decoded = {"identity": bytes, "gzip": gzip.decompress, "br": brotli.decompress}
    for encoding in decoded:
        response = visitor.get(path, headers={"Accept-Encoding": encoding})
        assert response.status_code == 200 and response.headers.get("Content-Encoding", "identity") == encoding
        assert decoded[encoding](response.data).decode() == exported
        assert response.mimetype == "text/html" and "Set-Cookie" not in response.headers
        assert VISITOR.items() <= dict(response.headers).items()
        assert "script-src" not in response.headers["Content-Security-Policy"]


def test_live_share_is_read_only_and_links_to_itself_only(
    client: FlaskClient, room_id: str, instance: Path, overseer: Overseer
) -> None:
    store(client, instance, room_id, 2, Text("Look:"), PICTURE, PAPER, state="failed", reason="http://10.0.0.7 is down")
    path = share(client, room_id, live="1")
    response = client.get(path)
    page = parsed(response.text.removeprefix("<!doctype html>"))
    assert VISITOR.items() <= dict(response.headers).items() and "Set-Cookie" not in response.headers
    for word in ("form", "textarea", "nav"):
        assert not page.every(word), word
    assert not page.every(class_="message__actions") and not page.every(id="context")
    own = [url for url in urls(page) if not url.startswith(("#", "data:", "/static/"))]
    live = f"/live?share={path.removeprefix('/shares/')}&seen="
    assert own and all(url.startswith((path, live)) for url in own), own
    assert "10.0.0.7" not in response.text and "This answer failed." in response.text
    assert "stand-in" in response.text and f"/rooms/{room_id}" not in response.text
    for file, media_type in ((PICTURE, "image/png"), (PAPER, "application/octet-stream")):
        found = client.get(f"{path}/files/{file.sha256}")
        assert found.status_code == 200 and found.mimetype == media_type
        assert VISITOR.items() <= dict(found.headers).items() and "sandbox" in found.headers["Content-Security-Policy"]
        assert found.headers.get("Content-Disposition", "").startswith("attachment") == (file is PAPER)


def test_live_share_shows_earlier_messages_of_the_shown_version(
    client: FlaskClient, overseer: Overseer, instance: Path
) -> None:
    """And none of another version."""
    room_id = new_room(client)
    overseer.close()
    with closing(sqlite3.connect(room_file(instance, room_id))) as db, db:
        db.row_factory = sqlite3.Row
        for number in range(1, 103, 2):
            room_rows.insert_exchange(db, number, parent=number - 1 or None, key=None, text=f"Question {number}.")
            room_rows.mark_finished(db, number + 1, "complete", "")
        room_rows.insert_exchange(db, 103, parent=None, key=None, text="Hidden.")
        room_rows.mark_finished(db, 104, "complete", "")
        db.execute("UPDATE room SET head = 102, hidden = 2")
    overseer.open()
    path = share(client, room_id, live="1")
    page = client.get(path)
    assert len(articles(page.text.removeprefix("<!doctype html>"))) == 50 and "Hidden." not in page.text
    link = parsed(page.text.removeprefix("<!doctype html>")).one(class_="messages__earlier").one("a")
    assert link["href"] == link["hx-get"] == f"{path}?before=53"
    earlier = client.get(link["hx-get"] or "", headers=HTMX)
    assert root(earlier.text)["id"] == "messages" and len(articles(earlier.text)) == 50
    whole = client.get(link["href"] or "", headers=NAVIGATION)
    assert whole.text.startswith("<!doctype html>") and "Question 3." in whole.text
    for before in (103, 104):
        assert client.get(f"{path}?before={before}", headers=HTMX).status_code == 404
    assert client.get(f"{path}?before=x").status_code == 400


def test_file_is_in_a_live_share_only_while_it_is_shown(
    client: FlaskClient, room_id: str, instance: Path, model_server: ModelServer
) -> None:
    store(client, instance, room_id, 2, Text("Look:"), PICTURE)
    live, snapshot = share(client, room_id, live="1"), share(client, room_id)
    assert client.get(f"{live}/files/{PICTURE.sha256}").data == PNG
    rejected = [f"{snapshot}/files/{PICTURE.sha256}", f"{live}/files/{'0' * 64}", f"{live[:-1]}/files/{PICTURE.sha256}"]
    expected = client.get("/shares/x")
    assert all(client.get(path).data == expected.data for path in rejected)
    model_server.will(answer("Without a picture."))
    client.post(f"/rooms/{room_id}/turn", headers={"Prefer": "wait=20"})
    assert client.get(f"/rooms/{room_id}/files/{PICTURE.sha256}").status_code == 200
    for path in (*rejected, f"{live}/files/{PICTURE.sha256}"):
        found = client.get(path)
        assert found.status_code == 404 and found.data == expected.data, path


def test_share_that_is_unknown_wrong_revoked_or_expired_has_the_same_answer(
    client: FlaskClient, room_id: str, overseer: Overseer, instance: Path
) -> None:
    """The same bytes and headers, for each kind of client; and nothing of the server in them."""
    revoked, expired, of_deleted = share(client, room_id), share(client, room_id, expires="60", live="1"), ""
    deleted = new_room(client, "Deleted")
    of_deleted = share(client, deleted, live="1")
    client.delete(f"/rooms/{deleted}")
    client.delete(f"/rooms/{room_id}/shares/1")
    now = overseer.clock()
    overseer.clock = lambda: now + 60_000
    paths = [
        *(revoked, expired, of_deleted, f"/shares/{room_id}{'A' * 32}", f"/shares/{'0' * 12}{'A' * 32}"),
        *("/shares/x", f"/shares/{room_id}", revoked + "A", f"/shares/{'é' * 44}", f"/shares/{'x' * 5000}"),
    ]
    for headers in ({}, HTMX, NAVIGATION, {"Accept": "text/plain"}):
        responses = [client.get(path, headers=headers) for path in paths]
        assert {response.status_code for response in responses} == {404}
        assert len({response.data for response in responses}) == 1
        assert len({str(sorted(response.headers)) for response in responses}) == 1
        page = parsed(responses[0].text.removeprefix("<!doctype html>"))
        assert page.one("h1").text == "This share has ended."
        assert all(url.startswith("/static/") for url in urls(page))
        assert "Quince" not in responses[0].text and VISITOR.items() <= dict(responses[0].headers).items()


def test_share_of_a_room_whose_file_is_broken_tells_visitors_nothing(
    client: FlaskClient, room_id: str, overseer: Overseer, instance: Path
) -> None:
    path = share(client, room_id)
    overseer.close()
    write_junk(room_file(instance, room_id))
    overseer.open()
    for one in (path, f"{path}/files/{'0' * 64}"):
        for headers in ({}, NAVIGATION):
            response = client.get(one, headers=headers)
            assert response.status_code == 503 and "at the moment" in response.text
            assert "sqlite" not in response.text and "damaged" not in response.text and room_id not in response.text


def test_log_has_no_secret_of_a_share(client: FlaskClient, room_id: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        path = share(client, room_id, live="1")
        for one in (path, f"{path}/files/x", f"{path}?before=x", f"{path}/nothing"):
            client.get(one)
        client.post(path)
    secret = path.removeprefix(f"/shares/{room_id}")
    assert f"/shares/{room_id}…".encode("unicode_escape").decode() in caplog.text and secret not in caplog.text


def test_clear_ends_all_shares(client: FlaskClient, room_id: str, instance: Path) -> None:
    paths = [share(client, room_id), share(client, room_id, live="1")]
    client.delete(f"/rooms/{room_id}/messages")
    assert {client.get(path).status_code for path in paths} == {404}
    assert not root(client.get(f"/rooms/{room_id}/shares").text).every("form")


def test_share_works_without_a_log_in_where_there_is_a_password(instance: Path, model_server: ModelServer) -> None:
    access = Access(password="secret", hosts=frozenset({"localhost"}))
    app = create_app(
        instance,
        access=access,
        models=ModelSettings(base_url=model_server.url, name="stand-in"),
        check_password=lambda _, given: given == "secret",
    )
    with closing(instance_of(app)):
        owner, visitor = app.test_client(), app.test_client()
        owner.post("/login", data={"password": "secret"})
        room_id = new_room(owner, "Private")
        model_server.will(answer("Yes."))
        ask(owner, room_id, "Well?")
        for form in ({}, {"live": "1"}):
            path = share(owner, room_id, **form)
            remote = {"REMOTE_ADDR": "192.0.2.7"}
            found = visitor.get(path, headers=NAVIGATION, environ_overrides=remote)
            assert found.status_code == 200 and "Yes." in found.text and "Set-Cookie" not in found.headers
        assert visitor.get(f"/rooms/{room_id}").status_code == 401
        assert visitor.get(f"/rooms/{room_id}/shares").status_code == 401
        assert visitor.post(f"/rooms/{room_id}/shares").status_code == 401
        assert visitor.get(f"/rooms/{room_id}/export.html").status_code == 401


def test_share_of_a_server_without_a_password_is_for_this_machine_only(client: FlaskClient, room_id: str) -> None:
    for form in ({}, {"live": "1"}):
        path = share(client, room_id, **form)
        remote = client.get(path, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
        assert remote.status_code == 403 and "Quince" not in remote.text
        assert client.get(path, base_url="http://evil.example").status_code == 403


def test_share_below_a_mount_point_has_its_addresses_there(client: FlaskClient, room_id: str) -> None:
    made: TestResponse = client.post(
        f"/rooms/{room_id}/shares", data={"live": "1"}, base_url="http://localhost/o/alpha"
    )
    assert made.headers["Location"].startswith("/o/alpha/shares/")
    address = made.headers["Location"].removeprefix("/o/alpha")
    page = parsed(client.get(address, base_url="http://localhost/o/alpha").text.removeprefix("<!doctype html>"))
    assert all(url.startswith(("/o/alpha/", "#", "data:")) for url in urls(page))


def test_tool_calls_are_in_a_snapshot(client: FlaskClient, model_server: ModelServer) -> None:
    model_server.will(Reply(tool_call("roll_dice", '{"sides": 6}'), end("tool_calls")), answer("Rolled."))
    room_id = new_room(client)
    ask(client, room_id, "Roll")
    page = parsed(client.get(share(client, room_id)).text.removeprefix("<!doctype html>"))
    assert "roll_dice" in page.one("details", class_="part--tool").one("summary").text
