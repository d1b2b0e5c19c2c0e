"""What hooks and event streams are told.

A hook is a function of one payload. One whose parameter is annotated with a payload class gets that kind
only; one without an annotation, or with `HookPayload`, gets all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from flujo.domain.dsl import Step
    from flujo.domain.results import Pause, PipelineResult, StepResult

__all__ = [
    "Event",
    "EventKind",
    "HookCallable",
    "HookPayload",
    "OnPauseRequestedPayload",
    "OnStepFailurePayload",
    "PostRunPayload",
    "PostStepPayload",
    "PreRunPayload",
    "PreStepPayload",
]


EventKind = Literal[
    "run_started",
    "step_started",
    "attempt_started",
    "chunk",
    "attempt_failed",
    "step_finished",
    "step_failed",
    "paused",
    "resumed",
    "alert",
    "run_finished",
]


class Event(NamedTuple):
    """Something that happened in a run; `run_finished` is a run's last, however the run ended."""

    kind: EventKind
    run_id: str
    step: str
    """The step's name; empty for events of the whole run."""
    path: str
    """The names of the steps around it and its own, joined by `/`."""
    lane: str
    """The parallel branch or map item, `fan[a]/items[3]`; empty outside of them."""
    attempt: int
    """From 1; 0 outside attempts."""
    time: datetime
    data: Any = None
    """Of `chunk` the chunk, of `attempt_failed` what failed as text, of `step_finished` and `step_failed` the
    `StepResult`, of `paused` the `Pause` (None where it is read from a store), of `alert` the `Alert`, of
    `run_finished` the `PipelineResult`."""


def now() -> datetime:
    """The time of an event."""
    return datetime.now(UTC)


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
