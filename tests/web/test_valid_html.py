"""Every page, fragment and frame is valid HTML, by html-validate."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from flask import Flask

from tests.render.test_fragments import EVERYTHING, ROOM_ID, question, reply, whole_page
from tests.support.model_server import ModelServer, Reply, end, held, reasoning, text, tool_call, usage
from tests.support.node import MODULES, NODE
from tests.support.server import Server
from tests.support.tab import Tab
from tests.web.test_bad_input import NAVIGATION, not_sqlite
from tests.web.test_views import HTMX, WAIT

CONFIG = Path(__file__).parent / "htmlvalidate.mjs"
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


class Checker:
    """Collects HTML under a name, and has it checked at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: list[str] = []

    def page(self, name: str, html: str) -> None:
        """A whole document."""
        assert html.lstrip().lower().startswith("<!doctype html>"), name
        file = self._folder / f"{len(self._names)}.html"
        file.write_text(html, encoding="utf-8")
        self._names.append(name)

    def fragment(self, name: str, html: str) -> None:
        """A fragment, in a document that has no fault of its own."""
        assert "<html" not in html, name
        if html.lstrip().startswith("<li"):
            html = f"<ul>{html}</ul>"
        if not html.lstrip().startswith("<main"):
            html = f"<main>{'' if '<h1' in html else '<h1>A room</h1>'}{html}</main>"
        head = '<head><meta charset="utf-8"><title>A fragment</title></head>'
        self.page(name, f'<!doctype html>\n<html lang="en">{head}<body>\n{html}\n</body></html>')

    def complaints(self) -> list[str]:
        """What html-validate says, a line for each fault, with the first place where it is."""
        assert self._names
        # Into a file: what it writes to a pipe it does not wait for.
        report = self._folder.with_suffix(".json")
        command = [NODE, MODULES / "html-validate/bin/html-validate.mjs", "--config", CONFIG]
        command += ["--formatter", f"json={report}", self._folder]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert report.exists(), ran.stderr
        where: dict[str, list[str]] = {}
        for file in json.loads(report.read_text(encoding="utf-8")):
            for one in file["messages"]:
                line = file["source"].splitlines()[one["line"] - 1].strip()[:160]
                where.setdefault(f"{one['ruleId']}: {one['message']}: {line}", []).append(file["filePath"])
        return [
            f"{self._names[int(Path(paths[0]).stem)]}: {complaint}"
            + (f" (and {len(paths) - 1} times more)" if len(paths) > 1 else "")
            for complaint, paths in where.items()
        ]


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    """A checker that has seen nothing yet."""
    folder = tmp_path / "html"
    folder.mkdir()
    return Checker(folder)


class Visitor:
    """Asks a server for what there is, and has every answer checked."""

    def __init__(self, server: Server, checker: Checker) -> None:
        self._server = server
        self._checker = checker

    def room(self, name: str) -> str:
        """Make a room; returns its path."""
        return requests.post(f"{self._server.url}/rooms", {"name": name}).headers["Location"]

    def ask(self, room: str, words: str, *, wait: bool = True) -> None:
        """Ask, and wait for the end of the answer."""
        answered = requests.post(f"{self._server.url}{room}/messages", {"text": words}, headers=WAIT if wait else {})
        assert answered.status_code == 201, answered.text

    def page(self, name: str, path: str, status: int = 200) -> str:
        """What a browser that goes somewhere gets."""
        answered = requests.get(self._server.url + path, headers=NAVIGATION)
        assert answered.status_code == status, answered.text
        self._checker.page(f"page of {name}", answered.text)
        return answered.text

    def fragment(self, name: str, method: str, path: str, status: int = 200, /, **form: str) -> str:
        """What curl and htmx get."""
        answered = requests.request(method, self._server.url + path, data=form)
        assert answered.status_code == status, answered.text
        self._checker.fragment(name, answered.text)
        return answered.text


def test_what_is_not_valid_is_found(checker: Checker) -> None:
    """The checker reads what it is given: a fault is told with its name, its rule and its line."""
    checker.fragment("good", '<p id="a">Good</p>')
    checker.fragment("bad", '<p id="a">Bad</p>\n<p id="a">Worse</p>')
    assert checker.complaints() == ['bad: no-dup-id: Duplicate ID "a": <p id="a">Worse</p></main>']


def test_every_partial_is_valid_whatever_it_holds(app: Flask, checker: Checker) -> None:
    """Every one there is, in every state, with words that could break it, and a page that holds them all."""
    fragments = app.extensions["fragments"]("")
    for name, (_, make) in EVERYTHING.items():
        checker.fragment(name, make(fragments, HOSTILE))
    checker.fragment("an exchange", fragments.exchange(ROOM_ID, question(HOSTILE), reply("waiting", reason=HOSTILE)))
    checker.page("a page of everything", whole_page(fragments, HOSTILE, q=HOSTILE))
    told = checker.complaints()
    assert not told, "\n".join(told)


def test_every_page_answer_and_frame_is_valid(
    server: Server, tab: Callable[..., Tab], model_server: ModelServer, checker: Checker
) -> None:
    """A visit to all there is: as a browser gets it, as htmx and curl get it, and as the socket pushes it."""
    visitor = Visitor(server, checker)
    visitor.page("no room", "/")
    visitor.fragment("no rooms", "GET", "/rooms")
    visitor.fragment("a new room", "POST", "/rooms", 201, name="New")
    broken, room = visitor.room("Broken"), visitor.room("Talk & <tea>")
    visitor.page("an empty room", room)
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
    watching.has('hx-swap="beforeend"')
    visitor.fragment("what a stop answers", "DELETE", f"{room}/turn")
    model_server.will(held(reasoning("Because."), text(MARKDOWN + "\n\n- and")))
    visitor.ask(room, "Stream", wait=False)
    watching.has("<li>and</li>")
    visitor.ask(room, "Wait", wait=False)
    watching.has('id="message-12"')
    visitor.room("Above")
    watching.has('hx-swap="afterend"')

    html = visitor.page("a conversation", room)
    for state in ("complete", "failed", "interrupted", "stopped", "streaming", "waiting"):
        assert f'data-state="{state}"' in html
    visitor.page("earlier messages", f"{room}?before=5")
    visitor.page("a question to edit", f"{room}/messages/3/edit")
    visitor.page("a filtered list", "/rooms?q=tea")
    visitor.page("an address that is none", "/nowhere", 404)
    visitor.page("a number that is none", "/rooms?after=junk", 400)
    visitor.fragment("the list", "GET", "/rooms?q=tea")
    visitor.fragment("the header", "PATCH", room, name="Tea & <talk>", temperature="0.5", system_prompt="</textarea>")
    visitor.fragment("the messages", "GET", f"{room}/messages")
    visitor.fragment("earlier messages", "GET", f"{room}/messages?before=5")
    visitor.fragment("a message", "GET", f"{room}/messages/2")
    visitor.fragment("a question to edit", "GET", f"{room}/messages/3/edit")
    visitor.fragment("the models", "GET", "/models?refresh=1")
    visitor.fragment("an exchange", "POST", f"{room}/messages", 201, text="Wait, too")
    visitor.fragment("no such room", "GET", "/rooms/0123456789ab", 404)
    visitor.fragment("a message without words", "POST", f"{room}/messages", 422, text=" ")
    opened = requests.get(server.url + room, headers={**HTMX, "HX-Request-Type": "partial"})
    checker.fragment("the open room", opened.text)
    for path in (room, "/"):
        refused = requests.post(server.url + path, {"_method": "PATCH", "_plain": "1", "name": " "})
        assert refused.status_code in (405, 422)
        checker.page(f"page of a refusal ({refused.status_code})", refused.text)

    visitor.fragment("no messages", "DELETE", f"{room}/messages")
    assert requests.delete(server.url + room).status_code == 200
    watching.read_until("was deleted")
    frames = watching.partials()
    assert {"outerMorph", "outerHTML", "innerHTML", "beforeend", "afterend", "delete"} == {
        swap for _, swap, _ in frames
    }
    for target, swap, fragment in frames:
        if swap != "delete":
            checker.fragment(f"frame for #{target}, {swap}", fragment)

    server.stop()
    not_sqlite(server.instance / "facets" / f"room-{broken.rsplit('/', 1)[-1]}.sqlite")
    server.start()
    visitor.page("a broken room", broken, 500)
    visitor.fragment("the messages of a broken room", "GET", f"{broken}/messages", 500)
    visitor.fragment("a list with a broken room", "GET", "/rooms")
    told = checker.complaints()
    assert not told, "\n".join(told)
