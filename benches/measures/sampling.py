"""Alternating samples of two pieces of work in one process, so that both meet the same machine."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Effort:
    """How much is measured: pairs of samples, and the seconds that one sample lasts, about."""

    samples: int
    seconds: float
    quick: bool = False


FULL = Effort(samples=41, seconds=0.02)
QUICK = Effort(samples=2, seconds=0.0005, quick=True)


@dataclass(frozen=True)
class Estimate:
    """A quantity by its minimum and median over the samples; `interval` holds the median with 95 % confidence."""

    least: float
    median: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, values: list[float], least: float | None = None) -> Estimate:
        """The estimate of these samples. `least` replaces their minimum where it is no meaningful figure."""
        ordered = sorted(values)
        count = len(ordered)
        # The ranks between which the median lies, from the binomial distribution's normal approximation.
        reach = 1.96 * math.sqrt(count) / 2
        low = ordered[max(0, math.floor(count / 2 - reach))]
        high = ordered[min(count - 1, math.ceil(count / 2 + reach))]
        return cls(ordered[0] if least is None else least, statistics.median(ordered), (low, high))


@dataclass(frozen=True)
class Pair:
    """Samples of our work and of the baseline, in seconds for one unit; the n-th of both belong together."""

    ours: list[float]
    baseline: list[float]

    @property
    def difference(self) -> Estimate:
        """What ours costs more. Its `least` is the difference of the minima."""
        differences = [a - b for a, b in zip(self.ours, self.baseline, strict=True)]
        return Estimate.of(differences, min(self.ours) - min(self.baseline))

    @property
    def ratio(self) -> Estimate:
        """Ours over the baseline. Its `least` is the ratio of the minima."""
        ratios = [a / b for a, b in zip(self.ours, self.baseline, strict=True)]
        return Estimate.of(ratios, min(self.ours) / min(self.baseline))


def cpu_seconds() -> float:
    """CPU time of this process, all threads."""
    return time.process_time()


async def _sample(work: Work, times: int, clock: Callable[[], float]) -> float:
    gc.collect()
    begin = clock()
    for _ in range(times):
        await work()
    return max(clock() - begin, 1e-9)


async def _often_enough(work: Work, effort: Effort, clock: Callable[[], float]) -> int:
    result = await work()
    if getattr(result, "success", True) is not True:
        raise RuntimeError(f"what is measured doesn't work: {getattr(result, 'step_history', result)}")
    times = 1
    while (took := await _sample(work, times, clock)) < effort.seconds / 4:
        times = max(times * 2, int(times * effort.seconds / 4 / took))
    return max(1, round(times * effort.seconds / took))


def compare(
    ours: Work,
    baseline: Work,
    *,
    units: int,
    effort: Effort,
    baseline_units: int | None = None,
    clock: Callable[[], float] = cpu_seconds,
) -> Pair:
    """Measure both in turn, the order changing each time.

    Args:
        ours: The work that is measured.
        baseline: What it is compared with.
        units: How many units, such as steps, one call of `ours` does.
        effort: How often and how long.
        baseline_units: The units of one call of `baseline`, where they differ.
        clock: Seconds; CPU time unless waiting is what is measured.
    """

    async def measured() -> Pair:
        works = (ours, baseline)
        parts = (units, baseline_units or units)
        times = [await _often_enough(work, effort, clock) for work in works]
        samples: tuple[list[float], list[float]] = ([], [])
        for turn in range(effort.samples):
            for which in (0, 1) if turn % 2 else (1, 0):
                seconds = await _sample(works[which], times[which], clock)
                samples[which].append(seconds / times[which] / parts[which])
        return Pair(*samples)

    return asyncio.run(measured())
