"""The table of settings, and its copy in the README."""

from __future__ import annotations

import re

from overseer.config import SETTINGS
from tests.support.server import ROOT


def test_readme_lists_every_setting_with_its_flag_default_and_description() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Configuration\n")[2].partition("\n## ")[0]
    rows = [tuple(cell.strip() for cell in line.split(" | ")) for line in re.findall(r"^\| (`.*) \|$", section, re.M)]
    assert rows == [
        (
            f"`{setting.name}`",
            f"`{setting.flag}`" if setting.flag else "",
            setting.shown_default or str(setting.default or ""),
            setting.description,
        )
        for setting in SETTINGS
    ]


def test_default_of_every_setting_can_be_read() -> None:
    for setting in SETTINGS:
        assert setting.read({}) == setting.read({setting.name: ""}) == setting.default
