"""`python -m tests.audit`: pip-audit on what is installed; says so where its data cannot be reached."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def main() -> int:
    """0 if nothing is known against what is installed, or nothing could be asked; else 1."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable"]
    ran = subprocess.run([*command, "--timeout", "10"], capture_output=True, text=True, check=False)
    return judge(ran.stdout, ran.stderr)


def judge(report: str, complaints: str = "") -> int:
    """Say what pip-audit's report comes to."""
    try:
        found: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        print(f"pip-audit could not ask: {complaints.strip()[-300:] or 'no report'}. Nothing was audited.")
        return 0
    audited = [one for one in found if "vulns" in one]
    if not audited:
        print("pip-audit could not reach its data. Nothing was audited.")
        return 0
    for one in audited:
        for known in one["vulns"]:
            print(
                f"{one['name']} {one['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'none'}"
            )
    print(f"pip-audit: {len(audited)} packages audited, {len(found) - len(audited)} unknown to it.")
    return int(any(one["vulns"] for one in audited))


if __name__ == "__main__":
    sys.exit(main())
