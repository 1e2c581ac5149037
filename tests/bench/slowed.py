"""The server, slowed down on purpose, for every row of the benchmark to be seen over its bound: `app.py`'s flags."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import secrets  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def burn(seconds: float) -> None:
    """Use the processor for so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def slow(owner: Any, name: str, seconds: float, *, per_kilobyte: float = 0.0) -> None:
    """Have a method take so much longer, and more for each kilobyte of text it is given or has."""
    method: Callable[..., Any] = getattr(owner, name)

    def slowed(*args: Any, **kwargs: Any) -> Any:
        size = sum(len(one) for one in args if isinstance(one, str | bytes))
        burn(seconds + per_kilobyte * size / 1024)
        return method(*args, **kwargs)

    setattr(owner, name, slowed)


burn(3.0)

from app import main  # noqa: E402
from overseer.assets import Assets  # noqa: E402
from overseer.fragments import Fragments  # noqa: E402
from overseer.outlet import Outlet  # noqa: E402
from overseer.turn import Turn  # noqa: E402

BALLAST = b"\1" * 80_000_000
SCRIPT = Path(__file__).with_suffix(".js").read_bytes()
NOISE = f"<!-- {secrets.token_hex(40_000)} -->"  # nothing makes it smaller than 40 KB


def longer(owner: Any, name: str, more: Any) -> None:
    """Have a method return more."""
    method: Callable[..., Any] = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: method(*args, **kwargs) + more)


def page_slowed() -> None:
    """Longer answers, and a script that keeps the page busy."""
    content = Assets.content

    def more(self: Assets, name: str) -> bytes:
        return content(self, name) + (b"{%s}" % SCRIPT if name == "app.js" else b"")

    Assets.content = more  # type: ignore[method-assign]
    longer(Fragments, "room", NOISE)
    slow(Fragments, "room", 0.1)


slow(Outlet, "send", 0.001)
slow(Fragments, "open_block", 0.02)
slow(Turn, "_say", 0.0001)
page_slowed()

if __name__ == "__main__":
    sys.exit(main())
