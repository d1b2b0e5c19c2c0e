"""The executor's configuration, and its optimised parts, usable by themselves."""

from __future__ import annotations

from flujo._native import OptimizationConfig as OptimizationConfig
from flujo._native import OptimizedTelemetry as OptimizedTelemetry
from flujo._native import OptimizedUsageMeter as OptimizedUsageMeter
from flujo._native import UsageReservation as UsageReservation

__all__ = ["OptimizationConfig", "OptimizedTelemetry", "OptimizedUsageMeter", "UsageReservation"]
