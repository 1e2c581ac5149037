"""The files under static/: joined, versioned, and kept by browsers for good."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from overseer.render.assets import Assets

STATIC = Path(__file__).parents[2] / "static"


def test_a_changed_file_has_another_version(tmp_path: Path) -> None:
    """Also while the server runs."""
    assets, path = Assets(tmp_path), tmp_path / "a.svg"
    path.write_text("one")
    before = assets.version("a.svg")
    assert assets.version("a.svg") == before == sha256(b"one").hexdigest()[:12]
    path.write_text("two, later")
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    assert assets.version("a.svg") == sha256(b"two, later").hexdigest()[:12]


def test_style_sheets_are_joined_by_name_and_a_change_in_any_is_a_change(tmp_path: Path) -> None:
    """The layers are named in the first; the version is that of all."""
    folder = tmp_path / "css"
    folder.mkdir()
    (folder / "b.css").write_text("b {}\n")
    (folder / "a.css").write_text("@layer a;\n")
    (folder / ".a.css.swp").write_bytes(b"\xff what an editor leaves")
    (folder / "b.css~").write_text("c {}")
    assets = Assets(tmp_path)
    assert assets.content("style.css") == b"@layer a;\nb {}\n"
    before = assets.version("style.css")
    (folder / "b.css").write_text("b { color: red }\n")
    os.utime(folder / "b.css", ns=(0, (folder / "b.css").stat().st_mtime_ns + 1))
    assert assets.version("style.css") != before


def test_what_a_style_sheet_names_has_a_version_too(tmp_path: Path) -> None:
    """Or a browser would keep the old drawing for a year."""
    (tmp_path / "css").mkdir()
    (tmp_path / "css" / "a.css").write_text('a { mask: url("drawn.svg") }')
    drawing = tmp_path / "drawn.svg"
    drawing.write_text("one")
    assets = Assets(tmp_path)
    before = assets.version("style.css")
    assert assets.content("style.css") == f'a {{ mask: url("drawn.svg?v={assets.version("drawn.svg")}") }}'.encode()
    drawing.write_text("two")
    os.utime(drawing, ns=(0, drawing.stat().st_mtime_ns + 1))
    assert assets.version("style.css") != before


def test_scripts_are_joined_and_keep_their_names_to_themselves() -> None:
    """Each stands in a block of its own, where what it declares is nobody else's, and without lines of comment."""
    content = Assets(STATIC).content("app.js").decode()
    for path in (STATIC / "js").iterdir():
        lines = path.read_text().splitlines(keepends=True)
        code = [line for line in lines if not line.lstrip().startswith(("//", "/**"))]
        assert f"{{\n{''.join(code)}}}\n" in content
        assert not any(line.startswith(("import ", "export ", "var ")) for line in path.read_text().splitlines())


@pytest.mark.parametrize(("name", "kind"), [("style.css", "text/css"), ("app.js", "text/javascript")])
def test_a_joined_file_is_kept_for_good_and_asked_for_once(client: FlaskClient, name: str, kind: str) -> None:
    """A year, small over the wire, and 304 for who has it."""
    response = client.get(f"/static/{name}", headers={"Accept-Encoding": "gzip"})
    assert (response.status_code, response.mimetype) == (200, kind)
    assert response.cache_control.public and response.cache_control.max_age == 31_536_000
    assert response.headers["Content-Encoding"] == "gzip" and len(response.data) < 16_000
    again = client.get(f"/static/{name}", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
