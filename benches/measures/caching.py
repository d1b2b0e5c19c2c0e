"""A hit of a cached step: its key, the look-up, and a value of one's own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

from cachetools import LRUCache

from flujo import Flujo, InMemoryCache, Pipeline, Step

from .contexts import table
from .row import Row, cost_ratio
from .sampling import Effort, compare

STEPS = 50
SIZE = 10_000


async def _same(rows: Any) -> Any:
    return rows


def rows(effort: Effort) -> Iterator[Row]:
    """A run of cached steps that each get 10 KB and give 10 KB, all of them hits."""
    cache = InMemoryCache()
    steps = [Step.cached(Step(f"step {n}", _same), cache) for n in range(STEPS)]
    runner, given = Flujo(Pipeline(steps)), table(SIZE)
    runner.run(given)

    known: LRUCache[bytes, Any] = LRUCache(1024)
    for step in steps:
        known[pickle.dumps((step.name, given))] = copy.deepcopy(given)

    async def by_hand() -> Any:
        value = given
        for step in steps:
            value = copy.deepcopy(known[pickle.dumps((step.name, value))])
        return value

    pair = compare(lambda: runner.run_async(given), by_hand, units=STEPS, effort=effort)
    yield cost_ratio(
        "a hit of a cached step, 10 KB in and out",
        pair,
        at_most=0.5,
        against="cachetools.LRUCache, a pickled key and copy.deepcopy",
        unit="µs/hit",
    )
