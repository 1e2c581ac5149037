"""The parts of `app.py` that a running server does not show."""

from __future__ import annotations

import gc

import pytest
from flask import Flask
from jinja2 import DictLoader, TemplateSyntaxError
from werkzeug.test import EnvironBuilder, run_wsgi_app

from overseer.serve import RequestCounter, warm_up


def test_warm_up_that_fails_enables_the_garbage_collector(app: Flask) -> None:
    """The collector is disabled while `app.py` starts."""
    app.jinja_env.loader = DictLoader({"broken.html": "{% if %}"})
    gc.disable()
    try:
        with pytest.raises(TemplateSyntaxError):
            warm_up(app)
        assert gc.isenabled()
    finally:
        gc.enable()


def test_request_that_raises_is_not_counted_as_running() -> None:
    """Shutdown waits for requests that run."""
    app = Flask("app")

    def broken(environ: object, start_response: object) -> list[bytes]:
        raise UnicodeError("before the response")

    app.wsgi_app = broken  # type: ignore[method-assign]
    running = RequestCounter(app)
    with pytest.raises(UnicodeError):
        run_wsgi_app(running, EnvironBuilder().get_environ())
    assert running.running == 0
