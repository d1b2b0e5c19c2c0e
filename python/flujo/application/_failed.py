"""Stored runs that failed, under the names that older versions have for what goes on by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flujo.application._stored import details
from flujo.application._worker import kept_of
from flujo.exceptions import ResumeError, RunExistsError, UsageLimitExceededError

if TYPE_CHECKING:
    from flujo.application._handles import RunHandle
    from flujo.application.runner import Flujo
    from flujo.domain.results import PipelineResult
    from flujo.state.models import RunDetails


async def failed(runner: Flujo[Any, Any], limit: int) -> list[RunDetails]:
    """The runs of a runner's pipeline that failed."""
    from flujo.state.backends.base import run_details

    kept = kept_of(runner)
    name = runner.plan().name
    runs, _ = await kept.store.list(
        statuses=["failed"], pipeline_name=name, limit=limit, event_loop=asyncio.get_running_loop()
    )
    return [run_details(run) for run in runs]


async def go_on(runner: Flujo[Any, Any], run_id: str) -> PipelineResult[Any, Any]:
    """The result of a run that goes on, or of its fork where it failed."""
    kept = kept_of(runner)
    if (await details(kept.store, run_id))["status"] != "failed":
        return await runner.resume_async(run_id)
    return await _result(await _again(runner, run_id))


async def retry(runner: Flujo[Any, Any], limit: int) -> list[PipelineResult[Any, Any]]:
    """The results of forks of all that failed."""
    results = []
    for run in await failed(runner, limit):
        try:
            handle = await _again(runner, run["run_id"])
        except RunExistsError:
            continue  # it has been tried again
        results.append(await _result(handle))
    return results


async def _again(runner: Flujo[Any, Any], run_id: str) -> RunHandle[Any]:
    """A run forked at the step that it failed in. There is one such fork of each."""
    steps = await kept_of(runner).store.steps(run_id, event_loop=asyncio.get_running_loop())
    broken = [step for step in steps if step["status"] == "failed" and step["parent_index"] is None]
    if not broken:
        raise ResumeError(f"run {run_id!r} failed before its first step", suggestion="run it anew")
    return await runner.fork(run_id, from_step=broken[-1]["path"], new_run_id=f"{run_id} again")


async def _result(handle: RunHandle[Any]) -> PipelineResult[Any, Any]:
    try:
        return await handle.result()
    except UsageLimitExceededError as error:
        if error.result is None:
            raise
        return error.result
