"""How a run goes, piece by piece: chunks, then exactly one of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flujo.domain.results import Pause, PipelineResult, StepResult

__all__ = ["Aborted", "Chunk", "Failure", "Paused", "StepOutcome", "Success"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an agent's output, as it came."""

    data: Any
    step_name: str
    lane: str = ""
    """The parallel branch or map item, `fan[a]/items[3]`; empty outside of them."""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class _Ended:
    result: PipelineResult[Any, Any]

    @property
    def step_result(self) -> StepResult | None:
        """The last step's result."""
        history = self.result.step_history
        return history[-1] if history else None


@dataclass(frozen=True, slots=True)
class Success(_Ended):
    """The run completed."""

    @property
    def output(self) -> Any:
        """The run's output."""
        return self.result.output


@dataclass(frozen=True, slots=True)
class Failure(_Ended):
    """The run failed, or reached a usage limit."""

    error: BaseException | None = None

    @property
    def feedback(self) -> str | None:
        """What failed."""
        last = self.step_result
        if last is not None and last.feedback is not None:
            return last.feedback
        return None if self.error is None else str(self.error)


@dataclass(frozen=True, slots=True)
class Paused(_Ended):
    """The run waits for answers."""

    @property
    def pauses(self) -> list[Pause]:
        """Where it waits."""
        return self.result.pauses

    @property
    def message(self) -> str:
        """The first question."""
        return self.result.pauses[0].message if self.result.pauses else ""


@dataclass(frozen=True, slots=True)
class Aborted(_Ended):
    """The run was cancelled or aborted."""

    reason: str = "cancelled"


StepOutcome = Success | Failure | Paused | Aborted | Chunk


def outcome_of(result: PipelineResult[Any, Any], error: BaseException | None = None) -> StepOutcome:
    """How a run with this result ended; `error` is what it ended with, if anything."""
    match result.status:
        case "completed":
            return Success(result)
        case "paused":
            return Paused(result)
        case "cancelled":
            return Aborted(result)
        case _:
            failed = next((step.error for step in reversed(result.step_history) if step.error), None)
            return Failure(result, error or failed)
