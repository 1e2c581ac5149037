"""Typed access to the objects that `create_app` attaches to the app."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from flask import Flask, current_app, request

from overseer.live.hub import Hub
from overseer.render.fragments import Fragments
from overseer.rooms.overseer import Overseer
from overseer.web.auth import AccessPolicy


def init_app(
    app: Flask, *, overseer: Overseer, hub: Hub, fragments: Callable[[str], Fragments], access_policy: AccessPolicy
) -> None:
    """Attach the objects; `fragments` returns the partials for a URL prefix."""
    app.extensions.update(overseer=overseer, hub=hub, fragments=fragments, access_policy=access_policy)


def overseer(app: Flask = current_app) -> Overseer:
    """Return the parent of all rooms."""
    return cast(Overseer, app.extensions["overseer"])


def hub(app: Flask = current_app) -> Hub:
    """Return the hub, which pushes changes to the tabs."""
    return cast(Hub, app.extensions["hub"])


def fragments() -> Fragments:
    """Return the partials, with URLs below the prefix of the current request."""
    return cast(Fragments, current_app.extensions["fragments"](request.script_root))


def access_policy(app: Flask = current_app) -> AccessPolicy:
    """Return the access policy of the app."""
    return cast(AccessPolicy, app.extensions["access_policy"])
