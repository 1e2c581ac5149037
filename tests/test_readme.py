"""What the README shows is what happens: its commands are run, and its outputs compared."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from overseer.tools.toolbox import Toolbox
from tests.support.model_server import NOBODY
from tests.support.server import Server

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DEVELOPMENT = ROOT / "docs" / "development.md"
ROOM = r"\b[0-9a-f]{12}\b"
VARIES = (
    (ROOM, "ROOM"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "NOW"),
    (r"(?<=→ )\d+\]|\*\*\d+\*\*", "DIE"),
)


def commands() -> Iterator[tuple[str, str]]:
    """The README's commands, each with what it shows."""
    for block in re.findall(r"```console\n(.*?)```", README.read_text(), re.S):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            yield command, shown.strip("\n")


def same(told: str) -> str:
    """An output, with a word for what is another each time."""
    for pattern, word in VARIES:
        told = re.sub(pattern, word, told)
    return told.replace("\r", "")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_readme_curl_transcript_matches_the_output(instance: Path) -> None:
    """Every command in order against the offline responder; `…` stands for any further lines."""
    server = Server(instance, environment={"OLLAMA_HOST": NOBODY}).start()
    room, before = "", ""
    compared = 0
    try:
        for command, shown in commands():
            if found := re.search(ROOM, command):
                command = command.replace(found[0], room)
            command = command.replace("http://127.0.0.1:8000", server.url)
            if command.startswith("ROOM="):
                before = command
                continue
            ran = subprocess.run(
                ["bash", "-c", f"{before}\n{command}"], capture_output=True, text=True, timeout=30, check=False
            )
            if found := re.search(rf"Location: /rooms/({ROOM})", ran.stdout):
                room = found[1]
            told, wanted = same(ran.stdout).strip("\n"), same(shown)
            if wanted.endswith("…"):
                told, wanted = told[: len(wanted) - 2], wanted[:-2]
            assert told == wanted, command
            compared += 1
    finally:
        server.stop()
    assert compared >= 8


def test_development_guide_tool_example_works() -> None:
    """The example can be pasted: it gets its schema from its signature and docstring, and it works."""
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", DEVELOPMENT.read_text(), re.S) if "@tool" in block
    )
    ast.parse(example)
    names: dict[str, Any] = {}
    exec("from overseer.tools.toolbox import *\nfrom overseer.tools.toolbox import datetime, tool\n" + example, names)
    tool = names["TOOLS"][-1]
    assert tool.name == "days_until" and tool.parameters["required"] == ["date"]
    assert "YYYY-MM-DD" in tool.description
    assert int(Toolbox((tool,)).call("days_until", '{"date": "2020-01-01"}').run()) < 0
