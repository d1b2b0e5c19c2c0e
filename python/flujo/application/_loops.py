"""The loop behind `run()`: one per thread, kept for the thread's life, so that pooled clients survive."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
import weakref
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def refuse_running_loop(call: str, instead: str) -> None:
    """Raise TypeError when an event loop is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise TypeError(
        f"{call} can't be used while an event loop is running in this thread: await {instead} instead"
    )


class PrivateLoop:
    """A thread's own loop. Every task that a run started is over when the run returns."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._pid = os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to completion.

        Raises:
            TypeError: an event loop is running in this thread.
        """
        try:
            refuse_running_loop("run()", "run_async()")
        except TypeError:
            coroutine.close()
            raise
        done: list[T] = []
        # By itself the runner would keep the context of its first run for all that follow.
        try:
            self._runner.run(_wait_for(coroutine, done), context=contextvars.copy_context())
        except (KeyboardInterrupt, SystemExit):
            self._end_tasks()
            raise
        return done[0]

    def _end_tasks(self) -> None:
        """After something that ends everything has left the loop: what it left behind is cancelled and ends."""
        loop = self._runner.get_loop()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        for _ in range(
            2 * len(tasks) + 1
        ):  # each may leave the loop that way once more, or cancel those it doesn't know
            waiting = [task for task in tasks if not task.done()]
            if not waiting:
                return
            with suppress(KeyboardInterrupt, SystemExit, asyncio.CancelledError):
                loop.run_until_complete(asyncio.wait(waiting))

    def usable(self) -> bool:
        """Whether it belongs to this process; a fork leaves the parent's loop behind."""
        return self._pid == os.getpid()

    def close(self) -> None:
        """Close the loop, at the end of its thread or of the interpreter."""
        if not self.usable():
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._runner.close()
        else:
            # Let go of by another thread, in the middle of that one's own loop: two can't run in one thread.
            closing = threading.Thread(target=self._runner.close)
            closing.start()
            closing.join()

    def leave_behind(self) -> None:
        """After a fork: the loop's poller is shared with the parent, so nothing may touch or close it here."""
        _left_behind.append(self._runner)


async def _wait_for(coroutine: Coroutine[Any, Any, T], done: list[T]) -> None:
    """Put the result into `done`: before Python 3.12 asyncio's runner makes a text of its task's result, for nothing,
    which would read the whole of it.
    """
    before = asyncio.all_tasks()
    try:
        done.append(await coroutine)
    finally:
        left = [task for task in asyncio.all_tasks() if task not in before]
        for task in left:
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)


class _Keeper:
    """Closes its thread's loop when the thread is over. Nothing but the thread holds it: an error's frames may hold the
    loop longer, and the collector would then find it open.
    """

    def __init__(self, loop: PrivateLoop) -> None:
        self.loop = loop

    def __del__(self) -> None:
        self.loop.close()


_kept = threading.local()
_all: weakref.WeakSet[PrivateLoop] = weakref.WeakSet()


def private_loop() -> PrivateLoop:
    """This thread's loop."""
    keeper: _Keeper | None = getattr(_kept, "keeper", None)
    if keeper is None or not keeper.loop.usable():
        keeper = _kept.keeper = _Keeper(PrivateLoop())
        _all.add(keeper.loop)
    return keeper.loop


_left_behind: list[asyncio.Runner] = []


def _leave_behind_after_fork() -> None:
    for loop in list(_all):
        loop.leave_behind()


os.register_at_fork(after_in_child=_leave_behind_after_fork)


@atexit.register
def _close_all() -> None:
    for loop in list(_all):
        loop.close()
