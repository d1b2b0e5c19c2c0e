"""Many runs of one runner at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from .bare import async_functions, await_loop, in_turn
from .linear import runner_of
from .row import Row, cost_ratio
from .sampling import Effort, compare

RUNS = 1000
STEPS = 5


def rows(effort: Effort) -> Iterator[Row]:
    """1,000 runs of five steps as tasks, against tasks that await the same functions."""
    functions = in_turn(async_functions(), STEPS)
    runner, bare = runner_of(functions), await_loop(functions)

    async def runs() -> None:
        await asyncio.gather(*[asyncio.create_task(runner.run_async(0)) for _ in range(RUNS)])

    async def tasks() -> None:
        await asyncio.gather(*[asyncio.create_task(bare()) for _ in range(RUNS)])

    pair = compare(runs, tasks, units=RUNS, effort=effort)
    yield cost_ratio(
        "1,000 concurrent runs of 5 steps",
        pair,
        at_most=4.3,
        against="bare tasks awaiting the same functions",
        unit="µs/run",
    )
