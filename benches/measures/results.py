"""What it costs to read what a run has left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from flujo import Flujo

from .bare import async_functions, in_turn
from .linear import runner_of
from .row import Row, added_cost
from .sampling import Effort, compare

STEPS = 100


def rows(effort: Effort) -> Iterator[Row]:
    """A run whose every `StepResult` is read, against the same run unread."""
    runner = runner_of(in_turn(async_functions(), STEPS))

    async def read() -> float:
        result = await runner.run_async(0)
        seconds = 0.0
        for step in result.step_history:
            if step.success and step.name and step.attempts == 1 and step.output is not None:
                seconds += step.latency_s
        return seconds

    pair = compare(read, lambda: runner.run_async(0), units=STEPS, effort=effort)
    yield added_cost(
        "linear, reading every StepResult afterwards", pair, at_most=0.5, against="the same run, unread"
    )

    async def dump() -> int:
        result = await runner.run_async(0)
        return sum(len(step.__dict__) for step in result.step_history)

    pair = compare(dump, lambda: runner.run_async(0), units=STEPS, effort=effort)
    yield added_cost(
        "linear, every field of every StepResult", pair, at_most=None, against="the same run, unread"
    )

    async def nothing() -> None:
        pass

    for names, at_most in ((10, 50.0), (STEPS, None)):
        counted = runner_of(in_turn(async_functions(), names))
        asyncio.run(_thousand(counted))

        async def statistics(counted: Flujo[Any, Any] = counted) -> object:
            return counted.get_performance_statistics()

        pair = compare(statistics, nothing, units=1, effort=effort)
        yield added_cost(
            f"statistics of 1,000 runs, {names} step names",
            pair,
            at_most=at_most,
            against="an empty coroutine",
            unit="µs/read",
        )


async def _thousand(runner: Flujo[Any, Any]) -> None:
    for _ in range(1_000):
        await runner.run_async(0)
