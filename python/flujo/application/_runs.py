"""The runs of a runner that have an id somebody knows: to cancel them and to look at their results."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from flujo._native import Switch
    from flujo.domain.results import PipelineResult

_KEPT = 100
"""How many results of runs that have ended are kept, the latest ones."""


class UnderWay:
    """A run that goes on. It's held by the run alone, so that one that is let go is forgotten."""

    def __init__(self, run_id: str, loop: asyncio.AbstractEventLoop, switch: Switch) -> None:
        self.run_id = run_id
        self.ending: Future[tuple[Any, bool]] = Future()
        self.ending.set_running_or_notify_cancel()  # whoever waits for it can't cancel it
        self._loop = loop
        self._switch = switch

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

    def let_go(self) -> None:
        """Nobody goes on with the run: whoever waits for it is told."""
        if not self.ending.done():
            self.ending.set_exception(_not_found(self.run_id, "was let go before it ended"))

    __del__ = let_go


class Runs:
    """What is known of a runner's runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: WeakValueDictionary[str, UnderWay] = WeakValueDictionary()
        self._ended: OrderedDict[str, PipelineResult[Any, Any]] = OrderedDict()

    def begun(self, run_id: object, loop: asyncio.AbstractEventLoop, switch: Switch) -> UnderWay:
        """A run has got an id."""
        run = UnderWay(str(run_id), loop, switch)
        with self._lock:
            self._under_way[run.run_id] = run
        return run

    def ended(self, run: UnderWay, result: Any, cancelled: bool) -> None:
        """A run has ended; `cancelled` by `cancel`."""
        with self._lock:
            if self._under_way.get(run.run_id) is run:
                del self._under_way[run.run_id]
            self._ended.pop(run.run_id, None)
            self._ended[run.run_id] = result
            if len(self._ended) > _KEPT:
                self._ended.popitem(last=False)
        run.ending.set_result((result, cancelled))

    async def cancel(self, run_id: str) -> PipelineResult[Any, Any]:
        """Cancel a run and wait for its end."""
        ending = self._find(run_id, cancel=True)
        if not isinstance(ending, Future):
            return ending
        result: PipelineResult[Any, Any] = (await asyncio.wrap_future(ending))[0]
        return result

    async def result(self, run_id: str) -> PipelineResult[Any, Any]:
        """The result of a run, as soon as it has ended."""
        ending = self._find(run_id, cancel=False)
        if not isinstance(ending, Future):
            return ending
        result, cancelled = await asyncio.wrap_future(ending)
        if cancelled:
            raise cancelled_error(run_id, result)
        kept: PipelineResult[Any, Any] = result
        return kept

    def _find(self, run_id: str, *, cancel: bool) -> Future[tuple[Any, bool]] | PipelineResult[Any, Any]:
        with self._lock:
            run = self._under_way.get(run_id)
            ended = self._ended.get(run_id)
        if run is not None:
            if cancel:
                run.cancel()
            return run.ending
        if ended is not None:
            return ended
        raise _not_found(run_id, "is neither under way on this runner nor among its latest")


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
