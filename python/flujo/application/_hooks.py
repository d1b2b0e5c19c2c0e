"""Which hooks are told of what."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flujo.application._logging import logger

_log = logger("run")

_POINTS = {
    "pre_run": 1,
    "pre_step": 2,
    "post_step": 4,
    "on_step_failure": 8,
    "post_run": 16,
    "on_pause_requested": 32,
}
_ALL = sum(_POINTS.values())


def with_points(hooks: Iterable[Callable[..., object]]) -> list[tuple[Callable[..., object], int]]:
    """Each hook with the points it wants to hear of: those its payload's annotation names, else all."""
    return [(hook, _points_of(hook)) for hook in hooks]


def _points_of(hook: Callable[..., object]) -> int:
    from typing import get_args

    from flujo.domain.dsl._signature import analyse_callable

    declared = analyse_callable(hook).input_type
    named = [kind for kind in (get_args(declared) or (declared,)) if hasattr(kind, "event_name")]
    return sum(_POINTS.get(kind.event_name, 0) for kind in named) if named else _ALL


def on_finish(callback: Callable[..., object]) -> Callable[..., object]:
    """A hook that gives the result of each run to one of the pipeline's `on_finish` callbacks."""
    from flujo.domain.events import PostRunPayload

    def told(payload: PostRunPayload) -> object:
        return callback(payload.pipeline_result)

    told.__annotations__["payload"] = PostRunPayload
    return told


def report(point: str, error: BaseException) -> None:
    """Log what a hook raised. The run goes on."""
    _log.warning("a %s hook raised %s; the run goes on", point, type(error).__name__, exc_info=error)
