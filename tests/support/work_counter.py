"""What the program does, in numbers that no clock and no busy machine changes."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from overseer.render import sanitizer
from overseer.render.fragments import Fragments
from overseer.storage import database, registry, schema

VALUES = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")
WHOLE = ("Count", "IntegrityCk")  # instructions that read a table to its end, and count as one


@dataclass
class Work:
    """What was done: SQL by statement, HTML by template, Markdown, and the files that were opened.

    `steps` are instructions of SQLite's machine: one that looks at many rows takes many.
    """

    opened: list[str] = field(default_factory=list)
    sql: Counter[str] = field(default_factory=Counter)
    stepped: Counter[str] = field(default_factory=Counter)
    templates: Counter[str] = field(default_factory=Counter)
    html: Counter[str] = field(default_factory=Counter)  # characters
    read: int = 0  # characters of text that were parsed as Markdown
    sanitised: int = 0  # characters of HTML that were

    @property
    def statements(self) -> int:
        return self.sql.total()

    @property
    def steps(self) -> int:
        return self.stepped.total()

    @property
    def renders(self) -> int:
        return self.templates.total()

    @property
    def rendered(self) -> int:
        return self.html.total()

    @property
    def whole(self) -> set[str]:
        """Statements that read a whole table in one step."""
        return {one for one in self.sql if _reads_whole(one)}


class WorkCounter:
    """Keeps the books of this process, while it is patched."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.work = Work()
        self._lock = threading.Lock()
        self._watch_files(patch)
        self._watch_templates(patch)
        self._watch_markdown(patch)

    def of(self, event: Callable[[], object]) -> Work:
        """What an event takes."""
        self.work = Work()
        event()
        work, self.work = self.work, Work()
        return work

    def _watch_files(self, patch: pytest.MonkeyPatch) -> None:
        connect = database._connect

        def watched(path: Path, create: bool) -> sqlite3.Connection:
            db = connect(path, create)
            running = ""

            def begun(statement: str) -> None:
                nonlocal running
                if not statement.startswith("--"):  # a trigger's, which counts as its statement's
                    running = VALUES.sub("?", statement)
                    with self._lock:
                        self.work.sql[running] += 1

            def stepped() -> None:
                with self._lock:
                    self.work.stepped[running] += 1

            self.work.opened.append(path.name)
            db.set_trace_callback(begun)
            db.set_progress_handler(stepped, 1)
            return db

        patch.setattr(database, "_connect", watched)

    def _watch_templates(self, patch: pytest.MonkeyPatch) -> None:
        render = Fragments._render

        def watched(fragments: Fragments, template: str, **values: object) -> str:
            html = render(fragments, template, **values)
            with self._lock:
                self.work.templates[template] += 1
                self.work.html[template] += len(html)
            return html

        patch.setattr(Fragments, "_render", watched)

    def _watch_markdown(self, patch: pytest.MonkeyPatch) -> None:
        parse, cleaner = MarkdownIt.parse, sanitizer._cleaner

        def watched(parser: MarkdownIt, text: str, env: Any = None) -> object:
            with self._lock:
                self.work.read += len(text)
            return parse(parser, text, env)

        class Cleaner:
            def clean(_, html: str) -> str:
                with self._lock:
                    self.work.sanitised += len(html)
                return cleaner().clean(html)

        patch.setattr(MarkdownIt, "parse", watched)
        patch.setattr(sanitizer, "_cleaner", Cleaner)


@cache
def _reads_whole(statement: str) -> bool:
    """By SQLite's own plan of it, in files that are empty."""
    if not statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")) or "sqlite_schema" in statement:
        return "_check" in statement
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.create_function("casefold", 1, str.casefold, deterministic=True)
        for migration in (*schema.MIGRATIONS, *registry.MIGRATIONS):
            migration(db)
        plan = db.execute(f"EXPLAIN {statement}", [1] * statement.count("?"))
        return any(instruction[1] in WHOLE for instruction in plan)
