"""Long and deep pipelines: the cost of a step or level doesn't grow, and nothing runs out of stack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .bare import async_functions, in_turn
from .linear import runner_of
from .row import Row, cost_ratio
from .sampling import Effort, Pair, compare

LONG = 10_000
NESTINGS = ("conditional", "parallel", "sub-pipeline", "fallback")


def rows(effort: Effort) -> Iterator[Row]:
    """10,000 steps in a row; 10,000 levels of each construct, built, run, read and dropped."""
    short, long = (runner_of(in_turn(async_functions(), count)) for count in (100, LONG))
    pair = compare(
        lambda: long.run_async(0), lambda: short.run_async(0), units=LONG, baseline_units=100, effort=effort
    )
    yield cost_ratio("10,000 steps, a step of it", pair, at_most=1.5, against="a step of 100", unit="µs/step")
    levels = 1_000 if effort.quick else LONG
    for construct in NESTINGS:
        yield _nested(construct, levels, samples=1 if effort.quick else 3)


def _nested(construct: str, levels: int, samples: int) -> Row:
    # In a process of its own: an abort must be a figure that doesn't hold, not the end of the report.
    name = f"{construct}, {LONG:,} levels deep, a level of it"
    command = [
        sys.executable,
        str(Path(__file__).with_name("nesting.py")),
        construct,
        str(levels),
        str(samples),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Row(
            name, None, "µs/level", None, None, "<= 2 x, no abort", False,
            note=f"ended with {done.returncode}: {why}",
        )  # fmt: skip
    deep, shallow = json.loads(done.stdout)
    return cost_ratio(
        name, Pair(deep, shallow), at_most=2.0, against=f"a level of {levels // 10:,}", unit="µs/level",
        note="build, run, read, drop",
    )  # fmt: skip
