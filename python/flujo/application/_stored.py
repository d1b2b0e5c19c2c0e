"""Runs of a store that this process doesn't run: how they stand, what happened in them, their results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flujo.application._runs import cancelled_error
from flujo.domain.events import Event
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
            looked = loop.time()
            told, ended = await kept.store.events(run_id, after, event_loop=loop)
            took = loop.time() - looked
            after += len(told)
            for one in told:
                yield await _event(runner, run, one, ended)
            if ended is not None:
                return
            seen, pause = run, max(SOONEST, REST * took)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LATEST)


async def _event(
    runner: Flujo[Any, Any], run: dict[str, Any], told: dict[str, Any], ended: int | None
) -> Event:
    run_id, kind, step = run["run_id"], told["kind"], told["step"]
    data = None if step is None else _result(told["step_name"], step)
    at = _time(run["created_at"]) + timedelta(seconds=told["at_s"])
    if kind == "run_finished" and ended is not None:
        at, data = _time(ended), await result(runner, run_id)
    return Event(kind, run_id, told["step_name"], told["path"], told["lane"], 0, at, data)


def _result(name: str, step: dict[str, Any]) -> Any:
    from flujo.domain.results import StepResult

    error = step["error_message"]
    return StepResult(
        name=name,
        output=step["output"],
        success=step["status"] == "completed",
        attempts=step["attempts"],
        latency_s=step["latency_s"],
        token_counts=step["token_counts"],
        cost_usd=step["cost_usd"],
        feedback=None if error is None else f"{step['error_type']}: {error}",
    )


def _time(milliseconds: int) -> datetime:
    from datetime import UTC

    return datetime.fromtimestamp(milliseconds / 1000, UTC)
