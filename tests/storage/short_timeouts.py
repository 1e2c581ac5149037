"""The server with short timeouts, and optionally without root's right to ignore file permissions.

`ORDINARY_USER` in the environment drops the capabilities that let root read and write every file.
"""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()

import ctypes
import os
import sys

CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
BUSY_SECONDS = 0.05
SAVE_SECONDS = 0.2


def drop_file_capabilities() -> None:
    """Call `capset` for this thread and the threads that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, as two words each
    assert libc.capget(header, sets) == 0
    for at in range(3):
        sets[at] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    assert libc.capset(header, sets) == 0


def main() -> int:
    """Run `app.py` with its own command line."""
    import app
    from overseer.rooms import chat_room
    from overseer.storage import database

    database.BUSY_SECONDS = BUSY_SECONDS
    chat_room.SAVE_INTERVAL_SECONDS = SAVE_SECONDS
    if "ORDINARY_USER" in os.environ:
        drop_file_capabilities()
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
