"""Steps in a row: what a step of a default `Flujo(pipeline)` costs over awaiting its function."""

from __future__ import annotations

from collections.abc import Iterator

from flujo import Flujo, Pipeline, Step

from .bare import AsyncFunction, async_functions, await_loop, in_turn, suspending_functions
from .row import Row, added_cost, cost_ratio
from .sampling import Effort, compare


def runner_of(functions: list[AsyncFunction], **config: object) -> Flujo[int, int]:
    """A pipeline of these functions, with nothing else given."""
    return Flujo(Pipeline([Step(f"step {n}", function, **config) for n, function in enumerate(functions)]))


def rows(effort: Effort) -> Iterator[Row]:
    """Flat lists of 10, 100 and 1,000 steps; with a time limit; with functions that really suspend."""
    for count in (10, 100, 1000):
        functions = in_turn(async_functions(), count)
        runner = runner_of(functions)
        pair = compare(
            lambda runner=runner: runner.run_async(0), await_loop(functions), units=count, effort=effort
        )
        yield added_cost(
            f"linear, {count} steps", pair, at_most=1.0, at_most_ratio=15, against="a bare await loop"
        )

    few, many = (runner_of(in_turn(async_functions(), count)) for count in (10, 1000))
    pair = compare(
        lambda: many.run_async(0), lambda: few.run_async(0), units=1000, baseline_units=10, effort=effort
    )
    yield cost_ratio(
        "linear, a step of 1000 against one of 10", pair, at_most=1.1, against="a step of 10", unit="µs/step"
    )

    functions = in_turn(async_functions(), 100)
    runner = runner_of(functions, timeout_s=60.0)
    pair = compare(lambda: runner.run_async(0), await_loop(functions), units=100, effort=effort)
    yield added_cost("linear, with timeout_s", pair, at_most=3.0, against="a bare await loop")

    functions = in_turn(suspending_functions(), 100)
    bare = await_loop(functions)
    suspending = runner_of(functions)
    pair = compare(lambda: suspending.run_async(0), bare, units=100, effort=effort)
    yield added_cost("linear, each step really suspends", pair, at_most=1.0, against="a bare await loop")

    limited = runner_of(functions, timeout_s=60.0)
    pair = compare(lambda: limited.run_async(0), bare, units=100, effort=effort)
    yield added_cost(
        "linear, each step really suspends, with timeout_s", pair, at_most=3.0, against="a bare await loop"
    )
