"""How long an error's `retry_after` makes a step wait, on a loop whose clock stands still."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from flujo import Flujo, Step


class Still(asyncio.SelectorEventLoop):
    """Notes what timers are asked for and fires them at once; its time is always 0."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def time(self) -> float:
        return 0.0

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        self.waits.append(delay)
        return self.call_soon(callback, *args, context=context)


class Busy(Exception):
    def __init__(self, retry_after: Any) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


def _waits(retry_after: Any) -> list[float]:
    calls = 0

    async def asks(x: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Busy(retry_after)
        return x

    loop = Still()
    try:
        result = loop.run_until_complete(Flujo(Step("ask", asks)).run_async(1))
    finally:
        loop.close()
    assert (result.output, calls) == (1, 2)
    return loop.waits


@pytest.mark.parametrize(
    ("asked", "waited"),
    # A truncated 1.001 s would be 1.000999999 s; without a policy of its own a step waits half a minute at most.
    [(1.001, 1.001), (2, 2.0), (1e-9, 1e-9), (7e-10, 1e-9), (3600, 30.0)],
)
def test_it_is_waited_for_to_the_nearest_nanosecond_up_to_half_a_minute(asked: float, waited: float) -> None:
    assert _waits(asked) == [waited]


@pytest.mark.parametrize("asked", [0, -1, -math.inf, math.nan, math.inf, 10**400, True, "soon", None])
def test_what_is_no_time_to_wait_is_no_advice(asked: Any) -> None:
    assert _waits(asked) == []
