"""What is known of stored runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # of typing pydantic takes them from Python 3.12 on

__all__ = ["RunDetails", "StepDetails", "WorkerDetails", "WorkflowState"]


class RunDetails(TypedDict):
    """A stored run without its contents."""

    run_id: str
    pipeline_id: str
    """The pipeline's name, under the name that older versions have for it."""
    pipeline_name: str
    status: str
    """`queued`, `running`, `paused`, `completed`, `failed`, `cancelled` or `limit_exceeded`."""
    created_at: datetime
    updated_at: datetime
    start_time: datetime
    end_time: datetime | None
    """None until it has ended."""
    due_at: datetime | None
    """When somebody is to look at it again: a question's time is over then, or a retry due."""
    total_steps: int
    """Steps that have ended, each time they ran."""
    total_cost_usd: float
    total_tokens: int
    total_requests: int
    message: str | None
    """Why it failed, or what it asks."""
    error_message: str | None
    """Why it failed."""
    owner: str | None
    """The process that runs it."""
    forked_from: str | None
    stored_bytes: int


class StepDetails(TypedDict):
    """A step of a stored run, or one that is under way in it."""

    step_index: int
    """Its place in the list, from 0."""
    parent_index: int | None
    """The place of the step it is part of."""
    step_name: str
    path: str
    lane: str
    """The branch or item it ran in, such as `split[left]`; empty outside of them."""
    status: str
    """`running`, `completed`, `failed`, `cancelled` or `limit_exceeded`."""
    attempts: int
    cost_usd: float
    token_counts: int
    requests: int
    asks: bool
    """Whether it asks somebody, and has begun to."""
    latency_s: float
    started_s: float
    """In seconds of the run's own time, which stands still while nobody runs it."""
    ended_s: float | None
    """None while it is under way."""
    output: Any
    """What came out; of a class that isn't imported, or that has changed, a text that says so."""
    error_type: str | None
    error_message: str | None


class WorkerDetails(TypedDict):
    """A process that runs runs of a store."""

    id: int
    host: str
    pid: int


class WorkflowState(BaseModel):
    """How a stored run stands: `WorkflowState(**await backend.load_state(run_id))`."""

    model_config = ConfigDict(extra="allow")

    run_id: str
    pipeline_id: str
    pipeline_name: str
    pipeline_version: str = "latest"
    current_step_index: int = 0
    """How many steps of the pipeline have ended well."""
    pipeline_context: dict[str, Any] | None = None
    """None: a run's context is made again with its pipeline only, by `runner.result(run_id)`."""
    last_step_output: Any = None
    step_history: list[StepDetails] = Field(default_factory=list)
    status: str
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any] = Field(default_factory=dict)
