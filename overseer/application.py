"""The Flask app, composed of the packages."""

from __future__ import annotations

import atexit
import logging
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request
from platformdirs import user_data_path
from werkzeug.security import check_password_hash

from overseer import cli, config
from overseer.config import ConfigError
from overseer.domain.addresses import Access
from overseer.live.hub import Hub
from overseer.live.renderer import FrameRenderer
from overseer.llm.choice import Models, ModelSettings
from overseer.render import assets
from overseer.render.fragments import FragmentCache, Fragments, prepare
from overseer.render.streaming_answers import StreamingAnswers
from overseer.rooms.chat_room import Limits
from overseer.rooms.overseer import OPEN_FACETS, Overseer
from overseer.rooms.temporary import TEMPORARY_SECONDS
from overseer.server.connection_limits import ConnectionLimits
from overseer.storage.database import RunInThread, run_inline
from overseer.storage.sessions import SessionStorage
from overseer.tools.toolbox import StartThread, in_thread
from overseer.web import auth, compression, exports, extensions, imports, login, responses, shares, views, websocket
from overseer.web.auth import AccessPolicy
from overseer.web.extensions import Instance, Served
from overseer.web.forms import MAX_FIELDS, BoundedRequest
from overseer.web.password import Check, Password
from overseer.web.proxies import TrustedProxies

if TYPE_CHECKING:
    from overseer.cluster.bucket import Bucket
    from overseer.cluster.placement import Cluster

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).parent
# The wheel holds templates and static files in the package; a checkout has them beside it.
INSTALLED = (PACKAGE / "templates").is_dir()
ROOT = PACKAGE if INSTALLED else PACKAGE.parent
MAX_PREFIXES = 16  # URL prefixes whose fragments are kept: trusted proxies may pass on what clients send
FRAGMENT_CACHE_BYTES = 16_000_000  # of rendered messages and rows, for all prefixes together
MAX_BODY = 4_000_000  # bytes; a form may need twelve for one character of a message


def create_app(
    instance: Path | str | None = None,
    *,
    models: ModelSettings | None = None,
    limits: Limits | None = None,
    access: Access | None = None,
    check_password: Check = check_password_hash,
    run_in_thread: RunInThread = run_inline,
    start_thread: StartThread = in_thread,
    multi: bool | None = None,
    node: str = "",
    temporary_seconds: float = TEMPORARY_SECONDS,
) -> Flask:
    """Return the app for one instance directory, which is opened by the first request or by `overseer.open()`.

    Arguments that are not given are read from the environment, see `overseer.config`; raises ConfigError for settings
    that cannot be used. If `multi`, the app serves several Overseers, each below `/o/<name>/`; `overseer.multi` has
    what that takes. With OVERSEER_BUCKET, it does so as a node of a cluster, by default at the address `node`; see
    `overseer.cluster`. `check_password` compares a hash with a password. `run_in_thread` makes commits, and
    `start_thread` runs tools. `temporary_seconds` is how long a temporary room stays after its last use.
    """
    directory = Path(instance or config.INSTANCE.read(os.environ) or default_instance()).absolute()
    access = access or config.access(os.environ)
    chosen = Models(models or config.model_settings(os.environ))
    app = new_app()
    cache, tab_limits = FragmentCache(FRAGMENT_CACHE_BYTES), config.tab_limits(os.environ)

    cluster = new_cluster(directory, node) if config.BUCKET.read(os.environ) and multi is not False else None

    def build(path: Path, password: str, open_facets: int = OPEN_FACETS) -> Instance:
        replication = None if cluster is None else cluster.replication(path)
        overseer = Overseer(
            path,
            models=chosen,
            limits=limits or config.limits(os.environ),
            open_facets=open_facets,
            run_in_thread=run_in_thread,
            start_thread=start_thread,
            replication=replication,
            temporary_seconds=temporary_seconds,
        )
        policy = AccessPolicy(
            access=access,
            password=Password(password, check=check_password) if password else None,
            sessions=SessionStorage(path, password, run_in_thread=run_in_thread, replication=replication),
        )
        return connected(app, overseer, chosen, policy, cache=cache, connections=ConnectionLimits(tab_limits))

    served: Served
    if cluster is not None or (config.MULTI.read(os.environ) if multi is None else multi):
        from overseer.multi import wsgi
        from overseer.multi.directory import Directory

        overseers = Directory(directory) if cluster is None else cluster.directory
        served = instances = wsgi.init_app(
            app, new_app(), overseers, access, build, check_password, run_in_thread, placement=cluster
        )
        if cluster is not None:
            cluster.serve(instances)
            served = app.extensions["cluster"] = cluster
    else:
        served = build(directory, access.password)
    extensions.init_app(app, served)
    register(app)
    app.wsgi_app = TrustedProxies(app.wsgi_app, access.proxies)  # type: ignore[method-assign]
    atexit.register(served.close)
    return app


def new_cluster(directory: Path, address: str) -> Cluster:
    """Return this process as a node of the cluster of OVERSEER_BUCKET. Raises ConfigError."""
    bucket = new_bucket()
    from overseer.cluster.placement import Cluster
    from overseer.cluster.replicas import Daemon

    address = config.NODE.read(os.environ) or address or f"127.0.0.1:{config.PORT.read(os.environ)}"
    daemon = Daemon(config.LITESTREAM.read(os.environ))
    return Cluster(directory, address, bucket, daemon, lease_seconds=config.LEASE_SECONDS.read(os.environ))


def new_bucket() -> Bucket:
    """Return the bucket of OVERSEER_BUCKET. Raises ConfigError."""
    try:
        from overseer.cluster.bucket import Bucket, Credentials
    except ImportError:
        raise ConfigError("OVERSEER_BUCKET needs the extra “cluster”: pip install 'overseer[cluster]'.") from None
    key, secret = config.BUCKET_KEY.read(os.environ), config.BUCKET_SECRET.read(os.environ)
    if not key or not secret:
        raise ConfigError("OVERSEER_BUCKET needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Set both.")
    credentials = Credentials(key, secret, config.BUCKET_REGION.read(os.environ))
    return Bucket(config.BUCKET.read(os.environ), credentials, seconds=config.LEASE_SECONDS.read(os.environ) / 2)


def default_instance() -> Path:
    """Return the data directory of the platform if Overseer is installed, or `instance/` in a checkout."""
    return user_data_path("overseer") if INSTALLED else ROOT / "instance"


def new_app() -> Flask:
    """Return a Flask app with the limits for requests, and with the templates."""
    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.request_class = BoundedRequest
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY,
        MAX_FORM_MEMORY_SIZE=MAX_BODY,
        MAX_FORM_PARTS=MAX_FIELDS,
        SEND_FILE_MAX_AGE_DEFAULT=assets.MAX_AGE_SECONDS,
    )
    prepare(app)
    return app


def connected(
    app: Flask,
    overseer: Overseer,
    models: Models,
    policy: AccessPolicy,
    *,
    cache: FragmentCache,
    connections: ConnectionLimits,
) -> Instance:
    """Return what serves an Overseer: its tabs and partials, connected to the events of its rooms."""
    streaming_answers = StreamingAnswers()
    locked = policy.password is not None

    @lru_cache(MAX_PREFIXES)
    def fragments(prefix: str) -> Fragments:
        return Fragments(
            app, prefix, streaming_answers=streaming_answers, model=models.shown, locked=locked, cache=cache
        )

    hub = Hub(
        lru_cache(MAX_PREFIXES)(lambda prefix: FrameRenderer(overseer, fragments(prefix), streaming_answers)),
        on_last_left=overseer.temporary_rooms.touch,
    )
    overseer.temporary_rooms.has_tab = hub.has_tab
    overseer.subscribe(streaming_answers.apply)
    overseer.subscribe(hub.handle)
    return Instance(overseer, hub, fragments, policy, connections, models.watch(hub.models_changed))


def register(app: Flask) -> None:
    """Register the handlers and routes, in the order in which a request passes them."""
    app.before_request(note_start)
    auth.init_app(app, extensions.access_policy)
    # Not earlier: with `flask run --debug` the parent of the reloader creates an app too, and must not take the lock.
    app.before_request(lambda: extensions.overseer().open(reopen=False))
    imports.init_uploads(app)
    responses.init_app(app)
    websocket.init_app(app)
    assets.init_app(app)
    views.init_app(app)
    imports.init_app(app)
    exports.init_app(app)
    shares.init_app(app)
    login.init_app(app)
    app.after_request(log_request)
    compression.init_app(app)
    cli.init_app(app)


def note_start() -> None:
    """Note the time, for the log."""
    g.started_at = time.monotonic()


def log_request(response: Response) -> Response:
    """Log one line per request, without query, form, or headers."""
    if request.endpoint not in assets.ENDPOINTS:
        milliseconds = 1000 * (time.monotonic() - g.started_at)
        log.info("%s %s %s %.0fms", request.method, responses.path_in_log(), response.status_code, milliseconds)
    return response
