"""What comes from others: vendored files as published, dependencies in ranges, and what is known against them."""

from __future__ import annotations

import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.audit import judge

ROOT = Path(__file__).parents[1]
VENDOR = ROOT / "static" / "vendor"


def test_vendored_files_are_what_was_published() -> None:
    """Every one is listed with the checksum of the file in its package, and none has changed since."""
    listed = dict(line.split()[::-1] for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir() if path.name != "SHA256SUMS"}
    assert found == listed and len(found) == 3


def test_dependencies_have_a_floor_and_a_ceiling() -> None:
    """A new major version is tried before it is taken; there are few."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = list(map(Requirement, project["dependencies"]))
    assert len(requirements) <= 16
    for requirement in requirements:
        assert {">=", "<"} == {one.operator for one in requirement.specifier}, requirement


@pytest.mark.parametrize(
    ("report", "code", "words"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "1 packages audited, 0 unknown"),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]},'
            ' {"name": "b", "skip_reason": "x"}]}',
            1,
            "a 1: X-1, mended in 2",
        ),
        ('{"dependencies": [{"name": "b", "skip_reason": "not found"}]}', 0, "Nothing was audited"),
        ("", 0, "Nothing was audited"),
    ],
)
def test_the_audit_says_what_it_found(report: str, code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A known fault fails it; data that cannot be reached does not, but is told."""
    assert judge(report) == code
    assert words in capsys.readouterr().out
