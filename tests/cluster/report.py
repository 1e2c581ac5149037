"""What scenarios found."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench.figure import Figure, percentile
from tests.cluster.load import Load


class Report:
    """Figures and faults; they are printed as they come."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.faults: list[str] = []

    def figure(
        self,
        name: str,
        value: float | Sequence[float],
        unit: str = "",
        bound: float | None = None,
        floor: float | None = None,
    ) -> None:
        """Add a figure, which may be at most `bound`."""
        values = tuple(value) if isinstance(value, Sequence) else (value,)
        if not values:
            self.fault(f"nothing was measured for: {name}")
            return
        self.figures.append(Figure(name, values, unit, bound, floor))
        print(self.figures[-1].row(), flush=True)

    def percentiles(
        self, name: str, seconds: Sequence[float], *percents: float, unit: str = "s", bound: float | None = None
    ) -> None:
        """Add percentiles of the sorted `seconds`; the last of them has the bound."""
        if not seconds:
            self.figure(f"{name}, none", 0)
            return
        times = 1000 if unit == "ms" else 1
        for percent in percents:
            at = percentile(seconds, percent) * times
            self.figure(f"{name}, p{percent:g} of {len(seconds)}", at, unit, bound if percent == percents[-1] else None)

    def load(self, name: str, load: Load) -> None:
        """End a load and check what it was told."""
        faults = load.check()
        self.faults_of(name, faults)
        self.figure(f"{name}: posts acknowledged", load.acknowledged)
        wrong = sum(fault.startswith(("LOST", "DOUBLED", "OUT", "SHOWN")) for fault in faults)
        self.figure(f"{name}: rooms with a post lost, doubled, out of order or unproven", wrong, bound=0)

    def fault(self, text: str) -> None:
        """Add a fault."""
        self.faults.append(text)
        print(f"FAULT {text}", flush=True)

    def faults_of(self, name: str, faults: Iterable[str]) -> None:
        """Add faults, with the name of the scenario."""
        for fault in faults:
            self.fault(f"{name}: {fault}")

    def keep_logs(self, folder: Path) -> None:
        """Copy the logs of a cluster to a folder of their own, and say where they are."""
        kept = Path(tempfile.mkdtemp(prefix="overseer-logs-"))
        for log in (path for pattern in ("**/*.log", "**/log") for path in folder.glob(pattern)):
            shutil.copy(log, kept / "-".join(log.relative_to(folder).parts))
        print(f"The logs are in {kept}.", flush=True)

    def expect(self, condition: bool, text: str) -> None:
        """Add a fault unless the condition holds."""
        if not condition:
            self.fault(text)
