"""What the parts of a step's life add: a context, hooks, a validator, a processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from flujo import Flujo, Pipeline, PipelineContext, Step
from flujo.domain.processors import AgentProcessors

from .bare import async_functions, await_loop, in_turn
from .row import Row, added_cost
from .sampling import Effort, compare

STEPS = 100


class Context(PipelineContext):
    """A context of an ordinary size: plain fields, a list, a dict."""

    count: int = 0
    topic: str = "speed"
    notes: list[str] = Field(default_factory=lambda: ["first", "second"])
    scores: dict[str, float] = Field(default_factory=lambda: {"a": 0.5})


async def _takes_and_writes(x: int, *, context: Context) -> int:
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
    with_context = Flujo(
        Pipeline([Step(f"step {n}", _takes_and_writes) for n in range(STEPS)]), context_model=Context
    )

    async def bare() -> int:
        context, value = Context(initial_prompt="0"), 0
        for _ in range(STEPS):
            value = await _takes_and_writes(value, context=context)
        return value

    pair = compare(lambda: with_context.run_async(0), bare, units=STEPS, effort=effort)
    yield added_cost(
        "linear, taking and writing a pydantic context",
        pair,
        at_most=4.0,
        against="a bare await loop on the plain context",
    )

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
