"""The shape of the program: which module may know which."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    path.relative_to(ROOT / "overseer").with_suffix("").as_posix(): path
    for path in sorted((ROOT / "overseer").rglob("*.py"))
}
MAY_IMPORT = {
    "messages": "",
    "words": "",
    "instance": "",
    "sqlite": "",
    "tools": "",
    "code": "",
    "sanitiser": "",
    "markdown": "code sanitiser",
    "growing": "code markdown",
    "channel": "",
    "outlet": "",
    "access": "",
    "password": "access",
    "proxies": "access",
    "sessions": "sqlite",
    "security": "access password proxies sessions words",
    "request_headers": "",
    "forms": "request_headers",
    "seats": "access",
    "http_syntax": "",
    "doorway": "access http_syntax seats",
    "assets": "",
    "compression": "assets",
    "events": "messages",
    "facets": "sqlite",
    "llm/__init__": "messages tools",
    "context": "messages",
    "settings": "words",
    "llm/choice": "llm",
    "llm/offline": "llm messages tools",
    "llm/connection": "llm",
    "llm/redaction": "llm",
    "llm/refusal": "llm",
    "llm/stream": "llm",
    "llm/wire": "messages tools",
    "llm/reply": "llm messages tools",
    "llm/openai": "llm messages tools words",
    "rows": "messages",
    "schema": "",
    "transcript": "context messages rows schema settings sqlite words",
    "meter": "context llm messages",
    "turn": "context messages meter llm settings tools words",
    "chat_room": "context events llm messages settings sqlite tools transcript turn words",
    "environment": "access chat_room llm password seats",
    "registry": "rows sqlite transcript",
    "snapshot": "sqlite",
    "backup": "instance registry snapshot sqlite",
    "check": "instance registry rows schema snapshot sqlite transcript",
    "event_queue": "",
    "overseer": "chat_room event_queue events facets instance llm messages registry rows settings sqlite tools"
    " transcript words",
    "days": "registry",
    "drafts": "events growing",
    "stale": "events",
    "export": "messages",
    "fragments": "assets days drafts llm markdown messages registry settings transcript",
    "sight": "drafts fragments outlet overseer registry sqlite stale transcript",
    "publisher": "channel outlet sqlite",
    "hub": "events outlet publisher sight stale",
    "live": "hub login overseer seats security",
    "follower": "events messages overseer registry sqlite transcript",
    "answers": "access chat_room fragments instance registry security sqlite transcript words",
    "login": "access answers fragments hub security",
    "commands": "backup check password",
    "views": "answers export follower fragments hub llm overseer settings sqlite transcript words",
}
WEB = {"flask", "flask_sock", "werkzeug", "jinja2", "markupsafe", "simple_websocket"}
ONLY_IN = {
    **dict.fromkeys(
        sorted(WEB),
        {"assets", "fragments", "live", "forms", "security", "compression", "answers", "login", "views", "commands"}
        | {"__init__"},
    ),
    "werkzeug": {"answers", "forms", "live", "login", "password", "proxies", "security", "views", "fragments"}
    | {"__init__", "request_headers"},
    "itsdangerous": {"sessions"},
    "markupsafe": {"drafts", "fragments"},
    "sqlite3": {"sqlite", "rows", "schema", "transcript", "registry", "snapshot", "backup", "check", "sessions"},
    "cachetools": {"fragments"},
    "click": {"commands"},
    "requests": {"llm/connection", "llm/openai", "llm/reply"},
    "urllib3": {"llm/connection", "llm/openai", "llm/reply"},
    "sseclient": {"llm/reply"},
    "gevent": {"doorway"},
}


DISPLAYS = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Every module that a file imports, anywhere in it, as its dotted parts."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(name.name.split(".")) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, "relative imports hide what is imported"
            whole = tuple(node.module.split("."))
            yield from ((*whole, name.name) for name in node.names) if whole == ("overseer",) else (whole,)


def test_the_table_names_every_module() -> None:
    """A new module is given its place; only the factory knows all."""
    assert MAY_IMPORT.keys() == SOURCES.keys() - {"__init__"}


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_module_knows_only_what_it_may(name: str) -> None:
    """The table is the layering: rooms below, their web page above, and nothing looks up."""
    known = {parts[1] for parts in imported(SOURCES[name]) if parts[0] == "overseer"}
    assert known <= set(MAY_IMPORT[name].split())


@pytest.mark.parametrize(("library", "modules"), ONLY_IN.items())
def test_a_library_is_known_only_where_it_belongs(library: str, modules: set[str]) -> None:
    """The web in the web half, SQL in the files that hold it, HTTP in the model's client, gevent at the door."""
    assert {name for name, path in SOURCES.items() if any(p[0] == library for p in imported(path))} <= modules


def test_urlsplit_is_called_where_its_errors_are_handled() -> None:
    """What a client sends goes by `access.split_url`; the others take apart what is ours, or what the owner has set."""
    callers = {name for name, path in SOURCES.items() if re.search(r"\burlsplit\b", path.read_text())}
    assert callers <= {"access", "fragments", "environment", "llm/choice", "llm/openai"}


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_holds_state(name: str) -> None:
    """What changes belongs to an object: no list, dict or set has a lower-case name at the top of a module."""
    for node in ast.parse(SOURCES[name].read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, DISPLAYS):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [ast.unparse(target) for target in targets]
            assert all(name.isupper() or name == "__all__" for name in names), names
