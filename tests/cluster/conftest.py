"""A real bucket and a real Litestream for the tests of single parts. Each test has Overseers of its own in them."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from overseer.cluster.bucket import Bucket, Credentials
from overseer.cluster.node import Node
from overseer.cluster.replicas import Daemon
from tests.cluster.litestream import Litestream
from tests.cluster.program import MissingPart
from tests.cluster.seaweed import BUCKET, KEY, REGION, SECRET, SeaweedFS
from tests.support.waiting import until

LEASE_SECONDS = 6.0


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Not the folder of a test: the path of a socket may not be long."""
    found = Path(tempfile.mkdtemp(prefix="overseer-"))
    yield found
    shutil.rmtree(found)


@dataclass(frozen=True)
class Store:
    """The port of an S3-compatible store, and the URL of a bucket in it."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{BUCKET}"


@pytest.fixture(scope="session")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The store of all test processes: the first one starts it, which takes seconds, and the last one ends it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "store.json"
    started: list[SeaweedFS] = []
    with changed(shared) as state:
        if not state:
            try:
                started.append(SeaweedFS(Path(tempfile.mkdtemp(prefix="overseer-")) / "store"))
            except MissingPart as error:
                pytest.skip(str(error))
            started[0].start()
            state.update(port=started[0].port, users=0)
        state["users"] += 1
        port = state["port"]
    yield Store(port)
    with changed(shared) as state:
        state["users"] -= 1
        if not state["users"]:
            state.clear()
    for seaweed in started:  # whoever has started it waits for the others
        until(lambda: not json.loads(shared.read_text() or "{}"), seconds=300)
        seaweed.stop()
        shutil.rmtree(seaweed.folder.parent)


@contextmanager
def changed(path: Path) -> Iterator[dict[str, int]]:
    """Change a JSON object in a file while no other process does."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state: dict[str, int] = json.loads(file.read() or "{}")
        yield state
        file.truncate(0)
        file.write(json.dumps(state))


@pytest.fixture(scope="session")
def litestream(folder: Path) -> Iterator[Litestream]:
    try:
        litestream = Litestream(folder / "litestream")
    except MissingPart as error:
        pytest.skip(str(error))
    try:
        litestream.program.start()
        yield litestream
    finally:
        litestream.program.stop()


@pytest.fixture
def bucket(store: Store) -> Bucket:
    return Bucket(store.url, Credentials(KEY, SECRET, REGION), seconds=LEASE_SECONDS / 2)


@pytest.fixture
def daemon(litestream: Litestream, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    for name, value in litestream.environment.items():
        monkeypatch.setenv(name, value)
    return Daemon(str(litestream.socket))


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"t{secrets.token_hex(6)}"


@dataclass
class Server:
    """A node in this process. Something listens at its address, as a server would, until it is `gone`."""

    node: Node
    listener: socket.socket

    def vanish(self) -> None:
        """Let connections be refused, as if the process was killed."""
        self.listener.close()


NewNode = Callable[[], Server]


@pytest.fixture
def new_node(tmp_path: Path, bucket: Bucket, daemon: Daemon) -> Iterator[NewNode]:
    """Return a function that starts a node."""
    with ExitStack() as stack:

        def start() -> Server:
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            node = Node(address, tmp_path / address, bucket=bucket, daemon=daemon, lease_seconds=LEASE_SECONDS)
            node.start(probe=False)
            stack.callback(node.close)
            return Server(node, listener)

        yield start
