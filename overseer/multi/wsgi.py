"""Compose the WSGI application of a server with several Overseers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flask import Flask

from overseer.domain.addresses import Access
from overseer.multi import front
from overseer.multi.directory import Directory
from overseer.multi.dispatcher import Dispatcher
from overseer.multi.instances import Instances
from overseer.multi.placement import Placement
from overseer.storage.database import RunInThread
from overseer.web import compression
from overseer.web.auth import PasswordPolicy
from overseer.web.extensions import Instance
from overseer.web.password import Check, Password

OPEN_FACETS = 8  # idle rooms of each Overseer whose files stay open

Build = Callable[[Path, str, int], Instance]


def init_app(
    app: Flask,
    front_app: Flask,
    directory: Directory,
    access: Access,
    build: Build,
    check_password: Check,
    run_in_thread: RunInThread,
    placement: Placement | None = None,
) -> Instances:
    """Let `app` serve the Overseers of a directory, and `front_app` what belongs to none. `build` makes one of them."""
    password = Password(access.password, check=check_password) if access.password else None
    policy = PasswordPolicy(access=access, password=password, open_endpoints=front.OPEN_ENDPOINTS)
    front.init_app(front_app, directory, policy, check_password, placement)
    compression.init_app(front_app)
    instances = Instances(
        directory,
        lambda path, password: build(path, password, OPEN_FACETS),
        run_in_thread=run_in_thread,
        on_idle=None if placement is None else placement.released,
    )
    app.wsgi_app = Dispatcher(app.wsgi_app, front_app.wsgi_app, instances, placement)  # type: ignore[method-assign]
    return instances
