"""Compressed responses."""

from __future__ import annotations

import gzip

import brotli
import pytest
from flask.testing import FlaskClient

GZIP = {"Accept-Encoding": "gzip"}


@pytest.mark.parametrize("path", ["/", "/static/vendor/htmx-4.0.1.min.js", "/static/css/messages.css"])
def test_gzip_response_has_the_same_content(client: FlaskClient, path: str) -> None:
    """The first time and from the cache."""
    plain = client.get(path, buffered=True)
    assert "Content-Encoding" not in plain.headers
    for _ in range(2):
        small = client.get(path, headers=GZIP, buffered=True)
        assert small.headers["Content-Encoding"] == "gzip"
        assert int(small.headers["Content-Length"]) == len(small.data) < 0.6 * len(plain.data)
        if path != "/":  # a page contains its revision
            assert gzip.decompress(small.data) == plain.data
            assert "Accept-Encoding" in small.headers["Vary"] and "Accept-Encoding" in plain.headers["Vary"]


@pytest.mark.parametrize("path", ["/", "/static/app.js"])
def test_brotli_is_used_where_it_is_accepted(client: FlaskClient, path: str) -> None:
    """It is smaller than gzip."""
    plain, gzipped = client.get(path), client.get(path, headers=GZIP)
    for _ in range(2):
        small = client.get(path, headers={"Accept-Encoding": "gzip, deflate, br"})
        assert small.headers["Content-Encoding"] == "br"
        assert int(small.headers["Content-Length"]) == len(small.data) < len(gzipped.data)
        if path != "/":  # a page contains its revision
            assert brotli.decompress(small.data) == plain.data and "Accept-Encoding" in small.headers["Vary"]
    refused = client.get(path, headers={"Accept-Encoding": "gzip, br;q=0"})
    assert refused.headers["Content-Encoding"] == "gzip"


def test_small_streamed_and_unwanted_gzip_responses_are_plain(client: FlaskClient) -> None:
    url = client.post("/rooms").headers["Location"]
    streamed = client.post(f"{url}/messages", data={"text": "Hi"}, headers={**GZIP, "Accept": "text/plain"})
    assert streamed.text == "All right.\n"
    refused = client.get("/static/css/base.css", headers={"Accept-Encoding": "gzip;q=0, zstd"}, buffered=True)
    for response in (streamed, refused, client.get("/rooms/0", headers=GZIP)):
        assert "Content-Encoding" not in response.headers
