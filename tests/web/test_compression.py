"""gzip responses."""

from __future__ import annotations

import gzip

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


def test_small_streamed_and_unwanted_gzip_responses_are_plain(client: FlaskClient) -> None:
    url = client.post("/rooms").headers["Location"]
    streamed = client.post(f"{url}/messages", data={"text": "Hi"}, headers={**GZIP, "Accept": "text/plain"})
    assert streamed.text == "All right.\n"
    refused = client.get("/static/css/base.css", headers={"Accept-Encoding": "gzip;q=0, br"}, buffered=True)
    for response in (streamed, refused, client.get("/rooms/0", headers=GZIP)):
        assert "Content-Encoding" not in response.headers
