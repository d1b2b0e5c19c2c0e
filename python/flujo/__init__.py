"""Flujo runs AI pipelines: steps around models and tools, with retries, fallbacks, budgets and exact records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flujo import _clash

_clash.check()

if TYPE_CHECKING:
    from flujo.application._place import current_step
    from flujo.application.core.executor_core import OptimizationConfig
    from flujo.application.runner import Flujo
    from flujo.domain.alerts import Alert
    from flujo.domain.backoff import Backoff
    from flujo.domain.caching import CachePolicy, InMemoryCache, RedisCache, SQLiteCache
    from flujo.domain.context import PipelineContext
    from flujo.domain.dsl import (
        BranchFailureStrategy,
        MergeStrategy,
        Pipeline,
        Step,
        StepConfig,
        blocking,
        step,
    )
    from flujo.domain.rate_limit import RateLimit
    from flujo.domain.resources import AppResources
    from flujo.domain.results import PipelineResult, StepResult
    from flujo.domain.secret import Secret
    from flujo.domain.usage import UsageLimits
    from flujo.infra.telemetry import Telemetry, init_telemetry
    from flujo.recipes.factories import (
        make_agentic_loop_pipeline,
        make_default_pipeline,
        run_agentic_loop_pipeline,
        run_default_pipeline,
    )

__version__ = "0.1.0"

_MODULE_OF = {
    "Alert": "domain.alerts",
    "AppResources": "domain.resources",
    "Backoff": "domain.backoff",
    "BranchFailureStrategy": "domain.dsl",
    "CachePolicy": "domain.caching",
    "Flujo": "application.runner",
    "InMemoryCache": "domain.caching",
    "MergeStrategy": "domain.dsl",
    "OptimizationConfig": "application.core.executor_core",
    "Pipeline": "domain.dsl",
    "PipelineContext": "domain.context",
    "PipelineResult": "domain.results",
    "RedisCache": "domain.caching",
    "SQLiteCache": "domain.caching",
    "RateLimit": "domain.rate_limit",
    "Secret": "domain.secret",
    "Step": "domain.dsl",
    "StepConfig": "domain.dsl",
    "StepResult": "domain.results",
    "Telemetry": "infra.telemetry",
    "UsageLimits": "domain.usage",
    "blocking": "domain.dsl",
    "current_step": "application._place",
    "init_telemetry": "infra.telemetry",
    "make_agentic_loop_pipeline": "recipes.factories",
    "make_default_pipeline": "recipes.factories",
    "run_agentic_loop_pipeline": "recipes.factories",
    "run_default_pipeline": "recipes.factories",
    "step": "domain.dsl",
}

__all__ = [
    "Alert",
    "AppResources",
    "Backoff",
    "BranchFailureStrategy",
    "CachePolicy",
    "Flujo",
    "InMemoryCache",
    "MergeStrategy",
    "OptimizationConfig",
    "Pipeline",
    "PipelineContext",
    "PipelineResult",
    "RateLimit",
    "RedisCache",
    "SQLiteCache",
    "Secret",
    "Step",
    "StepConfig",
    "StepResult",
    "Telemetry",
    "UsageLimits",
    "__version__",
    "blocking",
    "current_step",
    "init_telemetry",
    "make_agentic_loop_pipeline",
    "make_default_pipeline",
    "run_agentic_loop_pipeline",
    "run_default_pipeline",
    "step",
]

if not TYPE_CHECKING:  # type checkers would take every unknown name for a valid one

    def __getattr__(name: str) -> Any:
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"flujo.{module}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
