"""A stand-in model server as a process: `python -m tests.bench.model` prints its port and answers by script."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType

from tests.bench.script import Script
from tests.support.model_server import end, text

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
MODELS = b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"object": "list", "data": [{"id": "stand-in"}]}'
BEFORE, AFTER = text("\0").split(json.dumps("\0").encode())


class Model:
    """A context manager for the process."""

    def __enter__(self) -> Model:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.bench.model"], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def chunk(word: str) -> bytes:
    """Return a token as an event."""
    return BEFORE + json.dumps(word).encode() + AFTER


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, and close the connection."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(MODELS)
        else:
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            body = json.loads(await reader.readexactly(length))
            script = Script.read(body["messages"][-1]["content"])
            writer.write(HEAD)
            if script.rate:
                await at_pace(writer, script)
            else:
                writer.write(b"".join(map(chunk, script.words())))
            writer.write(end())
        await writer.drain()
    writer.close()


async def at_pace(writer: asyncio.StreamWriter, script: Script) -> None:
    """Send each token when it is due."""
    began = time.monotonic()
    words = script.words()
    for n in range(script.tokens):
        if (left := began + (n + 1) / script.rate - time.monotonic()) > 0:
            await asyncio.sleep(left)
        writer.write(chunk(next(words)))  # created now, because it may contain the time
        if writer.is_closing():
            raise ConnectionResetError


async def serve() -> None:
    """Answer until the process is killed."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
