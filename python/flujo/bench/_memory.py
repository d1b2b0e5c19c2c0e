"""The memory that runs in flight take."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from flujo import Flujo, Pipeline, Step, step

IN_FLIGHT = 1_000


class Load(BaseModel):
    """A context of about 10 KB."""

    rows: list[dict[str, Any]] = Field(default_factory=lambda: rows_of(10_000))
    left: int = 0
    right: int = 0
    above: int = 0
    below: int = 0


def rows_of(size: int) -> list[dict[str, Any]]:
    """About so many bytes of text and numbers, nested as contexts are."""
    return [{"text": f"{number:0200}", "numbers": list(range(8))} for number in range(-(-size // 300))]


def branches(wait: Any = None) -> Pipeline[Any, Any]:
    """Four branches that each write a field of their own, and wait then."""

    def branch(field: str) -> Any:
        @step(name=field)
        async def write(value: int, *, context: Load) -> int:
            setattr(context, field, 1)
            if wait is not None:
                await wait()
            return value

        return write

    fields = ("left", "right", "above", "below")
    parallel = Step.parallel("split", {field: branch(field) for field in fields}, merge_strategy="no_merge")
    return Pipeline.from_step(parallel)


def memory_of_runs(samples: int, *, optimized: bool, runs: int = IN_FLIGHT) -> list[float]:
    """Bytes of resident memory that each run takes of so many in flight, all their branches waiting.

    They start in `samples` groups of one size, and each group's growth is a figure.
    """
    group = max(runs // max(samples, 1), 1)

    async def measured() -> list[float]:
        arrived, gate = asyncio.Event(), asyncio.Event()
        waiting = 0

        async def wait() -> None:
            nonlocal waiting
            waiting += 1
            if waiting == len(started) * 4:
                arrived.set()
            await gate.wait()

        runner = Flujo(branches(wait), context_model=Load, enable_optimizations=optimized)
        started: list[asyncio.Task[Any]] = []
        figures: list[float] = []
        await asyncio.sleep(0)
        for _ in range(samples):
            before = resident()
            started += [asyncio.create_task(runner.run_async(0)) for _ in range(group)]
            await asyncio.wait_for(arrived.wait(), 120)
            arrived.clear()
            figures.append(max(resident() - before, 0) / group)
        gate.set()
        await asyncio.gather(*started)
        return figures

    return asyncio.run(measured())


def resident() -> int:
    """The resident memory of this process, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def figures_of(command: list[str], samples: int) -> list[float]:
    """The numbers that another process prints, a line each."""
    done = subprocess.run([*command, str(samples)], capture_output=True, text=True, check=False)
    try:
        figures = [float(line) for line in done.stdout.splitlines()]
    except ValueError:
        figures = []
    if len(figures) != samples:
        raise RuntimeError(f"`{' '.join(command[1:])}` said {done.stdout!r}: {done.stderr.strip()}")
    return figures
