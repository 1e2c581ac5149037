"""What cannot be taken is refused with a sentence, harms nothing, and comes back as nothing but words."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from overseer.application import MAX_BODY
from overseer.domain.settings import MAX_MODEL_CHARS, MAX_SYSTEM_PROMPT_CHARS
from overseer.domain.text import MAX_NAME_CHARS, MAX_TEXT_CHARS
from overseer.rooms.overseer import Overseer
from tests.support.model_server import ModelServer, answer, held, text
from tests.support.server import Server
from tests.web.test_views import HTMX, PLAIN, WAIT, Element, ask, is_page, new_room, parsed, root, rows

DEADLINE = 10.0
NAVIGATION = {"Sec-Fetch-Mode": "navigate"}
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
NO_ROOM = "0123456789ab"
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> ' onfocus='alert(1)",
    "</textarea></title></style><svg onload=alert(1)>",
    "{{ 7 * 7 }} {% raw %} ${7 * 7}",
    "&lt;b&gt; &amp;amp; &#39;",
    "'); DROP TABLE rooms; --",
    "javascript:alert(1) js:alert(1) hx-get=/rooms",
    "<hx-partial hx-target='#sidebar'>gone</hx-partial>",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe \N{ZERO WIDTH JOINER}",
]


def sentence_of(response: TestResponse) -> str:
    """The sentence of an error that came as a fragment; it is one, and tells nothing about the machine."""
    error = root(response.text)
    assert error["id"] == "error", response.text
    return checked(error.one("p").text)


def checked(sentence: str) -> str:
    assert re.fullmatch(r"\S.{8,}[.…]( \(The log says more under [0-9a-f]{8}\.\))?", sentence), sentence
    assert not re.search(r"Traceback|File \"|line \d|\.py\b|/tmp|/work|/home|sqlite3|Error\b|<class", sentence), (
        sentence
    )
    return sentence


def skeleton(element: Element) -> list[tuple[str, tuple[str, ...]]]:
    """What a page is made of, without its words: tags and the names of their attributes."""
    return [(one.tag, tuple(sorted(one.attributes))) for one in element.all]


def files(instance: Path) -> set[str]:
    return {str(path.relative_to(instance)) for path in instance.rglob("*")}


# Addresses


BAD_IDS = [
    NO_ROOM,
    "0123456789AB",
    "0123456789a",
    "0123456789abc",
    "0123456789ag",
    "٠١٢٣٤٥٦٧٨٩٠١",  # digits, but not these
    "０１２３４５６７８９ａｂ",
    "%00123456789ab",
    "0123456789ab%00",
    "0123456789ab%0A",
    "0123456789ab%20",
    "%ED%A0%80",
    "../../etc/passwd",
    "..%2F..%2Fetc%2Fpasswd",
    "..%5C..%5Coverseer",
    "%2e%2e",
    "room-0123456789ab",
    "0123456789ab.sqlite",
    "' OR '1'='1",
    "a" * 50_000,
]


def test_an_id_of_no_room_is_404_and_makes_nothing(client: FlaskClient, instance: Path) -> None:
    """Unknown and malformed ids are refused by every verb, and leave no file behind."""
    new_room(client)
    before = files(instance)
    for room_id in BAD_IDS:
        for method, path in (
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("GET", "/messages"),
            ("POST", "/messages"),
            ("DELETE", "/messages"),
            ("GET", "/messages/1"),
            ("PATCH", "/messages/1"),
            ("POST", "/turn"),
            ("DELETE", "/turn"),
        ):
            data = {"name": "Name", "text": "Text"} if method in ("POST", "PATCH") else None
            response = client.open(f"/rooms/{room_id}{path}", method=method, data=data)
            assert response.status_code == 404, (room_id, method, path)
            sentence_of(response)
    assert files(instance) == before


def test_an_id_is_exactly_that_of_a_room(client: FlaskClient) -> None:
    """Of a room that exists, no other spelling of its id is taken."""
    room_id = next(one for one in iter(lambda: new_room(client), "") if one.upper() != one)
    for spelled in (room_id.upper(), room_id[:-1], f"{room_id}0", f"{room_id}%00", f"{room_id}%0A", f"{room_id}/"):
        assert client.get(f"/rooms/{spelled}").status_code == 404, spelled
    assert client.get(f"/rooms/{room_id}").status_code == 200


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_message_that_is_not_there_is_404(client: FlaskClient, method: str) -> None:
    """Zero, negative, huge and worded numbers name no message, by any verb."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    huge = [str(2**63 - 1), str(2**63), str(10**30), "9" * 5000]
    answers = {
        number[:24]: client.open(f"/rooms/{room_id}/messages/{number}", method=method, data={"text": "Bye"})
        for number in ("0", "-1", "3", "one", "1.0", "1e0", "0x1", "%00", "1%00", *huge)
    }
    assert {number: one.status_code for number, one in answers.items()} == dict.fromkeys(answers, 404)
    assert all(sentence_of(one) for one in answers.values())


def test_a_place_in_a_list_that_is_no_number_is_400(client: FlaskClient) -> None:
    """`before` and `after` take digits only, in fragments and in pages."""
    room_id = new_room(client)
    for value in ("junk", "-1", "1.5", "1e3", " 1", "٣", "²", "0x10", "1;2", "\0", "None"):
        for path, name in (
            ("/rooms", "after"),
            (f"/rooms/{room_id}", "after"),
            (f"/rooms/{room_id}", "before"),
            (f"/rooms/{room_id}/messages", "before"),
        ):
            response = client.get(path, query_string={name: value})
            assert response.status_code == 400, (path, name, value)
            assert name in sentence_of(response)


def test_a_place_beyond_everything_is_fine(client: FlaskClient) -> None:
    """However large, a number is a number: everything comes before it."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    for value in (str(2**63 - 1), str(2**63), str(10**30), "9" * 5000):
        assert len(parsed(client.get(f"/rooms/{room_id}/messages?before={value}").text).every("article")) == 2
        assert rows(client.get(f"/rooms?after={value}").text) == [room_id]


def test_a_wrong_verb_is_405_and_says_which_are_right(client: FlaskClient) -> None:
    """What an address cannot do is refused with the Allow header and a sentence."""
    room = f"/rooms/{new_room(client)}"
    for method, path, allowed in (
        ("PUT", "/rooms", {"GET", "POST"}),
        ("DELETE", "/rooms", {"GET", "POST"}),
        ("POST", room, {"GET", "PATCH", "DELETE"}),
        ("BREW", room, {"GET", "PATCH", "DELETE"}),
        ("PATCH", f"{room}/messages", {"GET", "POST", "DELETE"}),
        ("DELETE", f"{room}/messages/1", {"GET", "PATCH"}),
        ("GET", f"{room}/turn", {"POST", "DELETE"}),
        ("POST", "/healthz", {"GET"}),
        ("POST", "/", {"GET"}),
    ):
        response = client.open(path, method=method)
        assert response.status_code == 405, (method, path)
        assert set(response.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed, (method, path)
        sentence_of(response)


def test_a_form_may_only_say_patch_or_delete(client: FlaskClient) -> None:
    """Any other `_method` is 405, and does nothing."""
    room_id = new_room(client)
    for verb in ("BREW", "GET", "POST", "PUT", "DELETE /", "\0"):
        response = client.post(f"/rooms/{room_id}/messages", data={"_method": verb, "text": "Hello"})
        assert response.status_code == 405
        assert "PATCH or DELETE" in sentence_of(response)
    assert not parsed(client.get(f"/rooms/{room_id}/messages").text).has("article")


def test_a_form_with_a_wrong_verb_is_told_the_right_ones(client: FlaskClient) -> None:
    """Like every 405, that for `_method` comes with the Allow header."""
    response = client.post(f"/rooms/{new_room(client)}/messages", data={"_method": "BREW"})
    assert response.status_code == 405
    assert "DELETE" in response.headers.get("Allow", "")


def test_a_form_may_only_say_what_its_address_can(client: FlaskClient) -> None:
    """`_method=PATCH` where nothing can be patched is 405, and 404 where there is nothing."""
    response = client.post("/rooms", data={"_method": "PATCH", "name": "Name"})
    assert response.status_code == 405 and "POST" in response.headers["Allow"]
    assert client.post("/nowhere", data={"_method": "DELETE"}).status_code == 404
    assert rows(client.get("/rooms").text) == []


# Texts and names


def test_a_question_without_words_is_422(client: FlaskClient) -> None:
    """Missing, empty and blank texts are refused, as a question and as an edit, and change nothing."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    before = client.get(f"/rooms/{room_id}/messages").text
    for form in ({}, *({"text": blank} for blank in ("", " ", "\n\r\n\t ", "\u00a0\u2003"))):
        for response in (
            client.post(f"/rooms/{room_id}/messages", data=form),
            client.patch(f"/rooms/{room_id}/messages/1", data=form),
        ):
            assert response.status_code == 422, form
            assert "Type a message" in sentence_of(response)
    assert client.get(f"/rooms/{room_id}/messages").text == before


def test_a_text_has_at_most_200_000_characters(client: FlaskClient) -> None:
    """That many are taken, also of the widest kind and with the line ends of a browser; one more is 413."""
    assert MAX_TEXT_CHARS == 200_000
    room_id = new_room(client)
    for longest in ("x" * MAX_TEXT_CHARS, "😀\r\n" * (MAX_TEXT_CHARS // 2)):
        ask(client, room_id, longest)
    before = client.get(f"/rooms/{room_id}/messages").text
    for response in (
        client.post(f"/rooms/{room_id}/messages", data={"text": "x" * (MAX_TEXT_CHARS + 1)}),
        client.patch(f"/rooms/{room_id}/messages/1", data={"text": "x" * (MAX_TEXT_CHARS + 1)}),
    ):
        assert response.status_code == 413
        assert "200,000 characters" in sentence_of(response) and "200,001" in sentence_of(response)
    assert client.get(f"/rooms/{room_id}/messages").text == before


@pytest.mark.parametrize(
    ("path", "method", "field", "value", "status"),
    [
        ("/rooms/{}/messages", "", "text", "x" * (MAX_TEXT_CHARS + 1) + "\nend", 413),
        ("/rooms/{}/messages/1", "PATCH", "text", "\nx" * MAX_TEXT_CHARS + "end", 413),
        ("/rooms/{}", "PATCH", "name", "n" * (MAX_NAME_CHARS + 1), 422),
        ("/rooms/{}", "PATCH", "system_prompt", "\n<p>" * MAX_SYSTEM_PROMPT_CHARS, 413),
        ("/rooms/{}", "PATCH", "model", "m" * (MAX_MODEL_CHARS + 1), 422),
        ("/rooms/{}", "PATCH", "temperature", "<hot>", 422),
        ("/rooms", "", "name", "n" * (MAX_NAME_CHARS + 1), 422),
    ],
    ids=["composer", "edit form", "rename", "system prompt", "model", "temperature", "new room"],
)
def test_plain_form_that_is_refused_comes_back_filled_in(
    client: FlaskClient, path: str, method: str, field: str, value: str, status: int
) -> None:
    """The page has the form with the whole text in a textarea; shortened there, it is accepted."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    given = {**PLAIN, "_method": method, "key": "k", field: value}
    refused = client.post(path.format(room_id), data=given, headers=NAVIGATION)
    assert refused.status_code == status and is_page(refused)
    form = parsed(refused.text).one(id="room").one("form", class_="open__refused")
    box = "".join(map(str, form.one("textarea", name=field).words))
    assert box == f"\n{value}"  # a browser drops the first line end of a textarea
    hidden = {str(given["name"]): given["value"] for given in form.every("input")}
    assert hidden["_method"] == method and hidden["key"] != "k"
    assert client.post(form["action"], data={**hidden, field: "1"}, headers=NAVIGATION).status_code == 303


def test_plain_form_of_another_site_is_not_offered_again(client: FlaskClient) -> None:
    """One click on it would do what the other site wants."""
    room_id = new_room(client)
    foreign = {**NAVIGATION, "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    for form in ({**PLAIN, "text": "x" * (MAX_TEXT_CHARS + 1)}, {**PLAIN, "text": "Evil"}):
        refused = client.post(f"/rooms/{room_id}/messages", data=form, headers=foreign)
        assert refused.status_code == 403 and is_page(refused)
        assert not parsed(refused.text).has(class_="open__refused")


def test_no_field_of_the_page_has_a_maxlength() -> None:
    """A browser cuts a pasted text to it without a word; the server's refusal says how long it may be."""
    templates = list(Path("templates").rglob("*.html"))
    assert templates
    assert [path.name for path in templates if "maxlength" in path.read_text().lower()] == []


@pytest.mark.parametrize("line_end", ["\f", "\v", "\r\n", "\r", "\n"])
def test_question_with_any_line_end_is_stored_with_line_feeds(
    client: FlaskClient, overseer: Overseer, line_end: str
) -> None:
    """A page break and a word processor's line break are line ends; a name has spaces in their place."""
    room_id = new_room(client, f"Two{line_end}words")
    assert overseer.room(room_id).name == "Two words"
    ask(client, room_id, f"first{line_end}second")
    client.patch(f"/rooms/{room_id}", data={"system_prompt": f"first{line_end}second"})
    assert overseer.message(room_id, 1).text == "first\nsecond"
    assert overseer.settings(room_id).system_prompt == "first\nsecond"


@pytest.mark.parametrize("kept", ["\t", "\u00a0", "\u0085", "\u009b", "\u2028", "\u2029", "\ufeff", "\ufffe", "\u202e"])
def test_question_keeps_characters_that_html_can_hold(client: FlaskClient, overseer: Overseer, kept: str) -> None:
    """Nothing is dropped or replaced that can be stored and shown."""
    room_id = new_room(client)
    ask(client, room_id, f"a{kept}b")
    assert overseer.message(room_id, 1).text == f"a{kept}b"


@pytest.mark.parametrize("headers", [{}, HTMX, NAVIGATION], ids=["curl", "htmx", "navigation"])
def test_a_body_over_the_limit_is_413(client: FlaskClient, headers: dict[str, str]) -> None:
    """More bytes than any message needs are refused unread, whoever sends them, with a sentence."""
    room_id = new_room(client)
    response = client.post(f"/rooms/{room_id}/messages", data={"text": "x" * MAX_BODY}, headers=headers)
    assert response.status_code == 413
    if headers is NAVIGATION:
        assert is_page(response) and checked(parsed(response.text).one(id="room").one("p").text)
    else:
        assert "Send less" in sentence_of(response)
    assert not parsed(client.get(f"/rooms/{room_id}/messages").text).has("article")


def test_a_form_of_thousands_of_fields_is_refused(client: FlaskClient) -> None:
    """A form that is all fields is 413, and asks nothing."""
    room_id = new_room(client)
    fields = (b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nHello\r\n' for _ in range(5000))
    body = b"".join(fields) + b"--x--\r\n"
    response = client.post(f"/rooms/{room_id}/messages", data=body, content_type=MULTIPART)
    assert response.status_code == 413
    sentence_of(response)


def test_a_name_without_words_is_422(client: FlaskClient) -> None:
    """A blank name is refused when a room is made and when it is renamed; a missing one only when renamed."""
    room_id = new_room(client, "Kitchen")
    for name in ("", " ", "\t\r\n", "\u2003"):
        for response in (
            client.post("/rooms", data={"name": name}),
            client.patch(f"/rooms/{room_id}", data={"name": name}),
        ):
            assert response.status_code == 422
            assert "needs a name" in sentence_of(response)
    assert client.patch(f"/rooms/{room_id}").status_code == 422
    assert rows(client.get("/rooms").text) == [room_id]
    assert parsed(client.get(f"/rooms/{room_id}").text).one("h1").text == "Kitchen"


def test_a_name_has_at_most_120_characters(client: FlaskClient) -> None:
    """So many are taken, after trimming and of any kind; one more is 422."""
    assert MAX_NAME_CHARS == 120
    room_id = new_room(client, "😀" * MAX_NAME_CHARS)
    assert client.patch(f"/rooms/{room_id}", data={"name": "  " + "n" * MAX_NAME_CHARS + " "}).status_code == 200
    assert parsed(client.get(f"/rooms/{room_id}").text).one("h1").text == "n" * MAX_NAME_CHARS
    for length in (MAX_NAME_CHARS + 1, 100_000):
        for response in (
            client.post("/rooms", data={"name": "n" * length}),
            client.patch(f"/rooms/{room_id}", data={"name": "n" * length}),
        ):
            assert response.status_code == 422
            assert "120 characters" in sentence_of(response)
    assert rows(client.get("/rooms").text) == [room_id]


def test_a_body_that_is_no_form_is_refused(client: FlaskClient) -> None:
    """JSON, a form that breaks off, one without a boundary: 400 or 422 with a sentence, and nothing is stored."""
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
        assert response.status_code in (400, 422), body
        sentence_of(response)
    assert not parsed(client.get(f"/rooms/{room_id}/messages").text).has("article")


ODD = [
    (b"a%00b%01%7F%0Cc", FORM),
    (b"a%ED%A0%80%ED%BF%BFc", FORM),
    (b"a%FF%C0%80c", FORM),
    (b"a\xed\xa0\x80\xff\x00c", MULTIPART),
]


@pytest.mark.parametrize(("value", "content_type"), ODD)
def test_what_no_page_can_hold_is_stored_and_shown_safely(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer, value: bytes, content_type: str
) -> None:
    """NULs, controls, halves of surrogate pairs and broken UTF-8 come out as harmless characters, everywhere."""

    def body(name: str) -> bytes:
        if content_type == FORM:
            return name.encode() + b"=" + value
        return b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n--x--\r\n' % (name.encode(), value)

    made = client.post("/rooms", data=body("name"), content_type=content_type)
    assert made.status_code == 201
    room_id = made.headers["Location"].removeprefix("/rooms/")
    sent = client.post(f"/rooms/{room_id}/messages", data=body("text"), content_type=content_type, headers=WAIT)
    assert sent.status_code == 201
    stored = [overseer.room(room_id).name, overseer.message(room_id, 1).text]
    for words in (*stored, model_server.requests[0]["messages"][0]["content"]):
        assert words.startswith("a") and words.endswith("c")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]", words)
    for path in (f"/rooms/{room_id}", "/rooms", f"/rooms/{room_id}/messages", f"/rooms/{room_id}/messages/1"):
        shown = client.get(path)
        assert shown.status_code == 200
        assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", shown.data)
        shown.data.decode("utf-8", "strict")


def test_what_no_page_can_hold_is_not_shown_from_the_address_either(client: FlaskClient) -> None:
    """A filter comes back in the list; its NULs and controls do not."""
    new_room(client)
    for headers in ({}, NAVIGATION):
        shown = client.get("/rooms?q=a%00%01%ED%A0%80", headers=headers)
        assert shown.status_code == 200
        assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", shown.data)


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_names_and_texts_come_back_as_words(client: FlaskClient, words: str) -> None:
    """A page with them has the elements and attributes of a page with harmless ones, and says exactly them."""
    harmless, hostile = new_room(client, "Name"), new_room(client, words)
    ask(client, harmless, "Text")
    ask(client, hostile, words)
    q = {"q": words}
    pages = [parsed(client.get(f"/rooms/{room_id}").text).one(id="room") for room_id in (harmless, hostile)]
    lists = [parsed(client.get("/rooms", query_string={"q": name}).text).one(id="rooms") for name in ("Name", words)]
    assert skeleton(pages[1]) == skeleton(pages[0])
    assert skeleton(lists[1]) == skeleton(lists[0])
    assert pages[1].one("h1").text == words and pages[1].one("input", name="name")["value"] == words
    assert pages[1].one(id="message-1").one(class_="part__plain").text == words
    row = lists[1].one(id=f"room-{hostile}")
    assert row.one(class_="row__name").text == words and lists[1]["data-q"] == words
    filtered = parsed(client.get("/rooms", query_string=q, headers=NAVIGATION).text)
    assert filtered.one(id="filter")["value"] == words


def test_hostile_answers_come_back_without_what_could_act(client: FlaskClient, model_server: ModelServer) -> None:
    """Whatever a model writes, no script, image, handler, style or dangerous link reaches the page."""
    room_id = new_room(client)
    evil = "[a](javascript:alert(1)) ![b](http://x.example/i.png) <b onclick=alert(1)>c</b> [d](data:text/html,e)\n\n"
    model_server.will(answer("\n\n".join(HOSTILE), "\n\n", evil, "```html\n<script>alert(1)</script>\n```\n"))
    ask(client, room_id, "Do your worst")
    body = parsed(client.get(f"/rooms/{room_id}/messages/2").text).one(class_="message__body")
    assert {one.tag for one in body.all} <= {"div", "p", "a", "pre", "code", "span", "button"}
    attributes = {name for one in body.all for name in one.attributes}
    assert attributes <= {"class", "id", "href", "rel", "target", "type", "tabindex", "data-wrap", "data-copy"}
    links = [link["href"] or "" for link in body.every("a")]
    assert [link for link in links if not link.startswith("http://x.example/")] in ([], [""], ["", ""])
    assert "<script>alert(1)</script>" in body.text


def test_a_filter_means_its_characters(client: FlaskClient) -> None:
    """Nothing in a filter is a wildcard."""
    for name in ("100% sure", "100 sure", "snake_case", "snakeXcase", "back\\slash", "it's"):
        new_room(client, name)
    for q, found in (
        ("%", ["100% sure"]),
        ("_", ["snake_case"]),
        ("\\", ["back\\slash"]),
        ("'", ["it's"]),
        ("sure", ["100 sure", "100% sure"]),
        *((nowhere, []) for nowhere in ('"', "*", "?", "[a-z]", "100_", "%%", "x" * 5000)),
    ):
        listed = parsed(client.get("/rooms", query_string={"q": q}).text)
        names = sorted(row.one(class_="row__name").text for row in listed.every("li", class_="row"))
        assert names == found, q


@pytest.mark.parametrize("address", ["http://[::1", f"http://localhost/rooms/{NO_ROOM}", "x" * 10_000])
def test_where_htmx_says_it_is_may_be_anything(client: FlaskClient, address: str) -> None:
    """A broken or unknown HX-Current-URL is like none."""
    room_id = new_room(client)
    here = {**HTMX, "HX-Current-URL": address}
    assert [
        client.get("/rooms", headers=here).status_code,
        client.delete(f"/rooms/{room_id}", headers=here).status_code,
    ] == [200, 200]


# Errors


@pytest.mark.parametrize(
    ("status", "method", "path", "form"),
    [
        (400, "GET", "/rooms?after=junk", {}),
        (404, "GET", "/nowhere", {}),
        (404, "GET", f"/rooms/{NO_ROOM}", {}),
        (404, "GET", "/static/nothing.js", {}),
        (404, "POST", "/rooms/{}/turn", {}),
        (404, "POST", "/rooms/{}/messages/1", {"_method": "PATCH", "text": "Hello"}),
        (405, "POST", "/rooms/{}", {}),
        (405, "POST", "/rooms/{}", {"_method": "BREW"}),
        (413, "POST", "/rooms/{}/messages", {"text": "x" * (MAX_TEXT_CHARS + 1)}),
        (422, "POST", "/rooms/{}/messages", {"text": " "}),
        (422, "POST", "/rooms/{}", {"_method": "PATCH", "name": " "}),
    ],
)
def test_every_error_is_a_fragment_or_a_page_with_a_sentence(
    client: FlaskClient, status: int, method: str, path: str, form: dict[str, str]
) -> None:
    """curl and htmx get #error, which says where it goes; a browser going somewhere gets a page with its rooms."""
    room_id = new_room(client)
    path = path.format(room_id)

    def send(headers: dict[str, str], **more: str) -> TestResponse:
        if method == "POST":
            return client.post(path, data={**form, **more}, headers=headers)
        return client.get(
            path + ("&" if "?" in path else "?") + "&".join(f"{k}={v}" for k, v in more.items()), headers=headers
        )

    said = set()
    for response in (send({}), send(HTMX), send(HTMX, **PLAIN), send({**HTMX, **NAVIGATION})):
        assert (response.status_code, response.mimetype) == (status, "text/html")
        assert response.headers["Cache-Control"] == "no-store"
        assert (response.headers["HX-Retarget"], response.headers["HX-Reswap"]) == ("#error", "outerHTML")
        assert response.headers["HX-Push-Url"] == "false"
        said.add(sentence_of(response))
    for response in (send({}, **PLAIN), send(NAVIGATION)):
        assert (response.status_code, response.mimetype) == (status, "text/html")
        assert response.headers["Cache-Control"] == "no-store" and is_page(response)
        page = parsed(response.text)
        assert rows(response.text) == [room_id] and page.one(id="sidebar").has("a", href=f"/rooms/{room_id}")
        said.add(checked(page.one(id="room").one("p").text))
    assert len(said) == 1


# Files that cannot be used


def in_one_file(path: Path) -> Path:
    """The database without its companions, as a backup holds it."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def not_sqlite(path: Path) -> None:
    in_one_file(path).write_bytes(b"This is no database at all. " * 400)


def cut_short(path: Path) -> None:
    path.write_bytes(in_one_file(path).read_bytes()[:5000])


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def foreign(path: Path) -> None:
    in_one_file(path).unlink()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")


def missing(path: Path) -> None:
    in_one_file(path).unlink()


@contextmanager
def shut(overseer: Overseer) -> Iterator[None]:
    """The time between a stop of the server and its start."""
    overseer.close()
    yield
    overseer.open()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (not_sqlite, "damaged or not a SQLite file"),
        (cut_short, "damaged or not a SQLite file"),
        (newer, "newer version of Overseer"),
        (foreign, "another program"),
        (missing, "is missing"),
    ],
)
def test_a_file_that_cannot_be_used_breaks_its_room_only(
    client: FlaskClient, overseer: Overseer, instance: Path, spoil: Callable[[Path], None], words: str
) -> None:
    """The room says what is wrong and what to do, its row says so too, and every other room works."""
    good, bad = new_room(client, "Good"), new_room(client, "Bad")
    for room_id in (good, bad):
        ask(client, room_id, "Hello")
    with shut(overseer):
        spoil(instance / "facets" / f"room-{bad}.sqlite")
    page = client.get(f"/rooms/{bad}")
    assert page.status_code == 500 and is_page(page)
    sentence = checked(parsed(page.text).one(id="room", data_room=bad).one("p", role="alert").text)
    assert words in sentence and f"room-{bad}.sqlite" in sentence
    part = client.get(f"/rooms/{bad}", headers={**HTMX, "HX-Request-Type": "partial"})
    assert part.status_code == 500 and root(part.text).one("p", role="alert").text == sentence
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
    assert listed.one(id=f"room-{bad}").one(class_="row__preview").text == sentence
    assert listed.one(id=f"room-{good}").one(class_="row__preview").text == "All right."
    assert client.get(f"/rooms/{good}").status_code == 200
    ask(client, good, "Still there?")
    assert client.delete(f"/rooms/{bad}").status_code == 200
    assert list((instance / "facets").glob(f"*{bad}*")) == []


def test_a_server_that_has_stopped_leaves_each_room_in_one_file(
    client: FlaskClient, overseer: Overseer, instance: Path
) -> None:
    """After an orderly stop a copy of `room-<id>.sqlite` alone is the whole room."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    with shut(overseer):
        assert [path.name for path in (instance / "facets").iterdir()] == [f"room-{room_id}.sqlite"]


def test_a_file_that_was_put_back_is_a_room_again(client: FlaskClient, overseer: Overseer, instance: Path) -> None:
    """Who does what the sentence says has the room back, and its row says no more that something is wrong."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    path = instance / "facets" / f"room-{room_id}.sqlite"
    with shut(overseer):
        in_one_file(path).rename(instance / "backup")
    assert client.get(f"/rooms/{room_id}").status_code == 500
    with shut(overseer):
        (instance / "backup").rename(path)
    assert client.get(f"/rooms/{room_id}").status_code == 200
    row = parsed(client.get("/rooms").text).one(id=f"room-{room_id}")
    assert (row["data-messages"], row.one(class_="row__preview").text) == ("2", "All right.")


# Times when nothing can be stored


@contextmanager
def locked(overseer: Overseer, room_id: str, path: Path) -> Iterator[None]:
    """The room's file while another program writes in it, and nobody waits for that."""
    with overseer._facet(room_id)._storage.read() as db:
        db.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full_disk(overseer: Overseer, room_id: str) -> Iterator[None]:
    """The room's file while it cannot grow: SQLite says then what it says of a full disk."""
    with overseer._facet(room_id)._storage.read() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
    yield
    with overseer._facet(room_id)._storage.read() as db:
        db.execute("PRAGMA max_page_count = 1000000")


def test_a_file_that_another_program_locks_is_503(client: FlaskClient, overseer: Overseer, instance: Path) -> None:
    """What cannot be written just now is refused with a sentence, can still be read, and works afterwards."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    with locked(overseer, room_id, instance / "facets" / f"room-{room_id}.sqlite"):
        response = client.post(f"/rooms/{room_id}/messages", data={"text": "Again"})
        assert response.status_code == 503 and "locked by another program" in sentence_of(response)
        assert client.get(f"/rooms/{room_id}").status_code == 200
    ask(client, room_id, "Again")
    assert len(parsed(client.get(f"/rooms/{room_id}/messages").text).every("article")) == 4


def test_a_full_disk_is_503_and_takes_nothing_away(client: FlaskClient, overseer: Overseer) -> None:
    """A question that cannot be stored is refused whole; with space again it is taken."""
    room_id = new_room(client)
    ask(client, room_id, "Hello")
    before = client.get(f"/rooms/{room_id}/messages").text
    with full_disk(overseer, room_id):
        response = client.post(f"/rooms/{room_id}/messages", data={"text": "x" * MAX_TEXT_CHARS})
        assert response.status_code == 503 and "disk is full" in sentence_of(response)
        assert client.get(f"/rooms/{room_id}/messages").text == before
    ask(client, room_id, "x" * MAX_TEXT_CHARS)


def test_an_answer_that_could_not_be_stored_holds_up_no_other(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    """When the disk fills up in mid-answer the room is not stuck: with space again the next question is answered."""
    room_id = new_room(client)
    model_server.will(answer("x" * 100_000))
    with full_disk(overseer, room_id):
        assert client.post(f"/rooms/{room_id}/messages", data={"text": "Hello"}).status_code == 201
        for thread in threading.enumerate():
            if thread.name == f"turn-{room_id}":
                thread.join(DEADLINE)
    response = client.post(f"/rooms/{room_id}/messages", data={"text": "Again"}, headers={"Prefer": "wait=60"})
    states = [one["data-state"] for one in parsed(client.get(f"/rooms/{room_id}/messages").text).every("article")]
    client.delete(f"/rooms/{room_id}/turn")
    assert response.status_code == 201
    assert states[-1] == "complete" and not {"waiting", "streaming"} & set(states)


def test_a_file_that_cannot_be_opened_just_now_is_503_for_everyone(
    client: FlaskClient, overseer: Overseer, instance: Path
) -> None:
    """A room whose file may not be opened is not called broken: its page says what its messages say."""
    room_id = new_room(client)
    path = instance / "facets" / f"room-{room_id}.sqlite"
    with shut(overseer):
        in_one_file(path).unlink()
        path.mkdir()
    messages, page = client.get(f"/rooms/{room_id}/messages"), client.get(f"/rooms/{room_id}", headers=NAVIGATION)
    assert messages.status_code == 503 and "Check the permissions" in sentence_of(messages)
    assert page.status_code == 503 and "Check the permissions" in parsed(page.text).one(id="room").text


def test_who_waits_while_the_server_goes_down_is_told(server: Server, model_server: ModelServer) -> None:
    """A request that waits for its answer at SIGTERM gets an answer: what there is, or 503 with a sentence."""
    url = server.url + requests.post(f"{server.url}/rooms").headers["Location"]
    reply = model_server.will(held(text("Half an ans")))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(requests.post, f"{url}/messages", {"text": "Hello"}, headers=WAIT, timeout=DEADLINE)
        assert reply.begun.wait(DEADLINE)
        assert server.stop() == 0
        response = waiting.result()
    assert response.status_code in (201, 503)
    assert parsed(response.text).has(id="error") or parsed(response.text).has("article", data_state="interrupted")
