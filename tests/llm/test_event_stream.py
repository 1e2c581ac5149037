"""Parsing of server-sent events, without a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.llm import ModelError
from overseer.llm.event_stream import Pauses, read_events
from tests.llm.conftest import EVENT_BYTES


def events(*pieces: bytes) -> list[str]:
    return list(read_events(pieces, Pauses()))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_event_stream_cut_at_every_byte_gives_the_same_events(line_end: bytes) -> None:
    stream = b'\xef\xbb\xbfdata: {"a": "\xc3\xbc"}\n\n: comment\n\nid: 7\ndata:two\ndata: lines\n\ndata: [DONE]\n\n'
    stream = stream.replace(b"\n", line_end)
    expected = ['{"a": "ü"}', "two\nlines", "[DONE]"]
    assert events(stream) == expected
    assert [cut for cut in range(1, len(stream)) if events(stream[:cut], stream[cut:]) != expected] == []
    assert events(*(stream[at : at + 1] for at in range(len(stream)))) == expected


@given(st.lists(st.sampled_from([b"data: x", b"data", b"\n", b"\r\n", b"\r", b":", b" ", b"x"]), max_size=12))
def test_event_stream_in_any_pieces_gives_the_events_of_the_whole(pieces: list[bytes]) -> None:
    assert events(*pieces, b"\n\n") == events(b"".join(pieces) + b"\n\n")


@pytest.mark.parametrize(
    "noise",
    [
        b": keep-alive\n\n",
        b"data:\n\n",
        b"data\n\n",
        b"\n\n\n",
        b"event: ping\n\n",
        b"database: 1\n\n",
        b"retry: 3\n\n",
    ],
)
def test_event_without_data_is_skipped(noise: bytes) -> None:
    assert events(noise, b"data: 1\n\n" + noise, noise) == ["1"]


def test_event_field_error_counts_as_data() -> None:
    assert events(b'error: {"code": 500}\n\n') == ['{"code": 500}']


@pytest.mark.parametrize(
    ("last", "data"),
    [
        (b"data: [DONE]", ["[DONE]"]),
        (b'data: {"a": 1}\n', ['{"a": 1}']),
        (b'data: {"a": 1', []),
        (b'data: {"a": "\xc3', []),
        (b"data: [DO", []),
        (b"dat", []),
    ],
)
def test_event_without_blank_line_at_the_end_is_kept_if_it_is_complete(last: bytes, data: list[str]) -> None:
    assert events(b"data: 1\n\n" + last) == ["1", *data]


def test_event_data_with_unicode_line_separators_is_not_split() -> None:
    data = "a\u0085b\u2028c\u2029d\u001ce"
    assert events(f"data: {data}\n\n".encode()) == [data]


@pytest.mark.usefixtures("small_events")
@pytest.mark.parametrize("piece", [b"a" * 65536, b"data: " + b"a" * 65000 + b"\n"], ids=["line", "lines"])
def test_event_over_the_size_limit_raises(piece: bytes) -> None:
    stream = read_events([b"data: 1\n\n", *[piece] * (2 * EVENT_BYTES // len(piece))], Pauses())
    assert next(stream) == "1"
    with pytest.raises(ModelError, match="without an end"):
        next(stream)


@pytest.mark.usefixtures("small_events")
def test_event_stream_over_the_size_limit_of_one_event_is_read_in_full() -> None:
    stream = (b"data: " + b"a" * 500 + b"\n\n") * 4000
    assert len(stream) > EVENT_BYTES and len(events(stream)) == 4000
