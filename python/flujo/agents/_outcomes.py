"""What shipped agents answer with: an output with its usage, or a failure with what it had used by then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from flujo.exceptions import ExecutionError, NonRetryableError

__all__ = ["AgentFailed", "AgentFailedPermanently", "AgentResult", "AgentUsage"]

OutputT = TypeVar("OutputT")


@dataclass(frozen=True, slots=True)
class AgentUsage:
    """What one call has used."""

    cost_usd: float | None = None
    """In US dollars; None where nobody has said what the agent costs, which isn't zero."""
    total_tokens: int = 0
    """Prompt and completion together."""
    requests: int = 0
    """Requests to a model or service."""


@dataclass(frozen=True, slots=True)
class AgentResult(Generic[OutputT]):
    """An output with what it took. As the result of a step's agent, `output` alone goes on to the next step."""

    output: OutputT
    usage: AgentUsage
    model: str | None = None
    """The model that answered, where one did."""


class AgentFailed(ExecutionError):
    """An agent's call failed; another attempt may succeed.

    Attributes:
        usage: What the failed call used all the same.
        retry_after: How many seconds to wait before another attempt, where the service asked for it.
    """

    usage: AgentUsage
    retry_after: float | None

    def __init__(
        self, message: str, usage: AgentUsage | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.usage = usage if usage is not None else AgentUsage()
        self.retry_after = retry_after

    @property
    def cost_usd(self) -> float | None:
        """The cost of the failed call in US dollars; None where it isn't known."""
        return self.usage.cost_usd

    @property
    def token_counts(self) -> int:
        """The tokens of the failed call, prompt and completion together."""
        return self.usage.total_tokens


class AgentFailedPermanently(AgentFailed, NonRetryableError):
    """An agent's call failed in a way that would come again: a step doesn't try it a second time."""
