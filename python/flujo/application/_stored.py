"""Runs of a store that this process doesn't run: how they stand, what happened in them, their results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flujo.application._runs import cancelled_error
from flujo.domain.events import Event, EventKind
from flujo.exceptions import RunBusyError, RunNotFoundError, UsageLimitExceededError

if TYPE_CHECKING:
    from flujo._native import Store
    from flujo.application.runner import Flujo

SOONEST, LATEST = 0.05, 1.0
"""Seconds between two looks at a run that another process runs: longer from one to the next."""

REST = 4
"""Whoever follows a run rests so many times as long as reading it took: it is read whole, and grows."""


async def details(store: Store, run_id: str) -> dict[str, Any]:
    """What is known of a run.

    Raises:
        RunNotFoundError: there is none.
    """
    found: dict[str, Any] | None = await store.info(run_id, event_loop=asyncio.get_running_loop())
    if found is None:
        raise RunNotFoundError(f"there is no run {run_id!r} in {store.place}")
    return found


async def result(runner: Flujo[Any, Any], run_id: str, *, raises: bool = False) -> Any:
    """The result of a run, as soon as it has ended or waits for an answer; its process is left alone meanwhile.

    Raises:
        RunCancelled: somebody cancelled it meanwhile.
        UsageLimitExceededError: a limit stopped it, and that `raises`.
    """
    kept = runner._kept
    assert kept is not None
    pause = SOONEST
    while True:
        if (await details(kept.store, run_id))["status"] not in ("queued", "running"):
            try:
                ended = await runner._engine.stored(run_id)
            except UsageLimitExceededError as error:
                if raises or error.result is None:
                    raise
                return error.result
            except RunBusyError:
                pass  # somebody has gone on with it since
            else:
                if ended.status == "cancelled" and pause > SOONEST:
                    raise cancelled_error(run_id, ended)
                return ended
        await asyncio.sleep(pause)
        pause = min(2 * pause, LATEST)


async def events(runner: Flujo[Any, Any], run_id: str, after: int) -> AsyncGenerator[Event]:
    """What happened in a run according to the store, in order, up to `run_finished`: the same in every process."""
    kept = runner._kept
    assert kept is not None
    loop = asyncio.get_running_loop()
    pause = SOONEST
    seen: dict[str, Any] | None = None
    while True:
        run = await details(kept.store, run_id)
        if run != seen:  # else nothing has happened that could be read
            began = loop.time()
            steps = await kept.store.steps(run_id, event_loop=loop)
            told = [
                Event("run_started", run_id, "", "", "", 0, _began(run)),
                *_told(run_id, _began(run), steps),
            ]
            took = loop.time() - began
            for event in told[after:]:
                yield event
            after = max(after, len(told))
            if run["status"] not in ("queued", "running", "paused"):
                if after == len(told):
                    ended = await result(runner, run_id)
                    yield Event("run_finished", run_id, "", "", "", 0, _time(run["updated_at"]), ended)
                return
            seen, pause = run, max(SOONEST, REST * took)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LATEST)


def _told(run_id: str, began: datetime, steps: list[dict[str, Any]]) -> list[Event]:
    """The beginnings and ends of steps, in the order of the run's own time."""
    told: list[tuple[tuple[float, int, int], Event]] = []
    for step in steps:
        index = step["step_index"]
        where = (run_id, step["step_name"], step["path"], step["lane"])
        started, ended = step["started_s"], step["ended_s"]
        at = began + timedelta(seconds=started)
        told.append(((started, 1, index), Event("step_started", *where, 0, at)))
        if step["asks"]:
            told.append(((started, 1, index), Event("paused", *where, 0, at)))
        if ended is not None:
            kind: EventKind = "step_finished" if step["status"] == "completed" else "step_failed"
            # Of two that end at one time the inner one is first; one that takes no time begins before it ends.
            key = (ended, 2 if ended == started else 0, -index)
            at = began + timedelta(seconds=ended)
            told.append((key, Event(kind, *where, 0, at, _result(step))))
    return [event for _, event in sorted(told, key=lambda one: one[0])]


def _result(step: dict[str, Any]) -> Any:
    from flujo.domain.results import StepResult

    error = step["error_message"]
    return StepResult(
        name=step["step_name"],
        output=step["output"],
        success=step["status"] == "completed",
        attempts=step["attempts"],
        latency_s=step["latency_s"],
        token_counts=step["token_counts"],
        cost_usd=step["cost_usd"],
        feedback=None if error is None else f"{step['error_type']}: {error}",
    )


def _began(run: dict[str, Any]) -> datetime:
    return _time(run["created_at"])


def _time(milliseconds: int) -> datetime:
    from datetime import UTC

    return datetime.fromtimestamp(milliseconds / 1000, UTC)
