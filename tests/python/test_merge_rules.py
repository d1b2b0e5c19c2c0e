"""How fields declare that concurrent writes to them combine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, create_model

from flujo import Flujo, Step, merge
from flujo.domain.models import PipelineContext
from flujo.exceptions import ConfigurationError, ContextMergeError

Write = Callable[[Any], object]


def branch(name: str, write: Write) -> Step[Any, Any]:
    async def body(x: int, *, context: Any) -> int:
        write(context)
        return x

    return Step(name, body)


async def merged(
    model: type[BaseModel], *writes: Write, strategy: Any = "context_update", **data: Any
) -> Any:
    branches = {name: branch(name, write) for name, write in zip("abcd", writes, strict=False)}
    fan = Step.parallel("fan", branches, merge_strategy=strategy)
    return await Flujo(fan, context_model=model, initial_context_data=data).run_async(1)


def model_of(declared: Any, default: Any = None) -> type[PipelineContext]:
    return create_model("Model", __base__=PipelineContext, value=(declared, default))


class Counters(PipelineContext):
    seen: Annotated[int, merge.Sum()] = 0
    best: Annotated[float | None, merge.Max()] = None


@pytest.mark.parametrize("strategy", ["context_update", "overwrite", "keep_first", "error_on_conflict"])
async def test_two_branches_counting_up_from_0_give_2_whatever_the_strategy(strategy: str) -> None:
    def count(context: Counters) -> None:
        context.seen += 1

    result = await merged(Counters, count, lambda c: None, count, strategy=strategy)
    assert result.success, result.step_history[0].feedback
    assert result.final_pipeline_context.seen == 2


@pytest.mark.parametrize(
    ("declared", "before", "left", "right", "after"),
    [
        (Annotated[int, merge.Sum()], 10, 11, 8, 9),
        (Annotated[float, merge.Sum()], 0.5, 1.5, 0.0, 1.0),
        (Annotated[Decimal, merge.Sum()], Decimal("0.1"), Decimal("0.3"), Decimal("0.2"), Decimal("0.4")),
        (Annotated[timedelta, merge.Sum()], timedelta(1), timedelta(3), timedelta(2), timedelta(4)),
        (Annotated[int, merge.Sum()] | None, None, 2, 3, 5),
        (Annotated[int | None, merge.Max()], None, 2, 3, 3),
        (Annotated[str, merge.Min()], "m", "k", "l", "k"),
        (Annotated[set[int], merge.Union()], {1}, {2}, {1, 3}, {1, 2, 3}),
        (
            Annotated[frozenset[int], merge.Union()],
            frozenset({1}),
            frozenset({2}),
            frozenset(),
            frozenset({1, 2}),
        ),
        (Annotated[dict[str, int], merge.Union()], {"a": 1}, {"a": 2}, {"a": 1, "b": 3}, {"a": 2, "b": 3}),
        (Annotated[list[int], merge.Union()], [1], [1, 2], [1, 3, 2], [1, 2, 3]),
        (Annotated[list[int], merge.Append()], [1], [1, 2], [1, 2], [1, 2, 2]),
        (Annotated[str, merge.Append()], "a", "ab", "ac", "abc"),
        (Annotated[int, merge.First()], 0, 1, 2, 1),
        (Annotated[dict[str, int], merge.Last()], {}, {"a": 1}, {"b": 2}, {"b": 2}),
        (Annotated[Any, merge.Sum()], 0, 1, 1, 2),
    ],
)
async def test_a_rule_decides_its_field(
    declared: Any, before: Any, left: Any, right: Any, after: Any
) -> None:
    result = await merged(
        model_of(declared, before),
        lambda c: setattr(c, "value", left),
        lambda c: setattr(c, "value", right),
    )
    assert result.success, result.step_history[0].feedback
    assert result.final_pipeline_context.value == after
    assert type(result.final_pipeline_context.value) is type(after)


async def test_a_field_that_one_branch_alone_wrote_takes_its_value() -> None:
    result = await merged(Counters, lambda c: setattr(c, "best", 1.0), lambda c: None, best=5.0)
    assert result.final_pipeline_context.best == 1.0


class Part(BaseModel):
    hits: Annotated[int, merge.Sum()] = 0
    text: str = ""


@dataclass
class Tally:
    hits: Annotated[int, merge.Sum()] = 0
    words: list[str] = field(default_factory=list)


class Nested(PipelineContext):
    part: Part = Part()
    parts: dict[str, list[Part]] = {}
    tally: Tally = Tally()


async def test_rules_hold_in_nested_models_and_dataclasses() -> None:
    def count(context: Nested) -> None:
        context.part.hits += 1
        context.parts["k"][0].hits += 2
        context.tally.hits += 3
        context.tally.words.append("x")

    result = await merged(Nested, count, count, parts={"k": [Part(hits=1)]})
    assert result.success, result.step_history[0].feedback
    context = result.final_pipeline_context
    assert (context.part.hits, context.parts["k"][0].hits, context.tally) == (2, 5, Tally(6, ["x", "x"]))


async def test_rules_hold_for_the_items_of_a_map_that_run_at_the_same_time() -> None:
    async def item(x: int, *, context: Counters) -> int:
        context.seen += x
        context.best = max(context.best or 0.0, float(x))
        return x

    mapped = Step.map_over("m", Step("item", item), max_concurrency=4)
    result = await Flujo(mapped, context_model=Counters).run_async(list(range(10)))
    context = result.final_pipeline_context
    assert (context.seen, context.best) == (45, 9.0)


def longest(base: str, values: Sequence[str]) -> str:
    return max((base, *values), key=len)


def from_list(base: list[int], values: list[list[int]]) -> list[int]:
    base.append(0)
    for value in values:
        value.append(9)
    return base


class Scaled:
    def __init__(self, by: int) -> None:
        self.by = by

    def combine(self, base: int, values: Sequence[int]) -> int:
        return base + self.by * len(values)


@pytest.mark.parametrize(
    ("declared", "before", "after"),
    [
        (Annotated[str, longest], "ab", "cdef"),
        (Annotated[str, lambda base, values: "".join([base, *values])], "-", "-cdefx"),
        (Annotated[str, partial(longest)], "", "cdef"),
        (Annotated[Any, Scaled(10)], 1, 21),
    ],
)
async def test_a_function_or_an_object_of_one_s_own_is_a_rule(declared: Any, before: Any, after: Any) -> None:
    result = await merged(
        model_of(declared, before),
        lambda c: setattr(c, "value", "cdef"),
        lambda c: setattr(c, "value", "x"),
    )
    assert result.success, result.step_history[0].feedback
    assert result.final_pipeline_context.value == after


async def test_a_function_that_changes_what_it_is_given_changes_no_branch_and_no_context() -> None:
    begun = [1]
    result = await merged(
        model_of(Annotated[list[int], from_list], begun),
        lambda c: c.value.append(2),
        lambda c: c.value.append(3),
    )
    assert result.final_pipeline_context.value == [1, 0]
    assert begun == [1]


async def test_a_rule_that_fails_names_path_branches_and_cause_and_nothing_is_merged() -> None:
    def refuse(base: Any, values: Any) -> Any:
        raise LookupError("not today")

    class Refusing(PipelineContext):
        value: Annotated[int, refuse] = 0
        other: int = 0

    def write(context: Refusing) -> None:
        context.value += 1

    def both(context: Refusing) -> None:
        context.value += 2
        context.other = 1

    result = await merged(Refusing, write, both)
    error = result.step_history[0].error
    assert isinstance(error, ContextMergeError) and isinstance(error.__cause__, LookupError)
    assert (error.path, error.branches, error.values) == ("value", ["a", "b"], [1, 2])
    assert "refuse can't combine them: not today" in str(error)
    assert (result.final_pipeline_context.value, result.final_pipeline_context.other) == (0, 0)


async def test_what_a_rule_gives_must_fit_its_field() -> None:
    def text(base: int, values: Sequence[int]) -> str:
        return "many"

    result = await merged(
        model_of(Annotated[int, text], 0), lambda c: setattr(c, "value", 1), lambda c: setattr(c, "value", 2)
    )
    error = result.step_history[0].error
    assert isinstance(error, ContextMergeError) and error.path == "value"
    assert result.final_pipeline_context.value == 0


async def coroutine(base: Any, values: Any) -> Any:
    return base


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (Annotated[str, merge.Sum()], ("str", "merge.Sum()")),
        (Annotated[bool, merge.Sum()], ("bool", "merge.Sum()")),
        (Annotated[list[int], merge.Sum()], ("list[int]", "merge.Sum()")),
        (Annotated[int | str, merge.Sum()], ("int | str", "merge.Sum()")),
        (Annotated[dict[str, int], merge.Max()], ("dict[str, int]", "merge.Max()")),
        (Annotated[Part, merge.Min()], ("Part", "merge.Min()")),
        (Annotated[int, merge.Union()], ("int", "merge.Union()")),
        (Annotated[set[int], merge.Append()], ("set[int]", "merge.Append()")),
        (Annotated[int, merge.Sum], ("Sum", "()")),
        (Annotated[int, merge.Sum(), merge.Max()], ("2 merge rules",)),
        (Annotated[int, coroutine], ("asynchronous",)),
        (Annotated[int, lambda base: base], ("two arguments",)),
    ],
)
async def test_a_rule_that_does_not_fit_is_refused_when_the_context_is_first_used(
    declared: Any, words: tuple[str, ...]
) -> None:
    wrong = model_of(declared)
    with pytest.raises(ConfigurationError) as refused:
        Flujo(branch("a", lambda c: None), context_model=wrong)
    assert "Model.value" in str(refused.value)
    assert all(word in str(refused.value) for word in words), str(refused.value)

    class Around(PipelineContext):
        deep: dict[str, list[wrong]] = {}

    with pytest.raises(ConfigurationError, match=r"Model\.value"):
        Flujo(branch("a", lambda c: None), context_model=Around)
