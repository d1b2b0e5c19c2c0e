"""Chunks of a streaming step: to a reader that takes them at once, and to one that falls behind."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

from flujo import Flujo, Step

from .row import Row, added_cost
from .sampling import Effort, Estimate, compare

CHUNKS = 200_000
CHUNK = b"x" * 1000
MOST_BUFFERED = 1.0
"""MB that a slow reader's stream may hold; all of the chunks would be 200."""


class _Agent:
    def __init__(self, chunks: int) -> None:
        self._chunks = chunks

    async def stream(self, data: Any) -> AsyncIterator[bytes]:
        for _ in range(self._chunks):
            yield CHUNK


def rows(effort: Effort) -> Iterator[Row]:
    """200,000 chunks against an `async for` over the same generator; memory while a reader is behind."""
    chunks = 2000 if effort.quick else CHUNKS
    agent = _Agent(chunks)
    runner = Flujo(Step("stream", agent))

    async def streamed() -> None:
        async for _ in runner.run_stream(0):
            pass

    async def evented() -> None:
        async for _ in runner.run_with_events(0):
            pass

    async def bare() -> None:
        taken = []
        async for chunk in agent.stream(0):
            taken.append(chunk)
        b"".join(taken)

    against = "an async for over the generator that keeps and joins the chunks"
    for name, work, at_most in (("run_stream", streamed, 1.0), ("run_with_events", evented, None)):
        yield added_cost(
            f"200,000 streamed chunks, {name}",
            compare(work, bare, units=chunks, effort=effort),
            at_most=at_most,
            against=against,
            unit="µs/chunk",
        )
    held = asyncio.run(_held_by_a_slow_reader())
    yield Row(
        name="a stream whose reader is behind, memory",
        value=held,
        unit="MB",
        baseline=CHUNKS * len(CHUNK) / 1e6,
        ratio=held / (CHUNKS * len(CHUNK) / 1e6),
        reach=f"<= {MOST_BUFFERED:g} MB",
        holds=held <= MOST_BUFFERED,
        against="all of its chunks",
        estimate=Estimate.of([held]),
    )


async def _held_by_a_slow_reader() -> float:
    """MB that a run allocates while its reader has taken ten chunks and looks away."""

    class Fresh:
        async def stream(self, data: Any) -> AsyncIterator[bytes]:
            for n in range(CHUNKS):
                yield n.to_bytes(1000, "big")

    tracemalloc.start()
    try:
        stream = Flujo(Step("stream", Fresh())).run_stream(0)
        for _ in range(10):
            await anext(stream)
        for _ in range(100):
            await asyncio.sleep(0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await stream.aclose()
    return held / 1e6
