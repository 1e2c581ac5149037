"""Servers that give no HTTP response: the answer's error names the likely cause and what to change."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from overseer.llm.openai import OpenAIServer
from tests.support.model_client import failure_of, raw_server
from tests.support.model_server import NOBODY, ModelServer

CERTIFICATE = Path(__file__).with_name("self_signed.pem")  # with its key, for localhost, until 2126
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def tls_server() -> Iterator[int]:
    """Run an HTTPS server with a self-signed certificate; yield its port."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def sentence(url: str) -> str:
    """Return the error of an answer from this address."""
    return str(failure_of(OpenAIServer(url).model("m"))[1])


def test_https_address_of_a_plain_http_server_names_the_scheme(model_server: ModelServer) -> None:
    said = sentence(model_server.url.replace("http:", "https:"))
    assert "perhaps speaks plain HTTP: write http:// in OPENAI_BASE_URL" in said


def test_https_address_of_a_silent_server_names_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overseer.llm.openai.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = sentence(f"https://127.0.0.1:{silent.getsockname()[1]}/v1")
    assert "perhaps speaks plain HTTP: write http:// in OPENAI_BASE_URL" in said


def test_http_address_of_an_https_server_names_the_scheme() -> None:
    alert = b"\x15\x03\x01\x00\x02\x02\x46"
    with raw_server(alert) as url:
        assert sentence(url) == f"{url} speaks HTTPS. Write https:// in OPENAI_BASE_URL."


def test_certificate_that_is_not_trusted_is_named() -> None:
    with tls_server() as port, suppress(ssl.SSLError):
        said = sentence(f"https://localhost:{port}/v1")
    assert f"The certificate of https://localhost:{port}/v1 is not trusted: self-signed certificate." in said
    assert "REQUESTS_CA_BUNDLE" in said


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_is_dead_is_named_without_its_password(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", "http://me:hunter2@127.0.0.1:9")
    said = sentence(f"{scheme}://model.invalid/v1")
    assert said.startswith(f"Could not reach {scheme}://model.invalid/v1 through the proxy http://127.0.0.1:9. ")
    assert "no_proxy" in said and "hunter2" not in said


def test_server_on_any_loopback_address_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert sentence("http://127.0.0.2:9/v1").startswith("Could not connect to http://127.0.0.2:9/v1. ")


def test_port_on_which_nothing_listens_names_the_setting() -> None:
    assert sentence(NOBODY) == (
        f"Could not connect to {NOBODY}. Start the model server, or correct host and port in OPENAI_BASE_URL."
    )
    assert sentence("http://[::1]:9/v1").startswith("Could not connect to http://[::1]:9/v1. ")


def test_host_that_does_not_exist_is_named() -> None:
    assert sentence("http://model.invalid/v1") == "There is no host named model.invalid. Correct OPENAI_BASE_URL."
