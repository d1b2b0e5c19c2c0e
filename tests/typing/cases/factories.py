"""The factories of `Step` give typed steps. Lines marked `# error` are mistakes."""

import functools
from collections.abc import Iterable, Sized
from typing import Any, assert_type

from flujo.domain.dsl import (
    BranchFailureStrategy,
    ConditionalStep,
    MapStep,
    MergeStrategy,
    ParallelStep,
    Pipeline,
    Step,
    step,
)


@step
async def parse(text: str) -> int:
    return int(text)


@step
def measure(text: str) -> int:
    return len(text)


@step
def total(numbers: list[int]) -> int:
    return sum(numbers)


@step
def show(number: float) -> str:
    return str(number)


class Agent:
    async def run(self, data: str, **kwargs: object) -> int:
        return len(data)


class SyncAgent:
    def run(self, data: str) -> int:
        return len(data)


class Answer:
    output: int = 3

    def usage(self) -> dict[str, int]:
        return {"total_tokens": 7}


class Report:
    output: int = 3


class ReportingAgent:
    async def run(self, data: str) -> Report:
        return Report()


class WrappingAgent:
    async def run(self, data: str) -> Answer:
        return Answer()


def add_up(outputs: dict[str, int], context: object) -> int:
    return sum(outputs.values())


def scale_by_two(number: int) -> float:
    return number * 2.0


def scale(number: int, factor: int) -> float:
    return number * factor


assert_type(Step("agent", Agent()), Step[str, int])
assert_type(Step("agent", SyncAgent()), Step[str, int])
assert_type(Step("agent", WrappingAgent()), Step[str, int])
assert_type(Step("agent", ReportingAgent()), Step[str, Report])
assert_type(Step.solution(Agent()), Step[str, int])
assert_type(Step.review(Agent(), max_retries=3), Step[str, int])
assert_type(Step.validate_step(Agent(), strict=False), Step[str, int])
assert_type(Step.from_callable(len, name="length"), Step[Sized, int])
assert_type(Step.from_mapper(scale_by_two), Step[int, float])
Step.from_callable(functools.partial(scale, factor=2), name="double")
Step.solution(Agent(), max_retrys=3)  # error

split = Step.parallel("split", {"parse": parse, "measure": measure}, max_concurrency=2, deadline_s=3)
assert_type(split, ParallelStep[str, dict[str, int]])
assert_type(
    Step.parallel(
        "sum",
        {"parse": parse, "measure": Pipeline.from_step(measure)},
        merge_strategy=MergeStrategy.NO_MERGE,
        on_branch_failure=BranchFailureStrategy.IGNORE,
        reduce=add_up,
    ),
    ParallelStep[str, int],
)
split >> show  # error
Step.parallel("split", [parse])  # error

mapped = Step.map_over("map", parse, max_concurrency=4, on_item_failure="skip")
assert_type(mapped, MapStep[Iterable[str], list[int]])
assert_type(mapped >> total, Pipeline[Iterable[str], int])
assert_type(Step.map_over("map", parse >> show, iterable_input="texts"), MapStep[Any, list[str]])
assert_type(Step.map_over("map", parse, on_item_failure="none"), MapStep[Iterable[str], list[int | None]])
mapped >> show  # error
Step.map_over("map", parse, on_item_failure="ignore")  # error


def is_long(text: str, context: object) -> bool:
    return len(text) > 3


choice = Step.branch_on("choice", is_long, {True: measure, False: parse}, deadline_s=1.0)
assert_type(choice, ConditionalStep[str, int])
assert_type(choice >> show, Pipeline[str, str])
Step.branch_on("choice", lambda text, context: context.kind, {"a": measure}, default_branch_pipeline=parse)
Step.branch_on("choice", 3, {"a": measure})  # error
