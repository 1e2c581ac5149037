"""Vendored files are as published, and dependencies are few and in ranges."""

from __future__ import annotations

import tomllib
from hashlib import sha256
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
VENDOR = ROOT / "static" / "vendor"


def test_vendored_files_are_what_was_published() -> None:
    """Every one is listed with the checksum of the file in its package, and none has changed since."""
    listed = dict(line.split()[::-1] for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir() if path.name != "SHA256SUMS"}
    assert found == listed and len(found) == 5


def test_dependencies_have_a_floor_and_a_ceiling() -> None:
    """A new major version is tried before it is taken; there are few."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = list(map(Requirement, project["dependencies"]))
    assert len(requirements) <= 18
    for requirement in requirements:
        assert {">=", "<"} == {one.operator for one in requirement.specifier}, requirement
