"""The files under static/ are joined, versioned and cached by browsers."""

from __future__ import annotations

import os
import re
import time
from hashlib import sha256
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from overseer.render.assets import Assets

STATIC = Path(__file__).parents[2] / "static"


def change(path: Path, text: str, *, seconds: int) -> None:
    """Write a file as if so many seconds had passed."""
    path.write_text(text)
    os.utime(path, (time.time() + seconds, time.time() + seconds))


def test_asset_version_changes_with_the_file(tmp_path: Path) -> None:
    """Also while the server runs."""
    assets, path = Assets(tmp_path), tmp_path / "a.svg"
    path.write_text("one")
    assert assets.version("a.svg") == assets.version("a.svg") == sha256(b"one").hexdigest()[:12]
    change(path, "two, later", seconds=1)
    assert assets.version("a.svg") == sha256(b"two, later").hexdigest()[:12]


def test_style_sheets_are_joined_by_name_with_one_version(tmp_path: Path) -> None:
    """Images in them have a version of their own. Files that an editor leaves are skipped."""
    folder, image = tmp_path / "css", tmp_path / "image.svg"
    folder.mkdir()
    (folder / "b.css").write_text('b { mask: url("image.svg") }\n')
    (folder / "a.css").write_text("@layer a;\n")
    (folder / ".a.css.swp").write_bytes(b"\xff")
    (folder / "b.css~").write_text("c {}")
    image.write_text("one")
    assets = Assets(tmp_path)
    url = f"image.svg?v={assets.version('image.svg')}"
    assert assets.content("style.css").decode() == f'@layer a;b{{mask:url("{url}")}}'
    versions = [assets.version("style.css")]
    change(image, "two", seconds=1)
    versions.append(assets.version("style.css"))
    change(folder / "a.css", "@layer b;\n", seconds=2)
    versions.append(assets.version("style.css"))
    assert len(set(versions)) == 3


def test_scripts_are_joined_in_blocks_without_comments() -> None:
    """A block scopes the names that a script declares."""
    content = Assets(STATIC).content("app.js").decode()
    for path in (STATIC / "js").iterdir():
        lines = path.read_text("utf-8").splitlines(keepends=True)
        code = [line.lstrip() for line in lines if not line.lstrip().startswith(("//", "/**"))]
        code = [re.sub(r"\s+// [^\"'`]*$", "\n", line) for line in code if line]
        assert f"{{\n{''.join(code)}}}\n" in content
        assert "`" not in re.sub(r"`[^`\n]*`", "", "".join(code)), "a longer text would lose its indentation"
        assert not any(line.startswith(("import ", "export ", "var ")) for line in lines)


@pytest.mark.parametrize(("name", "media_type"), [("style.css", "text/css"), ("app.js", "text/javascript")])
def test_joined_asset_is_cached_for_a_year_and_compressed(client: FlaskClient, name: str, media_type: str) -> None:
    response = client.get(f"/static/{name}", headers={"Accept-Encoding": "gzip"})
    assert (response.status_code, response.mimetype) == (200, media_type)
    assert response.cache_control.public and response.cache_control.max_age == 31_536_000
    assert response.headers["Content-Encoding"] == "gzip" and len(response.data) < 19_000
    again = client.get(f"/static/{name}", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
