"""Builds, runs, reads and drops one deeply nested pipeline: `python nesting.py CONSTRUCT LEVELS SAMPLES`.

Prints two lists, seconds of CPU time a level: of that depth, and of a tenth of it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

from flujo import Flujo, Pipeline, Step


async def _ends(x: int) -> int:
    return x + 1


async def _fails(x: int) -> int:
    raise ValueError("no")


def _always(output: Any, context: Any) -> str:
    return "on"


def _around(construct: str, level: int, inner: Any) -> Any:
    match construct:
        case "conditional":
            return Step.branch_on(f"level {level}", _always, {"on": inner})
        case "parallel":
            return Step.parallel(f"level {level}", {"on": inner})
        case "sub-pipeline":
            return Pipeline([inner]).as_step(f"level {level}")
        case "fallback":
            return Step(f"level {level}", _fails, max_retries=0, fallback_step=inner)
        case other:
            raise ValueError(f"unknown construct {other!r}")


async def _whole(construct: str, levels: int) -> None:
    nested: Any = Step("innermost", _ends)
    for level in range(levels):
        nested = _around(construct, level, nested)
    result = await Flujo(nested).run_async(0)
    if not result.success:
        raise RuntimeError(f"{construct}: {result.step_history[0].feedback}")
    depth, step = 0, result.step_history[0]
    while construct != "fallback" and step.step_history:
        depth, step = depth + 1, step.step_history[0]
    if construct != "fallback" and depth < levels:
        raise RuntimeError(f"{construct}: the record is {depth} levels deep, not {levels}")


def _seconds(construct: str, levels: int) -> float:
    gc.collect()
    begin = time.process_time()
    asyncio.run(_whole(construct, levels))
    gc.collect()
    return (time.process_time() - begin) / levels


def main() -> None:
    construct, levels, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _seconds(construct, 10)
    deep, shallow = [], []
    for _ in range(samples):
        deep.append(_seconds(construct, levels))
        shallow.append(min(_seconds(construct, levels // 10) for _ in range(3)))
    json.dump([deep, shallow], sys.stdout)


if __name__ == "__main__":
    main()
