"""Ways out of failures, what must hold between steps, and imported pipelines."""

from __future__ import annotations

import logging
from typing import Any, Literal

import pytest

from flujo import Flujo, Pipeline, PipelineContext, Step, StepConfig, step
from flujo.domain.dsl import ImportStep, OutputMapping
from flujo.domain.events import PreStepPayload
from flujo.domain.models import StepFailure
from flujo.exceptions import ContextFieldError, ContextInheritanceError, InvariantViolatedError


class Notes(PipelineContext):
    count: int = 0
    notes: list[Any] = []
    answer: str = ""


async def same(x: Any) -> Any:
    return x


async def fails(x: Any) -> Any:
    raise ValueError("broken")


async def describe(failure: StepFailure) -> str:
    return f"{failure.step} gave up on {failure.input}"


# --- failure routes


async def test_a_steps_failure_route_takes_over_and_its_output_goes_on() -> None:
    seen: list[StepFailure] = []

    async def handle(failure: StepFailure) -> str:
        seen.append(failure)
        return "handled"

    failing = Step("failing", fails, max_retries=2).on_failure(Step("handler", handle))
    result = await Flujo(Step("before", same) >> failing >> Step("after", same)).run_async("x")
    assert result.success and result.output == "handled"
    assert [(one.name, one.success) for one in result.step_history] == [
        ("before", True),
        ("failing", False),
        ("handler", True),
        ("after", True),
    ]
    [failure] = seen
    assert (failure.step, failure.path, failure.attempts, failure.input) == ("failing", "failing", 3, "x")
    assert isinstance(failure.error, ValueError)
    assert "broken" in failure.feedback
    assert [one.name for one in failure.history] == ["failing"]
    assert not failure.history[0].success


async def test_a_route_is_taken_only_after_retries_and_fallback() -> None:
    failing = Step("failing", fails, fallback_step=Step("fallback", fails, max_retries=0), max_retries=0)
    failing.on_failure(Step("handler", describe))
    result = await Flujo(failing).run_async("x")
    assert result.output == "failing gave up on x"
    fine = Step("fine", fails, max_retries=0).fallback(Step("fallback", same))
    fine.on_failure(Step("handler", describe))
    assert (await Flujo(fine).run_async("x")).output == "x"


async def test_a_pipelines_failure_route_covers_its_steps_and_has_what_was_done() -> None:
    seen: list[StepFailure] = []

    async def handle(failure: StepFailure) -> str:
        seen.append(failure)
        return "handled"

    inner = Pipeline(
        [Step("a", same), Step("b", fails, max_retries=0), Step("c", same)],
        on_failure=Step("handler", handle),
    )
    result = await Flujo(inner).run_async("x")
    assert result.success and result.output == "handled"
    [failure] = seen
    assert (failure.step, failure.input) == ("b", "x")
    assert [(one.name, one.success) for one in failure.history] == [("a", True), ("b", False)]


async def test_when_the_handler_fails_too_both_are_named() -> None:
    failing = Step("failing", fails, max_retries=0).on_failure(Step("handler", fails, max_retries=0))
    result = await Flujo(failing).run_async("x")
    assert not result.success
    assert [one.name for one in result.step_history] == ["failing", "handler"]


async def test_a_route_inside_a_construct_and_of_a_construct() -> None:
    inner = Step("inner", fails, max_retries=0).on_failure(Step("handler", describe))
    fan = Step.parallel("fan", {"a": inner, "b": Step("same", same)})
    assert (await Flujo(fan).run_async("x")).output == {"a": "inner gave up on x", "b": "x"}
    loop = Step.loop_until("loop", Step("inner", fails, max_retries=0), lambda out: True)
    loop.on_failure(Step("handler", describe))
    result = await Flujo(loop).run_async("x")
    assert result.output == "loop gave up on x"


async def test_hooks_see_the_steps_of_a_route_and_nothing_else() -> None:
    told: list[str] = []

    async def before(payload: PreStepPayload) -> None:
        told.append(payload.step.name)

    failing = Step("failing", fails, max_retries=0).on_failure(Step("handler", describe))
    await Flujo(failing, hooks=[before]).run_async("x")
    assert told == ["failing", "handler"]


async def test_failure_handlers_are_told_and_the_failure_stands(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    async def asynchronous(failure: StepFailure, context: Notes) -> None:
        told.append((failure.step, failure.attempts, failure.input))
        context.notes.append("told")

    def broken() -> None:
        told.append("broken")
        raise RuntimeError("in the handler")

    failing = Step("failing", fails, failure_handlers=[asynchronous, broken])
    failing.on_failure(lambda failure: told.append(failure.feedback))
    with caplog.at_level(logging.WARNING, "flujo.run"):
        result = await Flujo(failing, context_model=Notes).run_async("x")
    assert not result.success
    assert told[:2] == [("failing", 2, "x"), "broken"]
    assert "broken" in told[2] and len(told) == 3
    assert "in the handler" in caplog.text or "RuntimeError" in caplog.text
    assert result.final_pipeline_context.notes == ["told"]
    assert isinstance(result.step_history[0].error, ValueError)


async def test_failure_handlers_stay_silent_when_a_step_succeeds_or_its_fallback_does() -> None:
    told: list[Any] = []
    fine = Step("fine", same, failure_handlers=[told.append])
    saved = Step("saved", fails, failure_handlers=[told.append], fallback_step=Step("other", same))
    result = await Flujo(fine >> saved).run_async("x")
    assert result.success and told == []


def test_a_pipeline_with_a_failure_route_isnt_joined_flat() -> None:
    guarded = Pipeline([Step("a", same)], on_failure=Step("handler", same))
    with pytest.raises(ValueError, match="can't be joined flat"):
        guarded >> Step("b", same)
    nested: Any = guarded.as_step("guarded") >> Step("b", same)
    assert [one.name for one in nested.steps] == ["guarded", "b"]


@pytest.mark.parametrize("handler", [7, "text"])
def test_a_handler_is_a_step_a_pipeline_or_a_callable(handler: Any) -> None:
    with pytest.raises(TypeError):
        Step("a", same).on_failure(handler)


# --- invariants


async def test_an_invariant_that_doesnt_hold_fails_the_step_naming_it() -> None:
    @step
    async def count(x: int, context: Notes) -> int:
        context.count += x
        return x

    def below_three(context: Notes) -> bool:
        return context.count < 3

    whole: Pipeline[Any, Any] = Pipeline(
        [count, Step("second", count.agent), Step("third", count.agent)], static_invariants=[below_three]
    )
    result = await Flujo(whole, context_model=Notes).run_async(2)
    assert [(one.name, one.success, one.attempts) for one in result.step_history] == [
        ("count", True, 1),
        ("second", False, 1),
    ]
    feedback = result.step_history[1].feedback or ""
    assert "after step 'second' the invariant 'below_three' doesn't hold" in feedback
    assert isinstance(result.step_history[1].error, InvariantViolatedError)
    assert result.final_pipeline_context.count == 2


async def test_invariants_see_what_sink_to_wrote_and_may_take_the_output_or_be_async() -> None:
    seen: list[Any] = []

    async def later(output: Any, context: Notes) -> bool:
        seen.append((output, context.answer))
        return True

    whole = Step("s", same, sink_to="answer", static_invariants=[later, lambda ctx: ctx.answer == "x"])
    result = await Flujo(whole, context_model=Notes).run_async("x")
    assert result.success and seen == [("x", "x")]


async def test_invariants_hold_for_constructs_too() -> None:
    whole = Step.parallel("fan", {"a": Step("a", same)}, static_invariants=[lambda context: False])
    result = await Flujo(Pipeline([whole])).run_async("x")
    assert "after step 'fan' the invariant number 1 doesn't hold" in (result.step_history[0].feedback or "")


# --- imports


async def test_an_import_works_in_a_context_of_its_own_and_what_it_wrote_comes_back() -> None:
    seen: list[Any] = []

    async def work(x: Any, context: Notes) -> Any:
        seen.append((context.initial_prompt, context.count, context.notes))
        context.answer = "written"
        return x

    async def before(x: Any, context: Notes) -> Any:
        context.count = 7
        context.notes.append("outer")
        return "question"

    whole = Step("before", before) >> ImportStep("import", Step("work", work))
    result = await Flujo(whole, context_model=Notes).run_async("start")
    assert seen == [("question", 0, [])]
    context = result.final_pipeline_context
    assert (context.answer, context.count, context.notes) == ("written", 7, ["outer"])
    assert context.initial_prompt is None
    assert [one.name for one in result.step_history[1].step_history] == ["work"]


async def test_an_import_may_inherit_the_context() -> None:
    async def work(x: Any, context: Notes) -> Any:
        context.notes.append(context.count)
        return x

    whole = ImportStep("import", Step("work", work), inherit_context=True, outputs=[])
    runner = Flujo(whole, context_model=Notes, initial_context_data={"count": 3, "notes": [1]})
    result = await runner.run_async("x")
    assert result.final_pipeline_context.notes == [1]
    whole.outputs = None
    assert (await runner.run_async("x")).final_pipeline_context.notes == [1, 3]


async def test_only_the_mapped_outputs_come_back() -> None:
    async def work(x: Any, context: Notes) -> Any:
        context.answer, context.count = "mapped", 9
        return x

    whole = ImportStep(
        "import", Step("work", work), outputs=[OutputMapping(child="answer", parent="step_outputs.found")]
    )
    result = await Flujo(whole, context_model=Notes).run_async("x")
    context = result.final_pipeline_context
    assert (context.step_outputs, context.answer, context.count) == ({"found": "mapped"}, "", 0)


async def test_an_output_that_isnt_there_fails_the_step_naming_it() -> None:
    whole = ImportStep("import", Step("work", same), outputs=[("missing.path", "answer")])
    result = await Flujo(whole, context_model=Notes).run_async("x")
    assert isinstance(result.step_history[0].error, ContextFieldError)
    assert "'missing.path'" in (result.step_history[0].feedback or "")


@pytest.mark.parametrize(
    ("given", "artifacts"), [({"a": 1}, {"a": 1}), ("text", {"input": "text"})], ids=["mapping", "value"]
)
async def test_the_input_goes_where_input_to_says(given: Any, artifacts: Any) -> None:
    seen: list[Any] = []

    async def work(x: Any, context: Notes) -> Any:
        seen.append((context.initial_prompt, context.import_artifacts, x))
        return x

    places: tuple[Literal["import_artifacts", "both"], ...] = ("import_artifacts", "both")
    for input_to in places:
        await Flujo(ImportStep("i", Step("w", work), input_to=input_to), context_model=Notes).run_async(given)
    assert seen == [(None, artifacts, given), (str(given), artifacts, given)]


async def test_the_conversation_goes_along_and_comes_back_unless_told_otherwise() -> None:
    async def work(x: Any, context: Notes) -> Any:
        context.conversation_history.append(x)
        return x

    data = {"conversation_history": ["hello"]}
    for inherits, outputs, expected in (
        (True, None, ["hello", "x"]),
        (True, [], ["hello", "x"]),
        (False, None, ["hello"]),
    ):
        whole = ImportStep("i", Step("w", work), inherit_conversation=inherits, outputs=outputs)
        result = await Flujo(whole, context_model=Notes, initial_context_data=data).run_async("x")
        assert result.final_pipeline_context.conversation_history == expected


async def test_a_failing_import_aborts_skips_or_gives_its_default() -> None:
    def imported(**options: Any) -> ImportStep[Any, Any]:
        return ImportStep("import", Step("work", fails, max_retries=0), **options)

    result = await Flujo(imported()).run_async("x")
    assert not result.success and "broken" in (result.step_history[0].feedback or "")
    for options, output in (
        ({"on_failure": "skip"}, "x"),
        ({"on_failure": "continue_with_default"}, None),
        ({"on_failure": "continue_with_default", "default_output": 0}, 0),
    ):
        result = await Flujo(imported(**options)).run_async("x")
        [one] = result.step_history
        assert result.success and result.output == output
        assert one.name == "import" and one.metadata_["fallback_triggered"] is True
        assert "broken" in one.metadata_["original_error"]


async def test_a_context_that_cant_be_made_says_so() -> None:
    class Required(PipelineContext):
        needed: str

    whole = ImportStep("import", Step("work", same))
    runner = Flujo(whole, context_model=Required, initial_context_data={"needed": "x"})
    result = await runner.run_async("x")
    assert isinstance(result.step_history[0].error, ContextInheritanceError)


async def test_usage_of_an_import_counts() -> None:
    class Costly:
        output, cost_usd, token_counts = "x", 0.5, 10

    async def work(x: Any) -> Costly:
        return Costly()

    result = await Flujo(ImportStep("import", Step("work", work))).run_async("x")
    assert (result.total_cost_usd, result.total_tokens) == (0.5, 10)


def test_imports_refuse_what_cant_work() -> None:
    with pytest.raises(ValueError, match="propagate_hitl"):
        ImportStep("i", Step("w", same), propagate_hitl=False)
    with pytest.raises(ValueError, match="both a fallback and on_failure"):
        ImportStep("i", Step("w", same), on_failure="skip", fallback_step=Step("f", same))
    nowhere: Any = "nowhere"
    with pytest.raises(ValueError, match="input_to"):
        ImportStep("i", Step("w", same), input_to=nowhere)


def test_what_was_set_in_a_config_is_known() -> None:
    assert StepConfig().given() == {}
    assert StepConfig(max_retries=1).given() == {"max_retries": 1}
    config = StepConfig()
    config.timeout_s = 3.0
    assert config.given() == {"timeout_s": 3.0}
    assert config.model_copy(update={"top_k": 2}).given() == {"timeout_s": 3.0, "top_k": 2}
    assert config.given() == {"timeout_s": 3.0}
