"""Compile templates once per process, since compiling them takes most of the time of most tests."""

from __future__ import annotations

from types import CodeType
from typing import Any

from flask import Flask
from jinja2 import Environment

from overseer.application import ROOT
from overseer.render.fragments import prepare


def compile_once() -> None:
    """Cache compiled templates by source for the rest of the process."""
    compiled: dict[tuple[str, str | None, str | None], CodeType] = {}
    compile_anew: Any = Environment.compile

    def compile(
        self: Environment, source: Any, name: str | None = None, filename: str | None = None, *how: bool
    ) -> Any:
        if not isinstance(source, str) or any(how):
            return compile_anew(self, source, name, filename, *how)
        key = (source, name, filename)
        if key not in compiled:
            compiled[key] = compile_anew(self, source, name, filename)
        return compiled[key]

    Environment.compile = compile  # type: ignore[method-assign, assignment]


def compile_all() -> None:
    """Compile all templates of the app."""
    app = Flask("overseer", template_folder=str(ROOT / "templates"))
    prepare(app)
    for name in app.jinja_env.list_templates():
        app.jinja_env.get_template(name)
