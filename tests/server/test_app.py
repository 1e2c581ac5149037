"""The parts of `app.py` that a running server does not show."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from flask import Flask
from jinja2 import DictLoader, TemplateSyntaxError
from werkzeug.test import EnvironBuilder, run_wsgi_app

from overseer.serve import RequestCounter, warm_up


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Garbage is not collected, as while `app.py` starts."""
    gc.disable()
    yield
    gc.enable()


def test_warm_up_that_fails_turns_the_garbage_collector_on(without_collector: None, app: Flask) -> None:
    """A template that is broken breaks its own page, and not the memory of the whole server."""
    app.jinja_env.loader = DictLoader({"broken.html": "{% if %}"})
    with pytest.raises(TemplateSyntaxError):
        warm_up(app)
    assert gc.isenabled()


def test_request_that_raises_is_not_counted_as_running() -> None:
    """A stop waits for requests that run."""
    app = Flask("app")

    def broken(environ: object, start_response: object) -> list[bytes]:
        raise UnicodeError("before there is an answer")

    app.wsgi_app = broken  # type: ignore[method-assign,assignment]
    running = RequestCounter(app)
    with pytest.raises(UnicodeError):
        run_wsgi_app(running, EnvironBuilder().get_environ())
    assert running.running == 0
