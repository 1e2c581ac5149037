"""The start of the server: time, memory and disk space."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.bench.caller import Caller
from tests.bench.figure import Figure, repeats
from tests.bench.seeded_instance import resident, seeded, until_quiet
from tests.support.server import ROOT, Server

ROUNDS = 9
ROOMS = 1_000
MB = 1_000_000


def figures() -> Iterator[Figure]:
    """Yield the time to the first page, and the memory and disk space without rooms and with many."""
    pages, imports = started()
    yield Figure("start of the process to its first page", pages, "s", floor=statistics.median(imports), times=3.0)
    yield Figure("installed beyond Python and pip", (installed() / MB,), "MB", 45)
    with seeded(warm=False) as home, Caller(home.server.port) as caller:
        until_quiet(home.server.pid)
        yield Figure("memory when idle", (resident(home.server.pid) / MB,), "MB", 70)
        for _ in range(ROOMS):
            caller.call("POST", "/rooms", {})
        until_quiet(home.server.pid)
        yield Figure(f"memory when {ROOMS:,} rooms were made", (resident(home.server.pid) / MB,), "MB", 90)
        home.server.stop()
        files = home.server.instance.rglob("*.sqlite*")
        size = sum(path.stat().st_blocks * 512 for path in files)
        yield Figure("on the disk for each of them, the list included", (size / ROOMS / MB,), "MB", 0.05)


def started() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the seconds from the start of the process to the first page of a room, and those of `import flask`."""
    pages, imports = [], []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        with Caller(server.port) as caller:
            room = caller.call("POST", "/rooms", {}).location
        for _ in range(repeats(ROUNDS)):
            server.stop()
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import flask"], check=True)
            imports.append(time.perf_counter() - began)
            began = time.perf_counter()
            server.start()
            with Caller(server.port) as caller:
                page = caller.call("GET", room, headers={"Accept-Encoding": "identity"})
            pages.append(time.perf_counter() - began)
            assert b"</html>" in page.body
        server.stop()
    return tuple(pages), tuple(imports)


def installed() -> int:
    """Return the bytes of all files of the dependencies, direct and indirect."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    files: dict[str, set[Path]] = {}
    while wanted:
        requirement = Requirement(wanted.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in files or not (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:  # stubs, which are not installed
            continue
        files[name] = {Path(str(file.locate())) for file in found.files or ()}
        wanted += found.requires or []
    return sum(path.stat().st_size for path in set().union(*files.values()) if path.is_file())
