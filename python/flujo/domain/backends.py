"""Backends run single steps somewhere: here, in another process, on another machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from flujo.domain.dsl import Step
    from flujo.domain.results import StepResult
    from flujo.domain.usage import UsageLimits

__all__ = ["ExecutionBackend", "StepExecutionRequest"]


@dataclass(slots=True)
class StepExecutionRequest:
    """A step to run, and what it runs on."""

    step: Step[Any, Any]
    input_data: Any = None
    context: Any = None
    resources: Any = None
    usage_limits: UsageLimits | None = None


@runtime_checkable
class ExecutionBackend(Protocol):
    """Anything that can run a step."""

    async def execute_step(self, request: StepExecutionRequest) -> StepResult:
        """Run the step. Its failure is in the result, and isn't raised."""
        ...
