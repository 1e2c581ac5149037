"""What is kept of clients and models takes bounded memory, as measured and not as counted."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from overseer import create_app
from overseer.config import access
from overseer.domain.addresses import Access
from overseer.llm.choice import ModelSettings
from overseer.render.highlight import MAX_CACHED_LEXERS, code_block
from tests.support.measured import measured
from tests.support.model_server import NOBODY
from tests.web.test_bad_input import FORM

MB = 1_000_000


def behind_a_proxy(instance: Path) -> Flask:
    """Return an app that trusts a proxy on this machine, and in which every password is wrong."""
    found = access({"OVERSEER_PASSWORD": "password", "OVERSEER_TRUSTED_PROXIES": "127.0.0.1"})
    app = create_app(
        instance, models=ModelSettings(base_url=NOBODY), access=found, check_password=lambda hashed, tried: False
    )
    app.extensions["overseer"].open()
    return app


def test_tries_of_clients_with_long_addresses_take_bounded_memory(tmp_path: Path) -> None:
    """A trusted proxy may pass on an X-Forwarded-For that is no address, and of any length."""
    app = behind_a_proxy(tmp_path)
    client = app.test_client()
    client.get("/rooms", headers={"Authorization": "Bearer wrong"})
    with measured() as held:
        for number in range(25):
            forwarded = {"X-Forwarded-For": f"{number} {'x' * 30_000}", "Authorization": "Bearer wrong"}
            assert client.get("/rooms", headers=forwarded).status_code == 401
    app.extensions["overseer"].close()
    app.extensions["access_policy"].sessions.close()
    assert held[0] < MB / 4, "0.75 MB of addresses was sent"


def test_addresses_to_return_to_take_bounded_memory(tmp_path: Path) -> None:
    """A form may name one of any length; Python's own `urlsplit` has a cache."""
    app = create_app(tmp_path, models=ModelSettings(base_url=NOBODY), access=Access())
    client = app.test_client()
    assert client.post("/login", data={"next": "/rooms"}).headers["Location"] == "/rooms"
    with measured() as held:
        for number in range(10):
            body = b"next=/rooms?%d" % number + b"x" * (MB // 10)
            assert client.post("/login", data=body, content_type=FORM).headers["Location"] == "/"
    app.extensions["overseer"].close()
    assert held[0] < MB / 2, "1 MB of addresses was sent"


def test_names_of_languages_take_bounded_memory() -> None:
    """A model may call its code whatever it likes, at any length."""
    code_block("x", "no-such-language")
    with measured() as held:
        for number in range(MAX_CACHED_LEXERS):
            code_block("x", f"{number}-{'x' * 30_000}")
    assert held[0] < MB / 2, "3 MB of names were sent"


def test_compressed_error_of_a_static_file_is_not_kept(tmp_path: Path) -> None:
    """It shows the rooms of its moment, and its address is any that a client makes up."""
    app = create_app(tmp_path, models=ModelSettings(base_url=NOBODY), access=Access())
    client = app.test_client()
    headers = {"Sec-Fetch-Mode": "navigate"}
    before = client.get("/static/none.css", headers={**headers, "Accept-Encoding": "gzip"})
    assert before.status_code == 404 and before.headers["Content-Encoding"] == "gzip"
    client.post("/rooms", data={"name": "Kitchen"})
    after = client.get("/static/none.css", headers={**headers, "Accept-Encoding": "gzip"})
    assert after.data != before.data
    assert "Kitchen" in client.get("/static/none.css", headers=headers).text
    app.extensions["overseer"].close()
