"""The work of this process in numbers that neither a clock nor a busy machine changes."""

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
SCANS = ("Count", "IntegrityCk")  # instructions that read a whole table, and count as one step


@dataclass
class Work:
    """SQL by statement, HTML by template, Markdown, and opened database files.

    Steps are instructions of SQLite's virtual machine: a statement that reads many rows takes many.
    """

    opened: list[str] = field(default_factory=list)
    sql: Counter[str] = field(default_factory=Counter)
    steps_by_statement: Counter[str] = field(default_factory=Counter)
    templates: Counter[str] = field(default_factory=Counter)
    html_chars: Counter[str] = field(default_factory=Counter)
    markdown_chars: int = 0  # parsed
    sanitised_chars: int = 0

    @property
    def statements(self) -> int:
        return self.sql.total()

    @property
    def steps(self) -> int:
        return self.steps_by_statement.total()

    @property
    def renders(self) -> int:
        return self.templates.total()

    @property
    def rendered_chars(self) -> int:
        return self.html_chars.total()

    @property
    def scans(self) -> set[str]:
        """Statements that read a whole table in one step."""
        return {statement for statement in self.sql if _is_scan(statement)}


class WorkCounter:
    """Counts the work of this process by patching it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.work = Work()
        self._lock = threading.Lock()
        self._count_sql(patch)
        self._count_templates(patch)
        self._count_markdown(patch)

    def count(self, event: Callable[[], object]) -> Work:
        """Return the work of all threads during a call of `event`."""
        self.work = Work()
        event()
        work, self.work = self.work, Work()
        return work

    def _count_sql(self, patch: pytest.MonkeyPatch) -> None:
        connect = database._connect

        def counting(path: Path, create: bool) -> sqlite3.Connection:
            db = connect(path, create)
            running = ""

            def begin(statement: str) -> None:
                nonlocal running
                if not statement.startswith("--"):  # the statement of a trigger
                    running = VALUES.sub("?", statement)
                    with self._lock:
                        self.work.sql[running] += 1

            def step() -> None:
                with self._lock:
                    self.work.steps_by_statement[running] += 1

            self.work.opened.append(path.name)
            db.set_trace_callback(begin)
            db.set_progress_handler(step, 1)
            return db

        patch.setattr(database, "_connect", counting)

    def _count_templates(self, patch: pytest.MonkeyPatch) -> None:
        render = Fragments._render

        def counting(fragments: Fragments, template: str, **values: object) -> str:
            html = render(fragments, template, **values)
            with self._lock:
                self.work.templates[template] += 1
                self.work.html_chars[template] += len(html)
            return html

        patch.setattr(Fragments, "_render", counting)

    def _count_markdown(self, patch: pytest.MonkeyPatch) -> None:
        parse, cleaner = MarkdownIt.parse, sanitizer._cleaner

        def counting(parser: MarkdownIt, text: str, env: Any = None) -> object:
            with self._lock:
                self.work.markdown_chars += len(text)
            return parse(parser, text, env)

        class Cleaner:
            def clean(_, html: str) -> str:
                with self._lock:
                    self.work.sanitised_chars += len(html)
                return cleaner().clean(html)

        patch.setattr(MarkdownIt, "parse", counting)
        patch.setattr(sanitizer, "_cleaner", Cleaner)


@cache
def _is_scan(statement: str) -> bool:
    """Return whether SQLite's plan of the statement contains an instruction that reads a whole table."""
    if not statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")) or "sqlite_schema" in statement:
        return "_check" in statement
    if statement.startswith("INSERT INTO new_"):
        return False  # a migration, which copies the empty table of a new room
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.create_function("casefold", 1, str.casefold, deterministic=True)
        for migration in (*schema.MIGRATIONS, *registry.MIGRATIONS):
            migration(db)
        plan = db.execute(f"EXPLAIN {statement}", [1] * statement.count("?"))
        return any(instruction[1] in SCANS for instruction in plan)
