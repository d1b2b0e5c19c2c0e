"""The runs of a runner that have an id somebody knows: to cancel them and to look at their results."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from flujo._native import Switch
    from flujo.domain.results import PipelineResult


class UnderWay:
    """A run that goes on. It's held by the run alone, so that one that is let go is forgotten."""

    __slots__ = ("__weakref__", "_end", "_ending", "_lock", "_loop", "_switch", "run_id")

    def __init__(self, run_id: str, loop: asyncio.AbstractEventLoop, switch: Switch) -> None:
        self.run_id = run_id
        self._loop = loop
        self._switch = switch
        self._lock = threading.Lock()
        self._end: tuple[Any, bool] | BaseException | None = None
        self._ending: Future[tuple[Any, bool]] | None = None  # made for the first one that waits

    def cancel(self) -> None:
        """Ask the run to end, from any thread."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._switch.cancel()
        else:
            self._loop.call_soon_threadsafe(self._switch.cancel)

    def ending(self) -> Future[tuple[Any, bool]]:
        """Its result, and whether it was cancelled by `cancel`, as soon as it has ended."""
        with self._lock:
            if self._ending is None:
                self._ending = Future()
                self._ending.set_running_or_notify_cancel()  # whoever waits for it can't cancel it
                if self._end is not None:
                    _resolve(self._ending, self._end)
            return self._ending

    def ended(self, result: Any, cancelled: bool) -> None:
        """It has ended; `cancelled` by `cancel`."""
        self._come_to((result, cancelled))

    def has_ended(self) -> bool:
        """Whether it has ended, or was let go."""
        return self._end is not None

    def is_stranded(self) -> bool:
        """Whether its loop was closed under it: it is let go then, since nobody can go on with it."""
        if self._end is not None or not self._loop.is_closed():
            return False
        self.let_go()
        return True

    def let_go(self) -> None:
        """Nobody goes on with the run: whoever waits for it is told."""
        if self._end is None:
            self._come_to(_not_found(self.run_id, "was let go before it ended"))

    __del__ = let_go

    def _come_to(self, end: tuple[Any, bool] | BaseException) -> None:
        with self._lock:
            if self._end is not None:
                return
            self._end = end
            ending = self._ending
        if ending is not None:
            _resolve(ending, end)


def _resolve(ending: Future[tuple[Any, bool]], end: tuple[Any, bool] | BaseException) -> None:
    if isinstance(end, BaseException):
        ending.set_exception(end)
    else:
        ending.set_result(end)


class Runs:
    """What is known of a runner's runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.are_kept = False
        """Whether there is one of an id at a time: another one of that id is refused, or goes on after it."""
        self._under_way: WeakValueDictionary[str, UnderWay] = WeakValueDictionary()
        # Nothing is stored unless a store is asked for: a result is found as long as somebody holds it.
        self._ended: WeakValueDictionary[str, PipelineResult[Any, Any]] = WeakValueDictionary()

    def begun(self, run_id: object, loop: asyncio.AbstractEventLoop, switch: Switch) -> UnderWay:
        """A run has got an id."""
        run = UnderWay(str(run_id), loop, switch)
        with self._lock:
            known = self._under_way.get(run.run_id) if self.are_kept else None
            if known is None or known.has_ended() or known.is_stranded():
                self._under_way[run.run_id] = run
        return run

    def ended(self, run: UnderWay, result: Any, cancelled: bool) -> None:
        """A run has ended; `cancelled` by `cancel`."""
        with self._lock:
            if self._under_way.get(run.run_id) is run:
                del self._under_way[run.run_id]
            self._ended[run.run_id] = result
        run.ended(result, cancelled)

    async def cancel(self, run_id: str) -> PipelineResult[Any, Any] | None:
        """Cancel a run under way and wait for its end; else what is known of its end, which may be a pause."""
        while True:
            run, ended = self._find(run_id)
            if run is None:
                return ended
            run.cancel()
            ended, _ = await _end_of(run)
            if ended.status != "paused":
                return ended
            # It stood still before it saw the request; somebody may have resumed it since.

    async def result(self, run_id: str) -> PipelineResult[Any, Any]:
        """The result of a run, as soon as it has ended."""
        run, ended = self._find(run_id)
        if run is not None:
            ended, cancelled = await _end_of(run)
            if cancelled:
                raise cancelled_error(run_id, ended)
        if ended is None:
            raise _not_found(run_id, "is not under way on this runner, and nobody holds its result")
        return ended

    def is_under_way(self, run_id: str) -> bool:
        """Whether a run is under way here."""
        return self._find(run_id)[0] is not None

    def knows_end(self, run_id: str) -> bool:
        """Whether a run is under way here, or has ended for good and its result is held."""
        run, ended = self._find(run_id)
        return run is not None or (ended is not None and ended.status in ("completed", "failed"))

    def status(self, run_id: str) -> str:
        """How a run stands."""
        run, ended = self._find(run_id)
        if run is not None:
            return "running"
        if ended is None:
            raise _not_found(run_id, "is not under way on this runner, and nobody holds its result")
        return ended.status

    def _find(self, run_id: str) -> tuple[UnderWay | None, PipelineResult[Any, Any] | None]:
        with self._lock:
            run, ended = self._under_way.get(run_id), self._ended.get(run_id)
        return None if run is None or run.is_stranded() else run, ended


def _end_of(run: UnderWay) -> asyncio.Future[tuple[PipelineResult[Any, Any], bool]]:
    return asyncio.wrap_future(run.ending())


def cancelled_error(run_id: object, result: Any) -> BaseException:
    """What those get who wait for a run that `runner.cancel` ended."""
    from flujo.exceptions import RunCancelled

    return RunCancelled(f"the run {run_id!r} was cancelled", result, run_id=str(run_id))


def _not_found(run_id: str, why: str) -> BaseException:
    from flujo.exceptions import RunNotFoundError

    return RunNotFoundError(
        f"the run {run_id!r} {why}",
        suggestion="give the run an id: run_async(x, run_id=...); ids are known to the runner that runs them",
    )
