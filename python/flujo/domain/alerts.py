"""What a runner tells of itself: a threshold that was crossed, or a part that gave way to its plain form."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Alert", "AlertKind"]

AlertKind = Literal["execution_time", "memory_usage", "cache_hit_rate", "degraded"]


class Alert(NamedTuple):
    """A threshold of `OptimizationConfig` was crossed, or an optimised part failed and its plain form took over.

    A crossing is told once; the next one after the value has been back.
    """

    kind: AlertKind
    part: str
    """The part concerned: `monitor`, `cache`, `pool`, `context`, `analysis`, `telemetry` or `usage`."""
    value: float | None
    """What was measured: seconds, megabytes or a share from 0 to 1; None for `degraded`."""
    threshold: float | None
    """What was allowed, in the same unit."""
    step: str | None
    """The step concerned."""
    time: float
    """When, in seconds since the Unix epoch."""
    message: str
    """What happened and why, for people to read."""
