"""An agent's output together with what it has used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from typing_extensions import TypeVar

__all__ = ["FlujoAgentResult", "FlujoAgentUsage"]

OutputT = TypeVar("OutputT", default=Any)


@dataclass(frozen=True, slots=True)
class FlujoAgentUsage:
    """Tokens, requests and money of one agent call. `cost_usd` is None where it isn't known, which isn't
    zero.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 1
    cost_usd: float | None = None

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True)
class FlujoAgentResult(Generic[OutputT]):
    """Return it from an agent to report usage; the next step gets `output`.

    `cost_usd` and `token_counts` state the usage outright. Where they're None, `usage()` and the configured
    prices decide.
    """

    output: OutputT
    cost_usd: float | None = None
    token_counts: int | None = None
    agent_usage: FlujoAgentUsage | None = None

    def usage(self) -> FlujoAgentUsage | None:
        """The usage in detail, where the agent gave it."""
        return self.agent_usage
