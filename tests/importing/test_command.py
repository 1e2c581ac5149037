"""`overseer import FILE…`."""

from __future__ import annotations

from pathlib import Path

from click.testing import Result

from overseer import create_app
from overseer.llm.choice import ModelSettings
from tests.support.answers import Open
from tests.support.exports import as_json, chatgpt, many, written
from tests.support.model_server import NOBODY


def invoke(instance: Path, *paths: Path) -> Result:
    app = create_app(instance, models=ModelSettings(base_url=NOBODY))
    return app.test_cli_runner().invoke(args=["import", *map(str, paths)])


def test_command_imports_files_where_they_are(instance: Path, tmp_path: Path, opened: Open) -> None:
    one = written(tmp_path / "one.json", as_json([chatgpt("One", ["Hi", "Hello"])]))
    two = written(tmp_path / "two.json", as_json(many(2, first=5)))
    done = invoke(instance, one, two)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "imported One: 2 messages.",
        "imported Talk 5: 2 messages.",
        "imported Talk 6: 2 messages.",
        "3 imported, 0 skipped, 0 failed.",
    ]
    assert one.exists() and not (instance / "imports").exists()
    assert len(opened(instance).rooms().rooms) == 3


def test_command_fails_if_anything_failed_or_nothing_was_imported(instance: Path, tmp_path: Path) -> None:
    some = written(tmp_path / "some.json", as_json([chatgpt("One", ["Hi", "Hello"]), {"other": 1}]))
    done = invoke(instance, some)
    assert done.exit_code == 1
    assert "failed some.json, item 2: This item is no conversation of a known format." in done.output
    none = invoke(instance, written(tmp_path / "none.json", b"# No JSON"))
    assert none.exit_code == 1 and "Nothing was imported." in none.output
    assert invoke(instance, tmp_path / "missing.json").exit_code == 2


def test_command_is_refused_while_a_server_runs(instance: Path, tmp_path: Path, opened: Open) -> None:
    opened(instance)
    done = invoke(instance, written(tmp_path / "one.json", as_json(many(1))))
    assert done.exit_code == 1 and "in use" in done.output and "Traceback" not in done.output
