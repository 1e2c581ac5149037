"""Where the Overseers are, if several servers share them."""

from __future__ import annotations

from typing import Protocol


class Placement(Protocol):
    """Decides which server has an Overseer. Methods raise StorageUnavailable."""

    def claim(self, name: str) -> None:
        """See to it that this server has an Overseer. Raises Elsewhere and NoSuchOverseer."""

    def whose(self, name: str) -> str:
        """Return the address of the server to ask for an Overseer: any if there is none of this name."""

    def released(self, name: str) -> None:
        """Take note that an Overseer was closed because nobody uses it."""
