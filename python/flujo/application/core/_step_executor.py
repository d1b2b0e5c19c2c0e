"""Running single steps with their analysis kept, usable by itself; and all parts together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from flujo._native import CompiledPlan, OptimizationConfig
from flujo.application.core._context_manager import OptimizedContextManager
from flujo.application.core._performance_monitor import PerformanceMonitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from flujo.application.runner import Flujo
    from flujo.domain.alerts import Alert
    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.dsl.step import Step
    from flujo.domain.results import StepResult

__all__ = ["ExecutorCore", "OptimizedStepExecutor"]

KEPT = 128
"""How many steps' analyses are kept: those that were used last."""


class OptimizedStepExecutor:
    """Runs steps one by one, each analysed once: when it is used first, and again after it was changed.

    A step is known by the object itself, which is held while its analysis is; the 128 that were used last are.

    Args:
        config: Which optimised parts the steps use; the defaults without it.
        enable_optimizations: False uses the plain parts, and analyses a step each time.
    """

    def __init__(
        self, config: OptimizationConfig | None = None, *, enable_optimizations: bool = True
    ) -> None:
        self._config = config
        self._optimized = enable_optimizations
        self._runners: OrderedDict[tuple[int, type[Any] | None, int], tuple[Any, Any, Flujo[Any, Any]]]
        self._runners = OrderedDict()
        self._lock = threading.Lock()
        self._gone = {"analyses": 0, "reuses": 0, "invalidations": 0, "executions": 0}

    def plan(self, step: Step[Any, Any] | Pipeline[Any, Any]) -> CompiledPlan:
        """What is known about a step or pipeline before it runs."""
        return self._runner(step, None, None).plan()

    async def execute(
        self,
        step: Step[Any, Any] | Pipeline[Any, Any],
        data: Any,
        *,
        context: BaseModel | None = None,
        resources: Any = None,
    ) -> StepResult:
        """Run a step with its whole life: processors, retries, validators, plugins, fallback.

        Args:
            step: The step; of a pipeline the result is that of its last step that ran.
            data: Its input.
            context: The state that it sees. What the step writes is written to it when the step succeeds.
            resources: What it gets as `resources`.
        """
        runner = self._runner(step, None if context is None else type(context), resources)
        if context is None:
            result = await runner.run_async(data)
            return result.step_history[-1]
        fields = {name: getattr(context, name) for name in type(context).model_fields}
        fields.update(context.model_extra or {})
        result = await runner.run_async(data, initial_context_data=fields)
        if result.success:
            final: Any = result.final_pipeline_context
            for name in final.model_fields_set | set(final.model_extra or ()):
                setattr(context, name, getattr(final, name))
        return result.step_history[-1]

    def _runner(self, step: Any, model: type[Any] | None, resources: Any) -> Flujo[Any, Any]:
        from flujo.application.runner import Flujo

        # The objects are held beside the runner, so that nothing else can have their ids meanwhile.
        key = (id(step), model, id(resources))
        with self._lock:
            if (known := self._runners.get(key)) is not None:
                self._runners.move_to_end(key)
                return known[2]
            runner: Flujo[Any, Any] = Flujo(
                step,
                context_model=model,
                resources=resources,
                optimization_config=self._config,
                enable_optimizations=self._optimized,
            )
            self._runners[key] = (step, resources, runner)
            if len(self._runners) > KEPT:
                _, (_, _, gone) = self._runners.popitem(last=False)
                self._count(self._gone, gone)
            return runner

    @staticmethod
    def _count(counts: dict[str, int], runner: Flujo[Any, Any]) -> None:
        statistics = runner.get_performance_statistics()
        for name, count in statistics["analysis_stats"].items():
            counts[name] += count
        counts["executions"] += statistics["execution_count"]

    def statistics(self) -> dict[str, int]:
        """Counts: `analyses`, `reuses`, `invalidations`, `executions`."""
        with self._lock:
            counts = dict(self._gone)
            for _, _, runner in self._runners.values():
                self._count(counts, runner)
            return counts


class ExecutorCore:
    """The executor's parts in one place: steps are run with their analysis kept, contexts isolated, time watched.

    Most programs use a runner, `Flujo(pipeline)`, which has all of this; this is for those that run steps themselves.

    Args:
        config: Which optimised parts are used, and their thresholds.
        enable_optimizations: False uses the plain parts.
        on_alert: Is told of each `Alert` of the monitor.
    """

    def __init__(
        self,
        config: OptimizationConfig | None = None,
        *,
        enable_optimizations: bool = True,
        on_alert: Callable[[Alert], object] | None = None,
    ) -> None:
        self.config = config if config is not None else OptimizationConfig()
        self.context_manager = OptimizedContextManager()
        self.step_executor = OptimizedStepExecutor(self.config, enable_optimizations=enable_optimizations)
        self.monitor = PerformanceMonitor(self.config, on_alert=on_alert)

    async def execute(
        self,
        step: Step[Any, Any] | Pipeline[Any, Any],
        data: Any,
        *,
        context: BaseModel | None = None,
        resources: Any = None,
    ) -> StepResult:
        """Run a step and watch the time it takes. See `OptimizedStepExecutor.execute`."""
        result = await self.step_executor.execute(step, data, context=context, resources=resources)
        self.monitor.record(result.name, result.latency_s)
        return result

    def statistics(self) -> dict[str, dict[str, int]]:
        """What each part counts, by its name."""
        return {
            "context": self.context_manager.statistics(),
            "analysis": self.step_executor.statistics(),
            "monitor": self.monitor.statistics(),
        }
