"""A loop of many short iterations, against a bare loop that awaits the same function and asks the same condition."""

from __future__ import annotations

from collections.abc import Iterator

from flujo import Flujo, Step

from .bare import async_functions
from .row import Row, added_cost
from .sampling import Effort, compare

ITERATIONS = 1000


def rows(effort: Effort) -> Iterator[Row]:
    """1,000 iterations, a body of one step, a sync exit condition of the output."""
    function = async_functions(1)[0]

    def enough(output: int) -> bool:
        return output >= ITERATIONS

    async def bare() -> int:
        value = 0
        while True:
            value = await function(value)
            if enough(value):
                return value

    runner = Flujo(Step.loop_until("loop", Step("body", function), enough, max_loops=ITERATIONS))
    pair = compare(lambda: runner.run_async(0), bare, units=ITERATIONS, effort=effort)
    yield added_cost(
        "loop, 1,000 iterations of one step",
        pair,
        at_most=1.5,
        against="a bare while loop",
        unit="µs/iteration",
    )
