"""Plugins look at a step's output and may refuse it, replace it, or hand the work to another agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = ["PluginOutcome", "ValidationPlugin"]


@dataclass(slots=True)
class PluginOutcome:
    """A plugin's verdict.

    `success=False` fails the attempt, with `feedback` as the reason. `new_solution` replaces the output.
    `redirect_to` is an agent that does the step's work in place of its own, or its name: the path of a step whose agent
    it is (`"draft"`, `"outer/draft"`), or `"MODULE:NAME"` of something in a module that has been imported.
    """

    success: bool
    feedback: str | None = None
    redirect_to: Any = None
    new_solution: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.success, bool):
            raise TypeError(f"PluginOutcome(success=…) must be True or False, not {self.success!r}")
        if self.feedback is not None and not isinstance(self.feedback, str):
            raise TypeError(f"PluginOutcome(feedback=…) must be a text or None, not {self.feedback!r}")


@runtime_checkable
class ValidationPlugin(Protocol):
    """Anything with this method can be given to `Step(plugins=[...])` or `step.add_plugin(...)`."""

    async def validate(self, data: dict[str, Any]) -> PluginOutcome:
        """Look at `data`: the output itself where it's a dict, or else `{"output": output}`."""
        ...
