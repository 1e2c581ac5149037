"""Citations, pictures and sound in an answer."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from overseer.domain.messages import Source
from overseer.llm import SourcesFound
from overseer.llm.sources import MAX_SOURCES
from overseer.llm.stream import StreamParser
from overseer.rooms.overseer import Overseer
from tests.support.answers import ask
from tests.support.model_server import ModelServer, Reply, end, event, text
from tests.support.waiting import until

URL = "https://example.com/a"
PAGE = Source(URL, "A page")


def found(*chunks: dict[str, Any]) -> SourcesFound:
    """Return what the parser finds in these chunks."""
    parser = StreamParser()
    deltas = [delta for chunk in chunks for delta in parser.parse(chunk)] + list(parser.flush())
    return next((delta for delta in deltas if isinstance(delta, SourcesFound)), SourcesFound(()))


def delta(**fields: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


@pytest.mark.parametrize(
    "chunk",
    [
        delta(annotations=[{"type": "url_citation", "url_citation": {"url": URL, "title": "A page", "end": 1}}]),
        delta(annotations=[{"type": "url_citation", "url": URL, "title": " A \n page"}]),
        delta(context={"citations": [{"url": URL, "title": "A page", "content": "…"}]}),
        {**delta(content="x"), "citations": [URL], "search_results": [{"url": URL, "title": "A page"}]},
        {"choices": [{"message": {"content": "x", "annotations": [{"url": URL, "title": "A page"}]}}]},
    ],
    ids=["openai", "flat", "azure", "perplexity", "whole message"],
)
def test_source_is_found_in_each_form_once(chunk: dict[str, Any]) -> None:
    assert found(chunk, chunk) == SourcesFound((PAGE,))


def test_source_that_cannot_be_a_link_is_ignored() -> None:
    hostile: list[object] = [
        "javascript:alert(1)",
        "data:text/html,x",
        "/rooms",
        "https://",
        "https://[",
        "x" * 5000,
        7,
        None,
    ]
    hostile += [
        {"url": "ftp://example.com/"},
        {"url": ["https://example.com"]},
        {"title": "x"},
        f"{URL}\n",
        f"{URL}\u202e",
        [URL],
    ]
    assert found({**delta(content="x"), "citations": hostile}) == SourcesFound(())
    assert found({**delta(content="x"), "citations": {"url": URL}, "search_results": "x"}) == SourcesFound(())
    many = [f"{URL}{n}" for n in range(10_000)]
    assert found({**delta(content="x"), "citations": many}).sources == tuple(map(Source, many[:MAX_SOURCES]))
    assert found({**delta(), "citations": [{"url": URL, "title": "T\0" * 1000}]}).sources[0].title.count("T") <= 200


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}, "picture"),
        ({"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}, "picture"),
        ({"audio": {"id": "1", "data": "AAAA"}}, "sound"),
        ({"content": [{"type": "output_audio", "data": "AAAA"}]}, "sound"),
        ({"content": [{"type": "hologram", "data": "AAAA"}]}, "unknown_part"),
        ({"content": [{"type": "text", "text": "x"}, {"type": "thinking", "thinking": "y"}], "audio": None}, None),
    ],
)
def test_part_that_cannot_be_shown_is_named(fields: dict[str, Any], kind: str | None) -> None:
    assert found(delta(**fields)).unshown == ({kind} if kind else set())


def test_sources_are_links_under_the_answer_and_stay_after_a_restart(
    client: FlaskClient, overseer: Overseer, model_server: ModelServer
) -> None:
    cited = event({**delta(content="It rains."), "citations": [URL, "https://b.example/<b>"]})
    titled = event(delta(annotations=[{"url": URL, "title": "<i>A</i> page"}], images=[{"type": "image_url"}]))
    model_server.will(Reply(cited, titled, end()))
    message = ask(overseer)
    assert message.sources == (Source(URL, "<i>A</i> page"), Source("https://b.example/<b>"))
    assert message.note == "The model sent a picture that can’t be shown."
    room_id = overseer.rooms().rooms[0].id
    html = client.get(f"/rooms/{room_id}/messages/2").text
    assert f'<a href="{URL}" target="_blank" rel="noopener noreferrer nofollow"' in html
    assert ">&lt;i&gt;A&lt;/i&gt; page</a>" in html
    assert "<span>example.com</span>" in html and 'href="https://b.example/&lt;b&gt;"' in html
    exported = client.get(f"/rooms/{room_id}/messages", headers={"Accept": "text/markdown"}).text
    assert f"1. <i>A</i> page: <{URL}>" in exported
    model_server.will(Reply(text("No."), end()))
    number = overseer.room(room_id).retry()
    until(lambda: overseer.room(room_id).message(number).text == "No.")
    assert overseer.room(room_id).message(number).sources == ()
