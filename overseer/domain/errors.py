"""Errors that are shown to a person. Every message is a sentence for that person."""

from __future__ import annotations


class NoSuchRoom(Exception):
    """The room does not exist."""


class NoSuchOverseer(Exception):
    """The server has no Overseer of this name."""


class Elsewhere(Exception):
    """Another node has this Overseer. `address` is the host and port of that node."""

    def __init__(self, address: str) -> None:
        super().__init__(
            "Another machine has this Overseer. Try again, or ask the address in the header Overseer-Owner."
        )
        self.address = address


class OverseerExists(Exception):
    """The server has an Overseer of this name already."""


class NoSuchMessage(Exception):
    """The room has no message with this number, or it is not of the required kind."""


class NoSuchImport(Exception):
    """There is no such import, or its report is not kept any more."""


class NoSuchFile(Exception):
    """No message of the room shows a file with this SHA-256."""


class NoSuchShare(Exception):
    """The room has no share with this number."""


class TooManyShares(Exception):
    """The room has as many shares as it may have."""


class KeyReused(Exception):
    """An idempotency key was used again with a different text."""


class Outdated(Exception):
    """The command does not apply to the current state of the room."""


class StorageError(Exception):
    """A file cannot be used."""


class StorageDamaged(StorageError):
    """The file is damaged."""


class StorageReplaced(StorageDamaged):
    """Another file is at the path of the open file or its WAL file. The new file may be sound."""


class StorageEmpty(StorageError):
    """The file exists, but nothing was ever stored in it."""


class StorageClosed(StorageError):
    """The file is closed."""


class StorageUnavailable(StorageError):
    """The file cannot be used at the moment.

    The disk is full, the file is read-only or locked by another program, or the server is shutting down.
    """


class InstanceError(Exception):
    """The instance directory cannot be used."""


class AnswerInProgress(Exception):
    """The command is not possible while a turn is running or queued in the room."""
