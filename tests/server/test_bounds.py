"""Memory that is kept of what clients and models send is bounded. It is measured, not counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from overseer import create_app
from overseer.config import access
from overseer.llm.choice import ModelSettings
from overseer.render.highlight import MAX_CACHED_LEXERS, code_block
from overseer.web.extensions import access_policy, overseer
from tests.support.measured import measured
from tests.support.model_server import NOBODY

MB = 1_000_000

MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Creates an app with these settings in which every password is wrong."""
    apps: list[Flask] = []

    def make(**environment: str) -> Flask:
        model = ModelSettings(base_url=NOBODY)
        found = access(environment)
        apps.append(create_app(tmp_path, models=model, access=found, check_password=lambda hashed, password: False))
        overseer(apps[-1]).open()
        return apps[-1]

    yield make
    for app in apps:
        overseer(app).close()
        access_policy(app).sessions.close()


def test_client_addresses_take_bounded_memory(make_app: MakeApp) -> None:
    """A trusted proxy may pass on an X-Forwarded-For that is invalid and long."""
    client = make_app(OVERSEER_PASSWORD="password", OVERSEER_TRUSTED_PROXIES="127.0.0.1").test_client()
    client.get("/rooms", headers={"Authorization": "Bearer wrong"})
    with measured() as held:
        for number in range(25):
            forwarded = {"X-Forwarded-For": f"{number} {'x' * 30_000}", "Authorization": "Bearer wrong"}
            assert client.get("/rooms", headers=forwarded).status_code == 401
    assert held[0] < MB / 4, "0.75 MB of addresses were sent"


def test_return_addresses_of_log_ins_take_bounded_memory(make_app: MakeApp) -> None:
    """Python's own `urlsplit` has a cache."""
    client = make_app().test_client()
    assert client.post("/login", data={"next": "/rooms"}).headers["Location"] == "/rooms"
    form = "application/x-www-form-urlencoded"
    with measured() as held:
        for number in range(10):
            body = b"next=/rooms?%d" % number + b"x" * (MB // 10)
            assert client.post("/login", data=body, content_type=form).headers["Location"] == "/"
    assert held[0] < MB / 2, "1 MB of addresses were sent"


def test_language_names_of_code_blocks_take_bounded_memory() -> None:
    code_block("x", "no-such-language")
    with measured() as held:
        for number in range(MAX_CACHED_LEXERS):
            code_block("x", f"{number}-{'x' * 30_000}")
    assert held[0] < MB / 2, "3 MB of names were sent"


def test_compressed_error_of_a_static_file_is_not_cached(make_app: MakeApp) -> None:
    """It shows the list of rooms, and clients can make up any number of addresses."""
    client = make_app().test_client()
    headers = {"Sec-Fetch-Mode": "navigate"}
    before = client.get("/static/none.css", headers={**headers, "Accept-Encoding": "gzip"})
    assert before.status_code == 404 and before.headers["Content-Encoding"] == "gzip"
    client.post("/rooms", data={"name": "Kitchen"})
    after = client.get("/static/none.css", headers={**headers, "Accept-Encoding": "gzip"})
    assert after.data != before.data
    assert "Kitchen" in client.get("/static/none.css", headers=headers).text
