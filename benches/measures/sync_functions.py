"""Plain functions as steps: in the pool, and on the loop's own thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from flujo import Flujo, Pipeline, Step, step

from .bare import in_turn, sync_functions
from .row import Row, added_cost, cost_ratio
from .sampling import Effort, compare

STEPS = 100


def rows(effort: Effort) -> Iterator[Row]:
    """The pool against `asyncio.to_thread`; inline against calling the function."""
    functions = in_turn(sync_functions(), STEPS)

    async def to_thread() -> int:
        value = 0
        for function in functions:
            value = await asyncio.to_thread(function, value)
        return value

    pooled = Flujo(Pipeline([Step(f"step {n}", function) for n, function in enumerate(functions)]))
    pair = compare(lambda: pooled.run_async(0), to_thread, units=STEPS, effort=effort)
    yield cost_ratio(
        "linear, sync functions in the pool",
        pair,
        at_most=1.1,
        against="asyncio.to_thread",
        unit="µs/step",
    )

    async def called() -> int:
        value = 0
        for function in functions:
            value = function(value)
        return value

    inline = Flujo(
        Pipeline([step(function, name=f"step {n}", inline=True) for n, function in enumerate(functions)])
    )
    pair = compare(lambda: inline.run_async(0), called, units=STEPS, effort=effort)
    yield added_cost("linear, sync functions inline", pair, at_most=1.0, against="a loop of plain calls")
