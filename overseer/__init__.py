"""Overseer: chat rooms with a language model, each room a facet with its own SQLite file."""

from __future__ import annotations

import atexit
import logging
import os
import time
from functools import lru_cache
from pathlib import Path

from flask import Flask, Response, g, request
from werkzeug.security import check_password_hash

from overseer import cli, config
from overseer.domain.addresses import Access
from overseer.live.hub import Hub
from overseer.live.renderer import FrameRenderer
from overseer.llm.choice import Models, ModelSettings
from overseer.render import assets
from overseer.render.fragments import Fragments, Memo, prepare
from overseer.render.streaming_answers import StreamingAnswers
from overseer.rooms.chat_room import Limits
from overseer.rooms.overseer import Overseer
from overseer.storage.database import RunInThread, run_inline
from overseer.tools.registry import StartThread, in_thread
from overseer.web import auth, compression, login, responses, websocket
from overseer.web.auth import AccessPolicy
from overseer.web.forms import MAX_FIELDS, BoundedRequest
from overseer.web.password import Check, Password, RateLimiter
from overseer.web.proxies import TrustedProxies
from overseer.web.sessions import Sessions
from overseer.web.views import NumberConverter, bp

log = logging.getLogger(__name__)

ROOT = Path(__file__).parent.parent
PREFIXES = 16
MEMO_BYTES = 16_000_000  # of rendered messages and rows that are kept, for all prefixes together
MAX_BODY = 4_000_000  # bytes; a form may need twelve for one character of a message

__all__ = ["create_app"]


def create_app(
    instance: Path | str | None = None,
    *,
    models: ModelSettings | None = None,
    limits: Limits | None = None,
    access: Access | None = None,
    check_password: Check = check_password_hash,
    run_in_thread: RunInThread = run_inline,
    start_thread: StartThread = in_thread,
) -> Flask:
    """The app for one instance directory, which it opens with the first request, or by `overseer.open()`.

    What is not given it reads from the environment: OVERSEER_INSTANCE, and see `overseer.config`. Raises
    BadEnvironment for what cannot be used there. `check_password` is what compares a hash with a password, and slow;
    commits are made by `run_in_thread`, and tools are run by `start_thread`.
    """
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.request_class = BoundedRequest
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, MAX_FORM_MEMORY_SIZE=MAX_BODY, MAX_FORM_PARTS=MAX_FIELDS)
    app.config.update(SEND_FILE_MAX_AGE_DEFAULT=assets.YEAR)
    prepare(app)

    chosen = Models(models or config.model_settings(os.environ))
    directory = Path(instance or os.environ.get("OVERSEER_INSTANCE") or ROOT / "instance").absolute()
    limits = limits or config.limits(os.environ)
    overseer = Overseer(directory, models=chosen, limits=limits, run_in_thread=run_in_thread, start_thread=start_thread)
    drafts = StreamingAnswers()

    access = access or config.access(os.environ)
    sessions = Sessions(directory, access.password)
    password = Password(access.password, check=check_password) if access.password else None

    memo = Memo(MEMO_BYTES)

    # Prefixes are what trusted proxies say, and few; but these may pass on what they hear.
    @lru_cache(PREFIXES)
    def fragments(prefix: str) -> Fragments:
        return Fragments(app, prefix, drafts=drafts, model=chosen.shown, locked=password is not None, memo=memo)

    hub = Hub(lru_cache(PREFIXES)(lambda prefix: FrameRenderer(overseer, fragments(prefix), drafts)))
    overseer.subscribe(drafts.heard)
    overseer.subscribe(hub.heard)
    chosen.watch(hub.models_changed)
    app.extensions.update(overseer=overseer, hub=hub, fragments=fragments)

    app.before_request(note_start)
    auth.init_app(app, AccessPolicy(access, sessions, password, RateLimiter()))
    # Not before: with `flask run --debug` the reloader's parent makes an app too, and must not take the lock.
    app.before_request(lambda: overseer.open(reopen=False))
    responses.init_app(app)
    websocket.init_app(app, config.tab_limits(os.environ))
    assets.init_app(app)
    app.url_map.converters["number"] = NumberConverter
    app.register_blueprint(bp)
    login.init_app(app)
    app.wsgi_app = TrustedProxies(app.wsgi_app, access.proxies)  # type: ignore[method-assign]
    app.after_request(log_request)
    compression.init_app(app)
    cli.init_app(app)
    atexit.register(overseer.close)
    atexit.register(sessions.close)
    return app


def note_start() -> None:
    """Look at the clock, for the log."""
    g.began = time.monotonic()


def log_request(response: Response) -> Response:
    """One line a request: no query, no text, no header."""
    if request.endpoint not in assets.ENDPOINTS:
        took = 1000 * (time.monotonic() - g.began)
        log.info("%s %s %s %.0fms", request.method, responses.path_in_log(), response.status_code, took)
    return response
