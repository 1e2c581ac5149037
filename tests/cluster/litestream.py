"""A Litestream daemon without databases, as a node of a cluster uses it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from tests.cluster.program import Program, executable
from tests.cluster.seaweed import KEY, REGION, SECRET

ROOT = Path(__file__).parents[2]
EXAMPLE_SOCKET = "/run/overseer/litestream.sock"
MAX_SOCKET_PATH = 107  # bytes, of Linux


class Litestream:
    """A daemon with the configuration of `deploy/litestream.yml`, whose socket is in `folder`.

    `environment` has what a process needs that uses it: the credentials, and the program on its PATH.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.socket = folder / "litestream.sock"
        assert len(os.fsencode(self.socket)) <= MAX_SOCKET_PATH, f"the path {self.socket} is too long for a socket"
        program = executable("litestream", "LITESTREAM")
        self.environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "PATH": f"{Path(program).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        text = (ROOT / "deploy" / "litestream.yml").read_text()
        assert text.count(EXAMPLE_SOCKET) == 1
        (folder / "litestream.yml").write_text(text.replace(EXAMPLE_SOCKET, str(self.socket)))
        inherited = {
            name: value for name, value in os.environ.items() if name not in ("AWS_CA_BUNDLE", "SSL_CERT_FILE")
        }
        self.program = Program(
            "Litestream",
            [program, "replicate", "-config", folder / "litestream.yml"],
            log=folder / "log",
            is_ready=self._listens,
            environment={**inherited, **self.environment},
            before_start=lambda: self.socket.unlink(missing_ok=True),
        )

    def _listens(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(self.socket))
            return True
        return False
