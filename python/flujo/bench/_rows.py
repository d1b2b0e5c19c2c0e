"""The rows that are measured in Python."""

from __future__ import annotations

import asyncio
import copy
import gc
import math
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, Field

from flujo import Flujo, Pipeline, Step, Telemetry, step
from flujo._native import Claims, OptimizationConfig
from flujo.bench._memory import Load, branches, figures_of, rows_of
from flujo.domain.validation import ValidationResult, Validator

Figure = Callable[[], float]


@dataclass(frozen=True)
class Effort:
    """How much is measured: samples of each twin, and how often the optimised one works where once would do."""

    pairs: int
    repeated: int = 1


@dataclass(frozen=True)
class Measured:
    """Figures of both twins, the n-th of each side by side, and of what does outside what the plain one does."""

    plain: list[float]
    optimized: list[float]
    reference: tuple[str, list[float]] | None = None


@dataclass(frozen=True)
class Row:
    """Something that is claimed, and how it is measured."""

    name: str
    part: str
    unit: str
    promise: Literal["less", "more"]
    seed: float
    target: float
    figures: Callable[[Effort], Measured]

    def measure(self, claims: Claims, effort: Effort) -> None:
        """Measure it and add it to the table."""
        measured = self.figures(effort)
        claims.judge(
            name=self.name,
            part=self.part,
            unit=self.unit,
            promise=self.promise,
            seed=self.seed,
            target=self.target,
            plain=measured.plain,
            optimized=measured.optimized,
            reference=measured.reference,
        )


def compared(effort: Effort, plain: Figure, once: Figure) -> Measured:
    """Both in turn, each first every other time, with the garbage collector at rest."""
    measured = Measured([], [])

    def optimized() -> float:
        return sum(once() for _ in range(effort.repeated))

    _ = plain(), once()  # the first time pays for what is made once
    with _no_collection():
        for pair in range(effort.pairs):
            if pair % 2:
                after, before = optimized(), plain()
            else:
                before, after = plain(), optimized()
            measured.plain.append(before)
            measured.optimized.append(after)
            gc.collect(0)
    return measured


@contextmanager
def _no_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def runs(runner: Flujo[Any, Any], times: int, parts: int) -> Figure:
    """Nanoseconds of this thread's CPU time that each of `parts` of a run takes."""

    async def one_after_the_other() -> float:
        begin = time.thread_time_ns()
        for _ in range(times):
            await runner.run_async(0)
        return (time.thread_time_ns() - begin) / times / parts

    return lambda: asyncio.run(one_after_the_other())


def _without(switch: str) -> OptimizationConfig:
    return OptimizationConfig(**{switch: False})


_LARGE = rows_of(100_000)


class Deep(BaseModel):
    """A context with 100 KB in one field, of which branches touch another one; made at no cost."""

    rows: list[dict[str, Any]] = Field(default_factory=lambda: _LARGE)
    notes: list[int] = Field(default_factory=lambda: [0])


def _branch(effort: Effort) -> Measured:
    many = 16

    def branch(name: str) -> Any:
        @step(name=name)
        async def touch(value: int, *, context: Deep) -> int:
            context.notes[0] = value
            return value

        return touch

    def twin(config: OptimizationConfig | None) -> Figure:
        steps = {f"branch {number}": branch(f"branch {number}") for number in range(many)}
        parallel = Step.parallel("split", steps, merge_strategy="no_merge")
        runner = Flujo(parallel, context_model=Deep, optimization_config=config)
        return runs(runner, 3, many)

    measured = compared(effort, twin(_without("enable_context_optimization")), twin(None))
    fields = dict(Deep())

    def deep_copies() -> float:
        begin = time.thread_time_ns()
        for _ in range(many):
            {name: copy.deepcopy(value) for name, value in fields.items()}
        return (time.thread_time_ns() - begin) / many

    return replace(measured, reference=("copy.deepcopy", [deep_copies() for _ in range(effort.pairs)]))


class _Accept(Validator):
    name = "accept"

    async def validate(self, output_to_check: Any, *, context: Any = None) -> ValidationResult:
        return ValidationResult(is_valid=True, validator_name=self.name)


class _Same:
    name = "same"

    async def process(self, data: Any, context: Any) -> Any:
        return data


def _analysis(effort: Effort) -> Measured:
    def pipeline() -> Pipeline[Any, Any]:
        from flujo.domain.processors import AgentProcessors

        made = Pipeline[Any, Any](steps=[])
        for number in range(10):

            async def work(value: int) -> int:
                return value

            processors = AgentProcessors(prompt_processors=[_Same()], output_processors=[_Same()])
            made = made >> Step(
                name=f"step {number}", agent=work, processors=processors, validators=[_Accept()]
            )
        return made

    def twin(config: OptimizationConfig | None) -> Figure:
        return runs(Flujo(pipeline(), optimization_config=config), 10, 1)

    return compared(effort, twin(_without("enable_step_analysis")), twin(None))


def _telemetry(effort: Effort) -> Measured:
    telemetry = Telemetry(jsonl=os.devnull, queue_size=1 << 20)

    def twin(config: OptimizationConfig | None, telemetry: Telemetry | None) -> Figure:
        steps = [_numbered(number) for number in range(100)]
        runner = Flujo(Pipeline(steps=steps), optimization_config=config, telemetry=telemetry)
        return runs(runner, 20, 100)

    silent = twin(None, None)

    def added(traced: Figure) -> Figure:
        def figure() -> float:
            # What is added can be no less than nothing, whatever the clock says.
            more = max(traced() - silent(), 0.1)
            return more if telemetry.flush(60) else math.nan

        return figure

    plain = twin(_without("enable_telemetry_optimization"), telemetry)
    measured = compared(effort, added(plain), added(twin(None, telemetry)))
    if dropped := telemetry.statistics()["spans_dropped"]:
        raise RuntimeError(f"{dropped} spans were dropped, which costs less than to keep them")
    telemetry.shutdown()
    return measured


def _hits(effort: Effort) -> Measured:
    many = 20
    given = rows_of(10_000)

    def twin(config: OptimizationConfig | None) -> Figure:
        async def same(value: Any) -> Any:
            return value

        steps = [Step.cached(Step(f"step {number}", same)) for number in range(many)]
        runner = Flujo(Pipeline(steps=steps), optimization_config=config)

        async def of_hits() -> float:
            await runner.run_async(given)
            begin = time.thread_time_ns()
            for _ in range(3):
                await runner.run_async(given)
            return (time.thread_time_ns() - begin) / 3 / many

        return lambda: asyncio.run(of_hits())

    measured = compared(effort, twin(_without("enable_cache_optimization")), twin(None))
    known = {pickle.dumps(given): given}

    def by_hand() -> float:
        begin = time.thread_time_ns()
        for _ in range(many):
            copy.deepcopy(known[pickle.dumps(given)])
        return (time.thread_time_ns() - begin) / many

    reference = ("pickle and copy.deepcopy", [by_hand() for _ in range(effort.pairs)])
    return replace(measured, reference=reference)


def _steps(effort: Effort) -> Measured:
    def twin(optimized: bool) -> Figure:
        steps = [_numbered(number) for number in range(100)]
        return runs(Flujo(Pipeline(steps=steps), enable_optimizations=optimized), 20, 100)

    return compared(effort, twin(False), twin(True))


def _numbered(number: int) -> Any:
    @step(name=f"step {number}")
    async def numbered(value: int) -> int:
        return value

    return numbered


def _concurrency(effort: Effort) -> Measured:
    in_flight = 1_000

    def twin(optimized: bool) -> Figure:
        runner = Flujo(branches(), context_model=Load, enable_optimizations=optimized)

        async def at_once() -> float:
            begin = time.perf_counter()
            await asyncio.gather(*(runner.run_async(0) for _ in range(in_flight)))
            return (time.perf_counter() - begin) / in_flight

        return lambda: asyncio.run(at_once())

    return compared(effort, twin(False), twin(True))


def _memory(effort: Effort) -> Measured:
    def twin(name: str) -> list[float]:
        return figures_of([sys.executable, "-m", "flujo.bench", "memory", name], effort.pairs)

    return Measured(twin("plain"), [bytes_ * effort.repeated for bytes_ in twin("optimized")])


ROWS = (
    Row("context: an isolated branch of 100 KB", "context", "ns/branch", "less", 0.40, 0.95, _branch),
    Row(
        "analysis: a run of 10 steps with processors and validators",
        "analysis",
        "ns/run",
        "less",
        0.25,
        0.50,
        _analysis,
    ),
    Row(
        "telemetry: added to a step, with an exporter", "telemetry", "ns/step", "less", 0.50, 0.80, _telemetry
    ),
    Row("cache hits: a hit of 10 KB in and out", "all", "ns/hit", "less", 0.25, 0.50, _hits),
    Row("step execution: a step of 100", "all", "ns/step", "less", 0.20, 0.60, _steps),
    Row("memory: a run of 1,000 in flight", "all", "bytes/run", "less", 0.30, 0.60, _memory),
    Row("concurrency: 1,000 runs in flight", "all", "runs/s", "more", 0.50, 1.0, _concurrency),
)
