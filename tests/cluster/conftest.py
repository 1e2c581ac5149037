"""A real bucket and a real Litestream for the tests of single parts. Each test has Overseers of its own in them."""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from overseer.cluster.bucket import Bucket, Credentials
from overseer.cluster.node import Node
from overseer.cluster.replicas import Daemon
from tests.cluster.program import MissingPart
from tests.cluster.seaweed import KEY, REGION, SECRET, SeaweedFS
from tests.support.litestream import Litestream

LEASE_SECONDS = 6.0

NewNode = Callable[[], Node]


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Not the folder of a test: the path of a socket may not be long."""
    found = Path(tempfile.mkdtemp(prefix="overseer-"))
    yield found
    shutil.rmtree(found)


@pytest.fixture(scope="session")
def store(folder: Path) -> Iterator[SeaweedFS]:
    try:
        store = SeaweedFS(folder / "bucket")
    except MissingPart as error:
        pytest.skip(str(error))
    try:
        store.start()
        yield store
    finally:
        store.stop()


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
def bucket(store: SeaweedFS) -> Bucket:
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


@pytest.fixture
def new_node(tmp_path: Path, bucket: Bucket, daemon: Daemon) -> Iterator[NewNode]:
    """Return a function that starts a node. Something listens at its address, as a server would."""
    with ExitStack() as stack:

        def start() -> Node:
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            node = Node(address, tmp_path / address, bucket=bucket, daemon=daemon, lease_seconds=LEASE_SECONDS)
            node.start()
            stack.callback(node.close)
            return node

        yield start
