"""Runs whose runner is switched at random meanwhile: all the same, and none lost."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from typing import Annotated, Any

import pytest

from flujo import Flujo, OptimizationConfig, PipelineContext, Step, merge, step
from flujo.domain.results import PipelineResult

RUNS = int(os.environ.get("FLUJO_SWITCHED_RUNS", "2000"))
AT_ONCE = 50

SWITCHES = [switch for switch in OptimizationConfig().to_dict() if switch.startswith("enable_")]


class Board(PipelineContext):
    seen: Annotated[int, merge.Sum()] = 0
    log: list[str] = []
    nested: dict[str, list[int]] = {"a": [1]}


def pipeline() -> Any:
    tried: set[int] = set()

    @step(max_retries=1)
    async def flaky(value: int, context: Board) -> int:
        context.log.append("tried")
        if value not in tried:
            tried.add(value)
            raise ValueError("the first attempt always fails")
        tried.discard(value)
        return value

    def lane(name: str) -> Step[Any, Any]:
        async def work(value: int, context: Board) -> int:
            context.seen += 1
            context.log.append(name)
            context.nested["a"].append(value - value + len(name))
            await asyncio.sleep(0)
            return 1

        return step(name=name)(work)

    @step
    async def add(outputs: dict[str, int], context: Board) -> int:
        return sum(outputs.values()) + context.seen

    lanes = Step.parallel("lanes", {name: lane(name) for name in ("a", "bb", "ccc", "dddd")})
    return flaky >> lanes >> add


def told(result: PipelineResult[Any, Any]) -> Any:
    context: Any = result.final_pipeline_context
    steps = [(each.name, each.success, each.attempts, each.feedback) for each in result.step_history]
    return result.status, result.output, steps, context.seen, context.log, context.nested


async def batch(runner: Flujo[Any, Any], numbers: range) -> list[Any]:
    results = await asyncio.gather(*(runner.run_async(number) for number in numbers))
    return [told(result) for result in results]


def expected() -> Any:
    runner = Flujo(pipeline(), context_model=Board)
    (one,) = asyncio.run(batch(runner, range(1)))
    assert one[:2] == ("completed", 8)
    assert one[4] == ["tried", "a", "bb", "ccc", "dddd"]
    return one


@pytest.mark.parametrize("switch", [None, *SWITCHES])
def test_each_part_alone_on_its_plain_form_gives_the_same_runs(switch: str | None) -> None:
    config = OptimizationConfig.plain() if switch is None else OptimizationConfig(**{switch: False})
    runner = Flujo(pipeline(), context_model=Board, optimization_config=config)
    assert asyncio.run(batch(runner, range(20))) == [expected()] * 20


def test_runs_with_the_switch_thrown_at_random_while_they_run_are_all_the_same() -> None:
    patient = OptimizationConfig(execution_time_threshold=3600)
    runner = Flujo(pipeline(), context_model=Board, optimization_config=patient)
    over = threading.Event()
    thrown = [0]

    def throw() -> None:
        chance = random.Random(1)
        while not over.wait(0.0005):
            chance.choice((runner.enable_optimizations, runner.disable_optimizations))()
            thrown[0] += 1

    thrower = threading.Thread(target=throw)
    thrower.start()
    try:
        same = expected()
        for first in range(0, RUNS, AT_ONCE):
            assert asyncio.run(batch(runner, range(first, first + AT_ONCE))) == [same] * AT_ONCE
    finally:
        over.set()
        thrower.join()
    statistics = runner.get_performance_statistics()
    assert thrown[0] > 0
    assert statistics["execution_count"] == RUNS
    assert statistics["error_stats"]["count"] == 0
    assert statistics["alerts"] == []
    analyses = statistics["analysis_stats"]
    assert analyses["analyses"] + analyses["reuses"] == RUNS
