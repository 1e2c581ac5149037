"""Typed access to what serves the current request: an Overseer, its tabs, and who may use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from flask import Flask, current_app, has_request_context, request

from overseer.live.hub import Hub
from overseer.render.fragments import Fragments
from overseer.rooms.overseer import Overseer
from overseer.server.connection_limits import ConnectionLimits
from overseer.web.auth import AccessPolicy

# In the environment of a request for one of several Overseers: what serves it, and whether it was removed meanwhile.
INSTANCE, IS_GONE = "overseer.instance", "overseer.is_gone"


class Served(Protocol):
    """What an app serves: one instance directory or several."""

    def open(self) -> None:
        """Open what is served. Raises InstanceError."""

    def close(self) -> None:
        """Close everything, and every tab so that it reconnects."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What serves one instance directory. `fragments` returns the partials for a URL prefix."""

    overseer: Overseer
    hub: Hub
    fragments: Callable[[str], Fragments]
    access_policy: AccessPolicy
    connections: ConnectionLimits
    end_watch: Callable[[], None]  # of the default model

    def open(self) -> None:
        """Open the instance directory. Raises InstanceError."""
        self.overseer.open()

    def shrink(self) -> None:
        """Free the memory that is used as a cache."""
        self.overseer.shrink()
        self.access_policy.sessions.shrink()

    def close(self) -> None:
        """End every turn as interrupted, close the files, and close every tab so that it reconnects."""
        self.overseer.close()
        self.hub.close()
        self.access_policy.sessions.close()
        self.end_watch()


def init_app(app: Flask, served: Served) -> None:
    """Serve this."""
    app.extensions["served"] = served


def served(app: Flask) -> Served:
    """Return what the app serves."""
    return cast(Served, app.extensions["served"])


def instance(app: Flask = current_app) -> Instance:
    """Return what serves the current request, or the only one of the app."""
    if has_request_context() and (found := request.environ.get(INSTANCE)) is not None:
        return cast(Instance, found)
    return cast(Instance, app.extensions["served"])


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
