"""What the parts of a step's life add: a context, hooks, a validator, a processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field

from flujo import Flujo, Pipeline, PipelineContext, Step
from flujo.domain.processors import AgentProcessors

from .bare import AsyncFunction, async_functions, await_loop, in_turn
from .row import Row, added_cost
from .sampling import Effort, compare

STEPS = 100


class Plain(BaseModel):
    """A context of an ordinary size: plain fields, a list, a dict."""

    count: int = 0
    topic: str = "speed"
    notes: list[str] = Field(default_factory=lambda: ["first", "second"])
    scores: dict[str, float] = Field(default_factory=lambda: {"a": 0.5})


class Validated(PipelineContext):
    """The same over Flujo's own context, which has many fields and validates assignments."""

    count: int = 0
    topic: str = "speed"
    notes: list[str] = Field(default_factory=lambda: ["first", "second"])
    scores: dict[str, float] = Field(default_factory=lambda: {"a": 0.5})


async def _writes_plain(x: int, *, context: Plain) -> int:
    context.count += 1
    return x + 1


async def _writes_validated(x: int, *, context: Validated) -> int:
    context.count += 1
    return x + 1


async def _first_hook(payload: Any) -> None:
    del payload


async def _second_hook(payload: Any) -> None:
    del payload


class _Doubtless:
    name = "doubtless"

    async def validate(self, output: Any, *, context: Any = None) -> bool:
        return output is not None


class _Unchanged:
    name = "unchanged"

    async def process(self, output: Any, context: Any = None) -> Any:
        return output


def rows(effort: Effort) -> Iterator[Row]:
    """A context that each step takes and writes; two hooks, a validator and an output processor."""
    yield _with_context("a pydantic context", Plain, _writes_plain, effort)
    yield _with_context("a PipelineContext", Validated, _writes_validated, effort)

    functions = in_turn(async_functions(), STEPS)
    steps = [
        Step(
            f"step {n}",
            function,
            validators=[_Doubtless()],
            processors=AgentProcessors(output_processors=[_Unchanged()]),
        )
        for n, function in enumerate(functions)
    ]
    watched = Flujo(Pipeline(steps), hooks=[_first_hook, _second_hook])
    pair = compare(lambda: watched.run_async(0), await_loop(functions), units=STEPS, effort=effort)
    yield added_cost(
        "linear, two hooks, a validator, an output processor",
        pair,
        at_most=3.0,
        against="a bare await loop without them",
    )


def _with_context(name: str, model: type[BaseModel], function: AsyncFunction, effort: Effort) -> Row:
    runner = Flujo(Pipeline([Step(f"step {n}", function) for n in range(STEPS)]), context_model=model)

    async def bare() -> int:
        context, value = model(), 0
        for _ in range(STEPS):
            value = await function(value, context=context)
        return value

    pair = compare(lambda: runner.run_async(0), bare, units=STEPS, effort=effort)
    return added_cost(
        f"linear, taking and writing {name}",
        pair,
        at_most=4.0,
        against="a bare await loop that writes to the plain model",
    )
