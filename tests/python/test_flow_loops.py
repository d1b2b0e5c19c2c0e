"""Loops and refinement on the asyncio host."""

from __future__ import annotations

from typing import Any

import pytest

from flujo import Flujo, Pipeline, PipelineContext, Step, current_step, step
from flujo.domain.dsl import LoopStep
from flujo.domain.models import RefinementCheck
from flujo.domain.plugins import PluginOutcome
from flujo.exceptions import ConfigurationError


class Counting(PipelineContext):
    count: int = 0
    seen: list[Any] = []


async def add_one(x: int) -> int:
    return x + 1


class AcceptAll:
    async def validate(self, data: dict[str, Any]) -> PluginOutcome:
        return PluginOutcome(success=True)


def loop(body: Any = None, exit: Any = lambda out, ctx: out >= 5, **options: Any) -> LoopStep[Any, Any]:
    return Step.loop_until("loop", body or Step("add", add_one), exit, **{"max_loops": 10, **options})


async def test_a_loop_goes_on_with_its_own_output_until_the_condition_holds() -> None:
    result = await Flujo(loop()).run_async(0)
    whole = result.step_history[0]
    assert (result.output, whole.success, whole.attempts) == (5, True, 5)
    assert whole.metadata_ == {"iterations": 5, "exit_reason": "condition"}
    assert whole.feedback == "loop exited by condition"
    assert [one.output for one in whole.step_history] == [1, 2, 3, 4, 5]
    assert {one.name for one in whole.step_history} == {"add"}


async def test_the_body_runs_at_least_once() -> None:
    result = await Flujo(loop(exit=lambda out, ctx: True)).run_async(10)
    assert (result.output, result.step_history[0].attempts) == (11, 1)


async def test_a_loop_has_five_iterations_at_most_when_nothing_else_is_said() -> None:
    result = await Flujo(Step.loop_until("loop", Step("add", add_one), lambda out: False)).run_async(0)
    assert result.step_history[0].metadata_["iterations"] == 5


async def test_a_loop_that_never_has_done_fails_and_keeps_its_last_output_and_context() -> None:
    @step
    async def count(x: int, context: Counting) -> int:
        context.count += 1
        return x + 1

    result = await Flujo(loop(count, lambda out, ctx: False, max_loops=3), context_model=Counting).run_async(
        0
    )
    whole = result.step_history[0]
    assert not result.success
    assert whole.output == result.output == 3
    assert whole.metadata_ == {"iterations": 3, "exit_reason": "max_loops"}
    assert whole.feedback is not None and "reached max_loops (3)" in whole.feedback
    assert result.final_pipeline_context.count == 3


async def test_an_exit_condition_may_be_async_and_sees_the_context_as_the_body_left_it() -> None:
    @step
    async def count(x: int, context: Counting) -> int:
        context.count += 1
        return x

    async def enough(out: int, context: Counting) -> bool:
        return context.count == 4

    result = await Flujo(loop(count, enough), context_model=Counting).run_async(0)
    assert result.step_history[0].attempts == 4


async def test_mappers_make_first_input_next_inputs_and_output() -> None:
    calls: list[Any] = []

    def first(given: str, context: Counting) -> int:
        context.seen.append(given)
        return len(given)

    def following(out: int, context: Counting, index: int) -> int:
        calls.append((out, index))
        context.seen.append(index)
        return out * 10

    def last(out: int, context: Counting) -> str:
        return f"{out} after {context.seen}"

    whole = loop(
        exit=lambda out, ctx: out > 300,
        initial_input_to_loop_body_mapper=first,
        iteration_input_mapper=following,
        loop_output_mapper=last,
    )
    result = await Flujo(whole, context_model=Counting).run_async("abc")
    assert calls == [(4, 1), (41, 2)]
    assert result.output == "411 after ['abc', 1, 2]"


@pytest.mark.parametrize(
    ("which", "reason", "iterations"),
    [
        ("initial_input_to_loop_body_mapper", "initial_input_mapper_error", 0),
        ("iteration_input_mapper", "iteration_input_mapper_error", 1),
        ("loop_output_mapper", "loop_output_mapper_error", 5),
        ("exit_condition_callable", "exit_condition_error", 1),
    ],
)
async def test_what_raises_is_named_and_what_was_done_is_kept(
    which: str, reason: str, iterations: int
) -> None:
    def broken(*_: Any) -> Any:
        raise LookupError("broken")

    whole = loop()
    setattr(whole, which, broken)
    result = await Flujo(Step("before", add_one) >> whole).run_async(-1)
    failed = result.step_history[1]
    assert [one.success for one in result.step_history] == [True, False]
    assert failed.metadata_ == {"iterations": iterations, "exit_reason": reason}
    assert failed.feedback is not None and "LookupError: broken" in failed.feedback
    assert len(failed.step_history) == iterations
    assert isinstance(failed.error, LookupError)


async def test_a_mapper_that_gives_another_type_than_it_declares_is_blamed() -> None:
    def following(out: int, context: Any, index: int) -> int:
        return str(out)

    result = await Flujo(loop(iteration_input_mapper=following)).run_async(0)
    feedback = result.step_history[0].feedback
    assert feedback is not None
    assert "the iteration_input_mapper of 'loop' is declared to give int, but gave str" in feedback


def test_a_mapper_whose_declared_type_the_body_cant_take_is_refused() -> None:
    def following(out: int, context: Any, index: int) -> str:
        return ""

    with pytest.raises(ValueError, match="iteration_input_mapper gives str, but the body takes int"):
        loop(iteration_input_mapper=following)


@pytest.mark.parametrize("max_loops", [0, -1])
def test_a_loop_needs_at_least_one_iteration(max_loops: int) -> None:
    with pytest.raises(ValueError, match="max_loops"):
        loop(max_loops=max_loops)


async def test_a_failing_body_ends_the_loop() -> None:
    async def fails_at_three(x: int, context: Counting) -> int:
        context.count = x
        if x == 2:
            raise ValueError("three")
        return x + 1

    body = Step("body", fails_at_three, max_retries=0)
    result = await Flujo(loop(body), context_model=Counting).run_async(0)
    whole = result.step_history[0]
    assert not whole.success
    assert whole.metadata_ == {"iterations": 3, "exit_reason": "body_step_error"}
    assert whole.feedback is not None and whole.feedback.startswith("Loop body failed: step 'body'")
    assert whole.output == 2
    assert isinstance(whole.error, ValueError)
    assert [one.success for one in whole.step_history] == [True, True, False]
    assert result.final_pipeline_context.count == 1


async def test_with_continue_a_recovered_iteration_doesnt_fail_the_loop() -> None:
    calls = 0

    async def flaky(x: int, context: Counting) -> int:
        nonlocal calls
        calls += 1
        context.seen.append(calls)
        if calls == 2:
            raise ValueError("once")
        return x + 1

    body = Step("body", flaky, max_retries=0)
    whole = loop(body, lambda out, ctx: out == 3, on_body_failure="continue")
    result = await Flujo(whole, context_model=Counting).run_async(0)
    assert result.success and result.output == 3
    assert result.step_history[0].metadata_ == {"iterations": 4, "exit_reason": "condition"}
    assert result.final_pipeline_context.seen == [1, 3, 4]


async def test_the_current_step_knows_its_iteration_also_in_lanes() -> None:
    seen: list[Any] = []

    async def look(x: int) -> int:
        here = current_step()
        seen.append((here.iteration, here.lane, here.idempotency_key.rpartition(":")[2]))
        return x + 1

    inner = Step.loop_until("inner", Step("look", look), lambda out: out % 2 == 0, max_loops=2)
    lanes = Step.parallel("fan", {"a": Step("look", look)}, reduce=lambda lanes: lanes[0].output)
    await Flujo(Step("first", look) >> loop(inner >> lanes, lambda out: out >= 6)).run_async(-1)
    assert seen == [
        (0, "", ""),
        (1, "", "1.1"),
        (2, "", "1.2"),
        (1, "fan[a]", "1"),
        (1, "", "2.1"),
        (2, "fan[a]", "2"),
        (1, "", "3.1"),
        (3, "fan[a]", "3"),
    ]


@pytest.mark.parametrize("options", [{}, {"timeout_s": 60}, {"plugins": [AcceptAll()]}])
async def test_a_loop_that_runs_out_keeps_its_output_in_the_run_s_result_too(options: Any) -> None:
    result = await Flujo(loop(exit=lambda out, ctx: False, max_loops=3, max_retries=0, **options)).run_async(
        0
    )
    assert (result.status, result.step_history[0].output, result.output) == ("failed", 3, 3)


async def test_usage_of_all_iterations_adds_up() -> None:
    class Costly:
        def __init__(self, output: int) -> None:
            self.output, self.cost_usd, self.token_counts = output, 0.1, 7

    async def work(x: int) -> Costly:
        return Costly(x + 1)

    result = await Flujo(loop(Step("work", work))).run_async(0)
    assert (result.total_cost_usd, result.total_tokens) == (0.5, 35)
    assert result.step_history[0].cost_usd == 0.5


async def test_a_loop_in_a_loop() -> None:
    inner = Step.loop_until("inner", Step("add", add_one), lambda out: out % 3 == 0)
    result = await Flujo(loop(inner, lambda out: out >= 9)).run_async(0)
    whole = result.step_history[0]
    assert (result.output, whole.attempts) == (9, 3)
    assert [one.metadata_["iterations"] for one in whole.step_history] == [3, 3, 3]
    assert [[each.output for each in one.step_history] for one in whole.step_history] == [
        [1, 2, 3],
        [4, 5, 6],
        [7, 8, 9],
    ]


async def test_a_pipeline_that_contains_itself_is_refused() -> None:
    body: Pipeline[Any, Any] = Pipeline([Step("add", add_one)])
    body.steps.append(loop(body))
    with pytest.raises(ConfigurationError, match="contains itself"):
        await Flujo(body).run_async(0)


# --- refinement


async def draft(given: dict[str, Any]) -> str:
    return f"{given['original_input']}:{given['feedback']}"


async def test_refinement_ends_with_the_artifact_the_critic_accepts() -> None:
    async def critic(text: str) -> RefinementCheck:
        return RefinementCheck(is_complete=text.endswith("longer"), feedback="longer")

    whole = Step.refine_until("refine", Step("draft", draft), Step("critic", critic))
    result = await Flujo(whole).run_async("topic")
    assert result.output == "topic:longer"
    done = result.step_history[0]
    assert done.metadata_ == {"iterations": 2, "exit_reason": "condition"}
    assert [one.name for one in done.step_history] == ["draft", "critic", "draft", "critic"]


async def test_refinement_that_never_satisfies_fails_with_the_last_check() -> None:
    async def critic(text: str) -> RefinementCheck:
        return RefinementCheck(is_complete=False, feedback=text)

    whole = Step.refine_until("refine", Step("draft", draft), Step("critic", critic), max_refinements=2)
    result = await Flujo(whole).run_async("t")
    assert not result.success
    assert result.output == RefinementCheck(is_complete=False, feedback="t:t:None")
    assert result.step_history[0].metadata_["exit_reason"] == "max_loops"


async def test_the_feedback_mapper_gets_the_original_input_and_the_check() -> None:
    seen: list[Any] = []

    async def generate(given: Any) -> str:
        seen.append(given)
        return str(given)

    async def critic(text: str) -> RefinementCheck:
        return RefinementCheck(is_complete=text == "topic+more", feedback="more")

    whole = Step.refine_until(
        "refine",
        Step("generate", generate),
        Step("critic", critic),
        feedback_mapper=lambda given, check: f"{given}+{check.feedback}",
    )
    result = await Flujo(whole).run_async("topic")
    assert seen == [{"original_input": "topic", "feedback": None}, "topic+more"]
    assert result.output == "topic+more"


async def test_a_critic_that_gives_something_else_is_named() -> None:
    whole = Step.refine_until("refine", Step("draft", draft), Step("critic", add_nothing))
    result = await Flujo(whole).run_async("t")
    feedback = result.step_history[0].feedback
    assert feedback is not None
    assert "the critic of 'refine' must give a RefinementCheck, not str" in feedback


async def add_nothing(text: str) -> str:
    return text
