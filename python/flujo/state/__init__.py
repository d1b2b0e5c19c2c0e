"""Where runs are kept that outlive their process, and what is known of them."""

from flujo.state.backends import (
    FileBackend,
    InMemoryBackend,
    PostgresBackend,
    SQLiteBackend,
    StateBackend,
    backend_at,
)
from flujo.state.models import RunDetails, StepDetails, WorkerDetails, WorkflowState

__all__ = [
    "FileBackend",
    "InMemoryBackend",
    "PostgresBackend",
    "RunDetails",
    "SQLiteBackend",
    "StateBackend",
    "StepDetails",
    "WorkerDetails",
    "WorkflowState",
    "backend_at",
]
