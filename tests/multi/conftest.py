"""An app with two Overseers, `alpha` and `beta`, whose passwords are their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import check_password_hash

from overseer import create_app
from overseer.domain.addresses import Access, Network
from overseer.llm.choice import ModelSettings
from overseer.multi.directory import Directory
from overseer.multi.instances import Instances
from overseer.web.extensions import served
from tests.support.model_server import ModelServer
from tests.support.waiting import join_turn_threads

NAMES = ("alpha", "beta")


def fast_hash(password: str) -> str:
    """Return what looks like a hash of a password, and what `is_password` knows without computing one."""
    return f"scrypt:1:1:1${password}${'0' * 128}"


def is_password(hashed: str, given: str) -> bool:
    if hashed.startswith("scrypt:1:"):
        return hashed.split("$")[1] == given
    return check_password_hash(hashed, given)


def bearer(password: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {password}"}


def start(instance: Path, model_server: ModelServer, *, proxies: tuple[Network, ...] = ()) -> Flask:
    """Return an app with several Overseers, whose administrator's password is `admin`."""
    return create_app(
        instance,
        models=ModelSettings(base_url=model_server.url, name="stand-in"),
        access=Access(password=fast_hash("admin"), hosts=frozenset({"localhost"}), proxies=proxies),
        check_password=is_password,
        multi=True,
    )


@pytest.fixture
def directory(instance: Path) -> Directory:
    """The directory of the two Overseers."""
    directory = Directory(instance)
    for name in NAMES:
        directory.add(name, fast_hash(name))
    return directory


@pytest.fixture
def app(instance: Path, directory: Directory, model_server: ModelServer) -> Iterator[Flask]:
    app = start(instance, model_server)
    yield app
    served(app).close()
    join_turn_threads()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def instances(app: Flask) -> Instances:
    """The open Overseers of the app."""
    found = served(app)
    assert isinstance(found, Instances)
    return found
