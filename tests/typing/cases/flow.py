"""The factories of loops, refinement, routers and gathering, and ways out of failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

from flujo import Pipeline, Step, step
from flujo.domain.dsl import DynamicParallelRouterStep, LoopStep, RefineStep, StateMachineStep
from flujo.domain.models import RefinementCheck, StepFailure


@step
async def double(number: int) -> int:
    return number * 2


@step
async def show(number: int) -> str:
    return str(number)


@step
async def measure(text: str) -> int:
    return len(text)


@step
async def critic(text: str) -> RefinementCheck:
    return RefinementCheck(is_complete=bool(text))


@step
async def handle(failure: StepFailure) -> str:
    return failure.feedback


async def choose(number: int) -> list[str]:
    return ["double"]


def large(number: int, context: object) -> bool:
    return number > 3


async def large_async(number: int, context: object) -> bool:
    return number > 3


def add_up(lanes: list[Any]) -> float:
    return float(len(lanes))


loop = Step.loop_until("loop", double, large, max_loops=3, deadline_s=1.0)
assert_type(loop, LoopStep[int, int])
assert_type(loop >> show, Pipeline[int, str])
assert_type(Step.loop_until("loop", double >> double, large_async), LoopStep[int, int])
assert_type(
    Step.loop_until("loop", show, lambda text: bool(text), iteration_input_mapper=lambda text, ctx, i: i),
    LoopStep[Any, str],
)
assert_type(
    Step.loop_until("loop", double, large, loop_output_mapper=lambda out, ctx: str(out)), LoopStep[Any, Any]
)
loop >> measure  # error
Step.loop_until("loop", double, large, on_body_failure="ignore")  # error
Step.loop_until("loop", double, 3)  # error

assert_type(Step.refine_until("refine", show, critic, max_refinements=2), RefineStep[Any, str])
Step.refine_until("refine", show, measure)  # error

routed = Step.dynamic_parallel_branch("route", choose, {"double": double, "again": double >> double})
assert_type(routed, DynamicParallelRouterStep[int, dict[str, int]])
assert_type(
    Step.dynamic_parallel_branch("route", choose, {"double": double}, reduce=add_up),
    DynamicParallelRouterStep[int, float],
)
routed >> measure  # error

gathered = Step.gather("both", wait_for=["double", "again"])
assert_type(gathered, Step[Mapping[str, Any], dict[str, Any]])
Step.gather("both", wait_for=3)  # error

assert_type(show.on_failure(handle), Step[int, str])
assert_type(Pipeline([show], on_failure=handle), Pipeline[Any, Any])
StateMachineStep("machine", {"a": double}, "a", end_states=["a"])
StateMachineStep("machine", {"a": 3}, "a")  # error
