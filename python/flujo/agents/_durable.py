"""Agents of pydantic-ai in steps of durable runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent

__all__ = ["DurableAgent"]


class DurableAgent:
    """An agent of pydantic-ai for steps of runs that are kept: after a crash its step goes on where it was.

    Each model request and each tool call is recorded as it ends (see `flujo.current_step().once`). When the step begins
    anew, those that were recorded aren't made again: in another process, and in another attempt after one that broke
    off in a request or in a tool. After one that had come to its end (a validator refused the answer, for instance) all
    is done anew.

    Requests are known by their number in the agent's run, tool calls by the id that the model gave them. What a tool
    gives must be savable. Outside of a step it is the agent itself.

    Args:
        agent: A pydantic-ai agent.
        name: Tells it from other agents within the same step; the agent's own name by default.

    Raises:
        TypeError: it isn't one.
    """

    def __init__(self, agent: AbstractAgent[Any, Any], *, name: str | None = None) -> None:
        # Whoever has an agent has imported its module.
        known = getattr(sys.modules.get("pydantic_ai.agent"), "AbstractAgent", ())
        if not isinstance(agent, known):
            raise TypeError(f"DurableAgent takes an agent of pydantic-ai, not {type(agent).__name__}")
        self.wrapped = agent
        self.name = name or agent.name or "agent"

    async def run(
        self,
        data: Any = None,
        *,
        deps: Any = None,
        output_type: Any = None,
        message_history: Any = None,
        deferred_tool_results: Any = None,
        model: Any = None,
        instructions: Any = None,
        model_settings: Any = None,
        usage_limits: Any = None,
        usage: Any = None,
        metadata: Any = None,
        toolsets: Any = None,
        event_stream_handler: Any = None,
    ) -> Any:
        """The agent's answer to `data`, as its own `run` gives it; see there for the options.

        Raises:
            ConfigurationError: the agent has no model, and none is given.
            UnsavableValueError: a tool gave what can't be written down.
        """
        from flujo.application._place import PLACE

        given = {
            "deps": deps,
            "output_type": output_type,
            "message_history": message_history,
            "deferred_tool_results": deferred_tool_results,
            "model": model,
            "instructions": instructions,
            "model_settings": model_settings,
            "usage_limits": usage_limits,
            "usage": usage,
            "metadata": metadata,
            "toolsets": toolsets,
            "event_stream_handler": event_stream_handler,
        }
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        place = PLACE.get()
        if place is None:
            return await self.wrapped.run(data, **options)
        from flujo.agents._recorded import run_recorded

        return await run_recorded(self.wrapped, self.name, place, data, options)

    def __repr__(self) -> str:
        return f"DurableAgent({self.wrapped!r}, name={self.name!r})"
