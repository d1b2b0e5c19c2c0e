"""An event loop whose time is virtual: nothing is waited for, the clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

LONGEST_S = 10.0
"""How long other threads may take, in real time."""


class _Idle(selectors.SelectSelector):
    """Never waits: where a loop would sleep until its next timer, its clock is put forward instead."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            # Other threads have no part in virtual time, but may have something to say.
            came = super().select(LONGEST_S)
            if not came:
                raise RuntimeError("the loop waits for something that never comes")
            return came
        if timeout > 0:
            self.loop.jump()
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time begins at 0 and is counted in whole nanoseconds, so that sums of durations are exact."""

    def __init__(self) -> None:
        self._now = 0
        selector = _Idle()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now / 1e9

    def jump(self) -> None:
        """To the next timer that hasn't been cancelled."""
        when = min(handle.when() for handle in self._scheduled if not handle.cancelled())
        self._now = max(self._now, round(when * 1e9))


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """The result of `main`, run to its end on a loop of its own; no task may be left behind."""
    loop = VirtualTimeLoop()
    try:
        result = loop.run_until_complete(main)
        assert asyncio.all_tasks(loop) == set()
        return result
    finally:
        loop.close()
