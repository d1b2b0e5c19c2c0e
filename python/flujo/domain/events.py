"""What hooks are told.

A hook is a function of one payload. One whose parameter is annotated with a payload class gets that kind
only; one without an annotation, or with `HookPayload`, gets all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from flujo.domain.dsl import Step
    from flujo.domain.results import Pause, PipelineResult, StepResult

__all__ = [
    "HookCallable",
    "HookPayload",
    "OnPauseRequestedPayload",
    "OnStepFailurePayload",
    "PostRunPayload",
    "PostStepPayload",
    "PreRunPayload",
    "PreStepPayload",
]


@dataclass(slots=True)
class PreRunPayload:
    """A run is about to start."""

    event_name: ClassVar[Literal["pre_run"]] = "pre_run"

    initial_input: Any
    context: Any = None
    resources: Any = None
    run_id: str | None = None
    pipeline_name: str | None = None
    pipeline_version: str | None = None
    initial_budget_cost_usd: float | None = None
    """The run's limit in US dollars; None where there is none."""
    initial_budget_tokens: int | None = None


@dataclass(slots=True)
class PreStepPayload:
    """A step is about to start."""

    event_name: ClassVar[Literal["pre_step"]] = "pre_step"

    step: Step[Any, Any]
    step_input: Any
    context: Any = None
    resources: Any = None
    attempt_number: int = 1
    quota_before_usd: float | None = None
    """What is left of the cost limit, in US dollars; None where there is none."""
    quota_before_tokens: int | None = None
    cache_hit: bool = False


@dataclass(slots=True)
class PostStepPayload:
    """A step has succeeded."""

    event_name: ClassVar[Literal["post_step"]] = "post_step"

    step_result: StepResult
    context: Any = None
    resources: Any = None


@dataclass(slots=True)
class OnStepFailurePayload:
    """A step has failed, after its retries and its fallback."""

    event_name: ClassVar[Literal["on_step_failure"]] = "on_step_failure"

    step_result: StepResult
    context: Any = None
    resources: Any = None


@dataclass(slots=True)
class PostRunPayload:
    """A run has ended, in whatever way."""

    event_name: ClassVar[Literal["post_run"]] = "post_run"

    pipeline_result: PipelineResult[Any, Any]
    context: Any = None
    resources: Any = None


@dataclass(slots=True)
class OnPauseRequestedPayload:
    """A run is about to wait for a human."""

    event_name: ClassVar[Literal["on_pause_requested"]] = "on_pause_requested"

    pause: Pause
    context: Any = None
    resources: Any = None


HookPayload = (
    PreRunPayload
    | PreStepPayload
    | PostStepPayload
    | OnStepFailurePayload
    | PostRunPayload
    | OnPauseRequestedPayload
)

# Any, since each hook takes the payload it's annotated with.
HookCallable = Callable[[Any], Awaitable[None] | None]
