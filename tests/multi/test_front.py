"""The addresses of a server with several Overseers that belong to none, and how an Overseer is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from overseer.multi.directory import Directory
from tests.multi.conftest import NAMES, bearer
from tests.support.client import NAVIGATION
from tests.support.html import parsed

INVALID = ["-a", "A", "ä", "a_b", "a.b", "a" * 64, "a%20b", "a%00", "%F0%9F%A6%89", "..%2fa"]


def tree(folder: Path) -> set[str]:
    return {os.path.join(where, name) for where, folders, files in os.walk(folder) for name in (*folders, *files)}


def test_front_page_names_no_overseer_and_leads_to_one(client: FlaskClient) -> None:
    response = client.get("/", headers=NAVIGATION)
    assert response.status_code == 200 and not any(name in response.text for name in NAMES)
    form = parsed(response.text).one("form")
    assert (form["action"], form.one("input")["name"]) == ("/o", "name")
    assert client.get("/healthz").text == "ok"
    for style in parsed(response.text).every("link", rel="stylesheet"):
        assert client.get(style["href"]).status_code == 200
    found = client.get("/o?name=+Alpha+")
    assert (found.status_code, found.headers["Location"]) == (303, "/o/alpha/")
    assert (moved := client.get("/o/alpha")).status_code == 308 and moved.headers["Location"] == "/o/alpha/"


def test_name_that_was_typed_can_be_corrected(client: FlaskClient) -> None:
    page = client.get("/o", query_string={"name": '"><b>\0gamma'}, headers=NAVIGATION)
    assert page.status_code == 404 and parsed(page.text).one("input")["value"] == '"><b>\ufffdgamma'


@pytest.mark.parametrize("path", ["/o?name=gamma", "/o/gamma", "/o/gamma/", "/o/gamma/rooms/0123456789ab", "/o?name="])
def test_unknown_name_is_not_found(client: FlaskClient, path: str) -> None:
    response = client.get(path, headers=NAVIGATION)
    assert response.status_code == 404 and "There is no Overseer of this name." in response.text


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "PUT"])
def test_no_request_but_the_one_makes_an_overseer(
    client: FlaskClient, instance: Path, directory: Directory, method: str
) -> None:
    client.get("/")
    before = tree(instance)
    form = {"password": "gamma", "name": "gamma", "text": "Hello"}
    for path in ("/", "/o", "/o/", "/o/gamma/", "/o/gamma/rooms", "/o/gamma/login", "/o/../x", "/rooms", "/messages"):
        assert client.open(path, method=method, data=form, headers=bearer("admin")).status_code in (200, 404, 405), path
    for name in INVALID:
        for path in (f"/o/{name}", f"/o/{name}/", f"/o/{name}/rooms"):
            response = client.open(path, method=method, data=form, headers=bearer("admin"))
            assert response.status_code in (404, 405, 422), path
    assert tree(instance) == before


def test_administrator_makes_an_overseer(client: FlaskClient, directory: Directory) -> None:
    for headers in ({}, bearer("wrong"), bearer("alpha")):
        refused = client.put("/o/gamma", data={"password": "g"}, headers=headers)
        assert refused.status_code == 401 and "Basic" in refused.headers["WWW-Authenticate"]
    assert directory.names() == sorted(NAMES)
    for _ in range(2):  # a repeated request too
        made = client.put("/o/gamma", data={"password": "g"}, headers=bearer("admin"))
        assert (made.status_code, made.headers["Location"]) == (201, "/o/gamma/")
    assert directory.names() == [*sorted(NAMES), "gamma"]
    assert client.get("/o/gamma/rooms").status_code == 401
    assert "g" not in directory.password("gamma").split("$")


def test_overseer_is_made_once(client: FlaskClient) -> None:
    response = client.put("/o/alpha", data={"password": "other"}, headers=bearer("admin"))
    assert response.status_code == 409 and "There is an Overseer of this name already." in response.text


@pytest.mark.parametrize("name", INVALID)
def test_invalid_name_is_refused_with_a_sentence(client: FlaskClient, name: str) -> None:
    response = client.put(f"/o/{name}", data={"password": "x"}, headers=bearer("admin"))
    assert response.status_code in (404, 422)
    assert response.status_code == 404 or "A name has 1 to 63 letters" in response.text


@pytest.mark.parametrize("password", ["", "a\nb", "x" * 1025, "a\0b", "scrypt:1"])
def test_unusable_password_is_refused_with_a_sentence(client: FlaskClient, directory: Directory, password: str) -> None:
    response = client.put("/o/gamma", data={"password": password}, headers=bearer("admin"))
    assert response.status_code == 422 and "assword" in response.text
    assert directory.identity("gamma") is None


def test_requests_of_other_sites_and_hosts_are_refused(client: FlaskClient) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
    headers = {**bearer("admin"), "Origin": "https://evil.example"}
    assert client.put("/o/gamma", data={"password": "g"}, headers=headers).status_code == 403


def test_password_may_be_guessed_a_few_times_only(client: FlaskClient) -> None:
    codes = [client.put("/o/x", data={"password": "x"}, headers=bearer("no")).status_code for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2


def test_server_without_several_overseers_has_none(instance: Path) -> None:
    from overseer import create_app
    from overseer.llm.choice import ModelSettings
    from overseer.web.extensions import served

    app: Flask = create_app(instance, models=ModelSettings(base_url="http://127.0.0.1:9/v1", name="x"))
    client = app.test_client()
    assert client.put("/o/gamma", data={"password": "g"}).status_code == 404
    assert client.get("/o/gamma/").status_code == 404 and not (instance / "o").exists()
    served(app).close()
