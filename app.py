"""The server: `python app.py [--host H] [--port P] [--instance DIR]`, or `flask --app app run --debug`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from overseer.__main__ import prepare_to_serve

    prepare_to_serve()

from overseer.cli import create_app
from overseer.serve import main

__all__ = ["create_app", "main"]

if __name__ == "__main__":
    sys.exit(main())
