"""The API key and the password: neither appears anywhere, even if the model server sends the key."""

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
from overseer.storage.instance_lock import room_file
from tests.support.deltas import joined
from tests.support.files import write_junk
from tests.support.model_server import ModelServer, Reply, answer, end, event, held, reasoning, text, tool_call, usage
from tests.support.server import Server
from tests.support.tab import Tab

KEY = "sk-canary-4f1e9b7d2c6a"
PASSWORD = "canary-horse-battery"


def in_pieces(text: str) -> list[str]:
    """Return a text in pieces of three characters."""
    return [text[n : n + 3] for n in range(0, len(text), 3)]


def error(status: int, sentence: str) -> Reply:
    body = json.dumps({"error": {"message": sentence, "code": KEY, "param": KEY}}).encode()
    headers = {"Content-Type": "application/json", "X-Key": KEY, "Retry-After": KEY}
    return Reply(body, status=status, headers=headers)


def echoes() -> list[list[Reply]]:
    """Return every way in which a model server may send the key, by turn."""
    said = f"Your key is {KEY}, is it?"
    return [
        [Reply(*map(text, in_pieces(said)), end())],
        [Reply(*map(reasoning, in_pieces(said)), *map(text, in_pieces(KEY)), end())],
        [Reply(text(f"<think>{KEY}</think>{KEY}"), end())],
        [Reply(tool_call("roll_dice", json.dumps({"sides": KEY})), end("tool_calls")), answer(KEY)],
        [Reply(tool_call("roll_dice", '{"\\u0073' + KEY[1:] + '": 1}'), end("tool_calls")), answer("Well.")],
        [Reply(*(piece for part in in_pieces(KEY) for piece in (text(part), usage(3, 4))), end())],
        [Reply(tool_call(KEY, "{}", call_id=KEY), end("tool_calls")), answer("Well.")],
        [Reply(text("Half of "), *map(text, in_pieces(KEY)[:-1]))],
        [Reply(text(KEY), event({"error": {"message": said}}))],
        [Reply(text("Well"), b'data: {"broken ' + KEY.encode() + b"\n\n")],
        [Reply(text("Well"), end(KEY))],
        [Reply(event({"id": KEY, "model": KEY, "choices": [{"delta": {"role": KEY, "content": "Well."}}]}), end())],
        *([error(status, said)] for status in (400, 401, 404, 422, 500)),
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


def test_key_and_password_appear_in_no_output(guarded: Server, model_server: ModelServer, instance: Path) -> None:
    """No page, fragment, frame, transcript, header, log, file or list of processes contains them."""
    model_server.models = [KEY, f"models/{KEY}", "stand-in"]
    out: list[str] = []

    def ask(method: str, path: str, **options: object) -> requests.Response:
        options = {"auth": ("me", PASSWORD), "timeout": 60, "allow_redirects": False, **options}
        response = requests.request(method, guarded.url + path, **options)  # type: ignore[arg-type]
        out.append(f"{response.status_code} {response.headers} {response.text}")
        return response

    room = ask("POST", "/rooms").headers["Location"]
    tab = Tab(guarded.url, f"room={room.rsplit('/', 1)[-1]}", header={"Authorization": f"Bearer {PASSWORD}"})
    for number, replies in enumerate(echoes()):
        model_server.will(*replies)
        asked = ask("POST", f"{room}/messages", data={"text": f"Question {number}"}, headers={"Prefer": "wait=60"})
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
    for path in [*pages, "/models?refresh=1", "/palette?q=a", "/healthz", "/login", "/sessions"]:
        ask("GET", path)
        ask("GET", path, headers={"Sec-Fetch-Mode": "navigate"})
    ask("GET", f"{room}/messages", headers={"Accept": "text/markdown"})
    # Requests that fail, with the secrets in what is sent.
    ask("GET", "/rooms", auth=("me", f"{PASSWORD}x"))
    ask("POST", "/login", data={"password": f"{PASSWORD}x", "next": "/"}, auth=None)
    ask("POST", "/login", data={"password": PASSWORD})
    facet = room_file(instance, room.removeprefix("/rooms/"))
    broken = ask("POST", "/rooms").headers["Location"]
    guarded.stop()
    write_junk(room_file(instance, broken.removeprefix("/rooms/")))
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
    for place, output in seen.items():
        for secret in (KEY, PASSWORD):
            assert secret not in output, f"{secret} in {place}: …{output.split(secret)[0][-300:]}"
    assert all(f"Bearer {KEY}" == headers["Authorization"] for headers in model_server.headers)


def test_unexpected_error_is_a_number_that_the_log_explains(
    client: FlaskClient, overseer: Overseer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def rooms(**_: object) -> None:
        raise RuntimeError("deep inside")

    monkeypatch.setattr(overseer, "rooms", rooms)
    response = client.get("/rooms")
    assert response.status_code == 500 and "deep inside" not in response.text and "Traceback" not in response.text
    found = re.search(r"See ([0-9a-f]{8}) in the server log\.", response.text)
    assert found is not None and f"error {found[1]}: GET /rooms" in caplog.text
    assert "deep inside" in caplog.text and "Traceback" in caplog.text


SECRET = "sk-sk-aba-abab"
PIECE = st.sampled_from([SECRET[:5], SECRET[5:9], SECRET[9:], "sk-", "a", "b-", "and", ""])
KIND = st.sampled_from([TextDelta, TextDelta, TextDelta, ReasoningDelta])


@given(st.lists(st.tuples(KIND, PIECE), max_size=20))
@example([(TextDelta, SECRET[:5]), (TextDelta, SECRET[5:9]), (TextDelta, SECRET[9:])])
@example([(TextDelta, "sk-"), (TextDelta, SECRET[:5]), (TextDelta, SECRET[5:] + "sk"), (ReasoningDelta, SECRET[2:])])
def test_redaction_finds_the_secret_however_it_is_split(
    pieces: list[tuple[type[TextDelta | ReasoningDelta], str]],
) -> None:
    """Text without it is unchanged."""
    deltas: list[Delta] = [kind(piece) for kind, piece in pieces]
    original, redacted_ = joined(deltas), joined(redacted(iter(deltas), SECRET))

    def contains_secret(deltas: list[Delta]) -> bool:
        return any(SECRET in delta.text for delta in deltas if isinstance(delta, TextDelta | ReasoningDelta))

    assert not contains_secret(redacted_)
    if not contains_secret(original):
        empty = (TextDelta(""), ReasoningDelta(""))
        assert [one for one in redacted_ if one not in empty] == [one for one in original if one not in empty]


def test_redaction_passes_on_held_text_before_the_delta_that_ends_it() -> None:
    """A tool call, a delta of the other kind, an error or the end. A token count does not end it."""

    def interrupted() -> Iterator[Delta]:
        yield TextDelta("is sk-sk-")
        raise ModelError("Cut.")

    request, count = ToolRequest("1", f"a{SECRET}", f'{{"a": "{SECRET}"}}'), TokenCount(1, 2)
    counted: list[Delta] = [TextDelta(SECRET[:9]), count, TextDelta(SECRET[9:]), count]
    assert list(redacted(iter(counted), SECRET)) == [count, TextDelta(REDACTED), count]
    for last in (request, ReasoningDelta("hm")):
        first, second, *rest = redacted(iter([TextDelta("is sk-sk-"), last]), SECRET)
        assert (first, second) == (TextDelta("is "), TextDelta("sk-sk-")) and len(rest) == 1
    assert rest == [ReasoningDelta("hm")]
    assert list(redacted(iter([request]), SECRET)) == [ToolRequest("1", f"a{REDACTED}", f'{{"a": "{REDACTED}"}}')]
    deltas = redacted(interrupted(), SECRET)
    assert [next(deltas), next(deltas)] == [TextDelta("is "), TextDelta("sk-sk-")]
    with pytest.raises(ModelError):
        next(deltas)


def test_redaction_leaves_placeholders_alone() -> None:
    """Servers without keys are given "ollama" and the like."""
    for key, said in (("ollama", "ollama"), ("", "x")):
        assert list(redacted(iter([TextDelta(said)]), key)) == [TextDelta(said)]
