"""`Step.validate_step`: a strict one fails with nothing, another one passes on what was rejected, and both say so."""

from __future__ import annotations

from typing import Any

from flujo import Flujo, PipelineContext, Step
from flujo.domain.validation import ValidationResult, validator


@validator
def short(output: str) -> tuple[bool, str | None]:
    return len(output) <= 3, "too long"


@validator
def anything(output: object) -> bool:
    return True


async def _shout(x: str) -> str:
    return x.upper()


def _checked(*, strict: bool, **options: Any) -> Flujo[Any, Any]:
    return Flujo(Step.validate_step(_shout, strict, validators=[anything, short], **options))


async def test_a_strict_one_fails_with_no_output_and_without_having_passed() -> None:
    result = await _checked(strict=True, max_retries=0).run_async("long")
    step = result.step_history[0]
    assert (result.success, step.success, step.output) == (False, False, None)
    assert step.metadata == {"validation_passed": False, "attempt_failures": [step.feedback]}
    assert "too long" in (step.feedback or "")


async def test_a_lenient_one_passes_a_rejected_output_on_at_its_first_attempt() -> None:
    runner = Flujo(_checked(strict=False, max_retries=3).pipeline >> Step("after", _shout))
    result = await runner.run_async("long")
    step = result.step_history[0]
    assert (result.output, step.success, step.output, step.attempts) == ("LONG", True, "LONG", 1)
    assert step.metadata == {"validation_passed": False}
    assert step.feedback is None


async def test_what_passed_says_so_either_way() -> None:
    for strict in (True, False):
        step = (await _checked(strict=strict).run_async("ok")).step_history[0]
        assert (step.output, step.metadata) == ("OK", {"validation_passed": True})


async def test_a_step_that_failed_before_it_was_validated_has_not_passed() -> None:
    async def breaks(x: str) -> str:
        raise ValueError("no")

    for strict in (True, False):
        runner = Flujo(Step.validate_step(breaks, strict, validators=[anything], max_retries=0))
        step = (await runner.run_async("x")).step_history[0]
        assert (step.success, step.metadata["validation_passed"]) == (False, False)


async def test_another_step_says_nothing_of_it_and_keeps_its_rejected_output() -> None:
    step = (await Flujo(Step("s", _shout, validators=[short], max_retries=0)).run_async("long")).step_history[
        0
    ]
    assert step.output == "LONG"
    assert "validation_passed" not in step.metadata


class Context(PipelineContext):
    verdicts: list[ValidationResult] = []


async def test_a_lenient_one_persists_its_verdicts_too() -> None:
    runner = Flujo(
        Step.validate_step(
            _shout, strict=False, validators=[short], persist_validation_results_to="verdicts"
        ),
        context_model=Context,
    )
    result = await runner.run_async("long")
    assert result.success
    assert [verdict.is_valid for verdict in result.final_pipeline_context.verdicts] == [False]
