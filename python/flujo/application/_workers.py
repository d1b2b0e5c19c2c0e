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


class _AtWork:
    """Knows which functions run at the moment, each by its result's future."""

    def __init__(self) -> None:
        # Reentrant: what the collector frees while it is held may be waited for no longer.
        self._lock = threading.RLock()
        self._at_work: set[asyncio.Future[Any]] = set()

    def _begins(self, future: asyncio.Future[Any]) -> bool:
        """Whether a function is to be run still: not if its caller has gone."""
        with self._lock:
            begins = not future.cancelled()
            if begins:
                self._at_work.add(future)
            return begins

    def give_up(self, future: asyncio.Future[Any]) -> bool:
        """Nobody waits any more for a function, which can't be stopped. Whether it runs on: it may not have begun, or
        have ended."""
        with self._lock:
            return future in self._at_work


class Executor(_AtWork):
    """The user's own executor in place of a pool.

    Args:
        executor: Runs functions in threads of this process.
    """

    def __init__(self, executor: concurrent.futures.Executor) -> None:
        super().__init__()
        self._executor = executor

    def submit(self, loop: asyncio.AbstractEventLoop, work: Callable[..., Any]) -> asyncio.Future[Any]:
        """The future of `work`'s result."""
        future = loop.create_future()

        def run() -> None:
            if not self._begins(future):
                return
            result, error = _outcome(work)
            with self._lock:
                self._at_work.discard(future)
            _tell(loop, future, result, error)

        def over(submitted: concurrent.futures.Future[None]) -> None:
            if submitted.cancelled():
                reason = "the executor was shut down before it began this function, and cancelled it"
                _tell(loop, future, None, RuntimeError(reason))

        self._executor.submit(run).add_done_callback(over)
        return future


class Workers(_AtWork):
    """A pool of daemon threads.

    Args:
        limit: How many threads work at the same time, at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        super().__init__()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._threads = 0
        self._idle = 0  # threads that wait, less the jobs that wait for one
        self._given_up: set[asyncio.Future[Any]] = set()  # of those at work

    def forget_threads(self) -> None:
        """After a fork: threads, and what they were to do, stay in the parent."""
        self._begin()

    def submit(self, loop: asyncio.AbstractEventLoop, work: Callable[..., Any]) -> asyncio.Future[Any]:
        """The future of `work`'s result."""
        future = loop.create_future()
        with self._lock:
            self._jobs.put((loop, future, work))
            self._idle -= 1
            starts = self._gets_another()
        if starts:
            try:
                self._start()
            except RuntimeError:
                if not self._threads - len(self._given_up):  # nobody else would take it
                    future.cancel()
                    raise
        return future

    def give_up(self, future: asyncio.Future[Any]) -> bool:
        """Nobody waits any more for a function, which can't be stopped. Whether it runs on: it may not have begun, or
        have ended. Its thread doesn't count any more, so that another one takes what waits."""
        with self._lock:
            if future not in self._at_work:
                return False
            self._given_up.add(future)
            starts = self._gets_another()
        if starts:
            # What waits gets one with the next call, if there is no room now.
            with contextlib.suppress(RuntimeError):
                self._start()
        return True

    def _gets_another(self) -> bool:
        """Whether a job waits for a thread that may be started, which counts from now on."""
        gets = self._idle < 0 and self._threads - len(self._given_up) < self.limit
        if gets:
            self._threads += 1
            self._idle += 1
        return gets

    def _start(self) -> None:
        """`RuntimeError`: the system has no room for another thread, or the interpreter is about to end."""
        try:
            threading.Thread(target=self._work, name="flujo-worker", daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._threads -= 1
                self._idle -= 1
            raise

    def _work(self) -> None:
        while self._run([*self._jobs.get()]):
            pass

    def _run(self, job: list[Any]) -> bool:
        """Whether there is room for its thread afterwards."""
        loop, future, work = job
        job.clear()
        begins = self._begins(future)
        result, error = _outcome(work) if begins else (None, None)
        del work  # before the caller goes on, so that it finds the function held by nobody here
        with self._lock:
            self._at_work.discard(future)
            self._given_up.discard(future)
            stays = self._threads - len(self._given_up) <= self.limit
            if stays:
                self._idle += 1
            else:
                self._threads -= 1
        if begins:
            _tell(loop, future, result, error)
        # The error's traceback holds this frame, which would hold the error.
        del loop, future, result, error
        return stays


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


def leave(workers: Workers | Executor, future: asyncio.Future[Any], name: str) -> None:
    """Wait no longer for a function in a worker thread, and say so if it goes on; what it does then reaches nothing."""
    if workers.give_up(future):
        _log.warning(
            "%s can't be stopped and goes on in its thread; "
            "what it does from now on reaches neither context nor result",
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
