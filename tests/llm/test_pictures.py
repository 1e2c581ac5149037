"""Pictures in answers, as parts of a message and as data URIs in its text."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from overseer.domain.messages import File, Source, Text
from overseer.llm import Delta, PictureFound, SourcesFound, TextDelta
from overseer.llm.pictures import MAX_PICTURES, decode_picture
from overseer.llm.stream import StreamParser
from overseer.rooms.overseer import Overseer
from tests.support.answers import ask
from tests.support.model_server import ModelServer, Reply, end, event, text
from tests.support.pictures import GIF, JPEG, WEBP, data_uri, png
from tests.support.waiting import until

PNG = png()
URI = data_uri(PNG)
BASE64 = base64.b64encode(PNG).decode()
LARGE = png(pad=3000)


def delta(**fields: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def shown(*chunks: dict[str, Any]) -> tuple[list[str | PictureFound], SourcesFound]:
    """Return the texts and pictures that a turn would store, and what the answer contains besides."""
    parser = StreamParser()
    deltas: list[Delta] = [delta for chunk in chunks for delta in parser.parse(chunk)] + list(parser.flush())
    parts: list[str | PictureFound] = []
    for one in deltas:
        if isinstance(one, TextDelta) and parts and isinstance(last := parts[-1], str):
            parts[-1] = last + one.text
        elif isinstance(one, TextDelta):
            parts.append(one.text)
        elif isinstance(one, PictureFound):
            if one.replaces:
                last = parts.pop()
                assert isinstance(last, str) and last.endswith(one.replaces)
                if left := last.removesuffix(one.replaces):
                    parts.append(left)
            parts.append(replace(one, replaces=""))
    return parts, next((one for one in deltas if isinstance(one, SourcesFound)), SourcesFound(()))


def found(content: bytes, media_type: str = "image/png", description: str = "") -> PictureFound:
    picture = decode_picture(base64.b64encode(content).decode())
    assert picture is not None and picture.media_type == media_type
    return replace(picture, text=description)


@pytest.mark.parametrize(
    "chunk",
    [
        delta(images=[image(URI)]),
        delta(images=[image(URI), image(URI)]),
        delta(images=[BASE64]),
        delta(content=[{"type": "image_url", "image_url": URI}]),
        delta(content=[{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}}]),
        delta(content=[{"inlineData": {"mimeType": "image/png", "data": BASE64}}]),
        delta(content=[{"type": "output_image", "image": {"b64_json": BASE64}}]),
        {"choices": [{"message": {"content": "", "images": [image(URI)]}}]},
    ],
    ids=["openrouter", "twice", "base64", "content", "claude", "gemini", "b64_json", "whole message"],
)
def test_picture_is_found_in_each_form(chunk: dict[str, Any]) -> None:
    assert shown(chunk) == ([found(PNG)], SourcesFound(()))


def test_picture_that_the_whole_message_repeats_is_shown_once() -> None:
    whole = {"choices": [{"message": {"content": "A cat.", "images": [image(URI)]}, "finish_reason": "stop"}]}
    assert shown(delta(content="A cat."), delta(images=[image(URI)]), whole)[0] == ["A cat.", found(PNG)]


def test_picture_on_the_web_becomes_a_link() -> None:
    url = "https://example.com/cat.png"
    assert shown(delta(images=[image(url)])) == ([], SourcesFound((Source(url, "Picture"),)))


@pytest.mark.parametrize(
    ("content", "media_type"), [(GIF, "image/gif"), (JPEG, "image/jpeg"), (WEBP, "image/webp"), (PNG, "image/png")]
)
def test_picture_gets_the_format_of_its_content(content: bytes, media_type: str) -> None:
    assert shown(delta(images=[image(data_uri(content, "image/svg+xml"))]))[0] == [found(content, media_type)]


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "AAAA",
        "%%%",
        BASE64[:20],
        base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(),
        base64.b64encode(b"<html><script>alert(1)</script>").decode(),
        base64.b64encode(png()[:16] + b"\xff" * 200).decode(),
        base64.b64encode(png(1, 1).replace(b"\0\0\0\1\0\0\0\1", b"\0\0\x75\x30\0\0\x75\x30")).decode(),
    ],
    ids=["nothing", "junk", "no base64", "cut off", "svg", "html", "huge numbers", "900 megapixels"],
)
def test_picture_that_cannot_be_shown_is_named(encoded: str) -> None:
    assert shown(delta(images=[image(f"data:image/png;base64,{encoded}")])) == (
        [],
        SourcesFound((), frozenset({"picture"})),
    )


@pytest.mark.parametrize(
    ("markdown", "parts"),
    [
        (f"Look: ![A *cat*]({URI}) There.", ["Look: ", found(PNG, description="A *cat*"), " There."]),
        (f"![]( <{URI}> 'Title' )", [found(PNG)]),
        (f'<p><img alt="x" src="{URI}" width=3> and', ["<p>", found(PNG), " and"]),
        (f"{URI}\n\nA cat.", [found(PNG), "\n\nA cat."]),
        (f"![a]({URI})![b]({URI})", [found(PNG, description="a"), found(PNG, description="b")]),
        (f"![a]({URI}", [found(PNG, description="a")]),
        (f"![a]({URI} and no end", [found(PNG, description="a"), " and no end"]),
        (f"Write `![a]({URI})` so:\n\n```html\n<img src='{URI}'>\n```\n", None),
        ("data:image/png;base64,AAAA is short, data:image/png;base64 has no comma, data:text/html;base64,AAAA", None),
        ("![a](data:image/svg+xml;base64," + "PHN2" * 9 + ")", None),
    ],
    ids=["markdown", "title", "html", "bare", "two", "no end", "never closed", "code", "no picture", "svg"],
)
@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_data_uri_becomes_a_picture_outside_of_code(
    markdown: str, parts: list[str | PictureFound] | None, size: int
) -> None:
    pieces = [markdown[at : at + size] for at in range(0, len(markdown), size)]
    assert shown(*(delta(content=piece) for piece in pieces))[0] == (parts or [markdown])


def test_long_data_uri_that_is_no_picture_is_left_out_of_the_text() -> None:
    svg = "![A](data:image/svg+xml;base64," + "PHN2" * 10_000 + ") There."
    parts, besides = shown(*(delta(content=svg[at : at + 90]) for at in range(0, len(svg), 90)))
    assert parts == ["![A](data:image/svg+xml;base64,…) There."] and besides.unshown == {"picture"}


def test_data_uri_is_found_after_text_that_a_server_also_calls_reasoning() -> None:
    chunks = [delta(reasoning_content="Hm."), delta(content=f"![a]({URI[:40]}"), delta(content=f"{URI[40:]})")]
    assert shown(*chunks)[0] == [found(PNG, description="a")]


@given(st.text("![a](data:image/png;base64,`\n\"'<>= img src", max_size=60), st.integers(1, 9), st.booleans())
def test_text_without_pictures_passes_unchanged(words: str, size: int, large: bool) -> None:
    words = "x" + words * (40 if large else 1) + "x"
    parts, besides = shown(*(delta(content=words[at : at + size]) for at in range(0, len(words), size)))
    assert (parts, besides) == ([words], SourcesFound(()))


@given(st.binary(max_size=80), st.sampled_from([PNG, JPEG, GIF, WEBP]), st.integers(0, 60))
def test_damaged_picture_is_refused_or_has_a_size(noise: bytes, content: bytes, at: int) -> None:
    picture = decode_picture(base64.b64encode(content[:at] + noise + content[at + len(noise) // 2 :]).decode())
    assert picture is None or picture.width > 0 < picture.height


def test_pictures_are_limited_in_number() -> None:
    many = [image(data_uri(png(width))) for width in range(1, MAX_PICTURES + 3)]
    parts, besides = shown(delta(images=many))
    assert len(parts) == MAX_PICTURES and besides.unshown == {"picture"}


def file_of(content: bytes, *, description: str = "", size: tuple[int, int] = (3, 2)) -> File:
    return File(sha256(content).hexdigest(), "image/png", description, *size)


def stored_files(instance: Path) -> list[str]:
    """Return the files of the instance's only room, as its database has them."""
    (path,) = (instance / "facets").glob("room-*.sqlite")
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT sha256, content FROM files").fetchall()
        assert [name for name, _ in rows] == [sha256(content).hexdigest() for _, content in rows]
        return [name for name, _ in rows]


def test_pictures_are_kept_in_the_rooms_file_and_served(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer, instance: Path
) -> None:
    embedded = text(f"Here:\n\n![A <b>cat</b>]({data_uri(LARGE)})\n\nThere.")
    model_server.will(Reply(embedded, event(delta(images=[image(URI)])), end()))
    message = ask(overseer)
    cat, other = file_of(LARGE, description="A <b>cat</b>"), file_of(PNG)
    assert (message.state, message.note) == ("complete", "")
    assert message.parts == (Text("Here:\n\n"), cat, Text("\n\nThere."), other)
    room_id = overseer.rooms().rooms[0].id
    assert sorted(stored_files(instance)) == sorted([cat.sha256, other.sha256])

    html = client.get(f"/rooms/{room_id}").text
    assert f'<img src="/rooms/{room_id}/files/{cat.sha256}" alt="A &lt;b&gt;cat&lt;/b&gt;" width="3" height="2"' in html
    assert "base64" not in html and BASE64[:40] not in html
    got = client.get(f"/rooms/{room_id}/files/{cat.sha256}")
    assert got.data == LARGE and got.mimetype == "image/png" and got.headers["ETag"] == f'"{cat.sha256}"'
    assert got.headers["Content-Security-Policy"] == "sandbox"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    part = client.get(f"/rooms/{room_id}/files/{cat.sha256}", headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.data) == (206, b"PNG")
    again = client.get(f"/rooms/{room_id}/files/{cat.sha256}", headers={"If-None-Match": got.headers["ETag"]})
    assert again.status_code == 304
    for unknown in ("0" * 64, "x", cat.sha256.upper()):
        assert client.get(f"/rooms/{room_id}/files/{unknown}").status_code == 404

    model_server.will(Reply(text("Yes."), end()))
    ask(overseer, "And?", room_id=room_id)
    (_, answer, _) = model_server.requests[-1]["messages"]
    assert answer["content"] == "Here:\n\n\n\n[picture: A <b>cat</b>]\n\n\n\nThere.\n\n[picture]"
    exported = client.get(f"/rooms/{room_id}/messages", headers={"Accept": "text/markdown"}).text
    assert "[picture: A <b>cat</b>]" in exported


def test_pictures_go_with_the_last_message_that_shows_them(
    overseer: Overseer, model_server: ModelServer, instance: Path
) -> None:
    picture = Reply(event(delta(images=[image(URI)])), end())
    model_server.will(picture, Reply(event(delta(images=[image(URI)])), end()))
    first = ask(overseer)
    room = overseer.room(overseer.rooms().rooms[0].id)
    assert first.parts == (file_of(PNG),) and first.state == "complete"
    assert ask(overseer, "Again!", room_id=room.id).parts == first.parts
    assert stored_files(instance) == [sha256(PNG).hexdigest()]
    model_server.will(Reply(text("No."), end()))
    number = room.retry()
    until(lambda: room.message(number).text == "No.")
    assert stored_files(instance) == [sha256(PNG).hexdigest()]
    room.clear()
    assert stored_files(instance) == []


def test_streaming_picture_is_shown_by_reference_in_every_response(
    overseer: Overseer, client: FlaskClient, model_server: ModelServer
) -> None:
    room_id = overseer.create().id
    pieces = [text(piece) for piece in ("Look: ", "![A cat]", "(data:", "image/png;base64,", BASE64, ")", " Nice.")]
    model_server.will(Reply(*pieces, end()))
    streamed = client.post(f"/rooms/{room_id}/messages", data={"text": "x"}, headers={"Accept": "text/plain"}).text
    assert "[picture: A cat]" in streamed and "Nice." in streamed and BASE64 not in streamed
    until(lambda: overseer.room(room_id).message(2).finished)
    assert overseer.room(room_id).message(2).parts == (
        Text("Look: "),
        file_of(PNG, description="A cat"),
        Text(" Nice."),
    )
    assert json.dumps(model_server.requests).count("base64") == 0
