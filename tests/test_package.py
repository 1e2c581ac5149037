"""The wheel, installed into an empty environment and used from another directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.support.model_server import NOBODY

ROOT = Path(__file__).parents[1]
DEADLINE = 60.0


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `overseer` command of an environment that holds the wheel. The dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("package")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, timeout=DEADLINE)
    venv.create(folder / "env", with_pip=False)
    python = folder / "env/bin/python"
    (wheel,) = folder.glob("overseer-*.whl")
    install = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--disable-pip-version-check", str(wheel)], check=True, timeout=DEADLINE)
    (site,) = (folder / "env/lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env/bin/overseer"


@contextmanager
def served(command: Path, home: Path) -> Iterator[str]:
    """Start `overseer serve` in an empty directory; yields its URL."""
    work = home / "work"
    work.mkdir(parents=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "OLLAMA_HOST": NOBODY}
    process = subprocess.Popen(
        [command, "serve", "--port", "0"], cwd=work, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
        process.stdout.close()


def test_installed_package_serves_rooms_and_keeps_them_in_the_user_data_directory(
    installed: Path, tmp_path: Path
) -> None:
    with served(installed, tmp_path) as url:
        room = url + requests.post(f"{url}/rooms", {"name": "Kitchen"}, timeout=DEADLINE).headers["Location"]
        asked = requests.post(f"{room}/messages", {"text": "Hello"}, headers={"Prefer": "wait=30"}, timeout=DEADLINE)
        assert asked.status_code == 201 and 'data-state="complete"' in asked.text
        page = requests.get(room, headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}, timeout=DEADLINE).text
        files = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
        assert len(files) >= 3
        for file in files:
            assert requests.get(url + file, timeout=DEADLINE).status_code == 200, file
    assert len(list(tmp_path.glob(".local/share/overseer/facets/room-*.sqlite"))) == 1
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for arguments, output in (
        (["check"], "Checked 1 room: nothing is wrong."),
        (["backup", str(tmp_path / "copy")], "Copied 1 room"),
        (["check", str(tmp_path / "copy")], "Checked 1 room: nothing is wrong."),
        (["--version"], "overseer, version "),
    ):
        ran = subprocess.run(
            [installed, *arguments], env=environment, capture_output=True, text=True, timeout=DEADLINE, check=True
        )
        assert output in ran.stdout, ran
