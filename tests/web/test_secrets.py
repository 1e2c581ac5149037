"""A canary for a key, and one for a password: neither comes out anywhere, even when the model server says the key."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st

from overseer.llm import Delta, ModelError, ReasoningDelta, TextDelta, TokenCount, ToolRequest
from overseer.llm.redaction import REDACTED, redacted
from overseer.rooms.overseer import Overseer
from tests.support.deltas import joined
from tests.support.model_server import ModelServer, Reply, answer, end, event, held, reasoning, text, tool_call, usage
from tests.support.server import Server
from tests.support.tab import Tab

KEY = "sk-canary-4f1e9b7d2c6a"
PASSWORD = "canary-horse-battery"


def in_pieces(words: str) -> list[str]:
    """The words in pieces of three characters."""
    return [words[n : n + 3] for n in range(0, len(words), 3)]


def error(status: int, sentence: str) -> Reply:
    body = json.dumps({"error": {"message": sentence, "code": KEY, "param": KEY}}).encode()
    headers = {"Content-Type": "application/json", "X-Key": KEY, "Retry-After": KEY}
    return Reply(body, status=status, headers=headers)


def echoes() -> list[list[Reply]]:
    """Every way in which a model server may say the key, by turn."""
    said = f"Your key is {KEY}, is it?"
    return [
        [Reply(*map(text, in_pieces(said)), end())],
        [Reply(*map(reasoning, in_pieces(said)), *map(text, in_pieces(KEY)), end())],
        [Reply(text(f"<think>{KEY}</think>{KEY}"), end())],
        [Reply(tool_call("roll_dice", json.dumps({"sides": KEY})), end("tool_calls")), answer(KEY)],
        [Reply(tool_call("roll_dice", '{"\\u0073' + KEY[1:] + '": 1}'), end("tool_calls")), answer("Well.")],
        [Reply(*(piece for words in in_pieces(KEY) for piece in (text(words), usage(3, 4))), end())],
        [Reply(tool_call(KEY, "{}", call_id=KEY), end("tool_calls")), answer("Well.")],
        [Reply(text("Half of "), *map(text, in_pieces(KEY)[:-1]))],
        [Reply(text(KEY), event({"error": {"message": said}}))],
        [Reply(text("Well"), b'data: {"broken ' + KEY.encode() + b"\n\n")],
        [Reply(text("Well"), end(KEY))],
        [Reply(event({"id": KEY, "model": KEY, "choices": [{"delta": {"role": KEY, "content": "Well."}}]}), end())],
        *([error(status, said)] for status in (400, 401, 403, 404, 413, 422, 500, 502)),
        [Reply(f"<h1>{KEY}</h1>".encode(), status=418, headers={"Content-Type": "text/html"})],
        [Reply(status=302, headers={"Location": f"http://127.0.0.1:9/{KEY}"})],
        [Reply(KEY.encode())],
    ]


@pytest.fixture
def guarded(instance: Path, model_server: ModelServer) -> Iterator[Server]:
    """A server with both secrets."""
    environment = {"OPENAI_BASE_URL": model_server.url, "OPENAI_API_KEY": KEY, "OVERSEER_PASSWORD": PASSWORD}
    server = Server(instance, environment=environment).start()
    yield server
    server.stop()


def test_neither_secret_comes_out_anywhere(guarded: Server, model_server: ModelServer, instance: Path) -> None:
    """No page, fragment, push, transcript, header, log, traceback, file or list of processes tells."""
    model_server.models = [KEY, f"models/{KEY}", "stand-in"]
    out: list[str] = []

    def ask(method: str, path: str, **options: object) -> requests.Response:
        options = {"auth": ("me", PASSWORD), "timeout": 60, "allow_redirects": False, **options}
        response = requests.request(method, guarded.url + path, **options)  # type: ignore[arg-type]
        out.append(f"{response.status_code} {response.headers} {response.text}")
        return response

    room = ask("POST", "/rooms").headers["Location"]
    tab = Tab(guarded.url, f"room={room.rsplit('/', 1)[-1]}", header={"Authorization": f"Bearer {PASSWORD}"})
    for told, replies in enumerate(echoes()):
        model_server.will(*replies)
        asked = ask("POST", f"{room}/messages", data={"text": f"Question {told}"}, headers={"Prefer": "wait=60"})
        assert asked.status_code == 201 and not model_server.replies
    model_server.will(Reply(*map(text, in_pieces(KEY)), end()))
    ask("POST", f"{room}/messages", data={"text": "As text"}, headers={"Accept": "text/plain"})
    growing = model_server.will(held(text("Growing: "), *map(text, in_pieces(KEY)), text(". And so on")))
    ask("POST", f"{room}/messages", data={"text": "Grow"})
    tab.has("And so on")
    pages = [
        *(room + more for more in ("", "?before=9", "/messages", "/messages/2", "/messages/1/edit")),
        "/rooms",
        "/",
    ]
    for path in [*pages, "/models?refresh=1", "/palette?q=a", "/healthz", "/login"]:
        ask("GET", path)
        ask("GET", path, headers={"Sec-Fetch-Mode": "navigate"})
    ask("GET", f"{room}/messages", headers={"Accept": "text/markdown"})
    # What fails, with the secrets in all that was sent.
    ask("GET", "/rooms", auth=("me", f"{PASSWORD}x"))
    ask("POST", "/login", data={"password": f"{PASSWORD}x", "next": "/"}, auth=None)
    ask("POST", "/login", data={"password": PASSWORD})
    facet = instance / "facets" / f"{room.replace('/rooms/', 'room-')}.sqlite"
    broken = ask("POST", "/rooms").headers["Location"]
    guarded.stop()
    (instance / "facets" / f"{broken.replace('/rooms/', 'room-')}.sqlite").write_bytes(b"junk" * 1000)
    growing.hang_up()
    guarded.start()
    assert ask("GET", broken).status_code == 500
    ask("POST", f"{broken}/messages", data={"text": "Hello"})
    listed = subprocess.run(["ps", "-ef", "-ww"], capture_output=True, text=True, check=True).stdout
    assert f"--instance {instance}" in listed
    guarded.stop()
    tab.read_to_close()
    tab.close()
    seen = {
        "answers": "".join(out),
        "pushes": "".join(tab.frames),
        "log": "".join(guarded.log),
        "processes": listed,
        **{str(path): path.read_bytes().decode("latin-1") for path in instance.rglob("*") if path.is_file()},
    }
    assert seen["answers"].count(REDACTED) > 20 and REDACTED in seen["pushes"] and REDACTED in seen[str(facet)]
    for where, words in seen.items():
        for secret in (KEY, PASSWORD):
            assert secret not in words, f"{secret} in {where}: …{words.split(secret)[0][-300:]}"
    assert all(f"Bearer {KEY}" == headers["Authorization"] for headers in model_server.headers)


def test_a_fault_is_told_by_a_number_that_the_log_explains(
    client: FlaskClient, overseer: Overseer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The person gets the number and a sentence; the traceback is in the log, under it."""

    def rooms(**_: object) -> None:
        raise RuntimeError("deep inside")

    monkeypatch.setattr(overseer, "rooms", rooms)
    told = client.get("/rooms")
    assert told.status_code == 500 and "deep inside" not in told.text and "Traceback" not in told.text
    found = re.search(r"under ([0-9a-f]{8})\.", told.text)
    assert found is not None
    assert (
        f"error {found[1]}: GET /rooms" in caplog.text and "deep inside" in caplog.text and "Traceback" in caplog.text
    )


def test_there_is_no_debugger(instance: Path) -> None:
    """Whatever the environment says."""
    server = Server(instance, environment={"FLASK_DEBUG": "1", "OLLAMA_HOST": "127.0.0.1:9"}).start()
    try:
        for path in ("/console", "/?__debugger__=yes&cmd=resource&f=debugger.js"):
            answered = requests.get(server.url + path, timeout=20)
            assert "debugger" not in answered.text and "console" not in answered.text.lower()
    finally:
        server.stop()


SECRET = "sk-sk-aba-abab"
PIECE = st.sampled_from([SECRET[:5], SECRET[5:9], SECRET[9:], "sk-", "a", "b-", "and", ""])
KIND = st.sampled_from([TextDelta, TextDelta, TextDelta, ReasoningDelta])


@given(st.lists(st.tuples(KIND, PIECE), max_size=20))
@example([(TextDelta, SECRET[:5]), (TextDelta, SECRET[5:9]), (TextDelta, SECRET[9:])])
@example([(TextDelta, "sk-"), (TextDelta, SECRET[:5]), (TextDelta, SECRET[5:] + "sk"), (ReasoningDelta, SECRET[2:])])
def test_no_way_of_splitting_lets_it_through(pieces: list[tuple[type[TextDelta | ReasoningDelta], str]]) -> None:
    """And what does not hold it comes as it was, every character, in order."""
    deltas: list[Delta] = [kind(words) for kind, words in pieces]
    whole, heard = joined(deltas), joined(redacted(iter(deltas), SECRET))
    assert not any(SECRET in delta.text for delta in heard if isinstance(delta, TextDelta | ReasoningDelta))
    if not any(SECRET in delta.text for delta in whole if isinstance(delta, TextDelta | ReasoningDelta)):
        assert [delta for delta in heard if delta != type(delta)("")] == [d for d in whole if d != type(d)("")]


def test_what_is_held_back_comes_before_what_ends_it() -> None:
    """A tool, the other kind, an error, the end; a count ends nothing."""

    def cut() -> Iterator[Delta]:
        yield TextDelta("is sk-sk-")
        raise ModelError("Cut.")

    request, count = ToolRequest("1", f"a{SECRET}", f'{{"a": "{SECRET}"}}'), TokenCount(1, 2)
    counted = [TextDelta(SECRET[:9]), count, TextDelta(SECRET[9:]), count]
    assert list(redacted(iter(counted), SECRET)) == [count, TextDelta(REDACTED), count]
    for last in (request, ReasoningDelta("hm")):
        first, second, *rest = redacted(iter([TextDelta("is sk-sk-"), last]), SECRET)
        assert (first, second) == (TextDelta("is "), TextDelta("sk-sk-")) and len(rest) == 1
    assert rest == [ReasoningDelta("hm")]
    assert list(redacted(iter([request]), SECRET)) == [ToolRequest("1", f"a{REDACTED}", f'{{"a": "{REDACTED}"}}')]
    heard = redacted(cut(), SECRET)
    assert [next(heard), next(heard)] == [TextDelta("is "), TextDelta("sk-sk-")]
    with pytest.raises(ModelError):
        next(heard)


def test_what_is_no_key_may_be_said() -> None:
    """Servers that want none are given "ollama" and the like."""
    assert list(redacted(iter([TextDelta("ollama")]), "ollama")) == [TextDelta("ollama")]
    assert list(redacted(iter([TextDelta("x")]), "")) == [TextDelta("x")]
