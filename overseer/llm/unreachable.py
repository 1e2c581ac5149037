"""Sentences for a model server that gives no HTTP response: what is probably wrong, and what to change."""

from __future__ import annotations

import re

import requests
from requests.utils import get_environ_proxies, select_proxy

from overseer.domain.addresses import split_url
from overseer.llm import ModelError
from overseer.llm.connection import HANDSHAKE_TIMEOUT

TLS_RECORD = re.compile(r"\\x1[4-7]\\x03")  # the repr of a TLS alert or handshake, read as an HTTP status line
NOT_TLS = re.compile(rf"WRONG_VERSION_NUMBER|record layer failure|UNEXPECTED_EOF|{HANDSHAKE_TIMEOUT}", re.I)
PROXY_ADVICE = "Correct or unset http_proxy, https_proxy and all_proxy, or add the host to no_proxy."
CERTIFICATE = re.compile(r"certificate verify failed:? ?([\w ,.'-]*)", re.I)


def no_response(url: str, where: str, error: requests.RequestException) -> ModelError | None:
    """Return the error for a request without a response, or None if the server was connected and said nothing.

    `where` is the address as it may be shown.
    """
    https, cause = url.lower().startswith("https:"), repr(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return ModelError(f"Could not reach {where} through the proxy {_proxy(url)}. {PROXY_ADVICE}")
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_error(where, cause)
    if isinstance(error, requests.ReadTimeout):
        return None
    if "NameResolutionError" in cause:
        return ModelError(f"There is no host named {_host(url)}. Correct OPENAI_BASE_URL.")
    if isinstance(error, requests.Timeout) or "NewConnectionError" in cause:
        return ModelError(
            f"Could not connect to {where}. Start the model server, or correct host and port in OPENAI_BASE_URL."
        )
    if not https and TLS_RECORD.search(cause):
        return ModelError(f"{where} speaks HTTPS. Write https:// in OPENAI_BASE_URL.")
    return ModelError(f"{where} closed the connection without an answer. Look at its log, then Retry.")


def _tls_error(where: str, cause: str) -> ModelError:
    if NOT_TLS.search(cause):
        return _speaks_plain_http(where)
    if found := CERTIFICATE.search(cause):
        reason = found[1].strip(" ,.'") or "unknown"
        return ModelError(
            f"The certificate of {where} is not trusted: {reason}. Set REQUESTS_CA_BUNDLE to its CA, or use the name "
            "that the certificate is for."
        )
    return ModelError(
        f"Could not set up HTTPS with {where}. If it speaks plain HTTP, write http:// in OPENAI_BASE_URL."
    )


def _speaks_plain_http(where: str) -> ModelError:
    return ModelError(
        f"{where} does not answer as HTTPS. It perhaps speaks plain HTTP: write http:// in OPENAI_BASE_URL."
    )


def _proxy(url: str) -> str:
    """Return the address of the proxy that the environment names, without user and password."""
    proxy = select_proxy(url, get_environ_proxies(url)) or ""
    return re.sub(r"//[^/@]*@", "//", proxy)


def _host(url: str) -> str | None:
    parts = split_url(url)
    return parts.hostname if parts else None
