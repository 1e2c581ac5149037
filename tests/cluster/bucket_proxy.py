"""Ways to the bucket that can be cut, frozen and slowed, one for each machine.

`python -m tests.cluster.bucket_proxy TARGET PORT…` is the proxy, in a process of its own so that it does not share an
interpreter with what is measured. It reads a command a line, as JSON, and answers each with a line.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
CHUNK = 65536
MAX_HEAD = 65536
CONDITIONS = (b"if-match:", b"if-none-match:")
UNAVAILABLE = b"<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>A test says so.</Message></Error>"

Mode = Literal["open", "cut", "frozen", "muted", "unavailable"]


class BucketProxy:
    """A process that listens on `ports` and passes all on to the port `target`."""

    def __init__(self, target: int, ports: list[int]) -> None:
        command = [sys.executable, "-m", "tests.cluster.bucket_proxy", str(target), *map(str, ports)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._lock = threading.Lock()
        self.links = [Link(self, number, port) for number, port in enumerate(ports)]
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def tell(self, command: dict[str, object]) -> dict[str, Any]:
        """Send a command and return the answer."""
        with self._lock:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write(json.dumps(command) + "\n")
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
            return answer

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class Link:
    """The way of one machine to the bucket."""

    def __init__(self, proxy: BucketProxy, number: int, port: int) -> None:
        self._proxy, self._number, self.port = proxy, number, port

    def set(self, mode: Mode = "open", *, delay_ms: float = 0, ignores_conditions: bool = False) -> None:
        """Change what happens to all that passes.

        cut: connections are reset. frozen: nothing passes until it is open again. muted: requests pass, responses do
        not. unavailable: each request is answered with 503. `delay_ms` is added to each request. With
        `ignores_conditions`, `If-Match` and `If-None-Match` are removed.
        """
        self._proxy.tell(
            {"link": self._number, "mode": mode, "delay": delay_ms / 1000, "ignores_conditions": ignores_conditions}
        )

    def requests(self) -> int:
        """Return how many requests came so far."""
        count: int = self._proxy.tell({"link": self._number, "count": True})["requests"]
        return count


class _Relay:
    """One link, in the process of the proxy."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._mode: Mode = "open"
        self._delay = 0.0
        self._ignores_conditions = False
        self._may_ask, self._may_answer = asyncio.Event(), asyncio.Event()
        self._may_ask.set()
        self._may_answer.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.requests = 0

    def set(self, mode: Mode, delay: float, ignores_conditions: bool) -> None:
        self._mode, self._delay, self._ignores_conditions = mode, delay, ignores_conditions
        for event, closed_in in ((self._may_ask, ("frozen",)), (self._may_answer, ("frozen", "muted"))):
            if mode in closed_in:
                event.clear()
            else:
                event.set()
        if mode == "cut":
            for writer in list(self._writers):
                reset(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on."""
        if self._mode == "cut":
            return reset(writer)
        self._writers.add(writer)
        above: asyncio.StreamWriter | None = None
        try:
            await self._may_ask.wait()
            answers, above = await asyncio.open_connection("127.0.0.1", self._target, limit=MAX_HEAD)
            self._writers.add(above)
            passing = asyncio.create_task(self._pass_answers(answers, writer))
            try:
                await self._pass_requests(reader, above, writer)
            finally:
                passing.cancel()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            return
        finally:
            for one in (writer, above):
                if one is not None:
                    self._writers.discard(one)
                    one.close()

    async def _pass_answers(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await answers.read(CHUNK):
                await self._may_answer.wait()
                writer.write(data)
                await writer.drain()
            writer.close()

    async def _pass_requests(
        self, reader: asyncio.StreamReader, above: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            self.requests += 1
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._may_ask.wait()
            to: asyncio.StreamWriter | None = above
            if self._mode == "unavailable":
                to = None
            elif self._ignores_conditions:
                lines = [line for line in lines if not line.lower().startswith(CONDITIONS)]
            if to is not None:
                to.write(b"\r\n".join(lines))
            await self._pass_body(lines, reader, to)
            if to is None:
                head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nContent-Length: "
                writer.write(f"{head}{len(UNAVAILABLE)}\r\n\r\n".encode() + UNAVAILABLE)
                await writer.drain()

    async def _pass_body(
        self, lines: list[bytes], reader: asyncio.StreamReader, to: asyncio.StreamWriter | None
    ) -> None:
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        if fields.get(b"expect", b"").lower() == b"100-continue" and to is None:
            raise OSError("refused before the body")

        async def send(data: bytes) -> None:
            if to is not None:
                await self._may_ask.wait()
                to.write(data)
                await to.drain()

        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            while True:
                size = await reader.readuntil(b"\r\n")
                length = int(size.partition(b";")[0], 16)
                await send(size + (await reader.readexactly(length + 2) if length else b""))
                if not length:
                    while (trailer := await reader.readuntil(b"\r\n")) != b"\r\n":
                        await send(trailer)
                    return await send(b"\r\n")
        left = int(fields.get(b"content-length", b"0"))
        while left:
            data = await reader.read(min(CHUNK, left))
            if not data:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(data)
            await send(data)
        if to is not None:
            await to.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other side sees a reset."""
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport = writer.transport
    transport.abort()


async def main(target: int, ports: list[int]) -> None:
    """Serve until standard input ends."""
    relays = [_Relay(target) for _ in ports]
    servers = [
        await asyncio.start_server(relay.serve, "127.0.0.1", port, limit=MAX_HEAD)
        for relay, port in zip(relays, ports, strict=True)
    ]
    print("ready", flush=True)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = json.loads(line)
        relay = relays[command["link"]]
        if "mode" in command:
            relay.set(command["mode"], command["delay"], command["ignores_conditions"])
        print(json.dumps({"requests": relay.requests}), flush=True)
    for server in servers:
        server.close()
    for relay in relays:
        relay.set("cut", 0, False)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
