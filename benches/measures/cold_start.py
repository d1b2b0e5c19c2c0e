"""What importing costs a fresh process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from .row import Row, cost_ratio
from .sampling import Effort, Pair

NOTHING = "pass"
OURS = "from flujo import Flujo, Step, step, PipelineContext, PipelineResult"
BASELINE = "import asyncio\nfrom pydantic import BaseModel\nclass Model(BaseModel):\n" + "".join(
    f"    field_{n}: {kind}\n" for n, kind in enumerate(["int", "str", "float", "bool", "list[int]"] * 2)
)


def rows(effort: Effort) -> Iterator[Row]:
    """Our names against asyncio, pydantic and one model; what a bare interpreter takes is subtracted."""
    samples = 1 if effort.quick else 25
    ours, baseline = [], []
    _cpu_seconds(OURS)  # compiles what isn't compiled yet
    least = [float("inf")] * 3
    for _ in range(samples):
        nothing, mine, its = (_cpu_seconds(code) for code in (NOTHING, OURS, BASELINE))
        least = [min(pair) for pair in zip(least, (nothing, mine, its), strict=True)]
        ours.append(max(mine - nothing, 1e-6))
        baseline.append(max(its - nothing, 1e-6))
    # The minima are those of the three kinds of process, not of their differences.
    pair = Pair([least[1] - least[0], *ours], [least[2] - least[0], *baseline])
    row = cost_ratio(
        "cold import of five names",
        Pair(pair.ours[:1], pair.baseline[:1]),
        at_most=1.25,
        against="asyncio, pydantic and one model of 10 fields",
        unit="ms",
        scale=1e3,
    )
    from dataclasses import replace

    yield replace(row, estimate=Pair(ours, baseline).ratio)


def _cpu_seconds(code: str) -> float:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"a fresh interpreter could not run: {code}")
    return usage.ru_utime + usage.ru_stime
