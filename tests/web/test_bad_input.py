"""Invalid input is rejected with a sentence and changes nothing; hostile text is shown as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer.application import MAX_BODY
from overseer.domain.settings import MAX_MODEL_CHARS, MAX_SYSTEM_PROMPT_CHARS
from overseer.domain.text import MAX_NAME_CHARS, MAX_TEXT_CHARS
from overseer.rooms.overseer import Overseer
from overseer.storage.instance_lock import room_file
from tests.support.client import HTMX, NAVIGATION, PLAIN, WAIT, ask, is_page, new_room, rows
from tests.support.files import remove, write_junk
from tests.support.html import parsed, root
from tests.support.model_server import ModelServer, held, text
from tests.support.server import Server
from tests.support.waiting import DEADLINE

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
NO_ROOM = "0123456789ab"
CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def sentence_of(response: TestResponse) -> str:
    """Return the sentence of an error fragment."""
    error = root(response.text)
    assert error["id"] == "error", response.text
    return checked(error.one("p").text)


def checked(sentence: str) -> str:
    """Check that an error is a sentence and contains nothing internal."""
    assert re.fullmatch(r"\S.{8,}[.…]( \(See [0-9a-f]{8} in the server log\.\))?", sentence), sentence
    internal = r"Traceback|File \"|line \d|\.py\b|/tmp|/work|/home|sqlite3|Error\b|<class"
    assert not re.search(internal, sentence), sentence
    return sentence


def messages(client: FlaskClient, room_id: str) -> str:
    return client.get(f"/rooms/{room_id}/messages").text


# Paths and queries


def test_unknown_and_malformed_room_ids_are_404_and_create_no_file(client: FlaskClient, instance: Path) -> None:
    room_id = next(one for one in iter(lambda: new_room(client), "") if one.upper() != one)
    files = {*instance.rglob("*")}
    malformed = [room_id.upper(), room_id[:-1], f"{room_id}0", f"{room_id}%00", f"{room_id}%0A"]
    malformed += [NO_ROOM, "٠١٢٣٤٥٦٧٨٩٠١", "%ED%A0%80", "..%2F..%2Fetc%2Fpasswd", "..%5C..%5Coverseer"]
    malformed += [f"{room_id}.sqlite", "' OR '1'='1", "a" * 50_000]
    for other in malformed:
        for method, path in (
            *(("GET", ""), ("PATCH", ""), ("DELETE", "")),
            *(("GET", "/messages"), ("POST", "/messages"), ("DELETE", "/messages")),
            *(("GET", "/messages/1"), ("PATCH", "/messages/1"), ("POST", "/turn"), ("DELETE", "/turn")),
        ):
            data = {"name": "Name", "text": "Text"} if method in ("POST", "PATCH") else None
            response = client.open(f"/rooms/{other}{path}", method=method, data=data)
            assert response.status_code == 404, (other, method, path)
            sentence_of(response)
    assert {*instance.rglob("*")} == files and client.get(f"/rooms/{room_id}").status_code == 200


def test_message_number_without_a_message_is_404(client: FlaskClient) -> None:
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    for number in ("0", "-1", "3", "one", "1.0", "1e0", "%00", "1%00", str(2**63 - 1), str(2**63), "9" * 5000):
        for method in ("GET", "PATCH"):
            response = client.open(f"/rooms/{room_id}/messages/{number}", method=method, data={"text": "Bye"})
            assert response.status_code == 404 and sentence_of(response), (number, method)


def test_query_number_is_digits_only_and_may_be_huge(client: FlaskClient) -> None:
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    queries = [("/rooms", "after"), (f"/rooms/{room_id}", "after"), (f"/rooms/{room_id}/messages", "before")]
    for path, name in queries:
        for value in ("junk", "-1", "1.5", " 1", "٣", "²", "0x10", "\0"):
            response = client.get(path, query_string={name: value})
            assert response.status_code == 400 and name in sentence_of(response), (path, name, value)
    for value in (str(2**63 - 1), str(2**63), "9" * 5000):
        assert len(parsed(client.get(f"/rooms/{room_id}/messages?before={value}").text).every("article")) == 2
        assert rows(client.get(f"/rooms?after={value}").text) == [room_id]


def test_wrong_method_is_405_with_the_allowed_ones(client: FlaskClient) -> None:
    """In the request, and in a form."""
    room = f"/rooms/{new_room(client)}"
    for method, path, allowed in (
        ("PUT", "/rooms", {"GET", "POST"}),
        ("BREW", room, {"GET", "PATCH", "DELETE"}),
        ("PATCH", f"{room}/messages", {"GET", "POST", "DELETE"}),
        ("DELETE", f"{room}/messages/1", {"GET", "PATCH"}),
        ("GET", f"{room}/turn", {"POST", "DELETE"}),
        ("POST", "/healthz", {"GET"}),
    ):
        response = client.open(path, method=method)
        assert response.status_code == 405 and sentence_of(response), (method, path)
        assert set(response.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed, (method, path)
    for method in ("BREW", "GET", "DELETE /", "\0"):
        response = client.post(f"{room}/messages", data={"_method": method, "text": "Hello"})
        assert response.status_code == 405 and "PATCH or DELETE" in sentence_of(response)
        assert "DELETE" in response.headers["Allow"]
    response = client.post("/rooms", data={"_method": "PATCH", "name": "Name"})
    assert response.status_code == 405 and "POST" in response.headers["Allow"]
    assert client.post("/nowhere", data={"_method": "DELETE"}).status_code == 404
    assert not parsed(client.get(f"{room}/messages").text).has("article") and len(rows(client.get("/rooms").text)) == 1


# Texts and names


def test_blank_and_overlong_questions_are_rejected_and_change_nothing(client: FlaskClient) -> None:
    """200,000 characters are accepted, also of four bytes each and with the line ends of a browser."""
    assert MAX_TEXT_CHARS == 200_000
    room_id = new_room(client)
    for longest in ("x" * MAX_TEXT_CHARS, "😀\r\n" * (MAX_TEXT_CHARS // 2)):
        ask(client, room_id, longest)
    before = messages(client, room_id)
    rejected = [({}, 422), *(({"text": blank}, 422) for blank in ("", "\n\r\n\t ", "\u00a0\u2003"))]
    for form, status in [*rejected, ({"text": "x" * (MAX_TEXT_CHARS + 1)}, 413)]:
        for response in (
            client.post(f"/rooms/{room_id}/messages", data=form),
            client.patch(f"/rooms/{room_id}/messages/1", data=form),
        ):
            assert response.status_code == status, form
            assert ("200,001" if status == 413 else "Type a message") in sentence_of(response)
    assert messages(client, room_id) == before


def test_blank_and_overlong_names_are_rejected(client: FlaskClient) -> None:
    """120 characters are accepted. A room may be created without a name."""
    assert MAX_NAME_CHARS == 120
    room_id = new_room(client, "😀" * MAX_NAME_CHARS)
    assert client.patch(f"/rooms/{room_id}", data={"name": "  " + "n" * MAX_NAME_CHARS + " "}).status_code == 200
    for name in ("", "\t\r\n", "\u2003", "n" * (MAX_NAME_CHARS + 1), "n" * 100_000):
        for response in (
            client.post("/rooms", data={"name": name}),
            client.patch(f"/rooms/{room_id}", data={"name": name}),
        ):
            assert response.status_code == 422
            assert ("120 characters" if name.strip() else "needs a name") in sentence_of(response)
    assert client.patch(f"/rooms/{room_id}").status_code == 422
    assert rows(client.get("/rooms").text) == [room_id]
    assert parsed(client.get(f"/rooms/{room_id}").text).one("h1").text == "n" * MAX_NAME_CHARS


@pytest.mark.parametrize(
    ("path", "method", "field", "value", "status"),
    [
        ("/rooms/{}/messages", "", "text", "x" * (MAX_TEXT_CHARS + 1) + "\nend", 413),
        ("/rooms/{}/messages/1", "PATCH", "text", "\nx" * MAX_TEXT_CHARS + "end", 413),
        ("/rooms/{}", "PATCH", "name", "n" * (MAX_NAME_CHARS + 1), 422),
        ("/rooms/{}", "PATCH", "system_prompt", "\n<p>" * MAX_SYSTEM_PROMPT_CHARS, 413),
        ("/rooms/{}", "PATCH", "model", "m" * (MAX_MODEL_CHARS + 1), 422),
        ("/rooms", "", "name", "n" * (MAX_NAME_CHARS + 1), 422),
    ],
    ids=["composer", "edit form", "rename", "system prompt", "model", "new room"],
)
def test_rejected_form_without_javascript_can_be_corrected_and_resent(
    client: FlaskClient, path: str, method: str, field: str, value: str, status: int
) -> None:
    """The page contains the form with the whole text."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    given = {**PLAIN, "_method": method, "key": "k", field: value}
    rejected = client.post(path.format(room_id), data=given, headers=NAVIGATION)
    assert rejected.status_code == status and is_page(rejected)
    form = parsed(rejected.text).one(id="room").one("form", class_="open__refused")
    # A browser drops the first line end of a textarea.
    assert "".join(map(str, form.one("textarea", name=field).content)) == f"\n{value}"
    hidden = {str(one["name"]): one["value"] for one in form.every("input")}
    assert hidden["_method"] == method and hidden["key"] != "k"
    assert client.post(form["action"] or "", data={**hidden, field: "1"}, headers=NAVIGATION).status_code == 303


def test_rejected_form_of_another_site_cannot_be_resent(client: FlaskClient) -> None:
    """One click on it would do what the other site wants."""
    foreign = {**NAVIGATION, "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    form = {**PLAIN, "text": "Evil"}
    rejected = client.post(f"/rooms/{new_room(client)}/messages", data=form, headers=foreign)
    assert rejected.status_code == 403 and is_page(rejected)
    assert not parsed(rejected.text).has(class_="open__refused")


def test_no_field_has_a_maxlength() -> None:
    """A browser silently cuts a pasted text to it; the server's error says how long it may be."""
    templates = list(Path("templates").rglob("*.html"))
    assert templates
    assert [path.name for path in templates if "maxlength" in path.read_text().lower()] == []


@pytest.mark.parametrize("line_end", ["\f", "\v", "\r\n", "\r"])
def test_every_line_end_is_stored_as_a_line_feed(client: FlaskClient, overseer: Overseer, line_end: str) -> None:
    """A name gets a space instead."""
    room_id = new_room(client, f"Two{line_end}words")
    assert overseer.record(room_id).name == "Two words"
    ask(client, room_id, f"first{line_end}second")
    client.patch(f"/rooms/{room_id}", data={"system_prompt": f"first{line_end}second"})
    assert overseer.room(room_id).message(1).text == "first\nsecond"
    assert overseer.room(room_id).settings().system_prompt == "first\nsecond"


def test_question_keeps_every_character_that_html_can_contain(client: FlaskClient, overseer: Overseer) -> None:
    room_id = new_room(client)
    unusual = "a\t\u00a0\u0085\u009b\u2028\u2029\ufeff\ufffe\u202eb"
    ask(client, room_id, unusual)
    assert overseer.room(room_id).message(1).text == unusual


@pytest.mark.parametrize(
    ("value", "content_type"),
    [(b"a%00b%01%7F%0C%ED%A0%80%ED%BF%BF%FF%C0%80c", FORM), (b"a\xed\xa0\x80\xff\x00c", MULTIPART)],
)
def test_characters_that_html_cannot_contain_are_replaced(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer, value: bytes, content_type: str
) -> None:
    """Control characters, lone surrogates and invalid UTF-8; what is stored, sent to the model and shown."""

    def body(name: str) -> bytes:
        if content_type == FORM:
            return name.encode() + b"=" + value
        return b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n--x--\r\n' % (name.encode(), value)

    made = client.post("/rooms", data=body("name"), content_type=content_type)
    assert made.status_code == 201
    room_id = made.headers["Location"].removeprefix("/rooms/")
    sent = client.post(f"/rooms/{room_id}/messages", data=body("text"), content_type=content_type, headers=WAIT)
    assert sent.status_code == 201
    stored = [overseer.record(room_id).name, overseer.room(room_id).message(1).text]
    for replaced in (*stored, model_server.requests[0]["messages"][0]["content"]):
        assert replaced.startswith("a") and replaced.endswith("c")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]", replaced)
    for path in (f"/rooms/{room_id}", "/rooms", f"/rooms/{room_id}/messages", "/rooms?_plain=1&q=a%00%01%ED%A0%80"):
        shown = client.get(path)
        assert shown.status_code == 200 and not CONTROLS.search(shown.data)
        shown.data.decode("utf-8", "strict")


@pytest.mark.parametrize("headers", [{}, HTMX, NAVIGATION], ids=["curl", "htmx", "navigation"])
def test_body_over_the_limit_is_413(client: FlaskClient, headers: dict[str, str]) -> None:
    room_id = new_room(client)
    response = client.post(f"/rooms/{room_id}/messages", data={"text": "x" * MAX_BODY}, headers=headers)
    assert response.status_code == 413
    if headers is NAVIGATION:
        assert is_page(response) and checked(parsed(response.text).one(id="room").one("p").text)
    else:
        assert "Send less" in sentence_of(response)
    assert not parsed(messages(client, room_id)).has("article")


def test_body_that_is_not_a_form_is_rejected(client: FlaskClient) -> None:
    room_id = new_room(client)
    file = b'--x\r\nContent-Disposition: form-data; name="text"; filename="f"\r\n\r\nHello\r\n--x--\r\n'
    for body, content_type in (
        (b'{"text": "Hello"}', "application/json"),
        (b"text=Hello", "text/plain"),
        (b"text=Hello", ""),
        (b"--x\r\nContent-Disposition: form-data; name=text\r\n\r\nHel", MULTIPART),
        (b"--y\r\n\r\nHello\r\n--y--\r\n", MULTIPART),
        (b"Hello", "multipart/form-data"),
        (file, MULTIPART),
        (b"text=a\xed\xa0\x80\xff", FORM),
        (b"&&&===;;;%%%", FORM),
    ):
        response = client.post(f"/rooms/{room_id}/messages", data=body, content_type=content_type)
        assert response.status_code in (400, 422) and sentence_of(response), body
    assert not parsed(messages(client, room_id)).has("article")


# Errors


@pytest.mark.parametrize(
    ("status", "method", "path", "form"),
    [
        (400, "GET", "/rooms?after=junk", {}),
        (404, "GET", f"/rooms/{NO_ROOM}", {}),
        (404, "GET", "/static/nothing.js", {}),
        (404, "POST", "/rooms/{}/turn", {}),
        (405, "POST", "/rooms/{}", {"_method": "BREW"}),
        (413, "POST", "/rooms/{}/messages", {"text": "x" * (MAX_TEXT_CHARS + 1)}),
        (422, "POST", "/rooms/{}", {"_method": "PATCH", "name": " "}),
    ],
)
def test_error_is_a_fragment_or_a_page_with_the_same_sentence(
    client: FlaskClient, status: int, method: str, path: str, form: dict[str, str]
) -> None:
    """curl and htmx get `#error` and where it belongs, a browser that navigates a page with the rooms."""
    room_id = new_room(client)
    path = path.format(room_id)

    def send(headers: dict[str, str], **more: str) -> TestResponse:
        if method == "POST":
            return client.post(path, data={**form, **more}, headers=headers)
        return client.get(path + ("&" if "?" in path else "?") + urlencode(more), headers=headers)

    sentences = set()
    for response in (send({}), send(HTMX, **PLAIN), send({**HTMX, **NAVIGATION})):
        assert (response.status_code, response.mimetype) == (status, "text/html")
        assert response.headers["Cache-Control"] == "no-store"
        assert (response.headers["HX-Retarget"], response.headers["HX-Reswap"]) == ("#error", "outerHTML")
        assert response.headers["HX-Push-Url"] == "false"
        sentences.add(sentence_of(response))
    for response in (send({}, **PLAIN), send(NAVIGATION)):
        assert (response.status_code, response.mimetype) == (status, "text/html")
        assert response.headers["Cache-Control"] == "no-store" and is_page(response)
        page = parsed(response.text)
        assert rows(response.text) == [room_id] and page.one(id="sidebar").has("a", href=f"/rooms/{room_id}")
        sentences.add(checked(page.one(id="room").one("p").text))
    assert len(sentences) == 1


# Files that cannot be used


@contextmanager
def stopped(overseer: Overseer) -> Iterator[None]:
    """Close all files, as between a stop of the server and its start."""
    overseer.close()
    yield
    overseer.open()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (write_junk, "damaged or not a SQLite file"),
        (remove, "is missing"),
    ],
)
def test_file_that_cannot_be_used_breaks_its_room_only(
    client: FlaskClient, overseer: Overseer, instance: Path, damage: Callable[[Path], None], reason: str
) -> None:
    """The room and its row explain it, and every other room works."""
    good, bad = new_room(client, "Good"), new_room(client, "Bad")
    for room_id in (good, bad):
        ask(client, room_id, "Hello")
    with stopped(overseer):
        assert len(list((instance / "facets").iterdir())) == 2, "an orderly stop leaves one file for each room"
        backup = room_file(instance, bad).read_bytes()
        damage(room_file(instance, bad))
    page = client.get(f"/rooms/{bad}")
    assert page.status_code == 500 and is_page(page)
    sentence = checked(parsed(page.text).one(id="room", data_room=bad).one("p", role="alert").text)
    assert reason in sentence and f"room-{bad}.sqlite" in sentence
    fragment = client.get(f"/rooms/{bad}", headers={**HTMX, "HX-Request-Type": "partial"})
    assert fragment.status_code == 500 and root(fragment.text).one("p", role="alert").text == sentence
    for response in (
        client.get(f"/rooms/{bad}/messages"),
        client.get(f"/rooms/{bad}/messages/1"),
        client.post(f"/rooms/{bad}/messages", data={"text": "Hello"}),
        client.patch(f"/rooms/{bad}", data={"name": "Worse"}),
        client.delete(f"/rooms/{bad}/turn"),
    ):
        assert response.status_code == 500 and sentence_of(response).startswith(sentence)
    plain = client.post(f"/rooms/{bad}/messages", data={"text": "Hello", **PLAIN})
    assert plain.status_code == 500 and is_page(plain)
    listed = parsed(client.get("/rooms").text)
    assert listed.one(id=f"room-{bad}").one("a")["title"] == sentence
    assert listed.one(id=f"room-{good}").one("a")["title"] == "All right."
    ask(client, good, "Still there?")
    if damage is remove:
        with stopped(overseer):
            room_file(instance, bad).write_bytes(backup)
        assert client.get(f"/rooms/{bad}").status_code == 200, "a copy that is put back is a room again"
        row = parsed(client.get("/rooms").text).one(id=f"room-{bad}")
        assert (row["data-messages"], row.one("a")["title"]) == ("2", "All right.")
    assert client.delete(f"/rooms/{bad}").status_code == 200
    assert list((instance / "facets").glob(f"*{bad}*")) == []


def test_file_that_cannot_be_opened_now_is_503(client: FlaskClient, overseer: Overseer, instance: Path) -> None:
    room_id = new_room(client)
    with stopped(overseer):
        room_file(instance, room_id).unlink()
        room_file(instance, room_id).mkdir()
    fragment, page = client.get(f"/rooms/{room_id}/messages"), client.get(f"/rooms/{room_id}", headers=NAVIGATION)
    assert fragment.status_code == 503 and "Check the permissions" in sentence_of(fragment)
    assert page.status_code == 503 and "Check the permissions" in parsed(page.text).one(id="room").text


def test_waiting_request_during_a_shutdown_gets_a_response(server: Server, model_server: ModelServer) -> None:
    url = server.url + requests.post(f"{server.url}/rooms").headers["Location"]
    reply = model_server.will(held(text("Half an ans")))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(requests.post, f"{url}/messages", {"text": "Hello"}, headers=WAIT, timeout=3 * DEADLINE)
        assert reply.begun.wait(DEADLINE)
        assert server.stop() == 0
        response = waiting.result()
    assert response.status_code in (201, 503)
    assert parsed(response.text).has(id="error") or parsed(response.text).has("article", data_state="interrupted")
