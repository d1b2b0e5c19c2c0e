"""Which options of a step a question to humans takes, and that those it takes work."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from flujo import Flujo, Pipeline, PipelineContext, Step, StepConfig
from flujo.domain.backoff import Backoff
from flujo.domain.dsl import HumanInTheLoopStep
from flujo.domain.processors import AgentProcessors
from flujo.domain.results import StepFailure
from flujo.exceptions import ConfigurationError, InvariantViolatedError


class Order(PipelineContext):
    count: int = 0
    notes: list[str] = []


def ask(**options: Any) -> Any:
    return Step.human_in_the_loop("ask", "How many?", **options)


async def upper(text: str) -> str:
    return text.upper()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"failure_handlers": [print]}, "failure_handlers"),
        ({"persist_feedback_to_context": "notes"}, "persist_feedback_to_context"),
        ({"persist_validation_results_to": "notes"}, "persist_validation_results_to"),
        ({"processors": AgentProcessors(output_processors=[upper])}, "processors"),
        ({"max_retries": 1}, "max_retries"),
        ({"config": StepConfig(backoff=Backoff.fixed(1), temperature=0.5)}, "backoff, temperature"),
        ({"fallback_step": Step("x", upper), "max_retries": 0}, "fallback_step, max_retries"),
    ],
)
def test_options_of_work_are_refused_not_ignored(options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"'ask' asks a human and has {named}, which"):
        Flujo(ask(**options)).run(1)


async def test_empty_options_are_none() -> None:
    options: Any = {"config": StepConfig(deadline_s=60), "processors": AgentProcessors()}
    runner = Flujo(ask(**options))
    assert (await runner.resume_async(await runner.run_async(1), 2)).output == 2


# --- invariants


def small(context: Any) -> bool:
    return bool(context.count < 10)


async def even(output: int, context: Any) -> bool:
    return output % 2 == 0 and context.count == output


@pytest.mark.parametrize(("own", "around"), [([small, even], []), ([], [small, even]), ([even], [small])])
async def test_an_answer_that_breaks_an_invariant_leaves_the_question_open(own: Any, around: Any) -> None:
    step = ask(sink_to="count", static_invariants=own)
    runner = Flujo(Pipeline([step], static_invariants=around), context_model=Order)
    paused = await runner.run_async(1)
    for bad, named in ((12, "small"), (3, "even")):
        with pytest.raises(InvariantViolatedError, match=f"after step 'ask' the invariant '{named}'"):
            await runner.resume_async(paused, bad)
    done = await runner.resume_async(paused, 4)
    context = done.final_pipeline_context
    assert (done.status, done.output, context.count) == ("completed", 4, 4)
    assert [said.human_response for said in context.hitl_history] == [4]


async def test_a_default_that_breaks_an_invariant_fails_the_step() -> None:
    step = ask(sink_to="count", static_invariants=[small], default=12, timeout_s=1e-9)
    runner = Flujo(step, context_model=Order)
    done = await runner.resume_async(await runner.run_async(1))
    assert (done.status, done.final_pipeline_context.count) == ("failed", 0)
    assert "the invariant 'small' doesn't hold" in (done.step_history[0].feedback or "")


# --- failure routes


async def instead(failure: StepFailure) -> str:
    return f"nobody answered {failure.step}"


async def test_a_question_that_nobody_answers_in_time_fails_into_its_handler() -> None:
    step = ask(timeout_s=1e-9).on_failure(Step("instead", instead))
    runner = Flujo(step >> Step("upper", upper))
    done = await runner.resume_async(await runner.run_async(1))
    assert (done.status, done.output) == ("completed", "NOBODY ANSWERED ASK")


async def test_an_answered_question_leaves_its_handler_alone() -> None:
    runner = Flujo(ask(timeout_s=3600).on_failure(Step("instead", instead)))
    assert (await runner.resume_async(await runner.run_async(1), "yes")).output == "yes"


# --- defaults


class Answer(BaseModel):
    count: int


@pytest.mark.parametrize(
    ("schema", "default"),
    [(int, "many"), (Answer, {"number": 1}), (int, None), ({"type": "integer"}, "many")],
)
def test_a_default_that_no_answer_could_be_is_refused_where_it_is_written(schema: Any, default: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)HumanInTheLoopStep 'ask': default = .*input_schema"):
        HumanInTheLoopStep("ask", input_schema=schema, default=default)


def test_a_default_that_stops_fitting_is_refused_before_the_run() -> None:
    step = ask(input_schema=int, default=3)
    step.default = "many"
    with pytest.raises(ConfigurationError, match=r"(?s)'ask': default = 'many'.*input_schema"):
        Flujo(step).run(1)


@pytest.mark.parametrize(
    ("schema", "default", "taken"),
    [(Answer, {"count": 3}, Answer(count=3)), (int | None, None, None), (None, "x", "x")],
)
async def test_a_default_is_taken_as_an_answer_would_be(schema: Any, default: Any, taken: Any) -> None:
    runner = Flujo(ask(input_schema=schema, default=default, timeout_s=1e-9))
    done = await runner.resume_async(await runner.run_async(1))
    assert (done.status, done.output) == ("completed", taken)
