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
COMPOSITION = {"__init__", "__main__", "application", "cli", "serve"}  # these put the packages together, and import all
# A package imports those named beside it, and no other.
MAY_IMPORT = {
    "domain": "",
    "storage": "domain",
    "tools": "domain",
    "llm": "domain",
    "rooms": "domain storage llm tools",
    "importing": "domain storage",
    "render": "domain llm",
    "live": "domain rooms render",
    "server": "domain",
    "web": "domain storage llm rooms render live server",
    "config": "domain llm rooms server web",
    "multi": "domain storage render server web config",
    "cluster": "domain storage multi",
}
WEB = {"flask", "flask_sock", "werkzeug", "jinja2", "markupsafe", "simple_websocket"}
ONLY_IN = {
    **dict.fromkeys(sorted(WEB), {"web", "multi", "render/assets", "render/fragments"}),
    "markupsafe": {"render/fragments", "render/streaming_answers"},
    "itsdangerous": set(),
    "sqlite3": {"storage", "importing/formats/llm_logs"},
    "cachetools": {"render/fragments", "web/compression", "web/password"},
    "click": set[str](),
    "requests": {"llm", "cluster/bucket", "cluster/operations"},
    "urllib3": {"llm", "cluster/bucket"},
    "requests_aws4auth": {"cluster/bucket"},
    "gevent": {"server/wsgi_server"},
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


def package(name: str) -> str:
    return name.partition("/")[0]


def test_architecture_names_every_package() -> None:
    assert MAY_IMPORT.keys() == set(map(package, SOURCES)) - COMPOSITION


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_architecture_package_imports_only_packages_above_it(name: str) -> None:
    files = [path for module, path in SOURCES.items() if package(module) == name]
    known = {parts[1] for path in files for parts in imported(path) if parts[0] == "overseer"}
    assert known <= {name, *MAY_IMPORT[name].split()}


@pytest.mark.parametrize(("library", "places"), ONLY_IN.items())
def test_architecture_library_is_imported_only_where_it_belongs(library: str, places: set[str]) -> None:
    """A place is a module or a package."""
    modules = {name for name, path in SOURCES.items() if any(parts[0] == library for parts in imported(path))}
    assert {name for name in modules - COMPOSITION if not {name, package(name)} & places} == set()


def test_urlsplit_is_called_where_its_errors_are_handled() -> None:
    """A client's URL goes through `addresses.split_url`; the others parse our own URLs, or the owner's settings."""
    callers = {name for name, path in SOURCES.items() if re.search(r"\burlsplit\b", path.read_text())}
    assert callers <= {"domain/addresses", "render/fragments", "config", "llm/choice", "llm/openai", "cluster/bucket"}


@pytest.mark.parametrize("name", SOURCES)
def test_architecture_module_has_no_mutable_global(name: str) -> None:
    """What changes belongs to an object: no list, dict or set has a lower-case name at the top of a module."""
    for node in ast.parse(SOURCES[name].read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, DISPLAYS):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [ast.unparse(target) for target in targets]
            assert all(name.isupper() or name == "__all__" for name in names), names
