"""Thresholds and alerts, usable by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flujo._native import MonitorCore, OptimizationConfig
from flujo.application._alerts import raised, teller_for
from flujo.domain.alerts import Alert

__all__ = ["PerformanceMonitor"]


class PerformanceMonitor:
    """Watches the thresholds of a configuration: time of a step, hit rate of its cache, growth of memory.

    A crossing is told once, and again only after the value has been back: to the log `flujo.monitor`, to `on_alert` in
    a thread of its own, and to the caller. A record costs a fraction of a microsecond.

    Args:
        config: Whose thresholds hold; the defaults without it.
        on_alert: Is told of each `Alert`; it must be a plain function.
    """

    def __init__(
        self,
        config: OptimizationConfig | None = None,
        *,
        on_alert: Callable[[Alert], object] | None = None,
    ) -> None:
        self._core = MonitorCore(config)
        self._teller = teller_for(on_alert)
        self._alerts = 0

    def record(self, step: str, seconds: float) -> Alert | None:
        """A step took so long; an alert when that crosses `execution_time_threshold`.

        Raises:
            ValueError: the time is negative or not finite.
        """
        return self._told(self._core.record(step, seconds))

    def record_lookup(self, step: str, hit: bool) -> Alert | None:
        """A step looked for a result in its cache; each hundred of them is judged by `cache_hit_rate_threshold`."""
        return self._told(self._core.record_lookup(step, hit))

    def record_memory(self) -> Alert | None:
        """Look at the memory of the process; growth since this was made is judged by `memory_usage_threshold`."""
        return self._told(self._core.record_memory())

    def _told(self, fields: tuple[Any, ...] | None) -> Alert | None:
        if fields is None:
            return None
        self._alerts += 1
        return raised(self._teller, fields)

    def statistics(self) -> dict[str, int]:
        """Counts: `records`, `crossings`, thresholds that are `alarmed` now, and what became of callbacks."""
        return {
            **self._core.statistics(),
            "callbacks_failed": 0 if self._teller is None else self._teller.failed,
            "callbacks_skipped": 0 if self._teller is None else self._teller.skipped,
        }

    def reset(self) -> None:
        """Start anew: no threshold counts as crossed."""
        self._core.reset()
        if self._teller is not None:
            self._teller.reset()
