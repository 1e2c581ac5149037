"""A scripted OpenAI-compatible server on a real port."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DEADLINE = 20.0
NOBODY = "http://127.0.0.1:9/v1"  # the discard port, on which nothing listens


def text(words: str) -> bytes:
    """Return an event with text."""
    return event({"choices": [{"index": 0, "delta": {"content": words}}]})


def reasoning(words: str) -> bytes:
    """Return an event with reasoning."""
    return event({"choices": [{"index": 0, "delta": {"reasoning_content": words}}]})


def tool_call(name: str, arguments: str, *, call_id: str = "call-1", index: int = 0) -> bytes:
    """Return an event with a whole tool call."""
    call = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})


def usage(tokens_in: int, tokens_out: int) -> bytes:
    """Return an event with token counts."""
    return event({"choices": [], "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}})


def end(reason: str = "stop") -> bytes:
    """Return the events that end an answer."""
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}) + b"data: [DONE]\n\n"


def event(data: object) -> bytes:
    """Return an event with this data as JSON."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


class Reply:
    """The response to one chat request: chunks that are sent at once, and more when the test calls `say`.

    `begun` is set when the request arrives, `closed` when the client closes the connection.
    """

    def __init__(self, *chunks: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers or {"Content-Type": "text/event-stream"}
        self.begun = threading.Event()
        self.closed = threading.Event()
        self._chunks: deque[bytes | None] = deque(chunks)
        self._more = threading.Condition()
        self._open = False
        self.silent = False

    def say(self, *chunks: bytes) -> None:
        """Send more chunks."""
        with self._more:
            self._chunks.extend(chunks)
            self._more.notify_all()

    def hang_up(self) -> None:
        """End the response."""
        self.say(None)  # type: ignore[arg-type]

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks to send. If the reply is held open, wait for more."""
        while True:
            with self._more:
                if not self._chunks and not self._open:
                    return
                if not self._more.wait_for(lambda: bool(self._chunks) or self.closed.is_set(), DEADLINE):
                    return
                chunk = self._chunks.popleft() if self._chunks else None
            if chunk is None:
                return
            yield chunk

    def wake(self) -> None:
        """Let `chunks` check whether the connection is closed."""
        with self._more:
            self._more.notify_all()


def held(*chunks: bytes) -> Reply:
    """Return a reply that sends these chunks and stays open for more, until `hang_up`."""
    reply = Reply(*chunks)
    reply._open = True
    return reply


def silent() -> Reply:
    """Return a reply that sends nothing, not even a status line, until the test calls `say`."""
    reply = held()
    reply.silent = True
    return reply


def answer(*words: str) -> Reply:
    """Return a whole answer, with one event for each of these words."""
    return Reply(*map(text, words), end())


class ModelServer:
    """Sends one reply to each chat request, in order, and `otherwise` when there is none left.

    `requests` and `headers` are those of the chat requests so far, `models` the names that it lists.
    """

    def __init__(self, port: int = 0) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.replies: deque[Reply] = deque()
        self.models = ["stand-in"]
        self.entries: dict[str, dict[str, object]] = {}  # by name, if they contain more than that; replaces `models`
        self.may_list = threading.Event()  # a request for the list waits for this
        self.may_list.set()
        self.otherwise: Callable[[dict[str, Any]], Reply] = lambda body: answer("All", " right.")
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def entries_of_list(self) -> list[dict[str, object]]:
        """Return the entries of the list of models."""
        return [{"id": name, **self.entries.get(name, {})} for name in self.entries or self.models]

    def will(self, *replies: Reply) -> Reply:
        """Send these replies next. Return the last one."""
        self.replies.extend(replies)
        return replies[-1]

    def close(self) -> None:
        """Stop the server."""
        self.may_list.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                server.may_list.wait(DEADLINE)
                body = json.dumps({"object": "list", "data": server.entries_of_list()}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                if len(sent := self.rfile.read(length)) < length:
                    return  # the client was killed in the middle of its request
                body = json.loads(sent)
                server.requests.append(body)
                server.headers.append(dict(self.headers))
                reply = server.replies.popleft() if server.replies else server.otherwise(body)
                with watched(self.connection, reply):
                    reply.begun.set()
                    if not reply.silent:
                        self.send_response(reply.status)
                        for name, value in reply.headers.items():
                            self.send_header(name, value)
                        self.end_headers()
                        self.wfile.flush()
                    try:
                        for chunk in reply.chunks():
                            self.wfile.write(chunk)
                            self.wfile.flush()
                    except OSError:
                        reply.closed.set()

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler


@contextmanager
def watched(connection: socket.socket, reply: Reply) -> Iterator[None]:
    """Set `reply.closed` as soon as the client closes the connection, even while nothing is sent."""

    def watch() -> None:
        with suppress(OSError):
            while connection.recv(1024):
                continue
        reply.closed.set()
        reply.wake()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE)
