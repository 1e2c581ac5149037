"""Validates every page, fragment and frame with html-validate."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from flask import Flask

from overseer.domain.records import Session
from overseer.storage.instance_lock import room_file
from overseer.web.extensions import instance as instance_of
from tests.render.test_fragments import ROOM_ID, all_fragments, question, reply, whole_page
from tests.support.client import HTMX, NAVIGATION, WAIT
from tests.support.files import write_junk
from tests.support.model_server import ModelServer, Reply, end, held, reasoning, text, tool_call, usage
from tests.support.node import MODULES, NODE
from tests.support.server import Server
from tests.support.tab import Tab

CONFIG = Path(__file__).parent / "htmlvalidate.mjs"
PARTIAL = {**HTMX, "HX-Request-Type": "partial"}
HOSTILE = """<b>"it's" & </p> --> `x`"""
MARKDOWN = """# A heading

Some *words* with `code`, [a link](https://example.com/?a=1&b=2), ~~none~~ and <b>no HTML</b>.

```python
print("<hello>")
```

1. one
   - nested
2. two

> quoted

| step | low | high |
|:-----|:---:|-----:|
| 1    | 0   | 9    |

---

![an image](https://example.com/x.png)
"""


class Validator:
    """Collects HTML, and validates all of it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: list[str] = []

    def page(self, name: str, html: str) -> None:
        """Add a whole document."""
        assert html.lstrip().lower().startswith("<!doctype html>"), name
        (self._folder / f"{len(self._names)}.html").write_text(html, encoding="utf-8")
        self._names.append(name)

    def fragment(self, name: str, html: str) -> None:
        """Add a fragment, inside a valid document."""
        assert "<html" not in html, name
        if html.lstrip().startswith("<li"):
            html = f"<ul>{html}</ul>"
        if not html.lstrip().startswith("<main"):
            html = f"<main>{'' if '<h1' in html else '<h1>A room</h1>'}{html}</main>"
        head = '<head><meta charset="utf-8"><title>A fragment</title></head>'
        self.page(name, f'<!doctype html>\n<html lang="en">{head}<body>\n{html}\n</body></html>')

    def errors(self) -> list[str]:
        """Return the errors that html-validate reports, each with the name of a document that has it."""
        assert self._names
        # Into a file: html-validate exits before all is written to a pipe.
        report = self._folder.with_suffix(".json")
        command: list[str | Path] = [NODE, MODULES / "html-validate/bin/html-validate.mjs", "--config", CONFIG]
        command += ["--formatter", f"json={report}", self._folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert report.exists(), done.stderr
        errors: dict[str, str] = {}
        for file in json.loads(report.read_text(encoding="utf-8")):
            name = self._names[int(Path(file["filePath"]).stem)]
            for one in file["messages"]:
                line = file["source"].splitlines()[one["line"] - 1].strip()[:160]
                errors.setdefault(f"{one['ruleId']}: {one['message']}: {line}", name)
        return [f"{name}: {error}" for error, name in errors.items()]


@pytest.fixture
def validator(tmp_path: Path) -> Validator:
    """A validator without documents."""
    folder = tmp_path / "html"
    folder.mkdir()
    return Validator(folder)


class Visitor:
    """Sends requests to a server, and adds every response to a validator."""

    def __init__(self, server: Server, validator: Validator) -> None:
        self._server = server
        self._validator = validator

    def room(self, name: str) -> str:
        """Create a room; return its path."""
        return requests.post(f"{self._server.url}/rooms", {"name": name}).headers["Location"]

    def ask(self, room: str, question: str, *, wait: bool = True) -> None:
        """Ask and, by default, wait for the end of the answer."""
        headers = WAIT if wait else {}
        response = requests.post(f"{self._server.url}{room}/messages", {"text": question}, headers=headers)
        assert response.status_code == 201, response.text

    def page(self, path: str, status: int = 200) -> str:
        """Request a page, as a browser that navigates does."""
        response = requests.get(self._server.url + path, headers=NAVIGATION)
        assert response.status_code == status, response.text
        self._validator.page(f"page {path}", response.text)
        return response.text

    def fragment(self, method: str, path: str, status: int = 200, /, **form: str) -> None:
        """Request a fragment, as curl does."""
        response = requests.request(method, self._server.url + path, data=form)
        assert response.status_code == status, response.text
        self._validator.fragment(f"{method} {path}", response.text)


def test_every_partial_is_valid_html_with_any_text(app: Flask, validator: Validator) -> None:
    """Every partial in every state, and a page of them all. An invalid document is reported."""
    fragments = instance_of(app).fragments("")
    for number, (name, html) in enumerate(all_fragments(fragments, HOSTILE)):
        validator.fragment(f"{number}: {name}", html)
    exchange = fragments.exchange(ROOM_ID, question(HOSTILE), [reply("waiting", reason=HOSTILE)])
    validator.fragment("an exchange", exchange)
    validator.page("a page of everything", whole_page(fragments, HOSTILE, q=HOSTILE))
    sessions = [Session(f"{n}", 1, 2, 3, HOSTILE, HOSTILE) for n in range(2)]
    validator.page("sessions", fragments.sessions(sessions, current="1", page=True))
    validator.fragment("invalid", '<p id="a">Bad</p>\n<p id="a">Worse</p>')
    assert validator.errors() == ['invalid: no-dup-id: Duplicate ID "a": <p id="a">Worse</p></main>']


def test_every_page_response_and_frame_is_valid_html(
    server: Server, tab: Callable[..., Tab], model_server: ModelServer, validator: Validator
) -> None:
    visitor = Visitor(server, validator)
    visitor.page("/")
    visitor.fragment("GET", "/rooms")
    visitor.fragment("POST", "/rooms", 201, name="New")
    broken, room = visitor.room("Broken"), visitor.room("Talk & <tea>")
    visitor.page(room)
    watching = tab(room.rsplit("/", 1)[-1])
    watching.read_until('hx-target="#messages"')

    roll = Reply(reasoning("A *die*."), tool_call("roll_dice", '{"sides": 20}'), end("tool_calls"))
    model_server.will(roll, Reply(*map(text, MARKDOWN.splitlines(keepends=True)), usage(1200, 300), end()))
    visitor.ask(room, "What can you write?")
    model_server.will(Reply(b'{"error": {"message": "No <b>key</b>."}}', status=401), Reply(text("Half")))
    visitor.ask(room, "Fail")
    visitor.ask(room, "Break off")
    growing = model_server.will(held(text("One\n\nTwo")))
    visitor.ask(room, "Be stopped", wait=False)
    watching.has("Two")
    growing.say(text("\n\nThree"))
    watching.has('-done" hx-swap="beforeend"')
    visitor.fragment("DELETE", f"{room}/turn")
    model_server.will(held(reasoning("Because."), text(MARKDOWN + "\n\n- and")))
    visitor.ask(room, "Stream", wait=False)
    watching.has("<li>and</li>")
    visitor.ask(room, "Wait", wait=False)
    watching.has('id="message-12"')
    visitor.room("Above")
    watching.has('hx-swap="afterend"')

    html = visitor.page(room)
    for state in ("complete", "failed", "interrupted", "stopped", "streaming", "waiting"):
        assert f'data-state="{state}"' in html
    for path in (f"{room}?before=5", f"{room}/messages/3/edit", f"{room}/export", "/rooms?q=tea"):
        visitor.page(path)
    visitor.page("/nowhere", 404)
    visitor.page("/rooms?after=junk", 400)
    visitor.fragment("PATCH", room, name="Tea & <talk>", temperature="0.5", system_prompt="</textarea>")
    for path in ("/rooms?q=tea", "/models?refresh=1", "/palette?q="):
        visitor.fragment("GET", path)
    for path in ("messages", "messages?before=5", "messages/2", "messages/3/edit", "export"):
        visitor.fragment("GET", f"{room}/{path}")
    visitor.fragment("POST", f"{room}/messages", 201, text="Wait, too")
    visitor.fragment("GET", "/rooms/0123456789ab", 404)
    visitor.fragment("POST", f"{room}/messages", 422, text=" ")
    validator.fragment("the open room", requests.get(server.url + room, headers=PARTIAL).text)
    for path in (room, "/"):
        rejected = requests.post(server.url + path, {"_method": "PATCH", "_plain": "1", "name": " "})
        assert rejected.status_code in (405, 422)
        validator.page(f"rejected form ({rejected.status_code})", rejected.text)

    visitor.fragment("DELETE", f"{room}/messages")
    assert requests.delete(server.url + room).status_code == 200
    watching.read_until("was deleted")
    frames = watching.partials()
    swaps = {"outerMorph", "outerHTML", "innerHTML", "beforeend", "afterend", "delete"}
    assert swaps == {swap for _, swap, _ in frames}
    for target, swap, fragment in frames:
        if swap != "delete":
            validator.fragment(f"frame for #{target}, {swap}", fragment)

    server.stop()
    write_junk(room_file(server.instance, broken.removeprefix("/rooms/")))
    server.start()
    visitor.page(broken, 500)
    visitor.fragment("GET", f"{broken}/messages", 500)
    visitor.fragment("GET", "/rooms")
    assert validator.errors() == []
