"""How a runner keeps its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from flujo._native import KeptRuns
    from flujo.state.backends.base import StateBackend

Durability = Literal["strict", "async", "exit"]


def kept_runs(
    backend: StateBackend | None,
    durability: Durability,
    lease_s: float,
    context_model: type[BaseModel] | None,
) -> KeptRuns | None:
    """What the engine keeps runs with; None where nothing is stored.

    Raises:
        TypeError: the backend isn't one.
        ValueError: there is no such durability, or the lease is too short.
    """
    if backend is None:
        return None
    from flujo._native import KeptRuns
    from flujo.application._checked import checked_seconds
    from flujo.state.backends.base import store_of

    seconds = checked_seconds("lease_s", lease_s)
    classes = [] if context_model is None else [context_model]
    return KeptRuns(store_of(backend), durability=durability, lease_s=seconds or 0.0, classes=classes)
