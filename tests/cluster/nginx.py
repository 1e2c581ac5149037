"""A real nginx in front of the nodes, with `deploy/nginx.conf`."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.program import Program, accepts, executable
from tests.support.waiting import until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
EXAMPLE = re.compile(r"^( *server )172\.30\.0\.\d+:8000( .*;)\n", re.M)
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """Passes what comes on `port` to the nodes at `addresses`. Its files are in `folder`."""

    def __init__(self, folder: Path, addresses: Sequence[str]) -> None:
        (folder / "cache").mkdir(parents=True)
        self._folder, self._file = folder, folder / "nginx.conf"
        # nginx inherits the listening socket that the variable NGINX names, so it can be connected to at once.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.write(addresses)
        root = "user root; " if os.geteuid() == 0 else ""  # the folders of a test are not open to other accounts
        command = [
            executable("nginx", "NGINX"),
            *("-p", str(folder), "-e", str(folder / "error.log"), "-c", str(self._file)),
            *("-g", f"{root}daemon off; pid {folder / 'pid'};"),
        ]
        descriptor = self._listener.fileno()
        self.program = Program(
            "nginx",
            command,
            log=folder / "log",
            is_ready=lambda: accepts(self.port),
            environment={"PATH": os.environ["PATH"], "NGINX": f"{descriptor};"},
            pass_fds=(descriptor,),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write(self, addresses: Sequence[str]) -> None:
        """Write the configuration for the nodes at these addresses."""
        text = CONFIGURATION.read_text()
        first = EXAMPLE.search(text)
        assert first, "the addresses of the example are not there"
        nodes = "".join(f"{first[1]}{address}{first[2]}\n" for address in addresses)
        text = text[: first.start()] + nodes + EXAMPLE.sub("", text[first.end() :])
        folders = "".join(f"  {name}_temp_path {self._folder}/{name};\n" for name in TEMPORARY)
        for old, new in (
            ("listen 80;", f"listen 127.0.0.1:{self.port};"),
            ("/var/cache/nginx/overseer-owners", f"{self._folder}/cache"),
            ("worker_rlimit_nofile 65536;\n", ""),  # more than an account may have
            ("worker_connections 16384;", "worker_connections 1024;"),
            ("http {\n", f"http {{\n{folders}"),
        ):
            assert text.count(old) == 1, f"{old!r} is not in the configuration once"
            text = text.replace(old, new)
        self._file.write_text(text)

    def reload(self, addresses: Sequence[str]) -> None:
        """Change the nodes as an operator does, and wait until the old workers take no more requests."""
        workers = self._workers()
        self.write(addresses)
        self.program.send(signal.SIGHUP)
        until(lambda: bool(self._workers() - workers))

    def stop(self) -> None:
        """End it."""
        self.program.stop()
        self._listener.close()

    def _workers(self) -> set[int]:
        """Return the process ids of the workers that accept connections."""
        pid = self.program.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {
            int(child)
            for child in children
            if b"worker process\0" in Path(f"/proc/{child}/cmdline").read_bytes().replace(b"is shutting", b"")
        }
