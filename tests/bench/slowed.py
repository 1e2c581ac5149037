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


def before(owner: Any, name: str, do: Callable[..., object]) -> None:
    """Have a method do something else first, with the same arguments."""
    method: Callable[..., Any] = getattr(owner, name)

    def slowed(*args: Any, **kwargs: Any) -> Any:
        do(*args, **kwargs)
        return method(*args, **kwargs)

    setattr(owner, name, slowed)


def after(owner: Any, name: str, do: Callable[..., object]) -> None:
    """Have a method do something else at its end, with what it has made and the same arguments; that is its result."""
    method: Callable[..., Any] = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: do(method(*args, **kwargs), *args, **kwargs))


def slow(owner: Any, name: str, seconds: float) -> None:
    """Have a method take so much longer."""
    before(owner, name, lambda *args, **kwargs: burn(seconds))


burn(3.0)

from app import main  # noqa: E402
from overseer.live.renderer import Renewal  # noqa: E402
from overseer.live.socket_writer import Outlet  # noqa: E402
from overseer.render.assets import Assets  # noqa: E402
from overseer.render.fragments import Fragments  # noqa: E402
from overseer.render.incremental_markdown import GrowingMarkdown  # noqa: E402
from overseer.rooms.overseer import Overseer  # noqa: E402
from overseer.rooms.turn import Turn  # noqa: E402
from overseer.storage.room_store import Page, Transcript  # noqa: E402

BALLAST = b"\1" * 80_000_000
SCRIPT = b"{%s}" % Path(__file__).with_suffix(".js").read_bytes()
NOISE = f"<!-- {secrets.token_hex(40_000)} -->"  # nothing makes it smaller than 40 KB
BALLAST_OF_ONE = 100_000  # bytes: of a tab, of a room's file, of what a switch to a long room sends
SHORT, LONG = 5_000, 40_000  # characters: what nothing is added for, and for how many more at most
LIST = Renewal.of_list


def by_rooms(overseer: Overseer, *_: Any, **__: Any) -> None:
    """Take the longer, the more rooms there are."""
    with overseer._storage.read() as db:
        rooms = db.execute("SELECT count(*) FROM rooms").fetchone()[0]
    burn(0.001 * rooms**0.5)


def by_messages(page: Page, *_: Any) -> Page:
    """Take the longer, the more messages there are."""
    burn(0.000_02 * min(page.last, 10_000))
    return page


def fatten(transcript: Transcript, *_: Any, **__: Any) -> None:
    """Leave more in a new room's file than it needs."""
    with transcript._storage.write() as db:
        db.execute("CREATE TABLE ballast (bytes BLOB)")
        db.execute("INSERT INTO ballast VALUES (zeroblob(?))", (BALLAST_OF_ONE,))


def prolong(html: str, _: Fragments, room: object, settings: object, page: Page, **__: Any) -> str:
    """Send more than is shown."""
    return f"{html}<!-- {secrets.token_hex(BALLAST_OF_ONE)} -->" if page.last > 4_000 else html


def say_longer(turn: Turn, *_: Any) -> None:
    """Take the longer, the longer the answer is."""
    burn(0.000_000_025 * min(max(0, turn._length - SHORT), LONG))


def count(growing: GrowingMarkdown, text: str) -> None:
    """Know how long the answer is."""
    growing.said = getattr(growing, "said", 0) + len(text)  # type: ignore[attr-defined]


def show_more(shown: tuple[int, str], growing: GrowingMarkdown) -> tuple[int, str]:
    """Send the more, the longer the answer is."""
    more = min(max(0, growing.said - SHORT), LONG) ** 2 // 1_000  # type: ignore[attr-defined]
    return (shown[0], f"{shown[1]}<!-- {'-' * more} -->") if more else shown


def load(outlet: Outlet, *_: Any, **__: Any) -> None:
    """Hold more for a tab than it needs."""
    outlet.ballast = b"\1" * BALLAST_OF_ONE  # type: ignore[attr-defined]


slow(Outlet, "send", 0.0005)
slow(GrowingMarkdown, "snapshot", 0.008)
slow(Turn, "_say", 0.0001)
before(Turn, "_say", say_longer)
before(GrowingMarkdown, "add", count)
after(GrowingMarkdown, "snapshot", show_more)
slow(Overseer, "messages", 0.004)
before(Turn, "run", lambda turn: time.sleep(0.05))
before(Turn, "cut", lambda turn: time.sleep(1.2))
before(Overseer, "settings", by_rooms)
before(Overseer, "ask", by_rooms)
before(Transcript, "begin", fatten)
before(Outlet, "__init__", load)
after(Transcript, "page", by_messages)
after(Fragments, "room", prolong)
after(Fragments, "room", lambda html, *_, **__: html + NOISE)
slow(Fragments, "room", 0.03)
after(Assets, "content", lambda content, assets, name: content + SCRIPT if name == "app.js" else content)
after(Renewal, "of_list", lambda frame, *a, **k: LIST(a[0], a[1], None, a[3], **k))

if __name__ == "__main__":
    sys.exit(main())
