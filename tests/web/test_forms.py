"""Parsing of forms: what they mean, their limits, and the time they take."""

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

MAX_CPU_SECONDS = 5.0  # CPU time, which other processes hardly lengthen
FIELD = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def read(body: bytes, content_type: str = FORM) -> list[tuple[str, str]]:
    return list(BoundedRequest.from_values(method="POST", data=body, content_type=content_type).form.items(multi=True))


def by_name(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(MultiDict(fields).items(multi=True))


@given(st.lists(st.tuples(TEXT, TEXT), max_size=10).map(urlencode) | st.text("%+&=a\u00e94F0;", max_size=30))
def test_form_is_parsed_like_by_urllib(body: str) -> None:
    assert read(body.encode()) == by_name(parse_qsl(body, keep_blank_values=True))


@pytest.mark.parametrize("escaped", ["%FF", "%C3%28", "%ED%A0%80", "%F0%9F"])
def test_form_with_invalid_utf_8_gets_replacement_characters(escaped: str) -> None:
    ((name, value),) = read(f"text=a{escaped}b".encode())
    assert name == "text" and value[0] == "a" and value[-1] == "b" and "\N{REPLACEMENT CHARACTER}" in value


def test_form_limits_are_exact(client: FlaskClient) -> None:
    """100 fields, 1,000 bytes before the value of a part, and the size of the body."""
    assert MAX_FIELDS == 100
    for fields, status in ((MAX_FIELDS, 201), (MAX_FIELDS + 1, 413), (5000, 413)):
        urlencoded = "&".join(["name=Kitchen"] + ["a="] * (fields - 1))
        parts = FIELD % (b"name", b"Kitchen") + FIELD % (b"a", b"") * (fields - 1) + b"--x--\r\n"
        for body, content_type in ((urlencoded.encode(), FORM), (parts, MULTIPART)):
            response = client.post("/rooms", data=body, content_type=content_type)
            assert response.status_code == status, (fields, content_type)
            assert status == 201 or sentence_of(response)
    part = FIELD % (b"name", b"Kitchen") + b"--x--\r\n"
    rest = len(b"\r\nX: ") + part.index(b"Kitchen") - len("--x")
    for padding, status in ((MAX_PART_HEAD_BYTES - rest, 201), (MAX_PART_HEAD_BYTES - rest + 1, 400)):
        body = part.replace(b"\r\nContent", b"\r\nX: " + b"y" * padding + b"\r\nContent", 1)
        assert client.post("/rooms", data=body, content_type=MULTIPART).status_code == status
    for size, status in ((MAX_BODY, 201), (MAX_BODY + 1, 413)):
        body = b"name=Kitchen&x=" + b"y" * (size - 15)
        assert client.post("/rooms", data=body, content_type=FORM).status_code == status


PART = b'--x\r\nContent-Disposition: form-data; name="'
END = b'"\r\n\r\nx\r\n--x--\r\n'
SLOW = {  # start, repeated part, end, content type
    "fields": (b"", b"a&", b"", FORM),
    "escapes": (b"name=", b"%C3%A9", b"", FORM),
    "invalid escapes between letters": (b"name=", b"%FFa", b"", FORM),
    "percent signs": (b"name=", b"%", b"", FORM),
    "preamble": (b"", b"\r\n--", b"", MULTIPART),
    "endless head": (PART, b"a", b"", MULTIPART),
    "endless headers": (b"--x\r\n", b"A: b\r\n", b"", MULTIPART),
    "parameters": (PART + b'a"', b"; a=b", END[1:], MULTIPART),
    "quotes": (PART, b'\\"', END, MULTIPART),
    "almost delimiters": (PART + b'a"\r\n\r\n', b"\r\n--", b"", MULTIPART),
}


@pytest.mark.parametrize("name", SLOW)
def test_form_of_the_largest_size_is_parsed_in_linear_time(client: FlaskClient, name: str) -> None:
    start, more, end, content_type = SLOW[name]
    body = start + more * ((MAX_BODY - len(start) - len(end)) // len(more)) + end
    started_at = time.process_time()
    assert client.post("/rooms", data=body, content_type=content_type).status_code in (201, 400, 413, 422)
    assert time.process_time() - started_at < MAX_CPU_SECONDS


def test_incomplete_form_with_a_file_leaves_no_file_open(client: FlaskClient) -> None:
    """An open temporary file is a ResourceWarning, which fails the test."""
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nabc'
    assert client.post("/rooms", data=body, content_type=MULTIPART).status_code == 400
    gc.collect()
