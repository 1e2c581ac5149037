"""A whole cluster on this machine: a bucket, nodes with their Litestream, and nginx."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import requests

from tests.cluster.bucket_proxy import BucketProxy, Link
from tests.cluster.litestream import Litestream
from tests.cluster.nginx import Nginx
from tests.cluster.program import Program, free_port, free_ports
from tests.cluster.seaweed import BUCKET, SeaweedFS
from tests.support.waiting import DEADLINE

ROOT = Path(__file__).parents[2]
SERVER_PASSWORD = "makes Overseers"
LEASE_SECONDS = 6.0
NOT_PASSED_ON = ("OPENAI_", "OLLAMA_", "OVERSEER_", "AWS_", "LITESTREAM_", "PYTHONDEVMODE", "SSL_CERT_FILE")


class Machine:
    """A node and its Litestream, with a way to the bucket of their own."""

    def __init__(self, number: int, folder: Path, link: Link, settings: Mapping[str, str]) -> None:
        folder.mkdir()
        self.number, self.folder, self.link = number, folder, link
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.instance = folder / "instance"
        self.daemon = Litestream(folder / "litestream")
        self.litestream = self.daemon.program
        self.litestream.name = f"Litestream {number}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)},
            **self.daemon.environment,
            "OVERSEER_BUCKET": f"http://127.0.0.1:{link.port}/{BUCKET}",
            "OVERSEER_NODE": self.address,
            "OVERSEER_LITESTREAM": str(self.daemon.socket),
            "OVERSEER_PASSWORD": SERVER_PASSWORD,
            "OVERSEER_TRUSTED_PROXIES": "127.0.0.1",
            "OVERSEER_INSTANCE": str(self.instance),
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        serve = ["app.py", "--multi", "--port", str(self.port), "--instance", str(self.instance)]
        self.node = Program(
            f"node {number}",
            [sys.executable, *serve],
            log=folder / "node.log",
            is_ready=self.is_healthy,
            environment=self.environment,
            folder=ROOT,
        )

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def programs(self) -> tuple[Program, ...]:
        return self.node, self.litestream

    def start(self) -> None:
        """Start both programs and wait until they are ready."""
        self.launch()
        self.litestream.wait_until_ready()
        self.node.wait_until_ready()

    def launch(self) -> None:
        """Start both programs without waiting."""
        self.litestream.launch()
        self.node.launch()

    def supervise(self, supervised: bool = True) -> None:
        """Start each program again whenever it has ended, or not any more."""
        for program in self.programs:
            program.supervised = supervised

    def kill(self) -> None:
        """End both programs at once, as if the power failed."""
        for program in self.programs:
            program.kill()

    def stop(self) -> None:
        """End both in order."""
        for program in self.programs:
            program.stop()

    def is_healthy(self) -> bool:
        """Return whether the node responds."""
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/healthz", timeout=1, proxies={"http": ""}).text == "ok"
        return False

    def command(self, *arguments: str) -> Program:
        """Return the command `overseer` with these arguments and the settings of the node, to be started."""
        return Program(
            " ".join(("overseer", *arguments)),
            [sys.executable, "-m", "overseer", *arguments],
            log=self.folder / f"{arguments[0]}.log",
            is_ready=lambda: True,
            environment=self.environment,
            folder=ROOT,
        )


class Cluster:
    """Starts all of it in a temporary folder; a `with` block ends it and removes the folder, unless there was an error.

    `settings` are environment variables of all nodes.
    """

    def __init__(
        self, nodes: int = 3, *, lease_seconds: float = LEASE_SECONDS, settings: Mapping[str, str] | None = None
    ) -> None:
        # Not the folder of a test: the path of a socket may not be long.
        self.folder = Path(tempfile.mkdtemp(prefix="overseer-"))
        self.lease_seconds = lease_seconds
        self._settings = {"OVERSEER_LEASE_SECONDS": f"{lease_seconds:g}", **(settings or {})}
        self.bucket = SeaweedFS(self.folder / "bucket")
        self._nodes = nodes
        self._proxy: BucketProxy | None = None
        self.machines: list[Machine] = []
        self._spare: Machine | None = None
        self.nginx: Nginx | None = None

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        if error is None:
            shutil.rmtree(self.folder)

    @property
    def url(self) -> str:
        assert self.nginx is not None
        return self.nginx.url

    def start(self) -> None:
        """Start everything, and wait until it is ready."""
        self.bucket.start()
        self._proxy = BucketProxy(self.bucket.port, free_ports(self._nodes + 1))
        machines = [
            Machine(number, self.folder / f"m{number}", link, self._settings)
            for number, link in enumerate(self._proxy.links, 1)
        ]
        *self.machines, self._spare = machines
        for machine in self.machines:
            machine.supervise()  # a new bucket may be too slow for a node, which ends then
            machine.launch()
        for machine in self.machines:
            machine.start()
            machine.supervise(False)
            machine.node.exit_codes.clear()
        self.nginx = Nginx(self.folder / "nginx", [machine.address for machine in self.machines])
        self.nginx.program.start()

    @property
    def spare(self) -> Machine:
        """A machine that nginx does not know, and that is not started."""
        assert self._spare is not None
        return self._spare

    def stop(self) -> None:
        """End everything."""
        machines = [*self.machines, *([self._spare] if self._spare else [])]
        for machine in machines:
            machine.supervise(False)
            machine.link.set("open")
        if self.nginx is not None:
            self.nginx.stop()
        for machine in machines:
            machine.stop()
        if self._proxy is not None:
            self._proxy.stop()
        self.bucket.stop()

    def restore(self) -> None:
        """Undo what scenarios did: all is running, nothing is cut or frozen."""
        for machine in self.machines:
            machine.supervise(False)
            machine.link.set("open")
            for program in machine.programs:
                program.thaw()
        self.bucket.program.thaw()
        for machine in self.machines:
            machine.start()

    def make(self, name: str, password: str, *, at: Machine | None = None) -> None:
        """Make an Overseer, through nginx or at a node. Raises AssertionError if the answer is not 201."""
        url = f"{at.url if at else self.url}/o/{name}"
        made = requests.put(url, data={"password": password}, auth=("", SERVER_PASSWORD), timeout=DEADLINE)
        assert made.status_code == 201, f"PUT /o/{name}: {made.status_code} {made.text[:300]}"

    def record(self, name: str) -> dict[str, object]:
        """Return the record of the owner of an Overseer in the bucket; it is empty if there is none."""
        found = self.bucket.get(f"o/{name}/owner")
        return dict(found.json()) if found.status_code == 200 else {}

    def owner(self, name: str) -> Machine | None:
        """Return the machine that has an Overseer according to the bucket."""
        url = str(self.record(name).get("url", ""))
        return next((machine for machine in self.machines if url and machine.address in url), None)
