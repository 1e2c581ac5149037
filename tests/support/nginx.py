"""A real nginx in front of a server, with the configuration in docs/operations.md."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

from tests.support.waiting import DEADLINE

NGINX = os.environ.get("NGINX", "nginx")
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
CONFIGURATION = """
daemon off;
user root;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    {location}
  }}
}}
"""


class Nginx:
    """Listens on `port` and passes `/chat/` to the server at `url`. Its files are in `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir()
        blocks: list[str] = re.findall(r"```nginx\n(.*?)```", OPERATIONS.read_text(), re.S)
        location = blocks[0].replace("http://127.0.0.1:8000/", f"{url}/")
        assert location != blocks[0]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
            configuration = folder / "nginx.conf"
            configuration.write_text(CONFIGURATION.format(folder=folder, port=self.port, location=location))
            # nginx inherits the listening socket that this variable names, so it can be connected to at once.
            self._process = subprocess.Popen(
                [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration)],
                env={"PATH": os.environ["PATH"], "NGINX": f"{listener.fileno()};"},
                pass_fds=[listener.fileno()],
                stderr=subprocess.DEVNULL,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/chat"

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(DEADLINE)
