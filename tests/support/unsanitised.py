"""The server as it would be if Markdown let HTML through and nothing sanitised it: what is left is the policy."""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    monkey.patch_all()

import sys


def main() -> int:
    """`python -m tests.support.unsanitised` and the server's own flags."""
    from app import main as serve
    from overseer.render import markdown

    vars(markdown)["sanitize"] = lambda html: html
    markdown._parser().options["html"] = True
    return serve()


if __name__ == "__main__":
    sys.exit(main())
