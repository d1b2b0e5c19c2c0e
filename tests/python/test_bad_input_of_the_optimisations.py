"""What the optimised parts are given that they can't work with: a clear error or documented containment, and the run's
result unharmed. Fields of a configuration are in test_optimization_config.py, alerts in test_alerts.py, parts that fail
in the middle in test_degraded_parts.py."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from flujo import Flujo, OptimizationConfig, PipelineContext, Step, Telemetry, UsageLimits, step
from flujo.application.core.executor_core import ObjectPool, OptimizedUsageMeter, PerformanceMonitor
from flujo.exceptions import ConfigurationError

BOTH = pytest.mark.parametrize("optimized", [True, False])


class Used:
    def __init__(self, **used: Any) -> None:
        self.output = "done"
        for name, value in used.items():
            setattr(self, name, value)


def no_number() -> float:
    return float("nan")


WRONG_USAGE: list[dict[str, Any]] = [
    {"cost_usd": float("nan")},
    {"cost_usd": float("inf")},
    {"cost_usd": -0.01},
    {"cost_usd": Decimal("NaN")},
    {"cost_usd": Decimal("-1")},
    {"cost_usd": "a lot"},
    {"cost_usd": 1e300},
    {"token_counts": -1},
    {"token_counts": 1.5},
    {"token_counts": 10**30},
    {"token_counts": "many"},
]


@BOTH
@pytest.mark.parametrize("used", WRONG_USAGE, ids=str)
async def test_usage_that_cannot_be_counted_fails_its_step_with_its_name_and_counts_nothing(
    used: dict[str, Any], optimized: bool
) -> None:
    async def wrong(value: int) -> Any:
        return Used(**used)

    async def right(value: Any) -> Any:
        return Used(token_counts=5, cost_usd=0.25)

    failing = Step("wrong", wrong, max_retries=0)
    runner = Flujo(
        Step.parallel("fan", {"wrong": failing, "right": Step("right", right)}, on_branch_failure="ignore"),
        usage_limits=UsageLimits(total_tokens_limit=5, total_cost_usd_limit=0.25),
        enable_optimizations=optimized,
    )
    for _ in range(2):  # nothing is left over in the meter that would refuse the next run
        result = await runner.run_async(1)
        assert result.success
        assert (result.total_tokens, result.total_cost_usd) == (5, 0.25)
        (name,) = used
        assert name in (result.step_history[0].step_history[0].feedback or "")
    committed = runner.get_performance_statistics()["usage_stats"]["committed"]
    assert (committed["tokens"], committed["cost_usd"]) == (10, 0.5)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0])
def test_limits_and_meters_refuse_what_is_no_amount(wrong: float) -> None:
    with pytest.raises((ValueError, ConfigurationError)):
        UsageLimits(total_cost_usd_limit=wrong)
    meter = OptimizedUsageMeter()
    with pytest.raises(ValueError, match="cost_usd"):
        meter.add(cost_usd=wrong)
    assert meter.statistics()["committed"]["cost_usd"] == 0


async def test_a_failed_attempt_whose_usage_is_no_amount_is_told_for_what_it_is() -> None:
    class Odd(Exception):
        cost_usd = no_number()

    async def fails(value: int) -> int:
        raise Odd("the real reason")

    result = await Flujo(Step("fails", fails, max_retries=0)).run_async(1)
    assert result.total_cost_usd == 0
    assert type(result.step_history[0].error) is Odd


@BOTH
async def test_a_pool_or_cache_of_a_million_million_takes_no_memory_for_it(optimized: bool) -> None:
    config = OptimizationConfig(max_pool_size=10**12, cache_max_size=10**12)
    made: list[int] = []

    @step
    async def work(value: int) -> int:
        made.append(value)
        return value + 1

    runner = Flujo(Step.cached(work), optimization_config=config, enable_optimizations=optimized)
    assert [(await runner.run_async(1)).output for _ in range(20)] == [2] * 20
    assert made == [1]
    pool: ObjectPool[list[int]] = ObjectPool(list, max_size=10**12)
    pool.release([])
    assert pool.max_size == 1_000_000
    assert pool.statistics()["retained"] == 1


class Bench(PipelineContext):
    bench: Any = None


@BOTH
@pytest.mark.parametrize(
    "make",
    [threading.Lock, lambda: (number for number in range(3)), socket.socket],
    ids=["lock", "generator", "socket"],
)
async def test_what_cannot_be_isolated_is_handed_on_in_contexts_branches_and_past_the_cache(
    make: Callable[[], Any], optimized: bool, caplog: pytest.LogCaptureFixture
) -> None:
    thing, made = make(), []

    @step
    async def gives(value: int) -> Any:
        made.append(value)
        return thing

    async def looks(value: Any, *, context: Bench) -> bool:
        await asyncio.sleep(0)
        return context.bench is thing and value is thing

    fan = Step.parallel("fan", {"a": Step("a", looks), "b": Step("b", looks)})
    runner = Flujo(
        Step.cached(gives) >> fan,
        context_model=Bench,
        initial_context_data={"bench": thing},
        enable_optimizations=optimized,
    )
    for _ in range(2):
        result = await runner.run_async(1)
        assert result.success, result.step_history[-1].feedback
        assert result.output == {"a": True, "b": True}
    assert "isn't cached" in caplog.text
    assert made == [1, 1]
    assert runner.get_performance_statistics()["alerts"] == []
    if isinstance(thing, socket.socket):
        thing.close()


async def test_a_copy_that_raises_fails_the_step_that_asked_for_it_and_not_the_runner() -> None:
    class Torn:
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("it can't be copied")

    @step
    async def looks(value: int, *, context: Bench) -> str:
        return type(context.bench).__name__

    for optimized in (True, False):
        runner = Flujo(looks, context_model=Bench, enable_optimizations=optimized)
        for _ in range(2):
            torn = await runner.run_async(1, initial_context_data={"bench": [Torn()]})
            if not torn.success:
                assert "it can't be copied" in (torn.step_history[0].feedback or "")
        assert (await runner.run_async(1, initial_context_data={"bench": 3})).output == "int"


async def test_a_collector_that_takes_a_connection_and_says_nothing_holds_up_no_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        telemetry = Telemetry(otlp=f"http://127.0.0.1:{hanging.getsockname()[1]}", timeout_s=3_600)
        runner = Flujo(Step("one", lambda value: value + 1), telemetry=telemetry)
        for value in range(50):
            assert (await runner.run_async(value)).output == value + 1
        assert telemetry.flush(0.05) is False
        assert telemetry.shutdown(0.05) is False
    assert runner.get_performance_statistics()["telemetry_metrics"]["spans_ended"] == 150


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_a_monitor_by_itself_refuses_what_is_no_time(seconds: float) -> None:
    monitor = PerformanceMonitor(OptimizationConfig(execution_time_threshold=1))
    with pytest.raises(ValueError, match="a finite number, 0 or more"):
        monitor.record("step", seconds)
    assert monitor.statistics()["records"] == 0
