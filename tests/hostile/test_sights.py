"""Hostile words in every place at once: what is shown has the elements and attributes of what harmless words make."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from overseer.domain.text import clean
from tests.hostile.payloads import BY_VECTOR, PAYLOADS
from tests.hostile.sights import HARMLESS, sights
from tests.render.test_markdown import CLASSES, LINK, SCHEME, TAGS
from tests.support.html import Element, parsed

# Attributes that hold words; all others are the same whatever the words are.
WORDS = {"value", "title", "aria-label", "hx-confirm", "data-q", "placeholder"}
QUERY = re.compile(r"([?&](?:q|at)=)[^&#\"]*")
FREE = ("part__done", "part__open", "part--text", "part--reasoning", "part__plain")  # where Markdown makes elements


def shape(element: Element, *, free: bool = False) -> Iterator[object]:
    """What it is made of, without its words, and without what Markdown has made of them, which is checked instead."""
    for child in element.children:
        classes = child.attributes.get("class", "").split()
        if free and not {*classes} & {*FREE} and child.tag != "summary":
            check_made(child)
            continue
        yield (
            child.tag,
            tuple(
                (name, "" if name in WORDS else QUERY.sub(r"\1", value))
                for name, value in sorted(child.attributes.items())
            ),
        )
        yield from shape(child, free=bool({*classes} & {*FREE}))


def check_made(element: Element) -> None:
    """Of what a text has made only this is let through: no id, no hx-, no class or behaviour of ours but of code."""
    for one in element.all:
        assert one.tag in TAGS, one.tag
        for name, value in one.attributes.items():
            if name == "class":
                assert {*value.split()} <= CLASSES[one.tag], (one.tag, value)
            elif name == "href":
                scheme = SCHEME.match(re.sub(r"[\t\r\n]", "", value))
                assert scheme is None or scheme[1].lower() in ("http", "https", "mailto"), value
            elif one.tag == "a":
                assert LINK[name] == value
            elif one.tag == "button":
                assert (name, value) in (("type", "button"), ("data-wrap", ""), ("data-copy", ""))
            else:
                assert (one.tag, name, value) in (("pre", "tabindex", "0"), ("div", "tabindex", "0")) or (
                    (one.tag, name) == ("ol", "start") and value.isdigit()
                )


@pytest.fixture
def shapes(app: Flask) -> Callable[[str], dict[str, list[object]]]:
    """What everything that is shown is made of, with these words in it."""
    return lambda words: {
        name: list(shape(parsed(html))) for name, html in sights(app, words).items() if name != "earlier"
    }  # which is made of the page's own messages


def test_there_are_several_hundred() -> None:
    """Each is there once, and none is harmless to begin with."""
    assert len(PAYLOADS) >= 800 and len(BY_VECTOR) == 10


@pytest.mark.parametrize("vector", BY_VECTOR)
def test_words_change_nothing_but_words(shapes: Callable[[str], dict[str, list[object]]], vector: str) -> None:
    """Page, response and push are made of these; each place is tried with each payload of this kind."""
    usual = shapes(HARMLESS)
    for payload in BY_VECTOR[vector]:
        if not clean(payload).strip():
            continue
        for name, made in shapes(payload).items():
            assert made == usual[name], (name, payload)


MIXED = st.lists(st.sampled_from(PAYLOADS) | st.text(max_size=8), min_size=1, max_size=6).map("".join)


@settings(max_examples=60, deadline=None)
@given(MIXED, st.sampled_from(["", "> ", "- ", "    ", "```\n", "|a|\n|-|\n|"]))
def test_no_mixture_changes_more(app_of_module: Flask, words: str, before: str) -> None:
    """Nor whatever is put together of them, in whatever Markdown it stands."""
    usual = sights(app_of_module, HARMLESS)
    for name, html in sights(app_of_module, "x" + words.replace("\n", "\n" + before)).items():
        assert list(shape(parsed(html))) == list(shape(parsed(usual[name]))), name


@pytest.fixture(scope="module")
def app_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An app that many examples share."""
    from overseer import create_app
    from overseer.llm.choice import ModelSettings

    app = create_app(tmp_path_factory.mktemp("instance"), models=ModelSettings(base_url="http://127.0.0.1:9/v1"))
    app.extensions["overseer"].open()
    yield app
    app.extensions["overseer"].close()


# Where words come in by a request and go out at once


@pytest.mark.parametrize("vector", BY_VECTOR)
def test_what_is_said_in_a_request_comes_back_as_words(client: FlaskClient, vector: str) -> None:
    """In the query, in the headers, in an address: the answer is made as ever, and its headers are ours."""
    room = client.post("/rooms").headers["Location"]
    usual: dict[str, list[object]] = {}
    for payload in [HARMLESS, *BY_VECTOR[vector][:: 1 + len(BY_VECTOR[vector]) // 40]]:
        q, said = {"q": "\x00" + payload}, payload.encode("ascii", "replace").decode().translate({10: " ", 13: " "})
        header = {"HX-Request": "true", "HX-Current-URL": said, "Idempotency-Key": said[:200], "Accept-Language": said}
        header |= {"Prefer": said, "Range": said, "If-None-Match": said, "Cookie": said}
        answers = {
            "list": client.get("/rooms", query_string={**q, "under": payload}, headers=header),
            "page": client.get("/rooms", query_string=q, headers={"Sec-Fetch-Mode": "navigate"}),
            "palette": client.get("/palette", query_string=q),
            "nowhere": client.get("/" + payload, headers=header),
            "no number": client.get("/rooms", query_string={"after": "x" + payload}),
            "no verb": client.post(room, data={"_method": "x" + payload}),
            "no temperature": client.patch(room, data={"temperature": "x" + payload}),
            "no last": client.patch(f"{room}/messages/1", data={"text": "x", "last": "x" + payload}),
        }
        for name, response in answers.items():
            assert response.status_code in (200, 400, 404, 405, 422, 303, 308), (name, payload)
            assert "hit" not in "".join(f"{key}{value}" for key, value in response.headers if key != "Location")
            made = list(shape(parsed(response.text))) if response.status_code not in (303, 308) else []
            assert not made or made == usual.setdefault(name, made), (name, payload)
