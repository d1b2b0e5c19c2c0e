"""What the planner of an agentic loop may ask for."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from flujo.domain.context import ExecutedCommandLog

__all__ = ["AgentCommand", "AskHumanCommand", "ExecutedCommandLog", "FinishCommand", "RunAgentCommand"]


class RunAgentCommand(BaseModel):
    """Run one of the agents of the registry."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    type: Literal["run_agent"] = "run_agent"
    agent_name: str
    input_data: Any = None


class AskHumanCommand(BaseModel):
    """Ask a human, and go on with the answer."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    type: Literal["ask_human"] = "ask_human"
    question: str


class FinishCommand(BaseModel):
    """End the loop with this answer."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    type: Literal["finish"] = "finish"
    final_answer: Any = None


AgentCommand = Annotated[RunAgentCommand | AskHumanCommand | FinishCommand, Field(discriminator="type")]
"""One of the commands, told apart by `type`."""
