"""The command `overseer`, also `python -m overseer`."""

from __future__ import annotations

import sys


def prepare_to_serve() -> None:
    """Patch the standard library with gevent, before any other import: all sockets and locks must be gevent's.

    Also disable garbage collection until everything is loaded, because none of it is garbage.
    """
    import gc

    gc.disable()
    from gevent import monkey

    monkey.patch_all()


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        prepare_to_serve()
    from overseer.cli import main as run

    run(prog_name="overseer")


if __name__ == "__main__":
    main()
