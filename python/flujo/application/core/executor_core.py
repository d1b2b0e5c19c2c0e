"""The executor's configuration, and its optimised parts, usable by themselves.

`Flujo(pipeline)` has all of them; each can be used without a runner, and says what it did with `statistics()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flujo._native import OptimizationConfig as OptimizationConfig
from flujo._native import OptimizedTelemetry as OptimizedTelemetry
from flujo._native import OptimizedUsageMeter as OptimizedUsageMeter
from flujo._native import UsageReservation as UsageReservation

if TYPE_CHECKING:
    from flujo.application.core._cache_backend import OptimizedCacheBackend
    from flujo.application.core._context_manager import OptimizedContextManager
    from flujo.application.core._object_pool import ObjectPool
    from flujo.application.core._performance_monitor import PerformanceMonitor
    from flujo.application.core._step_executor import ExecutorCore, OptimizedStepExecutor

__all__ = [
    "ExecutorCore",
    "ObjectPool",
    "OptimizationConfig",
    "OptimizedCacheBackend",
    "OptimizedContextManager",
    "OptimizedStepExecutor",
    "OptimizedTelemetry",
    "OptimizedUsageMeter",
    "PerformanceMonitor",
    "UsageReservation",
]

_MODULE_OF = {
    "ExecutorCore": "_step_executor",
    "ObjectPool": "_object_pool",
    "OptimizedCacheBackend": "_cache_backend",
    "OptimizedContextManager": "_context_manager",
    "OptimizedStepExecutor": "_step_executor",
    "PerformanceMonitor": "_performance_monitor",
}

if not TYPE_CHECKING:  # the parts are loaded when somebody uses them

    def __getattr__(name: str) -> Any:
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"flujo.application.core.{module}"), name)
        return value
