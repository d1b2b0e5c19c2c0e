"""A row of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .sampling import Estimate, Pair


@dataclass(frozen=True)
class Row:
    """One figure beside its baseline. `value` and `ratio` come from the minima over the samples, which other load on
    the machine moves least; `median` and `interval` (95 %) are those of the figure that `reach` speaks of first.

    Args:
        name: What was measured.
        value: The figure.
        unit: Its unit.
        baseline: What the same costs without Flujo, in the same unit.
        ratio: Our cost over the baseline's.
        reach: What is to be reached, in words.
        holds: Whether it is; None where nothing was measured or nothing is to be reached.
        against: What the baseline is.
        estimate: The samples' median and interval.
        note: Why nothing was measured, or under which conditions.
    """

    name: str
    value: float | None
    unit: str
    baseline: float | None
    ratio: float | None
    reach: str
    holds: bool | None
    against: str = ""
    estimate: Estimate | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row as it stands in the report."""
        row: dict[str, Any] = {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "ratio": self.ratio,
            "reach": self.reach,
            "holds": self.holds,
            "against": self.against,
        }
        if self.estimate is not None:
            row["median"] = self.estimate.median
            row["interval"] = list(self.estimate.interval)
        if self.note:
            row["note"] = self.note
        return row


_MICRO = 1e6


def added_cost(
    name: str,
    pair: Pair,
    *,
    at_most: float | None,
    at_most_ratio: float | None = None,
    against: str,
    unit: str = "µs/step",
) -> Row:
    """What ours costs more than the baseline, in microseconds, bounded where a reach is given."""
    added, ratio = pair.difference, pair.ratio
    value = added.least * _MICRO
    reach = "reported" if at_most is None else f"+ <= {at_most:g} µs"
    holds = None if at_most is None else value <= at_most
    if at_most_ratio is not None:
        reach += f", <= {at_most_ratio:g} x"
        holds = holds is not False and ratio.least <= at_most_ratio
    return Row(
        name=name,
        value=value,
        unit=unit,
        baseline=min(pair.baseline) * _MICRO,
        ratio=ratio.least,
        reach=reach,
        holds=holds,
        against=against,
        estimate=_scaled(added, _MICRO),
    )


def cost_ratio(
    name: str,
    pair: Pair,
    *,
    at_most: float | None,
    against: str,
    unit: str,
    scale: float = _MICRO,
    note: str = "",
) -> Row:
    """What ours costs, with a bound on its ratio to the baseline."""
    ratio = pair.ratio
    return Row(
        name=name,
        value=min(pair.ours) * scale,
        unit=unit,
        baseline=min(pair.baseline) * scale,
        ratio=ratio.least,
        reach="reported" if at_most is None else f"<= {at_most:g} x",
        holds=None if at_most is None else ratio.least <= at_most,
        against=against,
        estimate=ratio,
        note=note,
    )


def not_measured(name: str, *, reach: str, unit: str, why: str) -> Row:
    """A row whose figure this run doesn't have."""
    return Row(name, None, unit, None, None, reach, None, note=why)


def _scaled(estimate: Estimate, by: float) -> Estimate:
    low, high = estimate.interval
    return Estimate(estimate.least * by, estimate.median * by, (low * by, high * by))
