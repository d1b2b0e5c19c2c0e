"""Cases of `docs/cases.md` about what runs leave behind, and what one may see of another."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref
from typing import Any

import pytest

from flujo import Flujo, OptimizationConfig, PipelineContext, Step, step

RUNS = 20_000
ITERATIONS = 20_000
DRIFT = 20_000_000
"""By how many bytes resident memory may differ after warming up."""


class Held:
    """Something whose end is seen."""


class Heavy(PipelineContext):
    text: str = ""
    held: Any = None


def resident(runner: Flujo[Any, Any]) -> int:
    gc.collect()
    current: int = runner.get_performance_statistics()["memory_stats"]["current_rss_bytes"]
    return current


def test_p15_many_runs_some_failing_some_cancelled_leave_nothing_behind() -> None:
    @step(max_retries=0)
    async def work(number: int, context: Heavy) -> int:
        context.text = "x" * 10_000
        context.held = Held()
        last.append(weakref.ref(context.held))
        del last[:-10]
        if number % 10 == 3:
            raise ValueError(number)
        if number % 10 == 7:
            await asyncio.Event().wait()
        return number

    last: list[weakref.ref[Held]] = []
    runner = Flujo(work, context_model=Heavy)

    async def runs(numbers: range) -> None:
        for number in numbers:
            task = asyncio.ensure_future(runner.run_async(number))
            await asyncio.sleep(0)
            if number % 10 == 7:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(runs(range(RUNS // 5)))
    before = resident(runner)
    asyncio.run(runs(range(RUNS)))
    grown = resident(runner) - before
    assert grown < DRIFT, f"resident memory has grown by {grown} bytes"
    assert [held() for held in last] == [None] * len(last)
    statistics = runner.get_performance_statistics()
    assert statistics["execution_count"] == RUNS + RUNS // 5
    assert statistics["pool_stats"]["in_use"] == 0


def test_p15_a_run_of_many_iterations_keeps_nothing_of_those_that_are_over() -> None:
    alive: weakref.WeakSet[Held] = weakref.WeakSet()

    @step
    async def turn(count: int, context: Heavy) -> int:
        context.text = f"{count}" + "x" * 10_000
        context.held = Held()
        alive.add(context.held)
        return count + 1

    most = []

    def over(count: int, context: Heavy) -> bool:
        if count % 1_000 == 0:
            gc.collect()
            most.append(len(alive))
        return count == ITERATIONS

    repeat = Step.loop_until("loop", turn, over, max_loops=ITERATIONS)
    runner = Flujo(repeat, context_model=Heavy)
    before = resident(runner)
    result = runner.run(0)
    assert result.output == ITERATIONS
    assert max(most) <= 4, "the newest ones"
    grown = resident(runner) - before
    # Each iteration leaves its record; their contexts together would be 200 MB.
    assert grown < 3 * DRIFT, f"resident memory has grown by {grown} bytes"


@pytest.mark.parametrize("optimized", [True, False])
def test_p16_no_run_shows_anything_of_another_with_either_twin(optimized: bool) -> None:
    @step(max_retries=1)
    async def keep(secret: str, context: Heavy) -> str:
        context.text = secret
        await asyncio.sleep(0)
        if secret.endswith("7"):
            raise ValueError(f"broke over {secret}")
        return secret

    @step
    async def look(secret: str, context: Heavy) -> str:
        assert context.text == secret
        await asyncio.sleep(0)
        return context.text

    pipeline = keep >> Step.parallel("lanes", {"a": look, "b": look})
    config = OptimizationConfig(max_pool_size=2)
    runner = Flujo(pipeline, context_model=Heavy, optimization_config=config, enable_optimizations=optimized)

    async def at_once(secrets: list[str]) -> list[Any]:
        return await asyncio.gather(*(runner.run_async(secret) for secret in secrets))

    secrets = [[f"secret-{batch}-{number}-{number % 10}" for number in range(50)] for batch in range(4)]
    results = [asyncio.run(at_once(batch)) for batch in secrets]
    # Looked at when all runs are over.
    for batch, ended in zip(secrets, results, strict=True):
        for secret, result in zip(batch, ended, strict=True):
            assert result.success is not secret.endswith("7")
            shown = repr(result) + repr(result.final_pipeline_context.text)
            assert set(re.findall(r"secret-[\d-]+", shown)) == {secret}
    assert runner.get_performance_statistics()["pool_stats"]["in_use"] == 0
