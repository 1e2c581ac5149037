"""Errors that a person can cause or has to deal with. Every message is a sentence for a person."""

from __future__ import annotations


class NoSuchRoom(Exception):
    """There is no such room."""


class NoSuchMessage(Exception):
    """The room has no such message."""


class KeyReused(Exception):
    """The key of a question came back with another text."""


class Outdated(Exception):
    """What was asked for does not fit the room as it is now; the message is a sentence for a person."""


class StorageError(Exception):
    """A file cannot be used; the message is a sentence for a person."""


class StorageDamaged(StorageError):
    """What is in the file is not what was written there, or the file is not there any more."""


class StorageReplaced(StorageDamaged):
    """The open file, or its log, is not the one at its path any more; what is there now may be sound."""


class StorageEmpty(StorageError):
    """The file is there, but nothing was ever stored in it."""


class StorageClosed(StorageError):
    """The file was closed while somebody still wanted to use it."""


class StorageFull(StorageError):
    """Nothing can be written just now: the disk is full, or the file or its folder is read-only."""


class InstanceError(Exception):
    """The instance directory cannot be used; the message is a sentence for a person."""


class AnswerInProgress(Exception):
    """It cannot be done while an answer is being made."""
