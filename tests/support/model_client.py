"""Helpers for tests of the model client: whole answers, errors, and servers that send exact bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from overseer.domain.messages import Message, Text
from overseer.llm import Delta, Model, ModelError, TextDelta
from overseer.llm.openai import OpenAIModel, OpenAIServer, Timeouts
from overseer.tools.toolbox import TOOLS
from tests.support.model_server import DEADLINE, ModelServer

QUESTION = (Message(1, "user", "complete", (Text("Hello?"),)),)
CHUNKED = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}


def model_of(server: ModelServer, name: str = "stand-in", **options: Any) -> OpenAIModel:
    """Return a model of the server; `options` are those of OpenAIServer."""
    return OpenAIServer(server.url, **{"timeouts": Timeouts(DEADLINE, DEADLINE), **options}).model(name)


def answer_of(model: Model, history: Sequence[Message] = QUESTION) -> list[Delta]:
    """Return the deltas of a whole answer."""
    with closing(model.answer(history, TOOLS)) as reply:
        return list(reply)


def failure_of(model: Model) -> tuple[list[Delta], ModelError]:
    """Return the deltas of an answer that fails, and its error."""
    deltas: list[Delta] = []
    with pytest.raises(ModelError) as caught, closing(model.answer(QUESTION, TOOLS)) as reply:
        deltas.extend(reply)  # keeps the deltas that come before the error
    return deltas, caught.value.with_traceback(None)


def text_of(deltas: Sequence[Delta]) -> str:
    """Return the text of an answer."""
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def chunked(*pieces: bytes) -> list[bytes]:
    """Return HTTP/1.1 chunks. The client reads each one separately, however the network joins them."""
    return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"]


@contextmanager
def raw_server(*responses: bytes, repeat: bytes = b"", interval: float = 0.0) -> Iterator[str]:
    """Run a server that sends these responses, one to each connection in turn, the last one to all further ones.

    After a response it sends `repeat` until the client closes the connection, every `interval` seconds or as fast as
    it is read; without `repeat` it closes the connection.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def respond(connection: socket.socket, response: bytes) -> None:
        with connection, suppress(OSError):
            _read_request(connection)
            connection.sendall(response)
            while repeat and not over.wait(interval):
                connection.sendall(repeat)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                response = responses[min(len(threads), len(responses) - 1)]
                threads.append(threading.Thread(target=respond, args=(connection, response), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        over.set()
        for opened in (listener, *connections):
            with suppress(OSError):  # the other side, or the thread, has closed it
                opened.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(DEADLINE)


def _read_request(connection: socket.socket) -> None:
    incoming = connection.makefile("rb")
    length = 0
    while (line := incoming.readline()).strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    incoming.read(length)
