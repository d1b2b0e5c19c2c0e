"""Spans and metrics of runs, and who gets them."""

from __future__ import annotations

from typing import Any

from flujo._native import OptimizedTelemetry as Telemetry

__all__ = ["Telemetry", "init_telemetry"]

_of_process: Telemetry | None = None


def init_telemetry(telemetry: Telemetry | None = None, **options: Any) -> Telemetry:
    """Give the runs of this process their telemetry: every runner that is made from now on and isn't given one of its
    own uses it.

    Args:
        telemetry: What they use; by default a new `Telemetry`.
        **options: Of that new one.

    Raises:
        TypeError: both are given, or it is no `Telemetry`.
    """
    global _of_process
    if telemetry is None:
        telemetry = Telemetry(**options)
    elif options:
        raise TypeError("give init_telemetry() a Telemetry or the options of one, not both")
    elif not isinstance(telemetry, Telemetry):
        raise TypeError(f"init_telemetry() takes a Telemetry, not {type(telemetry).__name__}")
    _of_process = telemetry
    return telemetry


def of_process() -> Telemetry | None:
    """What `init_telemetry` was given."""
    return _of_process
