"""w3m on a terminal of its own: what a person at it does and sees."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

W3M = os.environ.get("W3M", "w3m")
DEADLINE = 20.0
COLUMNS, LINES = 100, 80  # a terminal on which the pages of a test fit as a whole
SETTINGS = "use_cookie 0\nuse_history 0\nuse_mouse 0\nconfirm_qq 0\nwrap_search 1\ncolor 0\n"
ENTER, BACK_TAB = "\r", "\x1b\t"


class TextBrowser:
    """Opens a page; its home and what it types into larger boxes are in `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        (folder / ".w3m").mkdir(parents=True)
        (folder / ".w3m/config").write_text(SETTINGS)
        self._typed = folder / "typed"
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._unread = b""
        self._stream = pyte.ByteStream(self._screen)
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TERM": "linux",
            "LANG": "C.UTF-8",
            "EDITOR": f"cp {shlex.quote(str(self._typed))}",  # w3m has larger boxes filled in by an editor
        }
        self._process = subprocess.Popen(
            [W3M, url], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)

    @property
    def text(self) -> str:
        """What the screen shows, without its empty lines."""
        return "\n".join(line.rstrip() for line in self._screen.display if line.strip())

    def press(self, name: str) -> None:
        """Find a button or a link by its name, and follow it to its page."""
        self._find(name)
        self._type(ENTER)
        self.until_loaded()

    def fill_in(self, words: str, *, before: str) -> None:
        """Write words into the box before a button."""
        self._typed.write_text(words)
        self._find(before)
        self._type(BACK_TAB)
        if not self._comes(lambda: self._at_cursor("[", shift=-1), seconds=5):
            self._type(BACK_TAB)  # w3m drops keys that arrive while it ends a search
            self.until(lambda: self._at_cursor("[", shift=-1))
        self._type(ENTER)
        self.until(lambda: self._at_cursor("[" + words, shift=-1))

    def press_until(self, name: str, wanted: Callable[[], bool]) -> None:
        """Press it again and again until the page is what is wanted."""
        until = time.monotonic() + DEADLINE
        while not wanted():
            assert time.monotonic() < until, self.text
            self.press(name)

    def until(self, wanted: Callable[[], bool]) -> None:
        """Read what w3m draws, up to the byte with which that is so: what its last line says is soon replaced."""
        assert self._comes(wanted, seconds=DEADLINE), f"It never came. The screen:\n{self.text}"

    def until_loaded(self) -> None:
        """Wait for a whole page."""
        self.until(lambda: self._says("Opening"))
        self.until(lambda: self._says("Viewing"))

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(DEADLINE)
        os.close(self._terminal)

    def _comes(self, wanted: Callable[[], bool], *, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not wanted():
            if not self._unread:
                ready, _, _ = select.select([self._terminal], [], [], max(0, until - time.monotonic()))
                if not ready:
                    return False
                self._unread = os.read(self._terminal, 65536)
            self._stream.feed(self._unread[:1])
            self._unread = self._unread[1:]
        return True

    def _type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def _find(self, name: str) -> None:
        self._type(f"/{name}{ENTER}")
        self.until(lambda: self._says(f"Forward: {name}"))
        self.until(lambda: self._at_cursor(name))

    def _says(self, words: str) -> bool:
        """Whether the last line, which is w3m's own, begins so."""
        return self._is_at(LINES - 1, 0, words)

    def _at_cursor(self, words: str, *, shift: int = 0) -> bool:
        return self._is_at(self._screen.cursor.y, self._screen.cursor.x + shift, words)

    def _is_at(self, line: int, column: int, words: str) -> bool:
        cells = self._screen.buffer[line]
        return all(cells[column + n].data == letter for n, letter in enumerate(words))
