"""What it costs to read what a run has left behind."""

from __future__ import annotations

from collections.abc import Iterator

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

    async def statistics() -> object:
        return runner.get_performance_statistics()

    async def nothing() -> None:
        pass

    # The runner has run thousands of times by now.
    pair = compare(statistics, nothing, units=1, effort=effort)
    yield added_cost(
        "statistics of 100 step names", pair, at_most=50, against="an empty coroutine", unit="µs/read"
    )
