"""Forms: read as they were meant, and never for long."""

from __future__ import annotations

import gc
import time
from urllib.parse import parse_qsl, urlencode

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from overseer.application import MAX_BODY
from overseer.web.forms import MAX_FIELDS, MAX_PART_HEAD_BYTES, BoundedRequest
from tests.web.test_bad_input import FORM, MULTIPART, sentence_of

A_WHILE = 2.0  # seconds of computing; what is read character by character takes more
FIELD = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def read(body: bytes, content_type: str = FORM) -> list[tuple[str, str]]:
    return list(BoundedRequest.from_values(method="POST", data=body, content_type=content_type).form.items(multi=True))


def by_name(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(MultiDict(fields).items(multi=True))


@given(st.lists(st.tuples(WORDS, WORDS), max_size=10))
def test_an_ordinary_form_is_read_as_it_was_meant(fields: list[tuple[str, str]]) -> None:
    """What a browser encodes is what comes out, every field, and those of one name in order."""
    body = urlencode(fields)
    assert read(body.encode()) == by_name(fields) == by_name(parse_qsl(body, keep_blank_values=True))


@given(st.text("%+&=a\u00e94F0;", max_size=30))
def test_a_careless_form_is_read_as_others_read_it(body: str) -> None:
    """Percent signs that escape nothing are percent signs; a field without a value is empty."""
    assert read(body.encode()) == by_name(parse_qsl(body, keep_blank_values=True))


@pytest.mark.parametrize("escaped", ["%FF", "%C3%28", "%ED%A0%80", "%F0%9F"])
def test_escapes_that_are_no_character_are_marked(escaped: str) -> None:
    """The words around them are kept."""
    ((name, value),) = read(f"text=a{escaped}b".encode())
    assert name == "text" and value[0] == "a" and value[-1] == "b" and "\N{REPLACEMENT CHARACTER}" in value


def test_a_form_has_at_most_100_fields(client: FlaskClient) -> None:
    """Of either kind; one more is 413."""
    assert MAX_FIELDS == 100
    for fields, status in ((MAX_FIELDS, 201), (MAX_FIELDS + 1, 413)):
        ordinary = "&".join(["name=Kitchen"] + ["a="] * (fields - 1))
        parts = FIELD % (b"name", b"Kitchen") + FIELD % (b"a", b"") * (fields - 1) + b"--x--\r\n"
        for body, content_type in ((ordinary.encode(), FORM), (parts, MULTIPART)):
            response = client.post("/rooms", data=body, content_type=content_type)
            assert response.status_code == status, (fields, content_type)
            assert status == 201 or sentence_of(response)


def test_a_part_says_little_before_its_value(client: FlaskClient) -> None:
    """A head of so many bytes is read; a longer one is 400."""
    part = FIELD % (b"name", b"Kitchen") + b"--x--\r\n"
    rest = len(b"\r\nX: ") + part.index(b"Kitchen") - len("--x")
    for padding, status in ((MAX_PART_HEAD_BYTES - rest, 201), (MAX_PART_HEAD_BYTES - rest + 1, 400)):
        body = part.replace(b"\r\nContent", b"\r\nX: " + b"y" * padding + b"\r\nContent", 1)
        assert client.post("/rooms", data=body, content_type=MULTIPART).status_code == status


def test_a_body_of_the_largest_size_is_read(client: FlaskClient) -> None:
    """To the byte; one more is 413."""
    for size, status in ((MAX_BODY, 201), (MAX_BODY + 1, 413)):
        body = b"name=Kitchen&x=" + b"y" * (size - 15)
        assert client.post("/rooms", data=body, content_type=FORM).status_code == status


PART = b'--x\r\nContent-Disposition: form-data; name="'
END = b'"\r\n\r\nx\r\n--x--\r\n'
SLOW = {  # how it begins, goes on and on, and ends
    "fields": (b"", b"a&", b"", FORM),
    "escapes": (b"name=", b"%C3%A9", b"", FORM),
    "escapes between letters": (b"name=", b"%C3%A9a", b"", FORM),
    "escapes that are no characters": (b"name=", b"%FF", b"", FORM),
    "percent signs": (b"name=", b"%", b"", FORM),
    "plus signs": (b"name=", b"+", b"", FORM),
    "words before the first part": (b"", b"\r\n--", b"", MULTIPART),
    "a head without end": (PART, b"a", b"", MULTIPART),
    "heads without end": (b"--x\r\n", b"A: b\r\n", b"", MULTIPART),
    "parameters": (PART + b'a"', b"; a=b", END[1:], MULTIPART),
    "quotes": (PART, b'\\"', END, MULTIPART),
    "line ends": (PART + b'a"\r\n\r\n', b"\r\n", b"", MULTIPART),
    "almost delimiters": (PART + b'a"\r\n\r\n', b"\r\n--", b"", MULTIPART),
}


@pytest.mark.parametrize("name", SLOW)
def test_no_form_takes_long(client: FlaskClient, name: str) -> None:
    """However it is made, one of the largest size is read, or refused, at once."""
    start, more, end, content_type = SLOW[name]
    body = start + more * ((MAX_BODY - len(start) - len(end)) // len(more)) + end
    began = time.process_time()
    assert client.post("/rooms", data=body, content_type=content_type).status_code in (201, 400, 413, 422)
    assert time.process_time() - began < A_WHILE


def test_file_of_a_form_that_breaks_off_is_left_open_nowhere(client: FlaskClient) -> None:
    """Werkzeug would leave a temporary file to the garbage collector, which warns."""
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nabc'
    assert client.post("/rooms", data=body, content_type=MULTIPART).status_code == 400
    gc.collect()
