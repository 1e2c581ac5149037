"""A figure of the benchmark: measured values with their bound and floor."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_repeats = True


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table: a value for each repeat, of which the median counts.

    `floor` is the value of the machine alone in the same run. The median may be at most `bound`, and at most `times`
    the floor; with `least`, it must be at least that.
    """

    name: str
    values: tuple[float, ...]
    unit: str
    bound: float | None = None
    floor: float | None = None
    times: float | None = None
    least: bool = False

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def limits(self) -> tuple[float, ...]:
        """All bounds, in the unit of the figure."""
        of_floor = self.floor * self.times if self.floor is not None and self.times is not None else None
        return tuple(limit for limit in (self.bound, of_floor) if limit is not None)

    @property
    def over(self) -> bool:
        """Whether it breaks a bound."""
        return any(self.value < limit if self.least else self.value > limit for limit in self.limits)

    def row(self) -> str:
        """Return the figure as a line of the table."""
        spread = f"{formatted(min(self.values))}–{formatted(max(self.values))}" if len(self.values) > 1 else ""
        sign = "≥" if self.least else "≤"
        floor = "" if self.floor is None else f"{formatted(self.floor)} (× {self.value / self.floor:.2f})"
        bounds = [f"{sign} {formatted(self.bound)}"] if self.bound is not None else []
        bounds += [f"{sign} {self.times:g} × floor"] if self.times is not None else []
        mark = "  OVER" if self.over else ""
        value = f"{formatted(self.value)} {self.unit}".rstrip()
        return f"{self.name:66} {value:>16}  {spread:>17}  {floor:>18}  {', '.join(bounds)}{mark}".rstrip()

    def record(self) -> dict[str, object]:
        """Return the figure for JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "values": list(self.values),
            "unit": self.unit,
            "bound": self.bound,
            "floor": self.floor,
            "times_floor": self.times,
            "at_least": self.least,
            "over": self.over,
        }


HEAD = f"{'figure':66} {'median':>16}  {'min–max':>17}  {'floor (ratio)':>18}  bound"


def formatted(value: float) -> str:
    """Format a number with about three significant digits."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def once() -> None:
    """Measure everything only once from now on."""
    global _repeats
    _repeats = False


def repeats(usual: int, least: int = 1) -> int:
    """Return how often to measure: `usual`, or `least` after a call of `once`."""
    return usual if _repeats else least


def repeated(measure: Callable[[], float], rounds: int = 5) -> tuple[float, ...]:
    """Return the results of several measurements."""
    return tuple(measure() for _ in range(repeats(rounds)))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of the sorted `values`."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))]
