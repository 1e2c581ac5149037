"""Typed access to what serves the current request: an Overseer, its tabs, and who may use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app, request

from overseer.live.hub import Hub
from overseer.render.fragments import Fragments
from overseer.rooms.overseer import Overseer
from overseer.server.connection_limits import ConnectionLimits
from overseer.web.auth import AccessPolicy


@dataclass(frozen=True, slots=True)
class Instance:
    """What serves one instance directory. `fragments` returns the partials for a URL prefix."""

    overseer: Overseer
    hub: Hub
    fragments: Callable[[str], Fragments]
    access_policy: AccessPolicy
    connections: ConnectionLimits

    def close(self) -> None:
        """End every turn as interrupted, close the files, and close every tab so that it reconnects."""
        self.overseer.close()
        self.hub.close()
        self.access_policy.sessions.close()


def init_app(app: Flask, instance: Instance) -> None:
    """Serve this instance."""
    app.extensions["instance"] = instance


def instance(app: Flask = current_app) -> Instance:
    """Return what serves the requests of the app."""
    return cast(Instance, app.extensions["instance"])


def overseer(app: Flask = current_app) -> Overseer:
    """Return the parent of all rooms."""
    return instance(app).overseer


def hub(app: Flask = current_app) -> Hub:
    """Return the hub, which pushes changes to the tabs."""
    return instance(app).hub


def fragments() -> Fragments:
    """Return the partials, with URLs below the prefix of the current request."""
    return instance().fragments(request.script_root)


def access_policy(app: Flask = current_app) -> AccessPolicy:
    """Return the access policy of the app."""
    return instance(app).access_policy
