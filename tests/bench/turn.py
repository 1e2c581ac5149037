"""The time to the first token, and the time from Stop to the end of the model's connection."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.bench.caller import Caller
from tests.bench.figure import Figure, repeated
from tests.support.model_server import ModelServer, answer, held, text
from tests.support.server import Server, running
from tests.support.tab import Tab

ROUNDS = 15


def figures() -> Iterator[Figure]:
    """Yield figures with a model in this process, which notices when its socket is closed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(ModelServer()) as model,
        running(Path(folder), model) as server,
        Caller(server.port) as caller,
    ):
        first_token(server, model, caller)  # fill caches
        tokens = repeated(lambda: first_token(server, model, caller), ROUNDS)
        yield Figure("first token at a tab, from POST", tokens, "ms", 40)
        for what, words in (("a silent model", ()), ("a speaking model", (text("Hoo"),))):
            stops = repeated(lambda words=words: stop(model, caller, *words), ROUNDS)  # type: ignore[misc]
            yield Figure(f"Stop to the socket of {what} closed", stops, "ms", 1000)


def first_token(server: Server, model: ModelServer, caller: Caller) -> float:
    """Return the milliseconds from posting a message to the first token at a tab's socket."""
    room = caller.call("POST", "/rooms", {}).location
    tab = Tab(server.url, f"room={room[-12:]}")
    tab.read_until('hx-target="#messages"')
    word = f"Hoo-{room[-12:]}"  # not in the previews of other rooms
    model.will(answer(word))
    began = time.perf_counter()
    caller.call("POST", f"{room}/messages", {"text": "Tell me"})
    tab.read_until(word)
    took = time.perf_counter() - began
    tab.close()
    return 1000 * took


def stop(model: ModelServer, caller: Caller, *said: bytes) -> float:
    """Return the milliseconds from Stop to the end of the model's connection."""
    room = caller.call("POST", "/rooms", {}).location
    reply = model.will(held(*said))
    caller.call("POST", f"{room}/messages", {"text": "Tell me"})
    assert reply.begun.wait(20)
    began = time.perf_counter()
    caller.call("DELETE", f"{room}/turn")
    assert reply.closed.wait(20)
    return 1000 * (time.perf_counter() - began)
