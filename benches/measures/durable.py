"""Runs that are kept in a SQLite file: what a step waits for, what it costs, what is written."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import Field

from flujo import Flujo, Pipeline, PipelineContext, Step
from flujo.state import SQLiteBackend

from .bare import async_functions
from .row import Row, added_cost, cost_ratio
from .sampling import Effort, Estimate, compare

STEPS = 50
LONG = 1000
"""Steps of a run beside which its beginning and its end count for little."""
AT_ONCE = 100
SHORT = 10
TURNS = 2000
MESSAGE = 1000
LARGE = 10_000_000


class Chat(PipelineContext):
    messages: list[str] = Field(default_factory=list)
    large: list[str] = Field(default_factory=list)
    small: int = 0


def _pipeline(steps: int) -> Pipeline[Any, Any]:
    [function] = async_functions(1)
    return Pipeline([Step(f"step {n}", function) for n in range(steps)])


def _size(folder: Path) -> int:
    with sqlite3.connect(folder / "runs.db") as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (folder / "runs.db").stat().st_size


def rows(effort: Effort) -> Iterator[Row]:
    """Waiting is measured by the clock on the wall, work in CPU time of all threads, and what is written in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _times(Path(folder), effort)
    with tempfile.TemporaryDirectory() as folder:
        yield _growth(Path(folder), 100 if effort.quick else TURNS)
    with tempfile.TemporaryDirectory() as folder:
        yield _small_change(Path(folder), LARGE // 100 if effort.quick else LARGE)


def _times(folder: Path, effort: Effort) -> Iterator[Row]:
    numbers = count()
    backend = SQLiteBackend(folder / "runs.db")
    strict = Flujo(_pipeline(STEPS), state_backend=backend)
    strict_short = Flujo(_pipeline(SHORT), state_backend=backend)
    long, one = _pipeline(LONG), _pipeline(1)
    behind = Flujo(long, state_backend=backend, durability="async")
    behind_short = Flujo(one, state_backend=backend, durability="async")
    plain, plain_short = Flujo(long), Flujo(one)

    inserts = sqlite3.connect(folder / "inserts.db", isolation_level=None)
    inserts.execute("PRAGMA journal_mode=WAL")
    inserts.execute("PRAGMA synchronous=FULL")
    inserts.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, body BLOB)")

    async def one_insert_a_step() -> None:
        for _ in range(STEPS):
            inserts.execute("INSERT INTO rows (body) VALUES (?)", (b"x" * 200,))

    async def run(runner: Flujo[Any, Any]) -> Any:
        return await runner.run_async(0, run_id=f"run {next(numbers)}")

    async def many() -> None:
        await asyncio.gather(*[asyncio.create_task(run(strict_short)) for _ in range(AT_ONCE)])

    yield cost_ratio(
        "durable, strict, one run: a step",
        compare(lambda: run(strict), one_insert_a_step, units=STEPS, effort=effort, clock=time.perf_counter),
        at_most=1.5,
        against="one committed insert with synchronous=FULL on the same disk",
        unit="µs/step",
    )
    yield cost_ratio(
        "durable, strict, 100 runs at once: a step",
        compare(
            many,
            lambda: run(strict_short),
            units=AT_ONCE * SHORT,
            baseline_units=SHORT,
            effort=effort,
            clock=time.perf_counter,
        ),
        at_most=0.1,
        against="a step of one such run alone",
        unit="µs/step",
    )
    yield added_cost(
        "durable, async: CPU time of all threads for a step",
        compare(lambda: run(behind), lambda: plain.run_async(0), units=LONG, effort=effort),
        at_most=10,
        against="the same run of 1,000 steps without a store",
    )
    yield added_cost(
        "durable, async: CPU time of all threads for a run of one step",
        compare(lambda: run(behind_short), lambda: plain_short.run_async(0), units=1, effort=effort),
        at_most=None,
        against="the same run without a store",
        unit="µs/run",
    )
    inserts.close()
    backend.close()


def _growth(folder: Path, turns: int) -> Row:
    async def add(value: int, context: Chat) -> int:
        context.messages.append(f"{value:06}" + "x" * (MESSAGE - 6))
        return value + 1

    backend = SQLiteBackend(folder / "runs.db")
    loop = Step.loop_until(
        "loop", Pipeline([Step("add", add)]), lambda value: value >= turns, max_loops=turns
    )
    result = Flujo(loop, context_model=Chat, state_backend=backend).run(0, run_id="long")
    backend.close()
    state = sum(map(len, result.final_pipeline_context.messages))
    ratio = _size(folder) / state
    return Row(
        name=f"durable, a loop of {turns:,} that adds 1 KB each time: the file",
        value=ratio * state / 1e6,
        unit="MB",
        baseline=state / 1e6,
        ratio=ratio,
        reach="<= 3 x",
        holds=result.success and ratio <= 3,
        against="the context at its end",
        estimate=Estimate(ratio, ratio, (ratio, ratio)),
    )


def _small_change(folder: Path, size: int) -> Row:
    async def change(value: int, context: Chat) -> int:
        context.small += 1
        return value + 1

    async def ask(value: int) -> int:
        raise KeyboardInterrupt  # the run stays on its way, with its log

    backend = SQLiteBackend(folder / "runs.db")
    data = {"large": ["x" * 1000] * (size // 1000)}
    written = []
    for steps in (0, STEPS):
        pipeline = Pipeline([*[Step(f"step {n}", change) for n in range(steps)], Step("stop", ask)])
        runner = Flujo(pipeline, context_model=Chat, initial_context_data=data, state_backend=backend)
        try:
            runner.run(0, run_id=f"{steps} steps")
        except KeyboardInterrupt:
            details = asyncio.run(backend.get_run_details(f"{steps} steps"))
            written.append(0 if details is None else details["stored_bytes"])
    backend.close()
    none, some = written
    each = (some - none) / STEPS
    return Row(
        name="durable, 10 MB of context, one small field changes: a step's record",
        value=each,
        unit="bytes",
        baseline=size,
        ratio=each / size,
        reach="<= 2,000 bytes",
        holds=each <= 2000,
        against="the context",
        estimate=Estimate(each, each, (each, each)),
    )
