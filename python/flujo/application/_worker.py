"""Goes on with runs of a store that nobody runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flujo.application._logging import logger
from flujo.exceptions import (
    CorruptRunError,
    DefinitionChangedError,
    FlujoError,
    RunBusyError,
    RunCancelled,
    StoreError,
    UsageLimitExceededError,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from flujo._native import KeptRuns, Run
    from flujo.application.runner import Flujo

__all__ = ["Recovered", "Worker"]

LOOK_S = 1.0
"""How often a worker looks for more."""
AT_ONCE = 16
"""How many runs `recover` goes on with at the same time."""

_log = logger("store")


@dataclass
class Recovered:
    """What became of the runs that `runner.recover()` found."""

    resumed: list[str] = field(default_factory=list)
    """Those that went on, and ended or stand still."""
    failed: dict[str, str] = field(default_factory=dict)
    """Those that went on and failed, and why."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Those that didn't go on here, and why."""


class Worker:
    """Goes on with runs of a runner's pipeline that nobody runs: those that a process left half done when it ended,
    those with a question whose time is over, and those for which an answer or a request to stop was left.

    `async with runner.worker(concurrency=4): …`. When it is left it takes no more, waits `drain_s` seconds for what it
    has and for what `runner.start` began, and gives back the rest, so that others go on at once.
    """

    def __init__(self, runner: Flujo[Any, Any], concurrency: int, drain_s: float) -> None:
        self._runner = runner
        self._concurrency = concurrency
        self._drain_s = drain_s
        self._stopped = asyncio.Event()
        self._running: dict[asyncio.Task[Any], tuple[str, Run]] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work(), name="flujo worker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.drain(self._drain_s)

    async def drain(self, drain_s: float) -> None:
        """Take no more runs, wait so long for those it has, and give back the others."""
        self._stopped.set()
        if self._task is not None:
            await self._task
        await asyncio.gather(self._give_back(drain_s), self._runner._drain(drain_s))

    async def _give_back(self, drain_s: float) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=drain_s)
        late = [task for task in self._running if not task.done()]
        for task in late:
            # It leaves the store as if its process had ended, and free.
            self._running[task][1].close()
            task.cancel()
        if late:
            await asyncio.wait(late)
            await kept_of(self._runner).store.flush(event_loop=asyncio.get_running_loop())

    async def _work(self) -> None:
        kept = kept_of(self._runner)
        stopped = asyncio.create_task(self._stopped.wait())
        lasting: set[str] = set()
        try:
            while not self._stopped.is_set():
                known = lasting | {id for id, _ in self._running.values()}
                for id in await _waiting(self._runner, kept, self._concurrency - len(self._running), known):
                    run = self._runner._engine.stored(id)
                    self._running[asyncio.create_task(go_on(self._runner, id, run))] = (id, run)
                await asyncio.wait(
                    {*self._running, stopped}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                for task in [task for task in self._running if task.done()]:
                    id, _ = self._running.pop(task)
                    error = task.exception()
                    if isinstance(error, CorruptRunError | DefinitionChangedError):
                        lasting.add(id)
                        _log.warning("the run %r can't go on here: %s", id, error)
                    elif error is not None and not isinstance(error, FlujoError):
                        _log.warning("the run %r went on and failed", id, exc_info=error)
        finally:
            stopped.cancel()


async def recover(runner: Flujo[Any, Any]) -> Recovered:
    """Goes on with all runs that nobody runs, until they have ended or stand still."""
    kept, report = kept_of(runner), Recovered()
    running: dict[asyncio.Task[Any], str] = {}
    known: set[str] = set()
    try:
        while True:
            for id in await _waiting(runner, kept, AT_ONCE - len(running), known, strict=True):
                known.add(id)
                running[asyncio.create_task(go_on(runner, id, runner._engine.stored(id)))] = id
            if not running:
                return report
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                _note(report, running.pop(task), task)
    finally:
        for task in running:
            task.cancel()


def _note(report: Recovered, id: str, task: asyncio.Task[Any]) -> None:
    error = task.exception()
    if isinstance(error, StoreError):
        report.skipped[id] = error.message
    elif isinstance(error, RunCancelled | UsageLimitExceededError):
        report.resumed.append(id)
    elif error is not None:
        report.failed[id] = f"{type(error).__name__}: {error}"
    elif (result := task.result()).status == "failed":
        last = next((step for step in reversed(result.step_history) if not step.success), None)
        report.failed[id] = "it failed" if last is None else f"step {last.name!r} failed: {last.feedback}"
    else:
        report.resumed.append(id)


def kept_of(runner: Flujo[Any, Any]) -> KeptRuns:
    """How the runner keeps its runs.

    Raises:
        ConfigurationError: it doesn't.
    """
    if runner._kept is None:
        from flujo.exceptions import ConfigurationError

        raise ConfigurationError(
            "the runner keeps no runs",
            suggestion="give it a store: Flujo(..., state_backend=SQLiteBackend(…))",
        )
    return runner._kept


async def _waiting(
    runner: Flujo[Any, Any], kept: KeptRuns, room: int, known: set[str], *, strict: bool = False
) -> list[str]:
    """Runs that wait, without those that are known."""
    if room <= 0:
        return []
    loop = asyncio.get_running_loop()
    try:
        found = await kept.waiting(loop, runner.pipeline_name, room + len(known))
    except StoreError as error:
        if strict:
            raise
        _log.warning("runs that wait can't be looked for: %s", error)  # the next look may find them
        return []
    return [id for id in found if id not in known][:room]


async def go_on(runner: Flujo[Any, Any], id: str, run: Run) -> Any:
    """Goes on with a run until it has ended or waits for an answer; questions whose time is over get their default."""
    result = await run
    while result.status == "paused":
        now = datetime.now(UTC)
        if not any(pause.expires_at is not None and pause.expires_at <= now for pause in result.pauses):
            break
        try:
            result = await runner.resume_async(result)
        except RunBusyError:
            break  # somebody else has gone on with it
    return result
