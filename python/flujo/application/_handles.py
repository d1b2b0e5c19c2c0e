"""Runs that go on by themselves, and what others know of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic
from uuid import uuid4
from weakref import WeakValueDictionary

from typing_extensions import TypeVar

from flujo.application._checked import checked_traceparent
from flujo.application._unanswered import NO_ANSWER
from flujo.exceptions import StoreError

if TYPE_CHECKING:
    from flujo._native import KeptRuns, Run
    from flujo.application.runner import Flujo
    from flujo.domain.events import Event
    from flujo.domain.results import PipelineResult
    from flujo.domain.usage import UsageLimits

__all__ = ["RunHandle"]

OutputT = TypeVar("OutputT", covariant=True, default=Any)


class RunHandle(Generic[OutputT]):
    """A run that goes on by itself, from `runner.start(…)` or `runner.get(run_id)`.

    It may be used in any event loop; letting it go ends nothing.
    """

    def __init__(self, runner: Flujo[Any, OutputT], run_id: str, told: Told | None) -> None:
        self._runner = runner
        self._told = told
        self.id = run_id

    async def status(self) -> str:
        """How the run stands: `running`, `paused`, `completed`, `failed`, `cancelled` or `limit_exceeded`.

        Raises:
            RunNotFoundError: the run isn't known here.
        """
        told, kept = self._told, self._runner._kept
        if told is not None and (kept is None or told.is_heard()):
            return told.status()
        if kept is None:
            return self._runner._runs.status(self.id)
        from flujo.application._stored import details

        run = await details(kept.store, self.id)
        status: str = run["status"]
        taken_up = status == "paused" and run["owner"] is not None
        return "running" if taken_up or status == "queued" else status

    async def result(self) -> PipelineResult[Any, OutputT]:
        """The run's result, as soon as it has ended or waits for an answer.

        Raises:
            RunCancelled: somebody cancelled the run.
            RunNotFoundError: the run isn't known here.
            FlujoError: what the run itself raised, such as `UsageLimitExceededError`.
        """
        told, kept = self._told, self._runner._kept
        if told is None or (kept is not None and not told.is_heard()):
            from flujo.application._stored import result

            if kept is None or self._runner._runs.is_under_way(self.id):
                return await self._runner.result(self.id)
            ended: PipelineResult[Any, OutputT] = await result(self._runner, self.id, raises=True)
            return ended
        return await told.result()

    async def answer(
        self,
        human_input: Any = NO_ANSWER,
        *,
        answers: Mapping[str, Any] | None = None,
        usage_limits: UsageLimits | None = None,
    ) -> None:
        """Have the run go on by itself, with answers to its questions or, if it was stopped, without.

        See `runner.resume_async` for what it takes and raises; what the run raises later is raised by `result`. What
        happens is behind what `events` gave before. With a store the answer is there when this returns, and the process
        that has the run goes on with it: this one, where it stands still.
        """
        from flujo.application._resuming import Left, going_on, take_up

        runner = self._runner
        kept, started = runner._kept, runner._started

        def go_on(of: PipelineResult[Any, Any] | str, told: Told | None) -> Told:
            run = going_on(runner, of, human_input, answers, usage_limits)
            return started.go_on(self.id, run, told)

        if kept is None:
            ended = None if self._told is None else self._told.ended()
            self._told = go_on(self.id if ended is None else ended, self._told)
            return
        store = kept.store

        async def begin(of: PipelineResult[Any, Any] | str) -> None:
            told = go_on(of, None)
            await told.until_gone_on()
            self._told = told
            await store.flush(event_loop=asyncio.get_running_loop())

        came = await take_up(runner, self.id, human_input, answers, usage_limits, begin)
        if isinstance(came, Left):
            from flujo.application._left import see_to

            started.see_to(see_to(runner, self.id, came.numbers))

    async def cancel(self) -> PipelineResult[Any, OutputT]:
        """End the run; see `runner.cancel`. One that has ended stays as it is."""
        ended = await self._runner.cancel(self.id)
        if self._told is not None:
            await self._told.end()
        return ended

    async def events(self, after: int = 0) -> AsyncGenerator[Event]:
        """What happened in the run, in order and from its beginning, and what happens, up to `run_finished`.

        With a store it is what is stored, the same in every process: `run_started`, `step_started`, `paused`,
        `step_finished`, `step_failed` and `run_finished`. A step that asks is told as `paused` right behind its
        beginning; the questions that wait are `(await handle.result()).pauses`, and the answer is waited for.
        Without a store it is all that `run_with_events` tells, and a pause is an end.

        Args:
            after: So many events are left out: as many as somebody has seen who looks again. A run that was stopped,
                and goes on, is told without its stop: who has seen that begins with 0.

        Raises:
            RunNotFoundError: the run wasn't started here by `runner.start`.
            ValueError: `after` is negative.
        """
        if after < 0:
            raise ValueError(f"after={after}: a number of events that were seen, from 0 on")
        if self._runner._kept is not None:
            from flujo.application._stored import events

            async for event in events(self._runner, self.id, after):
                yield event
            return
        if self._told is None:
            from flujo.exceptions import RunNotFoundError

            raise RunNotFoundError(
                f"what happens in the run {self.id!r} isn't kept here",
                suggestion="start it by runner.start(...), and keep its handle as long as it matters",
            )
        async for event in self._told.events(after):
            yield event

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"


class Started:
    """The runs of a runner that were started and are looked at later."""

    def __init__(self) -> None:
        self._told: WeakValueDictionary[str, Told] = WeakValueDictionary()
        self._tasks: dict[asyncio.Task[None], Run] = {}
        self._seeing_to: set[asyncio.Task[None]] = set()

    async def start(
        self,
        runner: Flujo[Any, OutputT],
        initial_input: Any,
        run_id: str | None,
        data: Mapping[str, Any] | None,
        traceparent: str | None,
    ) -> RunHandle[OutputT]:
        """Begins a run as a task of the running loop."""
        run_id = run_id or uuid4().hex
        run = runner._run(initial_input, run_id, data, checked_traceparent(traceparent))
        told = self.go_on(run_id, run, None)
        if runner._kept is not None:
            await told.until_stored()
        return RunHandle(runner, run_id, told)

    def go_on(self, run_id: str, run: Run, told: Told | None) -> Told:
        """Has a run go on as a task of the running loop; what happens comes behind what was told before."""
        from flujo.application._stream import events

        told = self._told[run_id] = told or Told()
        told.begin()
        task = asyncio.get_running_loop().create_task(
            told.hear(events(lambda: run)), name=f"flujo run {run_id}"
        )
        self._tasks[task] = run
        task.add_done_callback(self._tasks.pop)
        return told

    def see_to(self, work: Coroutine[Any, Any, None]) -> None:
        """Has something done in the background of the running loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._seeing_to.add(task)
        task.add_done_callback(self._seeing_to.discard)

    def get(self, runner: Flujo[Any, OutputT], run_id: str) -> RunHandle[OutputT]:
        """A handle of a run, which may have been begun in any way."""
        return RunHandle(runner, run_id, self._told.get(run_id))

    async def end(self, drain_s: float, kept: KeptRuns | None) -> None:
        """Waits so long for the runs of this loop; those that haven't ended then are given back to the store, or
        cancelled where there is none.
        """
        loop = asyncio.get_running_loop()
        for seeing_to in [task for task in self._seeing_to if task.get_loop() is loop]:
            seeing_to.cancel()
        tasks = [task for task in self._tasks if task.get_loop() is loop]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=drain_s)
        for task in late:
            if kept is not None:
                self._tasks[task].close()
            task.cancel()
        if late:
            await asyncio.wait(late)
            if kept is not None:
                await kept.store.flush(event_loop=loop)


class Told:
    """What happened in a run, for any number of readers in any loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._ended = False
        self._error: BaseException | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def begin(self) -> None:
        """More is going to happen."""
        with self._lock:
            self._ended, self._error = False, None

    def ended(self) -> PipelineResult[Any, Any] | None:
        """The result with which the run stands still; None while it goes on."""
        with self._lock:
            last = self._events[-1] if self._ended and self._events else None
        return None if last is None or last.kind != "run_finished" else last.data

    def is_heard(self) -> bool:
        """Whether the run goes on here, or ended here for good: otherwise others may have gone on with it."""
        ended = self.ended()
        return not self._ended or (ended is not None and ended.status in ("completed", "failed"))

    async def until_stored(self) -> None:
        """Waits until the run is in the store.

        Raises:
            StoreError: it can't be put there.
        """
        # It is told of its first step after that.
        while not self._ended and len(self._events) < 2:
            await self._more(len(self._events))
        if isinstance(self._error, StoreError) and all(
            event.kind.startswith("run_") for event in self._events
        ):
            raise self._error

    async def until_gone_on(self) -> None:
        """Waits until the run has gone on.

        Raises:
            FlujoError: what kept it from that.
        """
        while not self._ended and not self._events:
            await self._more(0)
        if self._error is not None and all(event.kind == "run_finished" for event in self._events):
            raise self._error

    def status(self) -> str:
        """How the run stands."""
        if not self._ended:
            return "running"
        ended = self.ended()
        return "failed" if ended is None else ended.status  # it may have failed before it began

    async def hear(self, happening: AsyncGenerator[Event]) -> None:
        """Runs the run, and keeps what happens."""
        error: BaseException | None = None
        try:
            async for event in happening:
                with self._lock:
                    self._events.append(event)
                self._wake()
        except asyncio.CancelledError as cancelled:
            error = cancelled
            raise
        except Exception as raised:  # it is for whoever asks for the result
            error = raised
        finally:
            with self._lock:
                self._ended, self._error = True, error
            self._wake()

    async def result(self) -> PipelineResult[Any, Any]:
        """The result, as soon as it is there."""
        await self.end()
        if isinstance(self._error, asyncio.CancelledError):
            from flujo.application._runs import cancelled_error

            last = self._events[-1] if self._events else None
            raise cancelled_error(last.run_id if last else None, last.data if last else None)
        if self._error is not None:
            raise self._error
        result: PipelineResult[Any, Any] = self._events[-1].data
        return result

    async def end(self) -> None:
        """Waits until all that happens has been told."""
        while not self._ended:
            await self._more(len(self._events))

    async def events(self, after: int) -> AsyncGenerator[Event]:
        """The events from a place on."""
        while True:
            while after < len(self._events):
                yield self._events[after]
                after += 1
            if self._ended and after >= len(self._events):
                return
            await self._more(after)

    async def _more(self, known: int) -> None:
        """Waits until there are more events than are known, or the run has ended."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._ended or len(self._events) > known:
                return
            future = loop.create_future()
            self._waiting.append((loop, future))
        await future

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            try:
                loop.call_soon_threadsafe(_done, future)
            except RuntimeError:  # the loop is closed: nobody waits there
                continue


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
