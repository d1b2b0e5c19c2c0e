"""What is known of stored runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

from pydantic import BaseModel, ConfigDict, Field

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
    """A step of a stored run."""

    step_name: str
    path: str
    step_index: int
    """Its place among those of the run, from 0."""
    status: str
    attempts: int
    cost_usd: float
    token_counts: int
    latency_s: float
    output: Any
    error_message: str | None


class WorkerDetails(TypedDict):
    """A process that runs runs of a store."""

    id: int
    host: str
    pid: int


class WorkflowState(BaseModel):
    """How a stored run stands, as `StateBackend.load_state` tells it."""

    model_config = ConfigDict(extra="allow")

    run_id: str
    pipeline_id: str
    pipeline_name: str
    pipeline_version: str = "latest"
    current_step_index: int = 0
    pipeline_context: dict[str, Any] = Field(default_factory=dict)
    last_step_output: Any = None
    step_history: list[dict[str, Any]] = Field(default_factory=list)
    status: str
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any] = Field(default_factory=dict)
