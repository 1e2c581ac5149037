"""Hostile text in every place: the page has the elements and attributes that it has with harmless text."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer.domain.text import clean
from overseer.render.markdown import render, render_typed
from tests.hostile.fragments import HARMLESS, render_all
from tests.hostile.payloads import BY_VECTOR, PAYLOADS
from tests.support.html import Element, parsed
from tests.support.safe_html import check_tree, checked

# The other attributes have no text.
TEXT_ATTRIBUTES = {
    "value",
    "title",
    "aria-label",
    "alt",
    "hx-confirm",
    "data-q",
    "data-name",
    "placeholder",
    "download",
}
LONG = "\n" * 2000  # a long question can be folded
QUERY = re.compile(r"([?&](?:q|shown)=)[^&#\"]*")
MARKDOWN_CLASSES = {"part__done", "part__open", "part--text", "part--reasoning", "part__plain"}


def shape(element: Element, *, in_markdown: bool = False) -> Iterator[object]:
    """Yield the tags and attributes in an element, without text. Elements made by Markdown are checked instead."""
    for child in element.children:
        classes = set(child.attributes.get("class", "").split())
        is_markdown = bool(classes & MARKDOWN_CLASSES)
        if in_markdown and not is_markdown and child.tag != "summary":
            check_tree(child)
            continue
        attributes = sorted(child.attributes.items())
        yield (
            child.tag,
            [(name, "" if name in TEXT_ATTRIBUTES else QUERY.sub(r"\1", value)) for name, value in attributes],
        )
        yield from shape(child, in_markdown=is_markdown)


def shapes(app: Flask, text: str) -> dict[str, list[object]]:
    """Return the shape of the page and of every fragment that contain `text`."""
    # "earlier" consists of the same messages as the page.
    return {name: list(shape(parsed(html))) for name, html in render_all(app, text).items() if name != "earlier"}


@pytest.mark.parametrize("vector", BY_VECTOR)
def test_page_with_hostile_text_has_the_shape_of_one_with_harmless_text(app: Flask, vector: str) -> None:
    """Several payloads share a page, because escaping does not depend on the text around. Markdown gets each alone."""
    usual = shapes(app, HARMLESS + LONG + ".")
    for first in range(0, len(BY_VECTOR[vector]), 20):
        payloads = BY_VECTOR[vector][first : first + 20]
        for name, found in shapes(app, "\n\n".join(payloads) + LONG + ".").items():
            assert found == usual[name], (name, payloads)
        for payload in payloads:
            checked(render(clean(payload)))
            checked(render(f"x {clean(payload)}", growing=True))
            checked(render_typed(clean(payload)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(PAYLOADS) | st.text(max_size=8), min_size=1, max_size=6).map("".join),
    st.sampled_from(["", "> ", "- ", "    ", "```\n", "|a|\n|-|\n|"]),
)
def test_page_with_combined_payloads_has_the_shape_of_one_with_harmless_text(
    app: Flask, text: str, prefix: str
) -> None:
    hostile = "x" + text.replace("\n", "\n" + prefix) + LONG + "."
    assert shapes(app, hostile) == shapes(app, HARMLESS + LONG + ".")


def test_response_to_hostile_request_has_its_usual_shape_and_headers(client: FlaskClient) -> None:
    """Payloads come in the query, the headers, the path and the form fields."""
    room = client.post("/rooms").headers["Location"]
    usual: dict[str, list[object]] = {}
    samples = (payload for payloads in BY_VECTOR.values() for payload in payloads[:: 1 + len(payloads) // 4])
    for payload in [HARMLESS, *samples]:
        q, value = {"q": "\x00" + payload}, payload.encode("ascii", "replace").decode().translate({10: " ", 13: " "})
        names = ("HX-Current-URL", "Accept-Language", "Prefer", "Range", "If-None-Match", "Cookie")
        headers = {"HX-Request": "true", "Idempotency-Key": value[:200], **dict.fromkeys(names, value)}
        responses = {
            "list": client.get("/rooms", query_string={**q, "under": payload}, headers=headers),
            "page": client.get("/rooms", query_string=q, headers={"Sec-Fetch-Mode": "navigate"}),
            "palette": client.get("/palette", query_string=q),
            "path": client.get("/" + payload, headers=headers),
            "number": client.get("/rooms", query_string={"after": "x" + payload}),
            "method": client.post(room, data={"_method": "x" + payload}),
            "temperature": client.patch(room, data={"temperature": "x" + payload}),
            "last": client.patch(f"{room}/messages/1", data={"text": "x", "last": "x" + payload}),
        }
        for name, response in responses.items():
            assert response.status_code in (200, 400, 404, 405, 422, 303, 308), (name, payload)
            assert "hit" not in "".join(f"{key}{value}" for key, value in response.headers if key != "Location")
            if response.status_code not in (303, 308):
                found = list(shape(parsed(response.text)))
                assert found == usual.setdefault(name, found), (name, payload)
