"""A real S3-compatible bucket on this machine: SeaweedFS."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import requests
from requests_aws4auth import AWS4Auth

from tests.cluster.program import Program, executable, free_ports
from tests.support.waiting import DEADLINE, until

KEY, SECRET, REGION = "key-of-the-tests", "secret-of-the-tests", "us-east-1"
BUCKET = "overseers"
WRITERS = 10
WARM_WAIT_SECONDS = 10.0
WARM_SECONDS = 0.5
GRPC = 10_000  # each of its ports has a second one, this far above


class SeaweedFS:
    """One process with an empty bucket. `port` is that of its S3 interface."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "data").mkdir()
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": actions}
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        self._ports = free_ports(4, partner=GRPC)
        master, volume, filer, self.port = self._ports
        command = [
            executable("weed", "WEED"),
            "server",
            f"-dir={folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={master}",
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
            f"-volume.port={volume}",
            "-volume.max=20",
            "-filer",
            f"-filer.port={filer}",
            "-s3",
            f"-s3.port={self.port}",
            f"-s3.config={config}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-metricsPort=0",
        ]
        self.program = Program("SeaweedFS", command, log=folder / "log", is_ready=self._is_ready)
        self._session = requests.Session()
        self._session.auth = AWS4Auth(KEY, SECRET, REGION, "s3")
        self._session.trust_env = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{BUCKET}"

    def start(self) -> None:
        """Start it, and make the bucket if there is none. The first bucket takes some seconds."""
        self.program.start()

        def is_made() -> bool:
            with suppress(requests.RequestException):
                return self._session.put(self.url, timeout=DEADLINE).status_code in (200, 409)
            return False

        until(is_made, seconds=60)
        # On a busy machine it may never be fast; then the tests take longer.
        began = time.monotonic()
        while not self._is_warm() and time.monotonic() - began < WARM_WAIT_SECONDS:
            continue

    def stop(self) -> None:
        """End it, and remove the sockets that it leaves in /tmp. In order, that would take it 25 seconds."""
        self.program.stop(signal.SIGKILL)
        self._session.close()
        for port in self._ports:
            for name in (f"*-{port}", f"*-grpc-{port + GRPC}"):
                for socket in Path("/tmp").glob(f"seaweedfs-{name}.sock"):
                    socket.unlink(missing_ok=True)

    def get(self, key: str) -> requests.Response:
        """Return the response with an object."""
        return self._session.get(f"{self.url}/{key}", timeout=DEADLINE)

    def _is_ready(self) -> bool:
        with suppress(requests.RequestException):
            return self._session.get(f"http://127.0.0.1:{self.port}/", timeout=1).status_code == 200
        return False

    def _is_warm(self) -> bool:
        """Return whether many writes at once are fast, also conditional ones of the same object.

        The first ones take seconds, while it makes its volumes and looks for its locks.
        """
        began = time.monotonic()
        with ThreadPoolExecutor(WRITERS) as pool:
            written = all(pool.map(self._can_write, range(2 * WRITERS), timeout=DEADLINE))
            raced = all(pool.map(self._can_write, [0] * 2 * WRITERS))
        return written and raced and time.monotonic() - began < WARM_SECONDS

    def _can_write(self, number: int) -> bool:
        url = f"{self.url}/started/{number}"
        with suppress(requests.RequestException):
            put = self._session.put(url, data=b"yes", headers={"If-None-Match": "*"}, timeout=DEADLINE)
            deleted = self._session.delete(url, timeout=DEADLINE)
            return put.status_code in (200, 412) and deleted.status_code == 204
        return False
