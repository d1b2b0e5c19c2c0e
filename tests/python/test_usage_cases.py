"""Cases of docs/cases.md about usage and growth, on the asyncio runner."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from flujo import Flujo, OptimizationConfig, Step, StepConfig, UsageLimits
from flujo.application.core.executor_core import OptimizedUsageMeter
from flujo.domain.agent_result import FlujoAgentResult
from flujo.domain.models import PipelineContext
from flujo.domain.plugins import PluginOutcome
from flujo.exceptions import UsageLimitExceededError


@pytest.mark.parametrize("optimized", [True, False])
async def test_p03_of_eight_branches_that_start_together_only_those_that_fit_are_called(
    optimized: bool,
) -> None:
    started: list[str] = []
    ended: list[str] = []

    def branch(name: str) -> Step[Any, Any]:
        async def agent(x: Any) -> FlujoAgentResult[str]:
            started.append(name)
            try:
                await asyncio.Event().wait()  # held until it is cancelled
            finally:
                ended.append(name)
            return FlujoAgentResult(name, cost_usd=0.02)

        return Step(name, agent, config=StepConfig(expected_cost_usd=0.04, max_retries=0))

    fan = Step.parallel("fan", {name: branch(name) for name in "abcdefgh"})
    config = OptimizationConfig(enable_usage_optimization=optimized)
    limits = UsageLimits(total_cost_usd_limit=0.10)
    with pytest.raises(UsageLimitExceededError) as caught:
        await Flujo(fan, usage_limits=limits, optimization_config=config).run_async(0)
    error = caught.value
    assert (started, ended) == (["a", "b"], ["a", "b"])
    assert (error.refused_step, error.used, error.reserved) == ("c", 0.0, 0.08)
    assert error.result is not None and error.result.total_cost_usd == 0.0
    assert [step.name for step in error.result.step_history] == ["fan"]


@pytest.mark.parametrize("optimized", [True, False])
async def test_p03_what_is_given_back_lets_five_calls_fit_one_after_the_other(optimized: bool) -> None:
    calls: list[int] = []

    async def agent(x: int) -> FlujoAgentResult[int]:
        calls.append(x)
        return FlujoAgentResult(x, cost_usd=0.02)

    step = Step("call", agent, config=StepConfig(expected_cost_usd=0.02, max_retries=0))
    config = OptimizationConfig(enable_usage_optimization=optimized)
    limits = UsageLimits(total_cost_usd_limit=0.10)
    runner = Flujo(Step.map_over("all", step), usage_limits=limits, optimization_config=config)
    with pytest.raises(UsageLimitExceededError) as caught:
        await runner.run_async(list(range(8)))
    assert calls == [0, 1, 2, 3, 4]
    assert (caught.value.used, caught.value.reserved) == (0.10, 0.0)
    assert caught.value.result is not None and caught.value.result.total_cost_usd == 0.10


def test_p38_64_threads_with_1000_batches_of_7_tokens_make_448_000() -> None:
    meter = OptimizedUsageMeter(UsageLimits(total_tokens_limit=448_000))
    begin = threading.Barrier(65)
    done = threading.Event()
    read: list[int] = []

    def report() -> None:
        begin.wait()
        for _ in range(1000):
            meter.add(tokens=7)

    def watch() -> None:
        begin.wait()
        while not done.is_set():
            read.append(meter.used["tokens"])

    threads = [threading.Thread(target=report) for _ in range(64)]
    watcher = threading.Thread(target=watch)
    for thread in (*threads, watcher):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert meter.used["tokens"] == 448_000  # every thread has died by now
    assert read == sorted(read)
    assert all(tokens % 7 == 0 for tokens in read)
    with pytest.raises(UsageLimitExceededError):
        meter.add(tokens=1)


async def test_p38_64_branches_half_of_them_in_threads_lose_no_token() -> None:
    def branch(place: int) -> Step[Any, Any]:
        async def on_loop(x: int) -> FlujoAgentResult[int]:
            return FlujoAgentResult(x + 1, token_counts=7)

        def in_thread(x: int) -> FlujoAgentResult[int]:
            return FlujoAgentResult(x + 1, token_counts=7)

        step = Step(f"work{place}", on_loop if place % 2 else in_thread)
        return Step.loop_until(f"again{place}", step, lambda out, _: out >= 50, max_loops=50)

    fan = Step.parallel("fan", {f"b{place}": branch(place) for place in range(64)})
    runner = Flujo(fan, usage_limits=UsageLimits(total_tokens_limit=64 * 50 * 7))
    result = await runner.run_async(0)
    assert (result.success, result.total_tokens) == (True, 22_400)


class Growing(PipelineContext):
    messages: list[str] = []
    untouched: list[bytes] = []


async def test_p14_a_large_field_that_nobody_touches_costs_no_work_per_step() -> None:
    """What is cloned is counted: with ten megabytes beside it, it's the same to the byte."""

    async def append(x: int, context: Growing) -> int:
        context.messages.append("m" * 1000)
        return x + 1

    cloned = []
    for megabytes in (0, 10):
        data = {"initial_prompt": "", "untouched": [bytes(1_000_000) for _ in range(megabytes)]}
        loop = Step.loop_until("grow", Step("append", append), lambda out, _: out >= 300, max_loops=300)
        runner = Flujo(loop, context_model=Growing, initial_context_data=data)
        result = await runner.run_async(0)
        assert len(result.final_pipeline_context.messages) == 300
        statistics = runner.get_performance_statistics()["context_stats"]
        cloned.append({name: statistics[name] for name in ("forks", "fields_cloned", "bytes_cloned")})
    assert cloned[0] == cloned[1]
    assert cloned[0]["fields_cloned"] == 300


def test_what_a_construct_expects_is_set_aside_for_the_agent_that_its_plugin_asks_for() -> None:
    called = []

    async def another(given: Any) -> str:
        called.append(given)
        return "another"

    def validate(data: Any) -> PluginOutcome:
        asks = not called
        return PluginOutcome(success=not asks, redirect_to=another if asks else None)

    both: Any = Step.parallel(
        "both",
        {"a": Step[Any, Any]("a", str)},
        plugins=[(validate, 0)],
        config=StepConfig(max_retries=0, expected_tokens=7),
    )
    with pytest.raises(UsageLimitExceededError, match="Token limit of 6"):
        Flujo(both, usage_limits=UsageLimits(total_tokens_limit=6)).run(1)
    assert called == []
    assert Flujo(both, usage_limits=UsageLimits(total_tokens_limit=7)).run(1).output == "another"
