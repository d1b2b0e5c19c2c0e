"""Assertions on results, whose failures say what was there instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flujo.domain.results import PipelineResult, StepResult
from flujo.domain.validation import ValidationResult
from flujo.testing.agents import all_steps

__all__ = ["assert_context_updated", "assert_pipeline_result", "assert_validator_failed"]

_UNSET = object()


def assert_pipeline_result(
    result: PipelineResult[Any, Any],
    expected_output: Any = _UNSET,
    *,
    success: bool = True,
    steps: list[str] | None = None,
) -> None:
    """Assert how a run ended: whether it completed, its output, and the names of its steps in order."""
    __tracebackhide__ = True
    if result.success != success:
        failed = "; ".join(
            f"{step.name!r}: {step.feedback or repr(step.error)}"
            for step in all_steps(result.step_history)
            if not step.success
        )
        raise AssertionError(
            f"expected the run to {'complete' if success else 'fail'}, but its status is {result.status!r}"
            + (f" (failed: {failed})" if failed else "")
        )
    if expected_output is not _UNSET and result.output != expected_output:
        raise AssertionError(f"expected the output {expected_output!r}, but it is {result.output!r}")
    names = [step.name for step in result.step_history]
    if steps is not None and names != steps:
        raise AssertionError(f"expected the steps {steps!r}, but these were run: {names!r}")


def assert_validator_failed(
    result: PipelineResult[Any, Any], validator_name: str, expected_feedback_part: str | None = None
) -> None:
    """Assert that a validator refused an output, with `expected_feedback_part` in its feedback if given."""
    __tracebackhide__ = True
    told = list(_refusals(result))
    for text in told:
        if validator_name in text and (expected_feedback_part is None or expected_feedback_part in text):
            return
    wanted = f"validator {validator_name!r} to refuse an output"
    if expected_feedback_part is not None:
        wanted += f" with feedback containing {expected_feedback_part!r}"
    raise AssertionError(f"expected {wanted}, but the refusals are {told!r}")


def _refusals(result: PipelineResult[Any, Any]) -> Iterator[str]:
    for step in all_steps(result.step_history):
        if step.feedback:
            yield step.feedback
        for verdict in _verdicts(step):
            yield f"{verdict.validator_name}: {verdict.feedback or ''}"
    context = result.final_pipeline_context
    for value in dict(context or {}).values():
        for verdict in value if isinstance(value, list) else ():
            if isinstance(verdict, ValidationResult) and not verdict.is_valid:
                yield f"{verdict.validator_name}: {verdict.feedback or ''}"


def _verdicts(step: StepResult) -> Iterator[ValidationResult]:
    for value in step.metadata_.values():
        for verdict in value if isinstance(value, list) else (value,):
            if isinstance(verdict, ValidationResult) and not verdict.is_valid:
                yield verdict


def assert_context_updated(result: PipelineResult[Any, Any], **expected: Any) -> None:
    """Assert that fields of the final context have the given values."""
    __tracebackhide__ = True
    context = result.final_pipeline_context
    if context is None:
        raise AssertionError("expected a final context, but the result has none")
    for name, value in expected.items():
        if not hasattr(context, name):
            raise AssertionError(f"expected context.{name}, but {type(context).__name__} has no such field")
        found = getattr(context, name)
        if found != value:
            raise AssertionError(f"expected context.{name} to be {value!r}, but it is {found!r}")
