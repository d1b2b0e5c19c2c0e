"""Threads for plain functions that would block the event loop.

The threads are daemons, so that one that can't be stopped delays neither a run nor the interpreter's end. They start
when there is work for them, up to a limit; a thread whose caller has given it up no longer counts, and another one
takes its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_log = logging.getLogger("flujo.run")

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any]]


class Workers:
    """A pool of daemon threads.

    Args:
        limit: How many threads work at the same time, at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0  # threads that wait, less the jobs that wait for one
        self._given_up = 0

    def submit(self, loop: asyncio.AbstractEventLoop, work: Callable[..., Any]) -> asyncio.Future[Any]:
        """The future of `work`'s result."""
        future = loop.create_future()
        with self._lock:
            self._jobs.put((loop, future, work))
            starts = self._idle <= 0 and self._threads - self._given_up < self.limit
            if starts:
                self._threads += 1
            else:
                self._idle -= 1
        if starts:
            threading.Thread(target=self._work, name="flujo-worker", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            job: list[Any] = [*self._jobs.get()]
            if not job[1].cancelled():
                self._run(job)
            with self._lock:
                if self._given_up and self._threads - self._given_up >= self.limit:
                    self._threads -= 1
                    return
                self._idle += 1

    def _run(self, job: list[Any]) -> None:
        loop, future, work = job
        job.clear()
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:
            failure = error
        del work  # before the caller goes on, so that it finds the function held by nobody here
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(_settle, future, result, failure)
        with self._lock:
            if future.cancelled() and self._given_up:
                self._given_up -= 1

    def give_up(self) -> None:
        """Somebody no longer waits for a thread that can't be stopped."""
        with self._lock:
            self._given_up += 1


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        future.set_exception(RuntimeError(f"a step's function raised {type(error).__name__}"))
    else:
        future.set_exception(error)


def submit(
    workers: Workers,
    loop: asyncio.AbstractEventLoop,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> asyncio.Future[Any]:
    """Run `target` in a worker thread, with the caller's context variables."""
    context = contextvars.copy_context()
    return workers.submit(loop, lambda: context.run(target, *args, **kwargs))


def report_abandoned(workers: Workers, name: str) -> None:
    """Say that a function goes on although its time is up; what it does from now on reaches nothing."""
    workers.give_up()
    _log.warning(
        "%s can't be stopped and goes on in its thread; what it does from now on reaches neither context nor result",
        name,
    )


def _default_limit() -> int:
    return min(32, (os.cpu_count() or 1) + 4)


_shared: Workers | None = None
_shared_lock = threading.Lock()


def shared_workers(limit: int | None = None) -> Workers:
    """The process's pool, or an own one with the given limit."""
    global _shared
    if limit is not None:
        return Workers(limit)
    with _shared_lock:
        if _shared is None:
            _shared = Workers(_default_limit())
        return _shared


def _forget_after_fork() -> None:
    # Threads don't come along into the child.
    global _shared, _shared_lock
    _shared = None
    _shared_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
