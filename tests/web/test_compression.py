"""Answers in gzip, on the app itself."""

from __future__ import annotations

import gzip

import pytest
from flask.testing import FlaskClient

GZIP = {"Accept-Encoding": "gzip"}


@pytest.mark.parametrize("path", ["/", "/static/vendor/htmx-4.0.1.min.js", "/static/css/messages.css"])
def test_who_takes_gzip_gets_the_same_smaller(client: FlaskClient, path: str) -> None:
    """Pages, scripts and styles, the second time too."""
    plain = client.get(path, buffered=True)
    assert "Content-Encoding" not in plain.headers
    for _ in range(2):
        small = client.get(path, headers=GZIP, buffered=True)
        assert small.headers["Content-Encoding"] == "gzip"
        assert int(small.headers["Content-Length"]) == len(small.data) < 0.6 * len(plain.data)
        if path != "/":  # whose place differs
            assert gzip.decompress(small.data) == plain.data
            assert "Accept-Encoding" in small.headers["Vary"] and "Accept-Encoding" in plain.headers["Vary"]


def test_what_is_small_or_streamed_stays_as_it_is(client: FlaskClient) -> None:
    """A word by word answer cannot wait to be compressed, and an error is short."""
    assert "Content-Encoding" not in client.get("/rooms/0", headers=GZIP).headers
    url = client.post("/rooms").headers["Location"]
    said = client.post(f"{url}/messages", data={"text": "Hi"}, headers={**GZIP, "Accept": "text/plain"})
    assert "Content-Encoding" not in said.headers and said.text == "All right.\n"


def test_a_refusal_of_gzip_is_heard(client: FlaskClient) -> None:
    """`gzip;q=0` means no."""
    response = client.get("/static/css/base.css", headers={"Accept-Encoding": "gzip;q=0, br"}, buffered=True)
    assert "Content-Encoding" not in response.headers
