"""`context_include_keys` and `field_mapping`: of which fields branches' writes are kept."""

from __future__ import annotations

from typing import Any

import pytest

from flujo import Flujo, PipelineContext, Step


class State(PipelineContext):
    total: int = 0
    notes: list[str] = []
    secret: str = "s"


async def writes(x: int, *, context: State) -> str:
    context.total += x
    context.notes.append(f"note {context.total}")
    return context.secret


async def writes_secret(x: int, *, context: State) -> int:
    context.secret += str(x)
    context.notes.append("secret")
    return x


def fan(**options: Any) -> Any:
    return Step.parallel("fan", {"a": Step("a", writes), "b": Step("b", writes_secret)}, **options)


async def merged(**options: Any) -> State:
    result = await Flujo(fan(**options), context_model=State).run_async(5)
    assert result.output == {"a": "s", "b": 5}
    context: State = result.final_pipeline_context
    return context


async def test_writes_to_other_fields_are_dropped_and_all_fields_are_seen() -> None:
    context = await merged(context_include_keys=["total", "notes"])
    assert (context.total, context.notes, context.secret) == (5, ["note 5", "secret"], "s")
    context = await merged(context_include_keys=[])
    assert (context.total, context.notes, context.secret) == (0, [], "s")


async def test_each_branch_may_have_fields_of_its_own() -> None:
    context = await merged(field_mapping={"b": ["secret"]})
    assert (context.total, context.notes, context.secret) == (5, ["note 5"], "s5")
    both = await merged(field_mapping={"b": ["secret", "notes"]}, context_include_keys=["notes"])
    assert (both.total, both.notes, both.secret) == (0, ["note 5", "secret"], "s")


@pytest.mark.parametrize("strategy", ["overwrite", "keep_first", "error_on_conflict"])
async def test_any_strategy_merges_what_is_kept(strategy: str) -> None:
    context = await merged(merge_strategy=strategy, field_mapping={"a": ["total"], "b": ["secret"]})
    assert (context.total, context.notes, context.secret) == (5, [], "s5")


async def test_a_function_gets_branches_in_which_nothing_else_has_changed() -> None:
    seen: dict[str, Any] = {}

    async def merge(context: State, branches: dict[str, State]) -> None:
        seen.update({name: (branch.total, branch.notes, branch.secret) for name, branch in branches.items()})
        context.total = 99

    context = await merged(merge_strategy=merge, field_mapping={"a": ["total"], "b": ["secret"]})
    assert seen == {"a": (5, [], "s"), "b": (0, [], "s5")}
    assert (context.total, context.secret) == (99, "s")


async def test_what_is_not_merged_stays_with_the_branch() -> None:
    result = await Flujo(fan(context_include_keys=["total"]), context_model=State).run_async(5)
    of_a, of_b = (branch.branch_context for branch in result.step_history[0].step_history)
    assert isinstance(of_a, State) and isinstance(of_b, State)
    assert (of_a.total, of_a.notes, of_b.notes, of_b.secret) == (5, ["note 5"], ["secret"], "s5")
    context = result.final_pipeline_context
    assert (context.total, context.notes, context.secret) == (5, [], "s")


async def test_a_field_that_the_context_lacks_is_kept_of_nobody() -> None:
    context = await merged(context_include_keys=["nothing"])
    assert (context.total, context.notes) == (0, [])


async def test_names_that_are_no_branches_are_refused() -> None:
    with pytest.raises(ValueError, match="'c', which is no branch"):
        fan(field_mapping={"c": ["total"]})


async def test_options_that_make_no_difference_are_taken() -> None:
    context = await merged(
        ignore_branch_names=True, validate_fields=True, input_keys=["a"], output_keys=["b"]
    )
    assert (context.total, context.notes, context.secret) == (5, ["note 5", "secret"], "s5")
