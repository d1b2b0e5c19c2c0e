"""Where the code that asks is: the step that is being worked on."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flujo._native import Place

PLACE: ContextVar[Place | None] = ContextVar("flujo_place", default=None)


def current_step() -> Place:
    """The step whose code asks: its run, name, path, lane, attempt and idempotency key.

    It is known in the step's own code, in tasks that code starts and in worker threads.

    Raises:
        RuntimeError: no step is being worked on here.
    """
    place = PLACE.get()
    if place is None:
        raise RuntimeError(
            "flujo.current_step() was called outside of a step: call it in code that a run calls"
        )
    return place
