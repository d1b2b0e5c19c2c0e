"""Threads for plain functions that would block the event loop.

The threads are daemons, so that one that can't be stopped delays neither a run nor the interpreter's end. They start
when there is work for them, up to a limit; a thread whose caller has given it up no longer counts, and another one
takes its place.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from flujo.application._logging import logger

_log = logger("run")

_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any]]


class Executor:
    """The user's own executor in place of a pool.

    Args:
        executor: Runs functions in threads of this process.
    """

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        self._executor = executor

    def submit(self, loop: asyncio.AbstractEventLoop, work: Callable[..., Any]) -> asyncio.Future[Any]:
        """The future of `work`'s result."""
        future = loop.create_future()

        def run() -> None:
            if not future.cancelled():
                _tell(loop, future, *_outcome(work))

        self._executor.submit(run)
        return future

    def give_up(self) -> None:
        """Somebody no longer waits for a thread that can't be stopped."""


class Workers:
    """A pool of daemon threads.

    Args:
        limit: How many threads work at the same time, at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0  # threads that wait, less the jobs that wait for one
        self._given_up = 0

    def forget_threads(self) -> None:
        """After a fork: threads, and what they were to do, stay in the parent."""
        self._begin()

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
        result, error = _outcome(work)
        del work  # before the caller goes on, so that it finds the function held by nobody here
        _tell(loop, future, result, error)
        cancelled = future.cancelled()
        # The error's traceback holds this frame, which would hold the error.
        del loop, future, result, error
        with self._lock:
            if cancelled and self._given_up:
                self._given_up -= 1

    def give_up(self) -> None:
        """Somebody no longer waits for a thread that can't be stopped."""
        with self._lock:
            self._given_up += 1


def _outcome(work: Callable[..., Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:
        return None, error


def _tell(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
        loop.call_soon_threadsafe(_settle, future, result, error)


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
    workers: Workers | Executor,
    loop: asyncio.AbstractEventLoop,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> asyncio.Future[Any]:
    """Run `target` in a worker thread, with the caller's context variables."""
    context = contextvars.copy_context()
    return workers.submit(loop, lambda: context.run(target, *args, **kwargs))


def report_abandoned(workers: Workers | Executor, name: str) -> None:
    """Say that a function goes on although its time is up; what it does from now on reaches nothing."""
    workers.give_up()
    _log.warning(
        "%s can't be stopped and goes on in its thread; what it does from now on reaches neither context nor result",
        name,
    )


def report_cut_off(name: str, grace_s: float) -> None:
    """Say that a coroutine was closed since it didn't end when it was cancelled."""
    _log.warning(
        "%s did not end within %g s of being cancelled and was closed; what it does from now on reaches nothing",
        name,
        grace_s,
    )


def _default_limit() -> int:
    return min(32, (os.cpu_count() or 1) + 4)


_all: weakref.WeakSet[Workers] = weakref.WeakSet()
_shared: Workers | None = None
_shared_lock = threading.Lock()


def workers_for(
    limit: int | None = None, executor: concurrent.futures.Executor | None = None
) -> Workers | Executor:
    """The process's pool; an own one with the given limit, or the user's executor.

    Raises:
        TypeError: the limit is no integer, or the executor can't run functions in threads of this process.
        ValueError: the limit is below 1, or both are given.
    """
    global _shared
    if executor is not None:
        if limit is not None:
            raise ValueError(
                "give sync_workers or executor, not both: an executor has its own number of threads"
            )
        if not isinstance(executor, concurrent.futures.Executor) or isinstance(
            executor, concurrent.futures.ProcessPoolExecutor
        ):
            raise TypeError(
                "executor must run functions in threads of this process, as a ThreadPoolExecutor does, not be a "
                f"{type(executor).__name__}"
            )
        return Executor(executor)
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"sync_workers must be a number of threads, not {type(limit).__name__}")
        if limit < 1:
            raise ValueError(f"sync_workers must be at least 1, not {limit}")
        return Workers(limit)
    with _shared_lock:
        if _shared is None:
            _shared = Workers(_default_limit())
        return _shared


def _forget_after_fork() -> None:
    # Threads don't come along into the child; runners keep the pools they have.
    global _shared_lock
    _shared_lock = threading.Lock()
    for workers in list(_all):
        workers.forget_threads()


os.register_at_fork(after_in_child=_forget_after_fork)
