"""Branches side by side, each a task of its own, against `asyncio.gather`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from flujo import Flujo, Step

from .bare import async_functions, in_turn
from .row import Row, cost_ratio
from .sampling import Effort, Estimate, compare

BRANCHES = 100
SLEEP_S = 0.010


def _fan(functions: list[Callable[..., Any]]) -> Flujo[int, Any]:
    branches = {f"branch {n}": Step(f"step {n}", function) for n, function in enumerate(functions)}
    return Flujo(Step.parallel("fan", branches))


async def _sleeps(x: int) -> int:
    await asyncio.sleep(SLEEP_S)
    return x


def rows(effort: Effort) -> Iterator[Row]:
    """Branches that do nothing (CPU time), and branches that sleep (wall time)."""
    functions = in_turn(async_functions(), BRANCHES)

    async def gather() -> list[int]:
        return await asyncio.gather(*[function(0) for function in functions])

    runner = _fan(functions)
    pair = compare(lambda: runner.run_async(0), gather, units=BRANCHES, effort=effort)
    yield cost_ratio(
        "parallel, 100 no-op branches",
        pair,
        at_most=0.7 if sys.version_info >= (3, 12) else 1.6,
        against="asyncio.gather",
        unit="µs/branch",
    )
    yield _sleeping(effort)


def _sleeping(effort: Effort) -> Row:
    runner = _fan([_sleeps] * BRANCHES)

    async def gather() -> list[int]:
        return await asyncio.gather(*[_sleeps(0) for _ in range(BRANCHES)])

    pair = compare(lambda: runner.run_async(0), gather, units=1, effort=effort, clock=time.perf_counter)
    ours = Estimate.of([SLEEP_S / seconds for seconds in pair.ours], SLEEP_S / min(pair.ours))
    return Row(
        name="parallel, 100 branches that sleep 10 ms",
        value=ours.least,
        unit="efficiency",
        baseline=SLEEP_S / min(pair.baseline),
        ratio=pair.ratio.least,
        reach=">= 0.90 of ideal",
        holds=ours.least >= 0.90,
        against="asyncio.gather",
        estimate=ours,
        note="wall time",
    )
