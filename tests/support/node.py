"""What tests/package.json names, where `make test` has put it."""

from __future__ import annotations

import os
from pathlib import Path

NODE = os.environ.get("NODE", "node")
MODULES = Path(__file__).parents[2] / ".venv/node/node_modules"
