"""The state that the steps of a run share."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from flujo.domain.candidates import Checklist
from flujo.domain.results import RunStatus

__all__ = ["BaseContext", "ExecutedCommandLog", "HumanInteraction", "PipelineContext"]


def _now() -> datetime:
    return datetime.now(UTC)


def _new_run_id() -> str:
    return f"run_{os.urandom(16).hex()}"


class HumanInteraction(BaseModel):
    """A question put to a human, and the answer."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    message_to_human: str
    human_response: Any
    timestamp: datetime = Field(default_factory=_now)


class ExecutedCommandLog(BaseModel):
    """One turn of an agentic loop: the planner's command and what came of it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    turn: int
    generated_command: Any
    execution_result: Any = None
    timestamp: datetime = Field(default_factory=_now)


class BaseContext(BaseModel):
    """A context without fields of its own. Assignments are validated, unknown fields are kept."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", validate_assignment=True, defer_build=True)


class PipelineContext(BaseContext):
    """The context of a run for which no other model is given, and a base for own ones.

    class Order(PipelineContext):
        customer: str = ""
        lines: list[str] = []
    """

    run_id: str = Field(default_factory=_new_run_id)
    initial_prompt: str | None = None

    status: RunStatus = "running"
    pause_message: str | None = None
    step_outputs: dict[str, Any] = Field(default_factory=dict)
    """Output by step name."""
    call_count: int = 0

    hitl_history: list[HumanInteraction] = Field(default_factory=list)
    hitl_data: dict[str, Any] = Field(default_factory=dict)
    user_input: Any = None
    paused_step_input: Any = None

    command_log: list[ExecutedCommandLog] = Field(default_factory=list)
    conversation_history: list[Any] = Field(default_factory=list)
    import_artifacts: dict[str, Any] = Field(default_factory=dict)

    loop_iteration_index: int | None = None
    loop_step_index: int | None = None
    loop_last_output: Any = None
    granular_state: dict[str, Any] | None = None
    tree_search_state: Any = None

    is_background_task: bool = False
    parent_run_id: str | None = None
    task_id: str | None = None
    background_error: str | None = None

    solution: str | None = None
    checklist: Checklist | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Refuse the untyped `scratchpad` of older versions, which would be lost silently otherwise."""
        if self.__pydantic_extra__ and "scratchpad" in self.__pydantic_extra__:
            raise ValueError(_NO_SCRATCHPAD)

    if not TYPE_CHECKING:  # static tools would take every unknown attribute for a valid one

        def __getattr__(self, name: str) -> Any:
            if name == "scratchpad":
                raise AttributeError(_NO_SCRATCHPAD)
            return super().__getattr__(name)


_NO_SCRATCHPAD = (
    "PipelineContext has no scratchpad: declare what you keep there as typed fields of your own context "
    "(class MyContext(PipelineContext): ...); status, pause_message, step_outputs, user_input and hitl_data "
    "are fields of PipelineContext already"
)

# The schemas of these two are built when first needed, which saves two thirds of the time that importing them
# takes. Models that users derive keep to pydantic's default: an error in their definition shows where it
# stands.
for _model in (BaseContext, PipelineContext):
    del _model.model_config["defer_build"]
del _model
