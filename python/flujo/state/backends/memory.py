"""Runs in this process's memory."""

from __future__ import annotations

from flujo._native import Store
from flujo.state.backends.base import StateBackend

__all__ = ["InMemoryBackend"]


class InMemoryBackend(StateBackend):
    """Keeps runs in memory, as long as the backend itself: for tests, and to go on with runs within one process."""

    def __init__(self) -> None:
        super().__init__(Store.memory())
