"""What `Step.refine_until` does between generator and critic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def first_input(given: Any) -> dict[str, Any]:
    """The generator's first input."""
    return {"original_input": given, "feedback": None}


def is_content(step: Any) -> Callable[[Any], bool]:
    """Whether the critic is content, from what it gave."""
    from flujo.domain.candidates import RefinementCheck

    def content(check: Any) -> bool:
        if not isinstance(check, RefinementCheck):
            raise TypeError(
                f"the critic of {step.name!r} must give a RefinementCheck, not {type(check).__name__}: let its last "
                "step return RefinementCheck(is_complete=…, feedback=…)"
            )
        return check.is_complete

    return content


def feedback(step: Any) -> Callable[[Any, Any], Any]:
    """The generator's next input, from what the step was given and the check."""
    mapper: Callable[[Any, Any], Any] | None = step.feedback_mapper
    if mapper is not None:
        return mapper
    return lambda given, check: {"original_input": given, "feedback": check.feedback}
