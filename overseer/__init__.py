"""Overseer: chat rooms with a language model, each room a facet with its own SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overseer.application import create_app as create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    # The app is imported on first use: the server patches the standard library before that.
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from overseer.application import create_app

    return create_app
